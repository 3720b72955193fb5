"""The venue's append-only event file: written before the answer leaves, so that a killed venue comes back whole.

Layout: an 8-byte magic, then frames of length (uint32), CRC-32 of the body (uint32), body. A frame holds all events of
one request, so that half a request never comes back. A torn tail, as a crash during a write leaves it, is cut at the
last whole frame; damage with whole bytes after it refuses to open. So nothing is written after a write that failed.
"""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from core.venue.events import VenueEvent, pack_events, unpack_events

MAGIC: Final = b"TTVENUE1"
_FRAME: Final = struct.Struct("<II")
_CHUNK: Final = 1 << 20


class JournalError(RuntimeError):
    """The file is no venue journal, is damaged before its tail, or cannot be written."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a journal, between two frames."""

    end: int
    """Bytes before it."""
    checksum: int
    """CRC-32 of all of them, by which damage there is still found when nobody reads their events any more."""


BEGINNING: Final = Position(len(MAGIC), zlib.crc32(MAGIC))


class VenueJournal:
    """One open journal. Only one process may hold it (an advisory lock refuses a second)."""

    def __init__(self, path: Path, sync: bool = False) -> None:
        """Open or create, and cut a torn tail. Raises JournalError, or OSError where the folder is unusable."""
        self.path = path
        self._sync = sync
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._file)
            raise JournalError(f"{path} is held by another venue process; stop it first") from None
        size = os.fstat(self._file).st_size
        if size < len(MAGIC):
            os.ftruncate(self._file, 0)
            os.write(self._file, MAGIC)
        self.position = BEGINNING
        """Behind what `recover` gave and `append` wrote."""
        self.cut_bytes = 0
        """Bytes of a torn tail that were cut at opening."""
        self._failed = ""

    def start_at(self, position: Position) -> bool:
        """Let `recover` begin at `position`. False, and it begins at the first event, where that is no place of this
        journal: one byte before it is another than when it was noted, or missing."""
        if not len(MAGIC) <= position.end <= os.fstat(self._file).st_size:
            return False
        with self.path.open("rb") as file:
            checksum, left = 0, position.end
            while left and (data := file.read(min(left, _CHUNK))):
                checksum, left = zlib.crc32(data, checksum), left - len(data)
        if left or checksum != position.checksum:
            return False
        self.position = position
        return True

    def recover(self) -> Iterator[list[VenueEvent]]:
        """The events of each request, from the start on; `position` is then behind them. At the end the torn tail, if
        any, is cut. Raises JournalError."""
        with self.path.open("rb", _CHUNK) as file:
            size = os.fstat(self._file).st_size
            for head, body in _frames(file, size, self.position.end, self.path):
                events = _events(body, self.path, self.position.end)
                self._passed(head + body)
                yield events
        if self.position.end < size:
            self.cut_bytes = size - self.position.end
            os.ftruncate(self._file, self.position.end)

    def _passed(self, frame: bytes) -> None:
        end, checksum = self.position.end, self.position.checksum
        self.position = Position(end + len(frame), zlib.crc32(frame, checksum))

    def append(self, events: Sequence[VenueEvent]) -> None:
        """Write the events of one request as one frame, safe from the death of this process once it returns.

        Raises JournalError where it cannot, and from then on always: what happened is then not in the journal.
        """
        if self._failed:
            raise JournalError(self._failed)
        if not events:
            return
        try:
            self._write(events)
        except OSError as error:
            self._failed = f"{self.path} cannot be written: {error}"
            raise JournalError(self._failed) from error

    def _write(self, events: Sequence[VenueEvent]) -> None:
        body = pack_events(events)
        data = _FRAME.pack(len(body), zlib.crc32(body)) + body
        written = os.write(self._file, data)
        while written < len(data):
            written += os.write(self._file, data[written:])
        if self._sync:
            os.fdatasync(self._file)
        self._passed(data)

    def close(self) -> None:
        os.close(self._file)


def read_events(path: Path) -> Iterator[VenueEvent]:
    """Every whole event of a journal that another process may be writing. Raises JournalError."""
    with path.open("rb", _CHUNK) as file:
        size, at = os.fstat(file.fileno()).st_size, len(MAGIC)
        for head, body in _frames(file, size, at, path):
            yield from _events(body, path, at)
            at += len(head) + len(body)


def _frames(file: BinaryIO, size: int, start: int, path: Path) -> Iterator[tuple[bytes, bytes]]:
    """(head, body) of each whole frame from byte `start` on, among the first `size` bytes of the file."""
    magic = file.read(len(MAGIC))
    if magic != MAGIC:
        raise JournalError(f"{path} is no venue journal (it starts with {magic!r})")
    file.seek(start)
    at = start
    while at + _FRAME.size <= size:
        head = file.read(_FRAME.size)
        length, checksum = _FRAME.unpack(head)
        end = at + _FRAME.size + length
        body = file.read(length) if end <= size else b""
        if length == 0 or len(body) < length or zlib.crc32(body) != checksum:
            if length and end < size:
                raise JournalError(f"{path} is damaged at byte {at}, {size - end} bytes before its end")
            return
        yield head, body
        at = end


def _events(body: bytes, path: Path, at: int) -> list[VenueEvent]:
    try:
        return unpack_events(body)
    except ValueError as error:
        raise JournalError(f"{path}, byte {at}: {error}") from error
