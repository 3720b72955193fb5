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
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Final

from core.venue.events import VenueEvent, pack_events, unpack_events

MAGIC: Final = b"TTVENUE1"
_FRAME: Final = struct.Struct("<II")


class JournalError(RuntimeError):
    """The file is no venue journal, is damaged before its tail, or cannot be written."""


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
        self.cut_bytes = 0
        """Bytes of a torn tail that were cut at opening."""
        self._failed = ""

    def recover(self) -> Iterator[VenueEvent]:
        """Every event from the first on; at the end the torn tail, if any, is cut. Raises JournalError."""
        data = self.path.read_bytes()
        end = yield from _frames(data, self.path)
        if end < len(data):
            self.cut_bytes = len(data) - end
            os.ftruncate(self._file, end)

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

    def close(self) -> None:
        os.close(self._file)


def read_events(path: Path) -> Iterator[VenueEvent]:
    """Every whole event of a journal that another process may be writing. Raises JournalError."""
    yield from _frames(path.read_bytes(), path)


def _frames(data: bytes, path: Path) -> Generator[VenueEvent, None, int]:
    """Yields events, returns where the last whole frame ends."""
    if data[: len(MAGIC)] != MAGIC:
        raise JournalError(f"{path} is no venue journal (it starts with {data[:8]!r})")
    at = len(MAGIC)
    while at + _FRAME.size <= len(data):
        length, checksum = _FRAME.unpack_from(data, at)
        end = at + _FRAME.size + length
        body = data[at + _FRAME.size : end]
        if length == 0 or end > len(data) or zlib.crc32(body) != checksum:
            if length and end < len(data):
                raise JournalError(f"{path} is damaged at byte {at}, {len(data) - end} bytes before its end")
            break
        try:
            yield from unpack_events(body)
        except ValueError as error:
            raise JournalError(f"{path}, byte {at}: {error}") from error
        at = end
    return at
