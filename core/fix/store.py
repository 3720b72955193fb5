"""What a FIX session must not forget: both sequence numbers, and the newest application messages that it sent."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

import msgpack

from core.fix.message import Fields

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS sent (
    sequence INTEGER PRIMARY KEY, kind TEXT NOT NULL, sent TEXT NOT NULL, fields BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS numbers (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""
SENT_MAX: Final = 20_000
"""Messages kept, by their numbers, also for a side that stays away. Whoever misses older ones gets a gap fill over
them, and learns from his own questions (mass status, trades, positions) what they told."""
_PUT_NUMBER: Final = "INSERT OR REPLACE INTO numbers VALUES (?, ?)"


class MessageStore:
    """A session's numbers and messages in SQLite (WAL), kept over restarts; `path` None keeps them in memory."""

    def __init__(self, path: Path | None, kept_max: int = SENT_MAX) -> None:
        """Raises sqlite3.Error for a file that is no store."""
        self._kept_max = kept_max
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(_SCHEMA)
        self.next_out = self._number("next_out")
        """MsgSeqNum of the next message that we send."""
        self.next_in = self._durable_in = self._number("next_in")
        """MsgSeqNum of the next message that we expect."""

    def _number(self, name: str) -> int:
        row = self._db.execute("SELECT value FROM numbers WHERE name = ?", (name,)).fetchone()
        return 1 if row is None else int(row[0])

    def sent(self, kind: str, fields: Fields | None, sent: str) -> int:
        """Number a message, and keep it where `fields` are given (application messages). Returns its MsgSeqNum."""
        sequence = self.next_out
        self._db.execute("BEGIN")
        if fields is not None:
            packed = msgpack.packb(list(fields))
            self._db.execute("INSERT OR REPLACE INTO sent VALUES (?, ?, ?, ?)", (sequence, kind, sent, packed))
            self._db.execute("DELETE FROM sent WHERE sequence <= ?", (sequence - self._kept_max,))
        self._db.execute(_PUT_NUMBER, ("next_out", sequence + 1))
        self._db.execute("COMMIT")
        self.next_out = sequence + 1
        return sequence

    def received(self, next_in: int) -> None:
        """Every message below `next_in` was dealt with; a restart asks for them again until `keep_received`."""
        self.next_in = next_in

    def keep_received(self) -> None:
        """What follows from every message that was dealt with is durable: none of them is asked for again."""
        if self._durable_in != self.next_in:
            self._db.execute(_PUT_NUMBER, ("next_in", self.next_in))
            self._durable_in = self.next_in

    def messages(self, first: int, last: int, limit: int) -> list[tuple[int, str, str, Fields]]:
        """MsgSeqNum, kind, time and fields of the kept messages from `first` to `last`, in order, at most `limit`."""
        rows = self._db.execute(
            "SELECT sequence, kind, sent, fields FROM sent WHERE sequence BETWEEN ? AND ? ORDER BY sequence LIMIT ?",
            (first, last, limit),
        )
        return [
            (sequence, kind, sent, [(tag, value) for tag, value in msgpack.unpackb(fields)])
            for sequence, kind, sent, fields in rows
        ]

    def reset(self) -> None:
        """Both sides begin at 1 again."""
        self._db.execute("BEGIN")
        self._db.execute("DELETE FROM sent")
        self._db.execute("DELETE FROM numbers")
        self._db.execute("COMMIT")
        self.next_out = self.next_in = self._durable_in = 1

    def close(self) -> None:
        self._db.close()
