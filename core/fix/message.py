"""FIX messages as the session sees them, encoded and parsed by `simplefix`.

Source: FIX 4.4 specification, volumes 1 (header, trailer) and 2 (session level).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import simplefix

BEGIN_STRING: Final = b"FIX.4.4"
MESSAGE_BYTES_MAX: Final = 1 << 20
_HEADER: Final = frozenset({8, 9, 35, 34, 49, 56, 52, 43, 122, 97, 10})

Fields = Sequence[tuple[int, str | int]]


class FixError(ValueError):
    """Bytes that are no FIX 4.4 message; the text says why."""


@dataclass(frozen=True, slots=True)
class FixMessage:
    """One message that arrived. `pairs` in the order of the wire, header and trailer included."""

    pairs: tuple[tuple[int, bytes], ...]

    def get(self, tag: int, default: str | None = None) -> str | None:
        """The first value of a tag as text, or `default`."""
        return next((value.decode("latin-1") for found, value in self.pairs if found == tag), default)

    def text(self, tag: int) -> str:
        """Raises FixError naming a tag that is missing or empty."""
        value = self.get(tag)
        if not value:
            raise FixError(f"required tag {tag} is missing")
        return value

    def integer(self, tag: int, default: int | None = None) -> int:
        """Raises FixError for a tag that is missing (without a default) or no whole number."""
        value = self.get(tag)
        if value is None and default is not None:
            return default
        try:
            return int(value or "")
        except ValueError:
            raise FixError(f"tag {tag} = {value!r} is no whole number") from None

    @property
    def kind(self) -> str:
        """MsgType (35)."""
        return self.get(35) or ""

    @property
    def sequence(self) -> int:
        """MsgSeqNum (34). Raises FixError."""
        return self.integer(34)

    @property
    def is_possible_duplicate(self) -> bool:
        return self.get(43) == "Y"


class FixParser:
    """Bytes in, messages out."""

    def __init__(self) -> None:
        self._parser = simplefix.FixParser()
        self._waiting = 0

    def feed(self, data: bytes) -> Iterator[FixMessage]:
        """Every message that is whole by now. Those with a wrong checksum or length are ignored, as the protocol says:
        the gap in the numbers brings them again. Raises FixError for bytes that are no fields, and for more of them
        than a message may have."""
        self._parser.append_buffer(data)
        self._waiting += len(data)
        while (found := self._next()) is not None:
            self._waiting = 0
            raw = found.encode(raw=True)
            if _is_sound(raw):
                yield FixMessage(tuple((int(tag), bytes(value)) for tag, value in found.pairs))
        if self._waiting > MESSAGE_BYTES_MAX:
            raise FixError(f"{self._waiting} bytes and no end of a message")

    def _next(self) -> simplefix.FixMessage | None:
        try:
            return self._parser.get_message()
        except (simplefix.errors.ParsingError, ValueError) as error:
            raise FixError(f"no FIX message: {error!s:.80}") from None


def _is_sound(raw: bytes) -> bool:
    body_at = raw.find(b"\x01", raw.find(b"\x019=") + 1) + 1
    end = raw.rfind(b"\x0110=") + 1
    length = raw[raw.find(b"\x019=") + 3 : body_at - 1]
    checksum = raw[end + 3 : -1]
    sound_length = length.isdigit() and int(length) == end - body_at
    return sound_length and checksum.isdigit() and int(checksum) == sum(raw[:end]) % 256


def encode(
    kind: str,
    sequence: int,
    sender: str,
    target: str,
    fields: Fields,
    sent: str,
    *,
    originally_sent: str = "",
) -> bytes:
    """One message. `sent` and `originally_sent` are UTC timestamps (`timestamp`); the latter marks a duplicate."""
    message = simplefix.FixMessage()
    message.append_pair(8, BEGIN_STRING, header=True)
    message.append_pair(35, kind, header=True)
    message.append_pair(34, sequence, header=True)
    message.append_pair(49, sender, header=True)
    message.append_pair(56, target, header=True)
    if originally_sent:
        message.append_pair(43, "Y", header=True)
    message.append_pair(52, sent, header=True)
    if originally_sent:
        message.append_pair(122, originally_sent, header=True)
    for tag, value in fields:
        message.append_pair(tag, value)
    return bytes(message.encode())


def body_of(message: FixMessage) -> list[tuple[int, str]]:
    """The fields without header and trailer."""
    return [(tag, value.decode("latin-1")) for tag, value in message.pairs if tag not in _HEADER]


def timestamp(unix_s: float) -> str:
    """UTCTimestamp with milliseconds."""
    moment = datetime.fromtimestamp(unix_s, UTC)
    return f"{moment:%Y%m%d-%H:%M:%S}.{moment.microsecond // 1000:03d}"


def unix_of(text: str) -> float:
    """Unix seconds of a UTCTimestamp, with or without a fraction. Raises FixError."""
    try:
        whole, _, fraction = text.partition(".")
        moment = datetime.strptime(whole, "%Y%m%d-%H:%M:%S").replace(tzinfo=UTC)
        return moment.timestamp() + (float(f"0.{fraction}") if fraction else 0.0)
    except ValueError:
        raise FixError(f"{text!r} is no UTC timestamp") from None
