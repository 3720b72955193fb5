"""What every gateway connector must pass against the venue: Binance's WebSocket API, FIX 4.4, and ccxt.

A connector that is not in `PROTOCOLS` is none.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from core.gateway.book_source import BookSource
from core.gateway.connector import ConnectorError
from core.orders.order import OrderRequest, TimeInForce
from core.orders.scale import MarketScale
from core.records import OrderState as S
from core.records import VenueState
from core.venue import server as server_module
from core.venue.credentials import Credentials, load_credentials
from core.venue.exchange import NewOrder
from core.venue.process import TRADER, Venue
from tests.integration import venue_session
from tests.integration.test_venue_faults import ask
from tests.integration.venue_session import (
    SCALE,
    Trader,
    WavePrices,
    authority,
    check_agreement,
    entry,
    port_of,
    request,
    running_gateway,
    running_venue,
    venue_settings,
)

PROTOCOLS = ["binance", "fix", "ccxt"]


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> str:
    if request.param == "ccxt":
        pytest.importorskip("ccxt.pro", reason="ccxt is not installed here")
    return str(request.param)


def run(work: Awaitable[None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await work

    asyncio.run(bounded())


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def both(
    folder: Path, protocol: str, injection: dict[str, float] | None = None, **changes: object
) -> AsyncIterator[tuple[Venue, Trader]]:
    """A venue and a gateway connected to it."""
    async with (
        running_venue(folder, **(injection or {})) as (venue, ws_port),
        running_gateway(folder, port_of(venue, ws_port, protocol), protocol, **changes) as trader,
    ):
        yield venue, trader


def state_of(trader: Trader, order: OrderRequest) -> S:
    known = trader.gateway.order(order.client_order_id)
    assert known is not None
    return known.state


def test_orders_fill_and_repeat_gives_the_recorded_outcome(tmp_path: Path, protocol: str) -> None:
    async def work() -> None:
        async with both(tmp_path, protocol) as (_, trader):
            assert trader.states == [VenueState.RECONCILING, VenueState.CONNECTED]
            gateway, orders = trader.gateway, entry(1)
            first = await gateway.execute(orders, authority(), in_flight=8)
            assert [o.state for o in first] == [S.FILLED] * 6 + [S.ACCEPTED, S.REJECTED]
            assert "would immediately match" in first[7].reason
            told = list(trader.reports)
            again = await gateway.execute(orders, authority(), in_flight=8)
            assert [(o.state, o.duplicate) for o in again] == [(o.state, True) for o in first]
            assert trader.reports == told
            assert trader.differences == []

    run(work())
    assert check_agreement(tmp_path) == (7, 0)


def test_a_resting_order_fills_later_and_another_is_cancelled(tmp_path: Path, protocol: str) -> None:
    async def work() -> None:
        async with both(tmp_path, protocol) as (_, trader):
            gateway = trader.gateway
            sell = request(1, 0, side=-1, limit_ticks=10_030, time_in_force=TimeInForce.GTC)
            keep = request(1, 1, side=1, limit_ticks=9_000, time_in_force=TimeInForce.GTC)
            assert [o.state for o in await gateway.execute([sell, keep], authority())] == [S.ACCEPTED] * 2
            assert await gateway.advance(1) == 1
            await until(lambda: state_of(trader, sell) is S.FILLED)
            gateway.cancel([keep.client_order_id], authority())
            assert state_of(trader, keep) is S.PENDING_CANCEL
            await until(lambda: state_of(trader, keep) is S.CANCELLED)
            assert gateway.open_orders() == []

    run(work())
    assert check_agreement(tmp_path) == (2, 0)


def test_every_kind_of_order(tmp_path: Path, protocol: str) -> None:
    async def work() -> None:
        async with both(tmp_path, protocol) as (_, trader):
            orders = [
                request(1, 0, side=1, limit_ticks=0),
                request(1, 1, side=1, limit_ticks=9_000),
                request(1, 2, side=1, limit_ticks=12_000, time_in_force=TimeInForce.FOK),
                request(1, 3, side=1, limit_ticks=9_000, time_in_force=TimeInForce.FOK),
                request(1, 4, side=1, limit_ticks=9_000, time_in_force=TimeInForce.POST_ONLY),
                request(1, 5, side=1, limit_ticks=12_000, time_in_force=TimeInForce.POST_ONLY),
                request(1, 6, side=1, limit_ticks=12_000, quantity_lots=100_000_000),
            ]
            outcomes = await trader.gateway.execute(orders, authority(), in_flight=8)
            assert [o.state for o in outcomes] == [
                S.FILLED,
                S.EXPIRED,
                S.FILLED,
                S.EXPIRED,
                S.ACCEPTED,
                S.REJECTED,
                S.REJECTED,
            ]

    run(work())
    check_agreement(tmp_path)


def test_orders_of_one_instrument_keep_their_order(tmp_path: Path, protocol: str) -> None:
    async def work() -> None:
        async with both(tmp_path, protocol, {"latency_ms": 1.0, "jitter_ms": 3.0}) as (venue, trader):
            orders = [request(1, position, instrument=position % 2) for position in range(12)]
            await trader.gateway.execute(orders, authority(), in_flight=8)
            taken = venue.exchange.orders_of(TRADER)
            for instrument in (0, 1):
                names = [o.client_order_id for o in taken if o.instrument == instrument]
                assert names == [r.client_order_id for r in orders if r.instrument == instrument]

    run(work())
    check_agreement(tmp_path)


def test_no_answer_in_time_is_unknown_asked_after_and_never_sent_again(tmp_path: Path, protocol: str) -> None:
    async def work() -> None:
        async with both(tmp_path, protocol, answer_timeout_ms=400, heartbeat_ms=5_000) as (venue, trader):
            quick = venue.faults.injection
            venue.faults.injection = replace(quick, latency_ms=900)
            waiting = asyncio.create_task(trader.gateway.execute([request(1)], authority()))
            await until(lambda: any(r.state is S.UNKNOWN for r in trader.reports))
            venue.faults.injection = quick
            (outcome,) = await waiting
            assert outcome.state is S.FILLED
            assert [r.state for r in trader.reports].count(S.FILLED) == 1

    run(work())
    assert check_agreement(tmp_path) == (1, 0)


def test_a_fill_while_away_is_found_at_the_next_connect(tmp_path: Path, protocol: str) -> None:
    async def work() -> None:
        async with running_venue(tmp_path) as (venue, ws_port):
            port = port_of(venue, ws_port, protocol)
            sell = request(1, 0, side=-1, limit_ticks=10_030, time_in_force=TimeInForce.GTC)
            async with running_gateway(tmp_path, port, protocol) as trader:
                await trader.gateway.execute([sell], authority())
            venue.advance_to(1)
            venue.server.publish()
            async with running_gateway(tmp_path, port, protocol) as trader:
                await until(lambda: state_of(trader, sell) is S.FILLED)
                assert {difference.kind for difference in trader.differences} <= {"order"}

    run(work())
    assert check_agreement(tmp_path) == (1, 0)


def test_a_venue_that_goes_and_comes_back(tmp_path: Path, protocol: str) -> None:
    async def work() -> None:
        venue = Venue(venue_settings(tmp_path), SCALE, WavePrices())
        ws_port = await venue.start()
        ports = {"port": ws_port, "rest_port": venue.rest_port, "fix_port": venue.fix_port}
        async with running_gateway(tmp_path, port_of(venue, ws_port, protocol), protocol) as trader:
            await trader.gateway.execute(entry(1), authority(), in_flight=8)
            await venue.stop()
            await until(lambda: trader.gateway.state is VenueState.DOWN)
            again = Venue(replace(venue_settings(tmp_path), **ports), SCALE, WavePrices())  # type: ignore[arg-type]
            await again.start()
            try:
                await trader.settled()
                outcomes = await trader.gateway.execute(entry(2), authority(), in_flight=8)
                assert [o.state for o in outcomes] == [S.FILLED] * 6 + [S.ACCEPTED, S.REJECTED]
            finally:
                await again.stop()

    run(work())
    assert check_agreement(tmp_path) == (14, 0)


def test_what_others_did_with_the_account_is_shown_and_resolved(tmp_path: Path, protocol: str) -> None:
    async def work() -> None:
        async with running_venue(tmp_path) as (venue, ws_port):
            port = port_of(venue, ws_port, protocol)
            async with running_gateway(tmp_path, port, protocol) as trader:
                await trader.gateway.execute(entry(1), authority(), in_flight=8)
            exchange, now = venue.exchange, server_module.unix_ms()
            exchange.place(TRADER, NewOrder("tt-lost", 0, 1, 9_000, 1, TimeInForce.GTC), now)
            exchange.place(TRADER, NewOrder("by-hand", 0, 1, 9_000, 1, TimeInForce.GTC), now)
            exchange.place(TRADER, NewOrder("by-hand-2", 1, 1, 12_000, 2, TimeInForce.IOC), now)
            venue.server.publish()
            async with running_gateway(tmp_path, port, protocol) as trader:
                kinds = {(difference.kind, difference.subject) for difference in trader.differences}
                assert {("foreign order", "tt-lost"), ("foreign order", "by-hand")} <= kinds
                assert {subject for kind, subject in kinds if kind == "balance"} == {"cash (quanta)", "S1 (lots)"}
            left = {order.client_order_id for order in exchange.open_orders(TRADER)}
            assert left == {request(1, 6).client_order_id, "by-hand"}
            async with running_gateway(tmp_path, port, protocol) as trader:
                assert "balance" not in {difference.kind for difference in trader.differences}

    run(work())


def test_a_venue_that_drops_refuses_and_cuts_by_setting(tmp_path: Path, protocol: str) -> None:
    faults = {"drop_rate": 0.02, "disconnect_rate": 0.02, "reject_rate": 0.1, "seed": 7}
    patience = {"answer_timeout_ms": 300, "recv_window_ms": 100, "heartbeat_ms": 500}

    async def work() -> None:
        async with both(tmp_path, protocol, faults, **patience) as (venue, trader):
            for index in range(1, 9):
                await ask(trader, index)
            venue.faults.injection = replace(venue.faults.injection, drop_rate=0.0, disconnect_rate=0.0)
            await trader.settled()
            assert {S.REJECTED, S.FILLED} <= {report.state for report in trader.reports}

    run(work())
    check_agreement(tmp_path)


def test_beside_trading_nothing_is_said_of_what_is_under_way(tmp_path: Path, protocol: str) -> None:
    async def work() -> None:
        async with both(tmp_path, protocol, {"latency_ms": 2.0}, reconcile_interval_s=0.02) as (_, trader):
            async with asyncio.TaskGroup() as group:
                for index in range(1, 9):
                    group.create_task(trader.gateway.submit(entry(index), authority(), in_flight=8).answered())
                    await asyncio.sleep(0.02)
            await trader.gateway.drain(10)
            assert trader.differences == []

    run(work())
    assert check_agreement(tmp_path) == (56, 0)


def test_a_venue_of_another_market_is_refused(tmp_path: Path, protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(scale: MarketScale, words: str) -> None:
        async with running_venue(tmp_path) as (venue, ws_port):
            monkeypatch.setattr(venue_session, "SCALE", scale)
            trader = Trader(tmp_path, port_of(venue, ws_port, protocol), protocol)
            monkeypatch.setattr(venue_session, "SCALE", SCALE)
            with pytest.raises(ConnectorError, match=words):
                await trader.connector.connect(trader.gateway._link)
            await trader.gateway.stop()

    run(work(MarketScale.of(["S0", "S9"], "0.01", "1"), "does not trade S9"))
    run(work(MarketScale.of(["S0"], "0.001", "1"), "tick"))
    run(work(MarketScale.of(["S0"], "0.01", "10"), "lot"))


def test_the_book_is_shown_where_the_protocol_has_one(tmp_path: Path, protocol: str) -> None:
    async def work() -> None:
        async with both(tmp_path, protocol) as (venue, trader):
            if not isinstance(trader.connector, BookSource):
                assert protocol == "fix", "order entry by FIX shows no book"
                return
            bids, asks = await trader.connector.depth(1, 5)
            assert (list(bids), list(asks)) == venue.exchange.depth(1, 5, server_module.unix_ms())
            assert bids[0][0] < asks[0][0]

    run(work())


def test_a_wrong_secret_is_refused_and_stands_in_no_message(tmp_path: Path, protocol: str) -> None:
    async def work() -> None:
        async with running_venue(tmp_path) as (venue, ws_port):
            trader = Trader(tmp_path, port_of(venue, ws_port, protocol), protocol, answer_timeout_ms=1_000)
            key = load_credentials(tmp_path / "keys" / "venue.json").api_key
            for name in ("_credentials", "_read_credentials"):
                if callable(getattr(trader.connector, name, None)):
                    setattr(trader.connector, name, lambda: Credentials(key, "not-the-secret"))
            await trader.gateway.start(wait=False)
            await until(lambda: trader.gateway.state is VenueState.DOWN)
            assert "not-the-secret" not in trader.gateway.state_reason
            assert trader.gateway.orders_sent == 0
            await trader.gateway.stop()

    run(work())
