"""The durable log: an append-only file of checksummed records that only one process may hold.

Layout: the 8-byte magic, then records of a 12-byte header and the body. The header is the body's length and CRC-32
(`zlib.crc32`) and the CRC-32 of those two, so that a flipped bit in a length is told from a torn tail. A write that a
crash cut short leaves a record that runs past the end of the file, or zeros: that tail is cut. A record that fails
its checksum before the end is damage, and the file is refused, named with the offset.
"""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

MAGIC: Final = b"TTLOG\x00\x00\x01"
MAX_RECORD_BYTES: Final = 64 * 1024 * 1024
_HEADER: Final = struct.Struct("<III")
_LENGTH_AND_CRC: Final = struct.Struct("<II")
_CRC: Final = struct.Struct("<I")

Durability = Literal["fdatasync", "none"]


class LogError(OSError):
    """The log cannot be used; the message names the file and what to do."""


class LogLocked(LogError):
    """Another process holds the log."""


class LogDamaged(LogError):
    """A record in the middle of the log fails its checksum."""

    def __init__(self, path: Path, offset: int, reason: str) -> None:
        super().__init__(
            f"{path}: damaged at byte {offset}: {reason}; restore the file or let the node catch up afresh"
        )
        self.path = path
        self.offset = offset


class DurableLog:
    """Append records, sync them, and read them all back after a crash.

    `durability="none"` never syncs: a power cut may then lose what was acknowledged. Raises `LogLocked` when another
    process has the file, `LogDamaged` when a record in the middle is damaged. A torn tail is cut on opening;
    `torn_bytes` says how much.
    """

    def __init__(self, path: Path, durability: Durability = "fdatasync") -> None:
        if durability not in ("fdatasync", "none"):
            raise ValueError(f"durability is 'fdatasync' or 'none', not {durability!r}")
        self.path = path
        self.durability: Durability = durability
        self.torn_bytes = 0
        self._pending: list[bytes] = []
        self._unsynced = False
        path.parent.mkdir(parents=True, exist_ok=True)
        created = not path.exists()
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self._lock()
            self._open()
        except BaseException:
            os.close(self._fd)
            self._fd = -1
            raise
        if created and durability == "fdatasync":
            _sync_folder(path.parent)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LogLocked(f"{self.path}: another process holds this log; stop it or choose another folder") from error

    def _open(self) -> None:
        size = os.fstat(self._fd).st_size
        head = os.pread(self._fd, len(MAGIC), 0)
        if head != MAGIC[: len(head)]:
            raise LogDamaged(self.path, 0, "not a log of this program")
        if len(head) < len(MAGIC):
            os.ftruncate(self._fd, 0)
            self._write(MAGIC)
            self._sync_file()
            return
        end = len(MAGIC)
        for end, _body in self._records(size):  # noqa: B007
            pass
        if end < size:
            self.torn_bytes = size - end
            os.ftruncate(self._fd, end)
            self._sync_file()

    def _records(self, size: int) -> Iterator[tuple[int, bytes]]:
        """Yield (end offset, body) of every whole record; stop at a torn tail; raise `LogDamaged` on damage."""
        offset = len(MAGIC)
        with open(os.dup(self._fd), "rb") as file:
            file.seek(offset)
            while True:
                header = file.read(_HEADER.size)
                if len(header) < _HEADER.size:
                    return
                length, body_crc, header_crc = _HEADER.unpack(header)
                if zlib.crc32(header[:8]) != header_crc or length > MAX_RECORD_BYTES:
                    rest = file.read()
                    # A file that grew before its data arrived ends in zeros.
                    if not any(header) and not any(rest):
                        return
                    raise LogDamaged(self.path, offset, "the header of a record fails its checksum")
                body = file.read(length)
                end = offset + _HEADER.size + length
                if len(body) < length:
                    return
                if zlib.crc32(body) != body_crc:
                    # The last record may have reached the disk in part; anything before it was followed by a whole one.
                    if end == size:
                        return
                    tail = file.read()
                    if not any(tail):
                        return
                    raise LogDamaged(self.path, offset, "the body of a record fails its checksum")
                offset = end
                yield offset, body

    def append(self, record: bytes) -> None:
        """Add `record`; it is on disk after the next `sync`. Raises `ValueError` above 64 MiB."""
        length = len(record)
        if length > MAX_RECORD_BYTES:
            raise ValueError(f"a record of {length} bytes is above the limit of {MAX_RECORD_BYTES}")
        head = _LENGTH_AND_CRC.pack(length, zlib.crc32(record))
        self._pending.append(head + _CRC.pack(zlib.crc32(head)) + record)
        if len(self._pending) >= 1024:
            self.flush()

    def flush(self) -> None:
        """Hand everything appended to the operating system: it survives a killed process, not a power cut."""
        if self._pending:
            data = b"".join(self._pending)
            self._pending.clear()
            self._write(data)
            self._unsynced = True

    def sync(self) -> None:
        """Everything appended is on disk when this returns (fdatasync); with `durability="none"` only flushed."""
        self.flush()
        if self._unsynced and self.durability == "fdatasync":
            self._sync_file()
        self._unsynced = False

    def rewrite(self, records: Iterable[bytes]) -> None:
        """The log becomes `records`, whole or not at all; what was appended before is gone, synced or not.

        A crash leaves the old log or the new one. The rewritten log is on disk when this returns (`durability`).
        """
        fresh = self.path.with_name(self.path.name + ".new")
        old = self._fd
        self._fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        pending, self._pending = self._pending, []
        try:
            self._lock()
            self._write(MAGIC)
            for record in records:
                self.append(record)
            self.flush()
            self._sync_file()
            fresh.replace(self.path)
        except BaseException:
            os.close(self._fd)
            self._fd, self._pending = old, pending
            raise
        os.close(old)
        self._unsynced = False
        if self.durability == "fdatasync":
            _sync_folder(self.path.parent)

    def read_all(self) -> list[bytes]:
        """Every record, oldest first."""
        self.flush()
        size = os.fstat(self._fd).st_size
        return [body for _end, body in self._records(size)]

    def close(self) -> None:
        """Sync and let go of the file and its lock."""
        if self._fd >= 0:
            self.sync()
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                written = os.write(self._fd, view)
            except OSError as error:
                raise LogError(f"{self.path}: cannot write: {error.strerror}; free space or check the disk") from error
            view = view[written:]

    def _sync_file(self) -> None:
        if self.durability == "none":
            return
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            # After a failed sync the kernel may have dropped the pages: going on would promise what is not there.
            raise LogError(f"{self.path}: cannot sync: {error.strerror}; the node must stop") from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
