"""A venue and a gateway over real sockets, in this process or as processes that can be killed, and their comparison.

`python -m tests.integration.venue_session venue DIR PORT` and `… gateway DIR PORT` are those processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.gateway.binance import BinanceConnector
from core.gateway.ccxt import CcxtConnector
from core.gateway.ccxt_exchange import CcxtVenue
from core.gateway.fix import FixConnector
from core.gateway.gateway import Gateway
from core.gateway.journal import OrderJournal
from core.gateway.reconcile import NEVER_REACHED, Difference
from core.gateway.release import Authority
from core.gateway.settings import GatewaySettings
from core.orders.identity import client_order_id
from core.orders.order import ExecutionReport, OrderRequest, TimeInForce
from core.orders.scale import MarketScale
from core.records import OrderState as S
from core.records import VenueState
from core.venue.account import Account
from core.venue.credentials import load_credentials
from core.venue.events import OrderAccepted, Traded
from core.venue.exchange import Exchange, RecordedBook
from core.venue.journal import read_events
from core.venue.process import TRADER, Venue, journal_path, serve
from core.venue.settings import ExchangeSettings, Injection, VenueSettings

INSTRUMENTS = 5
SCALE = MarketScale.of([f"S{i}" for i in range(INSTRUMENTS)], "0.01", "1")
HOST = "127.0.0.1"
STATE_OF = {
    "NEW": S.ACCEPTED,
    "PARTIALLY_FILLED": S.PARTIALLY_FILLED,
    "FILLED": S.FILLED,
    "CANCELED": S.CANCELLED,
    "EXPIRED": S.EXPIRED,
    "EXPIRED_IN_MATCH": S.EXPIRED,
}


class WavePrices:
    """Prices that move with the step, so that resting orders come to fill."""

    recorded_book: RecordedBook | None = None

    def advance_to(self, step: int) -> Sequence[int]:
        return [10_000 + 100 * i + 40 * (step % 7) for i in range(INSTRUMENTS)]


def venue_settings(directory: Path, port: int = 0, **injection: float) -> VenueSettings:
    return VenueSettings(
        directory=directory / "venue",
        keys_file=directory / "keys" / "venue.json",
        port=port,
        injection=Injection(**injection),  # type: ignore[arg-type]
    )


@contextlib.asynccontextmanager
async def running_venue(directory: Path, port: int = 0, **injection: float) -> AsyncIterator[tuple[Venue, int]]:
    """A venue on this event loop."""
    venue = Venue(venue_settings(directory, port, **injection), SCALE, WavePrices())
    try:
        yield venue, await venue.start()
    finally:
        await venue.stop()


def make_connector(protocol: str, port: Callable[[], int], keys: Path, settings: GatewaySettings) -> Any:
    """A connector of any protocol at our venue; ccxt wants `port` to be that of the REST interface, and the WebSocket's
    in the settings' folder, as `port_of` gives and writes them."""
    if protocol == "ccxt":
        stream = settings.directory.parent / "ws-port"
        local = lambda: (f"http://{HOST}:{port()}", f"ws://{HOST}:{stream.read_text()}")  # noqa: E731
        return CcxtConnector(CcxtVenue(local=local), lambda: load_credentials(keys), SCALE, settings)
    made = FixConnector if protocol == "fix" else BinanceConnector
    return made(lambda: (HOST, port()), lambda: load_credentials(keys), SCALE, settings)


def port_of(venue: Venue, ws_port: int, protocol: str) -> int:
    """Where a connector of this protocol finds a running venue."""
    (venue.settings.directory.parent / "ws-port").write_text(str(ws_port))
    return {"binance": ws_port, "fix": venue.fix_port, "ccxt": venue.rest_port}[protocol]


class Trader:
    """A gateway and all it said."""

    def __init__(self, directory: Path, port: int, protocol: str = "binance", **changes: object) -> None:
        settings = GatewaySettings(directory / "gateway", synchronous="NORMAL", recv_window_ms=300, backoff_min_ms=5)
        self.settings = replace(settings, **changes)  # type: ignore[arg-type]
        self.port = port
        self.reports: list[ExecutionReport] = []
        self.states: list[VenueState] = []
        self.differences: list[Difference] = []
        keys = directory / "keys" / "venue.json"
        self.connector: Any = make_connector(protocol, lambda: self.port, keys, self.settings)
        self.gateway: Gateway[bytes] = Gateway(
            self.settings,
            SCALE,
            self.connector,
            verify=self._verify,
            on_report=self.reports.append,
            on_venue_state=lambda state, reason: self.states.append(state),
            on_difference=self.differences.append,
        )

    @staticmethod
    def _verify(certificate: bytes, payload: bytes) -> None:
        if certificate != b"certificate of " + payload:
            raise PermissionError("the certificate is not of this payload")

    async def settled(self) -> None:
        """Connected, and every order that was on its way is known."""
        await self.gateway.connected()
        while any(order.state in (S.SUBMITTED, S.UNKNOWN) for order in self.gateway.open_orders()):
            await asyncio.sleep(0.005)
            await self.gateway.connected()


@contextlib.asynccontextmanager
async def running_gateway(
    directory: Path, port: int, protocol: str = "binance", **changes: object
) -> AsyncIterator[Trader]:
    trader = Trader(directory, port, protocol, **changes)
    await trader.gateway.start()
    try:
        yield trader
    finally:
        await trader.gateway.stop()


