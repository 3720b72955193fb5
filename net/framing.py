"""Frames on a QUIC stream: a length, then a link frame or an encoded message.

`length` is four bytes, big-endian, and counts what follows. The first byte of the body tells a link frame (1 to 5) from
a message (its version byte, `net.wire`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

LENGTH: Final = struct.Struct(">I")
LENGTH_BYTES: Final = LENGTH.size


class FrameError(ValueError):
    """A stream that cannot be read on: a length out of bounds or a malformed link frame."""


class Framer:
    """Cuts one stream into frames. Holds at most one unfinished frame of `frame_bytes_max` and one read."""

    __slots__ = ("_buffer", "frame_bytes_max")

    def __init__(self, frame_bytes_max: int) -> None:
        self._buffer = bytearray()
        self.frame_bytes_max = frame_bytes_max

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that `data` completes, without their lengths. Raises FrameError for a length out of bounds."""
        size = len(data) - LENGTH_BYTES
        if not self._buffer and 0 < size <= self.frame_bytes_max and LENGTH.unpack_from(data)[0] == size:
            return [data[LENGTH_BYTES:]]  # nearly always: one frame, whole
        buffer: bytes | bytearray = data
        if self._buffer:
            self._buffer += data
            buffer = self._buffer
        frames: list[bytes] = []
        at, end = 0, len(buffer)
        while end - at >= LENGTH_BYTES:
            length = LENGTH.unpack_from(buffer, at)[0]
            if not 0 < length <= self.frame_bytes_max:
                raise FrameError(f"a frame of {length} bytes; allowed are 1 to {self.frame_bytes_max}")
            start = at + LENGTH_BYTES
            if end - start < length:
                break
            at = start + length
            frames.append(bytes(buffer[start:at]))
        if buffer is self._buffer:
            del self._buffer[:at]
        elif at < end:
            self._buffer += data[at:]
        return frames

    @property
    def pending_bytes(self) -> int:
        """Bytes of a frame that is not complete yet."""
        return len(self._buffer)


class LinkFrame(IntEnum):
    """The transport's own frames; none of these numbers starts a message."""

    HELLO = 1
    """Dialler's first word when it resumes, in early data: a time, and perhaps an idempotent message."""
    PROOF = 2
    """Who dials: role, both ids and a signature over them and the TLS exporter."""
    WELCOME = 3
    """The acceptor's answer to a good proof."""
    PING = 4
    PONG = 5


ROLE_NUMBER: Final = {"node": 1, "gateway": 2, "operator": 3, "observer": 4}
ROLE_NAME: Final = {number: role for role, number in ROLE_NUMBER.items()}

EXPORTER_LABEL: Final = b"EXPORTER-tradetui-link-proof"
EXPORTER_BYTES: Final = 32
_PROOF_DOMAIN: Final = b"tradetui link proof 1\0"
_CLAIM: Final = struct.Struct(">BII")  # role, dialler, acceptor
_PROOF: Final = struct.Struct(">BBII64s")
_CLOCK: Final = struct.Struct(">Bd")


@dataclass(frozen=True, slots=True)
class Proof:
    """What a dialler claims, and its signature (64 bytes)."""

    role: str
    dialler: int
    acceptor: int
    signature: bytes


def claim_bytes(role: str, dialler: int, acceptor: int) -> bytes:
    """The claim itself: exporter context and the head of what is signed."""
    return _CLAIM.pack(ROLE_NUMBER[role], dialler, acceptor)


def signed_bytes(claim: bytes, exporter: bytes) -> bytes:
    """What the proof's signature covers. The exporter binds it to one connection, so a relayed proof is worthless."""
    return _PROOF_DOMAIN + claim + exporter


def frame(body: bytes) -> bytes:
    """`body` with its length in front."""
    return LENGTH.pack(len(body)) + body


def proof_frame(proof: Proof) -> bytes:
    """The proof, framed."""
    role = ROLE_NUMBER[proof.role]
    return frame(_PROOF.pack(LinkFrame.PROOF, role, proof.dialler, proof.acceptor, proof.signature))


PROOF_BODY_BYTES: Final = _PROOF.size


def parse_proof(body: bytes) -> Proof:
    """The proof in a frame's body. Raises FrameError."""
    if len(body) != _PROOF.size:
        raise FrameError("malformed proof")
    _, role, dialler, acceptor, signature = _PROOF.unpack(body)
    if role not in ROLE_NAME:
        raise FrameError("malformed proof")
    return Proof(ROLE_NAME[role], dialler, acceptor, signature)


def clock_frame(kind: LinkFrame, sent_s: float) -> bytes:
    """HELLO, WELCOME, PING or PONG with a time of the sender of the ping, framed."""
    return frame(_CLOCK.pack(kind, sent_s))


def hello_frame(sent_s: float, message: bytes = b"") -> bytes:
    """HELLO with a time and an encoded message, framed."""
    return frame(_CLOCK.pack(LinkFrame.HELLO, sent_s) + message)


def parse_hello(body: bytes) -> tuple[float, bytes]:
    """The time and the message in a HELLO. Raises FrameError."""
    return parse_clock(body[: _CLOCK.size]), body[_CLOCK.size :]


def parse_clock(body: bytes) -> float:
    """The time in such a frame. Raises FrameError."""
    if len(body) != _CLOCK.size:
        raise FrameError("malformed link frame")
    sent_s: float = _CLOCK.unpack(body)[1]
    return sent_s
