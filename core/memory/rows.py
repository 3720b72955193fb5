"""The SQLite file of the ReasoningBank: fixed slots, one transaction a batch, checkpoints off the trading thread."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

SCHEMA_VERSION: Final = 1
CHECKPOINT_EVERY_COMMITS: Final = 200
_CREATE: Final = """
CREATE TABLE IF NOT EXISTS lesson (
    slot INTEGER PRIMARY KEY,
    serial INTEGER NOT NULL,
    key BLOB NOT NULL,
    instrument INTEGER NOT NULL,
    opened_step INTEGER NOT NULL,
    closed_step INTEGER NOT NULL,
    side INTEGER NOT NULL,
    quantity INTEGER NOT NULL,
    entry_value INTEGER NOT NULL,
    exit_value INTEGER NOT NULL,
    fees INTEGER NOT NULL,
    profit INTEGER NOT NULL,
    profit_bps REAL NOT NULL,
    situation BLOB NOT NULL,
    votes BLOB NOT NULL
)
"""
_INSERT: Final = f"INSERT OR REPLACE INTO lesson VALUES ({','.join('?' * 15)})"
Row = tuple[int, int, bytes, int, int, int, int, int, int, int, int, int, float, bytes, bytes]
"""The columns of `lesson` in order."""


class MemoryFileError(RuntimeError):
    """The memory's file cannot be used; the text says why and what to do."""


class LessonFile:
    """Rows of at most `capacity` slots.

    WAL with synchronous=NORMAL: a commit is one write, without fsync; after a power cut the last lessons may be
    missing, the file is never torn.

    Checkpoints would stall a commit by an fsync, so a thread of its own makes them, on its own connection.
    """

    def __init__(self, path: Path, capacity: int, dimensions: int, agents: int) -> None:
        """Opens or creates. Raises MemoryFileError when the file is no memory of this shape."""
        self._path = path
        self._commits = 0
        self._due = threading.Event()
        self._closed = threading.Event()
        self.problem = ""
        """The last error of a checkpoint, empty when they work."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=5.0, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute("PRAGMA wal_autocheckpoint=0")
            self._open_schema(capacity, dimensions, agents)
            # From here on it is the trading thread's: it must not wait for whoever else looks into the file.
            self._connection.execute("PRAGMA busy_timeout=0")
        except (sqlite3.Error, OSError) as error:
            raise MemoryFileError(
                f"memory {path}: {error}; move the file away to start with an empty memory"
            ) from error
        self._thread = threading.Thread(target=self._checkpoint_forever, name="memory checkpoint", daemon=True)
        self._thread.start()

    def _open_schema(self, capacity: int, dimensions: int, agents: int) -> None:
        wanted = f"{SCHEMA_VERSION}/{dimensions}/{agents}"
        self._connection.execute("CREATE TABLE IF NOT EXISTS shape (value TEXT NOT NULL)")
        found = self._connection.execute("SELECT value FROM shape").fetchone()
        if found is None:
            self._connection.execute("INSERT INTO shape VALUES (?)", (wanted,))
        elif found[0] != wanted:
            raise sqlite3.DatabaseError(f"holds lessons of shape {found[0]}, this version wants {wanted}")
        self._connection.execute(_CREATE)
        # A smaller capacity than last time keeps the youngest that fit.
        self._connection.execute(
            "DELETE FROM lesson WHERE slot NOT IN (SELECT slot FROM lesson ORDER BY serial DESC LIMIT ?)", (capacity,)
        )

    def load(self) -> list[Row]:
        """Every row, oldest first."""
        return self._connection.execute("SELECT * FROM lesson ORDER BY serial").fetchall()

    def count(self) -> int:
        return int(self._connection.execute("SELECT count(*) FROM lesson").fetchone()[0])

    def write(self, rows: Sequence[Row], moved: bool = False) -> None:
        """Put rows into their slots in one transaction, replacing what was there; `moved` empties the table first.

        Raises MemoryFileError where that cannot be done now; then nothing is written. Never waits for a lock.
        """
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            if moved:
                self._connection.execute("DELETE FROM lesson")
            self._connection.executemany(_INSERT, rows)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            # SQLite itself rolls back after some errors, a full disk among them.
            if self._connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
            raise MemoryFileError(
                f"memory {self._path} cannot be written: {error}; make room on the disk, or end what holds the file"
            ) from error
        self._commits += 1
        if self._commits % CHECKPOINT_EVERY_COMMITS == 0:
            self._due.set()

    def _checkpoint_forever(self) -> None:
        with_own = sqlite3.connect(self._path, isolation_level=None, timeout=5.0)
        try:
            while True:
                self._due.wait()
                self._due.clear()
                if self._closed.is_set():
                    return
                try:
                    with_own.execute("PRAGMA wal_checkpoint(PASSIVE)")
                    self.problem = ""
                except sqlite3.Error as error:
                    self.problem = f"memory {self._path}: checkpoint failed: {error}"
        finally:
            with_own.close()

    def close(self) -> None:
        """Checkpoint what is left and close."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._due.set()
        self._thread.join(timeout=10.0)
        with contextlib.suppress(sqlite3.Error):
            # What stays in the write-ahead log is read from there when the file is opened again.
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()
