"""A 1-RTT packet (RFC 9000 §17.3.1), its protection (RFC 9001 §5) and the two frames that nearly all of them consist
of, as a connection in its steady state needs them.

Both frames are written in one shape, with every integer as long as the largest may become, which RFC 9000 §16 allows:
one `struct` call then reads or writes a whole frame, where integers of varying length take one call each.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final

from aioquic import tls
from aioquic._crypto import AEAD_NONCE_LENGTH
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicFrameType, decode_packet_number
from aioquic.quic.rangeset import RangeSet
from cryptography.exceptions import InvalidTag

ONE_RTT: Final = tls.Epoch.ONE_RTT
FIXED_BIT: Final = 0x40
SPIN_BIT: Final = 0x20
KEY_PHASE_BIT: Final = 0x04
PACKET_NUMBER_BYTES: Final = 2
TAG_BYTES: Final = 16

ACK_FRAME: Final = struct.Struct(">BQHBH")
"""Type, largest acknowledged, delay, number of further ranges (none), length of the range (RFC 9000 §19.3)."""
STREAM_HEAD: Final = struct.Struct(">BQQH")
"""Type, stream, offset, length (RFC 9000 §19.8)."""
EIGHT_BYTES: Final = 0xC000_0000_0000_0000
TWO_BYTES: Final = 0x4000
"""The mark of an integer of so many bytes (RFC 9000 §16)."""
TWO_BYTES_MAX: Final = 0x3FFF
FIN_BIT: Final = 0x01
LENGTH_BIT: Final = 0x02
OFFSET_BIT: Final = 0x04
"""Of a STREAM frame's type (RFC 9000 §19.8)."""
STREAM_TYPE: Final = QuicFrameType.STREAM_BASE | OFFSET_BIT | LENGTH_BIT
ACK_TYPE: Final = int(QuicFrameType.ACK)
ONE_WAY_BIT: Final = 0x02
"""Of a stream's id (RFC 9000 §2.1)."""

_FORM_AND_FIXED_BITS: Final = 0xC0
_RESERVED_BITS: Final = 0x18
_NUMBER_BYTES_BITS: Final = 0x03
_SAMPLE_BYTES: Final = 16
_SAMPLE_AT: Final = 4 - PACKET_NUMBER_BYTES
_CONNECTION_ID_BYTES_MAX: Final = 20
_HEADERS: Final = [struct.Struct(f">B{size}sH") for size in range(_CONNECTION_ID_BYTES_MAX + 1)]
"""First byte, connection id and packet number, by the length of the id."""


ranges_of: Final[Callable[[RangeSet], list[range]]] = attrgetter("_RangeSet__ranges")
"""The very list of a set, which aioquic changes in place: its own methods to read it take longer than the rest."""


class OneRtt:
    """What a steady connection uses for every packet, found once: aioquic keeps it under keys that hash slowly."""

    __slots__ = ("acknowledges", "crypto", "crypto_sender", "early_data", "receive", "send", "space")

    def __init__(self, connection: QuicConnection) -> None:
        self.space: Any = connection._spaces[ONE_RTT]
        self.acknowledges: list[range] = ranges_of(self.space.ack_queue)
        self.crypto: Any = connection._cryptos[ONE_RTT]
        self.receive: Any = self.crypto.recv
        self.send: Any = self.crypto.send
        self.early_data: Any = connection._cryptos[tls.Epoch.ZERO_RTT].recv
        self.crypto_sender: Any = connection._crypto_streams[ONE_RTT].sender


def open_packet(data: bytes, host_cid: bytes, steady: OneRtt) -> tuple[int, int, bytes] | None:
    """First byte, packet number and frames of a 1-RTT packet that comes in order and under the present keys, or None.

    RFC 9001 §5.4: header protection is taken off with a mask of what follows the longest packet number.
    """
    number_at = 1 + len(host_cid)
    sample_at = number_at + 4
    if len(data) < sample_at + _SAMPLE_BYTES or data[0] & _FORM_AND_FIXED_BITS != FIXED_BIT:
        return None
    if data[1:number_at] != host_cid:
        return None
    keys, space = steady.receive, steady.space
    mask = keys.hp._mask(data[sample_at : sample_at + _SAMPLE_BYTES])
    first = data[0] ^ (mask[0] & 0x1F)
    if first & _RESERVED_BITS or bool(first & KEY_PHASE_BIT) != bool(keys.key_phase):
        return None
    if first & _NUMBER_BYTES_BITS != PACKET_NUMBER_BYTES - 1:
        return None
    cut = (data[number_at] ^ mask[1]) << 8 | data[number_at + 1] ^ mask[2]
    number = space.expected_packet_number
    if cut != number & 0xFFFF:
        number = decode_packet_number(cut, 8 * PACKET_NUMBER_BYTES, number)
    if number <= space.largest_received_packet:
        return None
    aead, header = keys.aead, _HEADERS[len(host_cid)].pack(first, host_cid, cut)
    try:
        # As AEAD.decrypt has it, without its two calls.
        payload: bytes = aead._aead.decrypt(
            (aead._iv ^ number).to_bytes(AEAD_NONCE_LENGTH), data[number_at + PACKET_NUMBER_BYTES :], header
        )
    except InvalidTag:
        return None
    return (first, number, payload) if payload else None


def seal_packet(first: int, peer_cid: bytes, number: int, frames: bytes, steady: OneRtt) -> bytes:
    """A 1-RTT packet of `frames` (RFC 9001 §5.3, §5.4), its number cut to two bytes."""
    keys = steady.send
    aead, header, cut = keys.aead, _HEADERS[len(peer_cid)], number & 0xFFFF
    nonce = (aead._iv ^ number).to_bytes(AEAD_NONCE_LENGTH)
    sealed: bytes = aead._aead.encrypt(nonce, frames, header.pack(first, peer_cid, cut))
    mask: bytes = keys.hp._mask(sealed[_SAMPLE_AT : _SAMPLE_AT + _SAMPLE_BYTES])
    return header.pack(first ^ (mask[0] & 0x1F), peer_cid, cut ^ (mask[1] << 8 | mask[2])) + sealed
