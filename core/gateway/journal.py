"""The order journal: SQLite in WAL mode, one commit for a batch, on disk before the first byte of an order leaves."""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from core.gateway.connector import Balances
from core.gateway.errors import GatewayJournalError
from core.orders.life_cycle import OPEN
from core.orders.order import ExecutionReport, Order, OrderRequest, TimeInForce
from core.records import OrderState

JOURNAL_NAME: Final = "orders.sqlite"
FORMAT: Final = 1

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS orders (
    client_order_id TEXT PRIMARY KEY,
    instrument INTEGER NOT NULL, side INTEGER NOT NULL, quantity INTEGER NOT NULL, limit_ticks INTEGER NOT NULL,
    time_in_force TEXT NOT NULL, step INTEGER NOT NULL, epoch INTEGER NOT NULL, entry INTEGER NOT NULL,
    position INTEGER NOT NULL,
    state TEXT NOT NULL, cumulative INTEGER NOT NULL, value INTEGER NOT NULL, fee INTEGER NOT NULL,
    venue_order_id INTEGER NOT NULL, reason TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS orders_open ON orders (state) WHERE state IN
    ('submitted', 'accepted', 'partially filled', 'pending cancel', 'unknown', 'initialised');
CREATE INDEX IF NOT EXISTS orders_venue ON orders (venue_order_id);
CREATE TABLE IF NOT EXISTS reports (
    sequence INTEGER PRIMARY KEY,
    client_order_id TEXT NOT NULL, state TEXT NOT NULL, trade_id INTEGER NOT NULL, quantity INTEGER NOT NULL,
    price INTEGER NOT NULL, fee INTEGER NOT NULL, cumulative INTEGER NOT NULL, reason TEXT NOT NULL,
    ts_ns INTEGER NOT NULL,
    instrument INTEGER NOT NULL, side INTEGER NOT NULL, epoch INTEGER NOT NULL, entry INTEGER NOT NULL,
    position INTEGER NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS reports_trades ON reports (instrument, trade_id) WHERE trade_id > 0;
CREATE INDEX IF NOT EXISTS reports_orders ON reports (client_order_id) WHERE trade_id > 0;
CREATE TABLE IF NOT EXISTS decided (
    instrument INTEGER PRIMARY KEY, entry INTEGER NOT NULL, step INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
_PUT_ORDER: Final = f"INSERT OR REPLACE INTO orders VALUES ({', '.join('?' * 16)})"
_PUT_REPORT: Final = f"INSERT INTO reports VALUES ({', '.join('?' * 15)})"
_PUT_DECIDED: Final = (
    "INSERT INTO decided VALUES (?, ?, ?) ON CONFLICT (instrument) "
    "DO UPDATE SET entry = excluded.entry, step = excluded.step WHERE excluded.entry > entry"
)
_PUT_META: Final = "INSERT OR REPLACE INTO meta VALUES (?, ?)"


class OrderJournal:
    """Orders, numbered reports, the fence and the balance baseline. One process at a time."""

    def __init__(self, directory: Path, synchronous: Literal["FULL", "NORMAL"] = "FULL") -> None:
        """Open or create. Raises GatewayJournalError where another process holds it or it is of another format."""
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = os.open(directory / "orders.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise GatewayJournalError(f"{directory} is held by another gateway process; stop it first") from None
        # isolation_level None: a transaction is what `write` says it is.
        self._db = sqlite3.connect(directory / JOURNAL_NAME, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute(f"PRAGMA synchronous = {synchronous}")
        self._db.executescript(_SCHEMA)
        found = int(self._meta("format", str(FORMAT)))
        if found != FORMAT:
            raise GatewayJournalError(f"{directory}: journal format {found}, this program writes {FORMAT}")
        self._db.execute(_PUT_META, ("format", str(FORMAT)))
        self._traded: tuple[int, dict[int, int]] | None = None
        """Cash and lots by instrument of all fills, once somebody has asked."""

    def write(
        self,
        orders: Iterable[Order] = (),
        reports: Sequence[ExecutionReport] = (),
        fence: tuple[int, int] | None = None,
        baseline: Balances | None = None,
        decided: Iterable[OrderRequest] = (),
    ) -> None:
        """One transaction; on disk when it returns. `decided`: orders that a Byzantine quorum decided.

        Whatever it raises (sqlite3.Error, mostly), nothing was written.
        """
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.executemany(_PUT_ORDER, [_order_row(order) for order in orders])
            if reports:
                self._db.executemany(_PUT_REPORT, [_report_row(report) for report in reports])
            self._db.executemany(_PUT_DECIDED, [(r.instrument, r.index, r.step) for r in decided])
            if fence is not None:
                self._db.execute(_PUT_META, ("fence", json.dumps(fence)))
            if baseline is not None:
                self._db.execute(_PUT_META, ("baseline", json.dumps([baseline.cash_quanta, *baseline.base_lots])))
            self._db.execute("COMMIT")
        except BaseException:
            # A number that SQLite cannot hold is an OverflowError; a transaction left open would refuse all others.
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        self._count(reports)

    def _count(self, reports: Sequence[ExecutionReport]) -> None:
        if self._traded is None:
            return
        cash, base = self._traded
        for report in reports:
            if report.last_quantity:
                base[report.instrument] = base.get(report.instrument, 0) + report.side * report.last_quantity
                cash -= report.side * report.last_quantity * report.last_price_ticks + report.fee_quanta
        self._traded = cash, base

    def order(self, client_order_id: str) -> Order | None:
        """The order as last written, or None."""
        row = self._db.execute("SELECT * FROM orders WHERE client_order_id = ?", (client_order_id,)).fetchone()
        return None if row is None else self._order(row)

    def order_of_venue_id(self, venue_order_id: int) -> Order | None:
        """The order that the venue knows by this id, or None."""
        row = self._db.execute("SELECT * FROM orders WHERE venue_order_id = ?", (venue_order_id,)).fetchone()
        return None if row is None else self._order(row)

    def orders_in(self, states: Iterable[OrderState]) -> list[Order]:
        """Every order in one of these states."""
        names = [str(state) for state in states]
        marks = ", ".join("?" * len(names))
        rows = self._db.execute(f"SELECT * FROM orders WHERE state IN ({marks})", names).fetchall()
        return [self._order(row) for row in rows]

    def open_orders(self) -> list[Order]:
        """Orders that the venue may hold."""
        return self.orders_in(OPEN)

    def fence(self) -> tuple[int, int]:
        """The highest (epoch, term) that was let through; (0, 0) before the first."""
        epoch, term = json.loads(self._meta("fence", "[0, 0]"))
        return epoch, term

    def decided_steps(self) -> list[tuple[int, int, int]]:
        """Instrument, log index and step of the newest order of each instrument that a Byzantine quorum decided."""
        return self._db.execute("SELECT instrument, entry, step FROM decided").fetchall()

    def baseline(self) -> Balances | None:
        """Balances before the journal's first fill; None before the first reconciliation."""
        text = self._meta("baseline", "")
        if not text:
            return None
        cash, *base = json.loads(text)
        return Balances(cash, tuple(base))

    def traded(self, instruments: int) -> Balances:
        """What all fills together did to the balances: the sum over every order's fills, fees deducted."""
        if self._traded is None:
            self._traded = self._read_traded()
        cash, base = self._traded
        return Balances(cash, tuple(base.get(instrument, 0) for instrument in range(instruments)))

    def _read_traded(self) -> tuple[int, dict[int, int]]:
        base: dict[int, int] = {}
        cash = 0
        # Python sums: SQLite's SUM overflows at 2**63, and these are exact.
        for instrument, side, lots, value, fee in self._db.execute(
            "SELECT instrument, side, cumulative, value, fee FROM orders WHERE cumulative > 0"
        ):
            base[instrument] = base.get(instrument, 0) + side * lots
            cash -= side * value + fee
        return cash, base

    def last_sequence(self) -> int:
        """The number of the last report; 0 before the first."""
        value: int = self._db.execute("SELECT COALESCE(MAX(sequence), 0) FROM reports").fetchone()[0]
        return value

    def last_trade_id(self, instrument: int) -> int:
        """The highest trade id reported for an instrument; 0 before the first."""
        found = self._db.execute(
            "SELECT MAX(trade_id) FROM reports WHERE instrument = ? AND trade_id > 0", (instrument,)
        )
        return found.fetchone()[0] or 0

    def trade_owner(self, instrument: int, trade_id: int) -> str | None:
        """The client order id under which a trade is reported, or None."""
        found = self._db.execute(
            "SELECT client_order_id FROM reports WHERE instrument = ? AND trade_id = ? AND trade_id > 0",
            (instrument, trade_id),
        ).fetchone()
        return None if found is None else str(found[0])

    def reports_since(self, sequence: int, limit: int) -> list[ExecutionReport]:
        """Reports numbered above `sequence`, in order, at most `limit`."""
        rows = self._db.execute(
            "SELECT * FROM reports WHERE sequence > ? ORDER BY sequence LIMIT ?", (sequence, limit)
        ).fetchall()
        return [_report(row) for row in rows]

    def close(self) -> None:
        self._db.close()
        os.close(self._lock)

    def _meta(self, name: str, default: str) -> str:
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return default if row is None else str(row[0])

    def _order(self, row: Sequence[Any]) -> Order:
        name = row[0]
        trades = self._db.execute("SELECT trade_id FROM reports WHERE client_order_id = ? AND trade_id > 0", (name,))
        request = OrderRequest(
            client_order_id=name,
            instrument=row[1],
            side=row[2],
            quantity_lots=row[3],
            limit_ticks=row[4],
            time_in_force=TimeInForce(row[5]),
            step=row[6],
            epoch=row[7],
            index=row[8],
            position=row[9],
        )
        return Order(
            request,
            OrderState(row[10]),
            cumulative_quantity=row[11],
            value_quanta=row[12],
            fee_quanta=row[13],
            trade_ids=frozenset(trade_id for (trade_id,) in trades),
            venue_order_id=row[14],
            reason=row[15],
        )


def _order_row(order: Order) -> tuple[Any, ...]:
    r = order.request
    return (
        r.client_order_id,
        r.instrument,
        r.side,
        r.quantity_lots,
        r.limit_ticks,
        str(r.time_in_force),
        r.step,
        r.epoch,
        r.index,
        r.position,
        str(order.state),
        order.cumulative_quantity,
        order.value_quanta,
        order.fee_quanta,
        order.venue_order_id,
        order.reason,
    )


def _report_row(r: ExecutionReport) -> tuple[Any, ...]:
    return (
        r.sequence,
        r.client_order_id,
        str(r.state),
        r.trade_id,
        r.last_quantity,
        r.last_price_ticks,
        r.fee_quanta,
        r.cumulative_quantity,
        r.reason,
        r.ts_ns,
        r.instrument,
        r.side,
        r.epoch,
        r.index,
        r.position,
    )


def _report(row: Sequence[Any]) -> ExecutionReport:
    return ExecutionReport(
        sequence=row[0],
        client_order_id=row[1],
        state=OrderState(row[2]),
        trade_id=row[3],
        last_quantity=row[4],
        last_price_ticks=row[5],
        fee_quanta=row[6],
        cumulative_quantity=row[7],
        reason=row[8],
        ts_ns=row[9],
        instrument=row[10],
        side=row[11],
        epoch=row[12],
        index=row[13],
        position=row[14],
    )