def authority(epoch: int = 1, term: int = 1, payload: bytes = b"entry") -> Authority[bytes]:
    return Authority(epoch, term, b"certificate of " + payload, payload, proven=(epoch, term))


def request(index: int, position: int = 0, **terms: int | TimeInForce) -> OrderRequest:
    """An order that fills at once, unless `terms` say otherwise."""
    name = client_order_id(1, index, position, b"test")
    side = 1 if (index + position) % 2 else -1
    base = OrderRequest(
        name,
        position % INSTRUMENTS,
        side,
        3,
        12_000 if side > 0 else 9_000,
        TimeInForce.IOC,
        step=index,
        epoch=1,
        index=index,
        position=position,
    )
    return replace(base, **terms)  # type: ignore[arg-type]


def entry(index: int) -> list[OrderRequest]:
    """Eight orders of one entry: most fill at once, some rest and fill or not later, some are refused."""
    orders = [request(index, position) for position in range(6)]
    orders.append(request(index, 6, side=1, limit_ticks=9_990, time_in_force=TimeInForce.GTC))
    orders.append(request(index, 7, side=1, limit_ticks=12_000, time_in_force=TimeInForce.POST_ONLY))
    return orders


def check_agreement(directory: Path) -> tuple[int, int]:
    """Venue's book and gateway's journal tell the same story: no order twice, none lost, every cash quantum found.

    Returns how many orders the venue took, and how many never reached it. Both processes must be stopped.
    """
    venue = Exchange(SCALE, ExchangeSettings())
    events = list(read_events(journal_path(directory / "venue")))
    venue.restore(events)
    accepted = [e for e in events if isinstance(e, OrderAccepted) and e.owner == TRADER]
    names = [e.client_order_id for e in accepted]
    assert len(names) == len(set(names)), "an order was taken twice"
    journal = OrderJournal(directory / "gateway")
    try:
        for name in names:
            theirs, ours = venue.order(TRADER, None, name), journal.order(name)
            assert ours is not None, f"venue has {name}, the journal does not"
            assert (ours.state, ours.cumulative_quantity) == (STATE_OF[theirs.status], theirs.executed_lots)
            assert (ours.value_quanta, ours.fee_quanta) == (theirs.value_quanta, theirs.fee_quanta)
            assert ours.trade_ids == {trade.trade_id for trade in venue.trades_of(theirs)}
        there = set(names)
        missing = [order for order in journal.orders_in(S) if order.request.client_order_id not in there]
        for order in missing:
            never_there = order.state is S.EXPIRED and order.reason.startswith(NEVER_REACHED)
            assert never_there or order.state in (S.INITIALISED, S.REJECTED, S.DENIED), order
            assert order.cumulative_quantity == 0
        reports = journal.reports_since(0, 1_000_000)
        assert [r.sequence for r in reports] == list(range(1, len(reports) + 1))
        traded = sorted(e.trade_id for e in events if isinstance(e, Traded))
        assert sorted(r.trade_id for r in reports if r.trade_id) == traded
        _check_money(journal, venue.accounts[TRADER])
    finally:
        journal.close()
    return len(names), sum(order.state is S.EXPIRED for order in missing)


def _check_money(journal: OrderJournal, account: Account) -> None:
    baseline, traded = journal.baseline(), journal.traded(INSTRUMENTS)
    assert baseline is not None
    assert baseline.cash_quanta + traded.cash_quanta == account.cash
    assert [a + b for a, b in zip(baseline.base_lots, traded.base_lots, strict=True)] == account.base


STARTED: list[Process] = []
"""Every process of this test run; `kill_started` ends those that a failed test left."""


def kill_started() -> None:
    while STARTED:
        STARTED.pop().kill()


class Process:
    """A venue or gateway process of this file, to be killed."""

    def __init__(self, role: str, directory: Path, port: int) -> None:
        command = [sys.executable, "-m", "tests.integration.venue_session", role, str(directory), str(port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        STARTED.append(self)

    def ready(self) -> int:
        """Wait for it. Returns the number that it says: a venue's port, a gateway's first index."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.strip().isdigit(), f"did not start: {line!r}"
        return int(line)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def terminate(self) -> int:
        self._process.terminate()
        code = self._process.wait(timeout=20)
        if self._process.stdout is not None:
            self._process.stdout.close()
        return code


def last_index(directory: Path) -> int:
    """The highest entry that the gateway's journal holds; 0 before the first."""
    with contextlib.closing(sqlite3.connect(directory / "gateway" / "orders.sqlite")) as db:
        found = db.execute("SELECT COALESCE(MAX(entry), 0) FROM orders").fetchone()
    return int(found[0])


async def _trade(directory: Path, port: int) -> None:
    """Trade entry after entry until killed; the last entry of a killed one is asked for again, as a new leader does."""
    async with running_gateway(directory, port) as trader:
        first = max(1, last_index(directory))
        print(first, flush=True)
        for index in itertools.count(first):
            await trader.settled()
            trader.gateway.advance(index)
            await trader.gateway.execute(entry(index), authority(), in_flight=8)


def main(role: str, directory: Path, port: int) -> None:
    if role == "venue":
        venue = Venue(venue_settings(directory, port), SCALE, WavePrices())
        asyncio.run(serve(venue, lambda taken: print(taken, flush=True)))
    else:
        asyncio.run(_trade(directory, port))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
