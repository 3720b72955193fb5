"""What the venue no longer needs in memory: ended orders, client ids and trades in SQLite, with the state beside them.

Nothing here is a witness: all of it is made from the journal, and made again where it is missing, of another format or
not of this journal. So it may lag behind the journal, never run ahead of it: a checkpoint is one transaction that holds
what ended since the last one, the state, and the place in the journal that both are of. A killed venue comes back from
its last checkpoint and the journal's events behind that.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import msgpack

from core.venue.account import VenueOrder
from core.venue.events import OrderStatus, Traded
from core.venue.journal import JournalError, Position

ARCHIVE_NAME: Final = "archive.sqlite"
FORMAT: Final = 1
"""Of the tables, their rows and the state (`ExchangeState.checkpoint`). Another one is made anew from the journal."""
EVENTS_BETWEEN: Final = 250
"""Events from one checkpoint to the next: about 3 ms of writing, during which no request is taken."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS orders (
    order_id INTEGER PRIMARY KEY, owner INTEGER NOT NULL, instrument INTEGER NOT NULL, row BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS orders_of ON orders (owner, instrument, order_id);
CREATE TABLE IF NOT EXISTS names (
    owner INTEGER NOT NULL, client_order_id TEXT NOT NULL, order_id INTEGER NOT NULL,
    PRIMARY KEY (owner, client_order_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS trades (
    instrument INTEGER NOT NULL, place INTEGER NOT NULL, owner INTEGER NOT NULL, trade_id INTEGER NOT NULL,
    row BLOB NOT NULL, PRIMARY KEY (instrument, place)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS trades_of ON trades (owner, instrument, trade_id);
CREATE TABLE IF NOT EXISTS checkpoint (
    one INTEGER PRIMARY KEY CHECK (one = 1), end INTEGER NOT NULL, checksum INTEGER NOT NULL, state BLOB NOT NULL
);
"""
_order_fields: Final = attrgetter(*VenueOrder.__slots__)
_trade_fields: Final = attrgetter(*Traded.__slots__)
_STATUS_AT: Final = VenueOrder.__slots__.index("status")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A state, and the place in the journal up to which it is made of the events."""

    position: Position
    state: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """What leaves memory at a checkpoint."""

    orders: Iterable[VenueOrder]
    names: Mapping[tuple[int, str], int]
    """(owner, client order id) to order id; of open orders too."""
    trades: Iterable[tuple[int, int, int, Traded]]
    """(instrument, place among its trades, owner, trade)."""


class OrderArchive:
    """One file, of the process that holds the journal. Every method raises JournalError where it cannot be used."""

    def __init__(self, path: Path, *, events_between: int = EVENTS_BETWEEN) -> None:
        """Open or create; what is no archive of this format is made anew."""
        self.path = path
        self.events_between = events_between
        self.on_failed: Callable[[JournalError], None] = lambda failure: None
        """Told before a method raises: a venue that cannot read its past answers nobody."""
        try:
            with self._failing():
                self._db = self._open()
        except JournalError as error:
            if isinstance(error.__cause__, sqlite3.OperationalError):
                raise  # a full disk or a folder without the right to write, not what is in the file
            self._db = self._anew()

    def _open(self) -> sqlite3.Connection:
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        db = sqlite3.connect(self.path, isolation_level=None)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            # Whole after a power cut, whatever the journal risks: a name that is lost would be taken twice.
            db.execute("PRAGMA synchronous = NORMAL")
            if db.execute("PRAGMA user_version").fetchone()[0] not in (0, FORMAT):
                raise sqlite3.DatabaseError("another format")
            db.executescript(_SCHEMA)
            db.execute(f"PRAGMA user_version = {FORMAT}")
            db.execute("SELECT * FROM checkpoint").fetchone()
        except sqlite3.Error:
            db.close()
            raise
        return db

    def _anew(self) -> sqlite3.Connection:
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        with self._failing():
            return self._open()

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            remedy = "make room, or stop the venue and delete this file: the venue makes it again from its journal"
            if not isinstance(error, sqlite3.OperationalError):  # damaged
                self.path.unlink(missing_ok=True)
                remedy = "it is removed, and made again from the journal as the venue is started again"
            failure = JournalError(f"{self.path} cannot be used: {error}; {remedy}")
            self.on_failed(failure)
            raise failure from error

    def clear(self) -> None:
        """Begin anew, without a checkpoint."""
        self._db.close()
        self._db = self._anew()

    def close(self) -> None:
        self._db.close()

    def checkpoint(self) -> Checkpoint | None:
        """The newest one; None in a new archive."""
        found = self._one("SELECT end, checksum, state FROM checkpoint")
        return None if found is None else Checkpoint(Position(found[0], found[1]), found[2])

    def write(self, checkpoint: Checkpoint, ended: Ended) -> None:
        """Take what ended and the checkpoint, both or neither."""
        orders = [(o.order_id, o.owner, o.instrument, msgpack.packb(pack_order(o))) for o in ended.orders]
        names = [(owner, name, order_id) for (owner, name), order_id in ended.names.items()]
        trades = [(i, at, owner, t.trade_id, msgpack.packb(_trade_fields(t))) for i, at, owner, t in ended.trades]
        position = checkpoint.position
        with self._failing():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany("INSERT OR REPLACE INTO orders VALUES (?, ?, ?, ?)", orders)
                self._db.executemany("INSERT OR REPLACE INTO names VALUES (?, ?, ?)", names)
                self._db.executemany("INSERT INTO trades VALUES (?, ?, ?, ?, ?)", trades)
                row = (position.end, position.checksum, checkpoint.state)
                self._db.execute("INSERT OR REPLACE INTO checkpoint VALUES (1, ?, ?, ?)", row)
                self._db.execute("COMMIT")
            except sqlite3.Error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def order(self, order_id: int) -> VenueOrder | None:
        found = self._one("SELECT row FROM orders WHERE order_id = ?", order_id)
        return None if found is None else unpack_order(msgpack.unpackb(found[0], use_list=False))

    def order_id(self, owner: int, client_order_id: str) -> int | None:
        """The order that `owner` ever gave this name."""
        if not client_order_id.isascii():
            return None  # no order was ever accepted under such a name, and not all of them are text to SQLite
        found = self._one("SELECT order_id FROM names WHERE owner = ? AND client_order_id = ?", owner, client_order_id)
        return None if found is None else int(found[0])

    def orders(self, owner: int) -> list[VenueOrder]:
        """Every ended order of `owner`, by order id."""
        return self._orders("SELECT row FROM orders WHERE owner = ? ORDER BY order_id", owner)

    def page(self, owner: int, instrument: int, first: int | None, limit: int) -> list[VenueOrder]:
        """Ended orders of one instrument by order id: from `first` on, or the newest; at most `limit`."""
        of = "SELECT row FROM orders WHERE owner = ? AND instrument = ?"
        if first is not None:
            query = f"{of} AND order_id >= ? ORDER BY order_id LIMIT ?"
            return self._orders(query, owner, instrument, first, limit)
        return self._orders(f"{of} ORDER BY order_id DESC LIMIT ?", owner, instrument, limit)[::-1]

    def trade(self, instrument: int, place: int) -> Traded:
        """One trade by its place. Raises KeyError where it is not here."""
        found = self._one("SELECT row FROM trades WHERE instrument = ? AND place = ?", instrument, place)
        if found is None:
            raise KeyError(f"{self.path}: no trade {place} of instrument {instrument}")
        return _trade(found[0])

    def trades(self, owner: int, instrument: int, from_id: int, limit: int) -> list[Traded]:
        """Trades of `owner` with trade id >= `from_id`, oldest first, at most `limit`."""
        of = "SELECT row FROM trades WHERE owner = ? AND instrument = ? AND trade_id >= ?"
        found = self._all(f"{of} ORDER BY trade_id, place LIMIT ?", owner, instrument, from_id, limit)
        return [_trade(row) for (row,) in found]

    def newest_trades(self, instrument: int, limit: int) -> list[Traded]:
        """The newest of every account, newest first, at most `limit`."""
        query = "SELECT row FROM trades WHERE instrument = ? ORDER BY place DESC LIMIT ?"
        return [_trade(row) for (row,) in self._all(query, instrument, limit)]

    def _orders(self, query: str, *values: int) -> list[VenueOrder]:
        return [unpack_order(msgpack.unpackb(row, use_list=False)) for (row,) in self._all(query, *values)]

    def _one(self, query: str, *values: object) -> tuple[Any, ...] | None:
        with self._failing():
            found: tuple[Any, ...] | None = self._db.execute(query, values).fetchone()
            return found

    def _all(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self._failing():
            return self._db.execute(query, values).fetchall()


def pack_order(order: VenueOrder) -> tuple[Any, ...]:
    """An order as a row that MessagePack takes."""
    fields: tuple[Any, ...] = _order_fields(order)
    return fields


def unpack_order(row: tuple[Any, ...]) -> VenueOrder:
    """The inverse of `pack_order`, of tuples all through."""
    fields = list(row)
    fields[_STATUS_AT] = OrderStatus(fields[_STATUS_AT])
    return VenueOrder(*fields)


def _trade(row: bytes) -> Traded:
    return Traded(*msgpack.unpackb(row, use_list=False))
