"""The durable log: an append-only file of checksummed records that only one process may hold.

The bytes are those of `net.log_records`. The file is given room ahead of what is written, so that a sync has no length
to put on disk beside the data: with four nodes on one disk that took the median sync from 260 to 165 µs (ext4).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from net.log_records import MAGIC, LogDamaged, LogError, WholeRecord, encode, read_records

__all__ = ["Durability", "DurableLog", "LogDamaged", "LogError", "LogLocked"]

ROOM_BYTES: Final = 4 * 1024 * 1024
"""How much room the file is given at a time."""

Durability = Literal["fdatasync", "none"]


class LogLocked(LogError):
    """Another process holds the log."""


class DurableLog:
    """Append records, sync them, and read them all back after a crash.

    `durability="none"` never syncs: a power cut may then lose what was acknowledged. Raises `LogLocked` when another
    process has the file, `LogDamaged` when a record in the middle is damaged. A torn tail is cut on opening;
    `torn_bytes` says how much.

    After a write or sync that failed nobody knows what is on disk: the kernel may have dropped the pages, and calls the
    next sync a success (Rebello et al., "Can Applications Recover from fsync Failures?", 2020). So the log refuses
    everything from then on (`LogError`); what is whole is found when it is opened again.
    """

    def __init__(self, path: Path, durability: Durability = "fdatasync") -> None:
        if durability not in ("fdatasync", "none"):
            raise ValueError(f"durability is 'fdatasync' or 'none', not {durability!r}")
        self.path = path
        self.durability: Durability = durability
        self.torn_bytes = 0
        self._failure: LogError | None = None
        self._pending: list[bytes] = []
        self._unsynced = False
        self._batch = 1
        self._end = 0
        self._room = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        created = not path.exists()
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._lock()
            self._copy.unlink(missing_ok=True)
            self._open()
        except BaseException:
            os.close(self._fd)
            self._fd = -1
            raise
        if created and durability == "fdatasync":
            _sync_folder(path.parent)

    @property
    def _copy(self) -> Path:
        """What a rewrite writes, until it takes this log's name; a process that was killed may leave it."""
        return self.path.with_name(self.path.name + ".new")

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
        self._end = len(MAGIC)
        for record in self._records():
            self._end, self._batch = record.end, record.batch + 1
        tail = os.pread(self._fd, size - self._end, self._end).rstrip(b"\0")
        self.torn_bytes = len(tail)
        # What is cut must not come back behind what is written next: fresh room is zeros.
        os.ftruncate(self._fd, self._end)
        self._room = self._end
        if tail:
            self._sync_file()

    def _records(self) -> Iterator[WholeRecord]:
        with open(os.dup(self._fd), "rb") as file:
            yield from read_records(file, self.path)

    def append(self, record: bytes) -> None:
        """Add `record`; it is on disk after the next `sync`. Raises `ValueError` above 64 MiB."""
        self._refuse_after_a_failure()
        self._pending.append(encode(record, self._batch))
        if len(self._pending) >= 1024:
            self.flush()

    def flush(self) -> None:
        """Hand everything appended to the operating system: it survives a killed process, not a power cut."""
        self._refuse_after_a_failure()
        if self._pending:
            data = b"".join(self._pending)
            self._pending.clear()
            self._write(data)
            self._unsynced = True

    def sync(self) -> None:
        """Everything appended is on disk when this returns (fdatasync); with `durability="none"` only flushed."""
        self.flush()
        if self._unsynced:
            self._sync_file()
            self._batch += 1
        self._unsynced = False

    def rewrite(self, records: Iterable[bytes]) -> None:
        """The log becomes `records`, whole or not at all; what was appended before is gone, synced or not.

        A crash leaves the old log or the new one. The rewritten log is on disk when this returns (`durability`).
        """
        self._refuse_after_a_failure()
        fresh = self._copy
        # Opened first: where that fails, this log is still the old one at its old place.
        opened = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        old, place = self._fd, (self._end, self._room)
        self._fd, self._end, self._room = opened, 0, 0
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
            # On a full disk it would be in the way of this log's own room.
            fresh.unlink(missing_ok=True)
            self._fd, self._pending = old, pending
            self._end, self._room = place
            raise
        os.close(old)
        self._unsynced = False
        self._batch += 1
        if self.durability == "fdatasync":
            self._sync_name()

    def read_all(self) -> list[bytes]:
        """Every record, oldest first."""
        self.flush()
        return [record.body for record in self._records()]

    def close(self) -> None:
        """Sync, give back the room that was not used, and let go of the file and its lock. No sync after a failure."""
        if self._fd >= 0:
            if self._failure is None:
                self.sync()
                os.ftruncate(self._fd, self._end)
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
        try:
            if self._end + len(view) > self._room:
                self._make_room(len(view))
            while view:
                written = os.pwrite(self._fd, view, self._end)
                self._end += written
                view = view[written:]
        except OSError as error:
            raise self._failed(f"cannot write: {error.strerror}; free space or check the disk") from error

    def _make_room(self, size: int) -> None:
        self._room = self._end + max(size, ROOM_BYTES)
        # Not every system has it; without it the file grows as it is written.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self._fd, self._end, self._room - self._end)

    def _sync_file(self) -> None:
        if self.durability == "none":
            return
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise self._failed(f"cannot sync: {error.strerror}; the node must stop") from error

    def _sync_name(self) -> None:
        """Which file the log's name stands for is on disk."""
        try:
            _sync_folder(self.path.parent)
        except OSError as error:
            raise self._failed(f"cannot sync its folder: {error.strerror}; the node must stop") from error

    def _failed(self, why: str) -> LogError:
        self._failure = LogError(f"{self.path}: {why}")
        return self._failure

    def _refuse_after_a_failure(self) -> None:
        if self._failure is not None:
            raise LogError(f"refused after a failure: {self._failure}") from self._failure


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
