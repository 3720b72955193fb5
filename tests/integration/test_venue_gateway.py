"""Gateway and venue over real sockets: the order path as a leader uses it."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from core.gateway import binance as binance_module
from core.gateway.connector import ConnectorError
from core.gateway.errors import FencedError, GatewayFull, OtherTerms, TradingHalted, UnknownOrder, VenueUnavailable
from core.gateway.venue_times import VenueTimes
from core.orders.life_cycle import InvalidOrder
from core.orders.order import TimeInForce
from core.orders.scale import MarketScale
from core.records import OrderState as S
from core.records import VenueState
from core.venue import server as server_module
from core.venue.credentials import load_credentials
from core.venue.events import OrderAccepted
from core.venue.exchange import NewOrder
from core.venue.journal import read_events
from core.venue.process import TRADER, Venue, journal_path
from tests.integration.venue_session import (
    INSTRUMENTS,
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


def run(work: Awaitable[None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await work

    asyncio.run(bounded())


def accepted(directory: Path) -> list[OrderAccepted]:
    return [e for e in read_events(journal_path(directory / "venue")) if isinstance(e, OrderAccepted)]


async def until(condition: object) -> None:
    while not condition():  # type: ignore[operator]
        await asyncio.sleep(0.002)


def test_orders_fill_and_repeat_gives_the_recorded_outcome(tmp_path: Path) -> None:
    async def work() -> None:
        async with running_venue(tmp_path) as (_, port), running_gateway(tmp_path, port) as trader:
            assert trader.states == [VenueState.RECONCILING, VenueState.CONNECTED]
            gateway, orders = trader.gateway, entry(1)
            first = await gateway.execute(orders, authority(), in_flight=8)
            assert [o.state for o in first] == [S.FILLED] * 6 + [S.ACCEPTED, S.REJECTED]
            assert "-2010" in first[7].reason
            assert not any(o.duplicate for o in first)
            told = list(trader.reports)
            again = await gateway.execute(orders, authority(), in_flight=8)
            assert [(o.client_order_id, o.state, o.reason) for o in again] == [
                (o.client_order_id, o.state, o.reason) for o in first
            ]
            assert all(o.duplicate for o in again)
            assert trader.reports == told
            assert gateway.reports_since(0) == told
            assert gateway.reports_since(told[-3].sequence) == told[-2:]
            assert not trader.differences

    run(work())
    assert check_agreement(tmp_path) == (7, 0)


def test_a_resting_order_fills_later_and_another_is_cancelled(tmp_path: Path) -> None:
    async def work() -> None:
        async with running_venue(tmp_path) as (_, port), running_gateway(tmp_path, port) as trader:
            gateway = trader.gateway
            sell = request(1, 0, side=-1, limit_ticks=10_030, time_in_force=TimeInForce.GTC)
            keep = request(1, 1, side=1, limit_ticks=9_000, time_in_force=TimeInForce.GTC)
            outcomes = await gateway.execute([sell, keep], authority())
            assert [o.state for o in outcomes] == [S.ACCEPTED, S.ACCEPTED]
            assert await gateway.advance(1) == 1
            await until(lambda: gateway.order(sell.client_order_id).state is S.FILLED)  # type: ignore[union-attr]
            assert gateway.order(sell.client_order_id).value_quanta == 3 * 10_030  # type: ignore[union-attr]
            gateway.cancel([keep.client_order_id, sell.client_order_id], authority())
            assert gateway.order(keep.client_order_id).state is S.PENDING_CANCEL  # type: ignore[union-attr]
            await until(lambda: gateway.order(keep.client_order_id).state is S.CANCELLED)  # type: ignore[union-attr]
            assert gateway.open_orders() == []

    run(work())
    assert check_agreement(tmp_path) == (2, 0)


@pytest.mark.parametrize("protocol", ["binance", "fix"])
def test_the_venue_tells_when_it_had_each_order_in_hand(tmp_path: Path, protocol: str) -> None:
    async def work() -> None:
        async with running_venue(tmp_path) as (venue, ws_port):
            (tmp_path / "rest.port").write_text(str(venue.rest_port))
            keys = tmp_path / "keys" / "venue.json"
            times = VenueTimes(tmp_path / "rest.port", lambda: load_credentials(keys))
            async with running_gateway(tmp_path, port_of(venue, ws_port, protocol), protocol) as trader:
                began_ns, orders = time.perf_counter_ns(), entry(1)
                await trader.gateway.execute(orders, authority(), in_flight=8)
                found = await times.after(began_ns)
                names = sorted(name for name, _, _ in found)
                assert names == sorted(order.client_order_id for order in orders), "the refused one too"
                assert all(began_ns < start <= end < time.perf_counter_ns() for _, start, end in found)
                assert await times.after(found[-1][2]) == []

    run(work())


def test_nothing_leaves_before_release(tmp_path: Path) -> None:
    async def work() -> None:
        async with running_venue(tmp_path) as (venue, port), running_gateway(tmp_path, port) as trader:
            gateway, orders = trader.gateway, entry(1)
            names = [r.client_order_id for r in orders]
            assert [p.state for p in gateway.prepare(orders)] == [S.INITIALISED] * 8
            assert all(p.duplicate for p in gateway.prepare(orders))
            assert [gateway.order(name) for name in names] == [None] * 8
            gateway.deny(orders[:2], "denied by the swarm")
            assert gateway.order(names[0]).state is S.DENIED  # type: ignore[union-attr]
            await gateway.advance(1)  # a round trip
            assert venue.exchange.open_orders(TRADER) == []
            assert accepted(tmp_path) == []
            released = gateway.release(names, authority(), in_flight=8)
            outcomes = await released.answered()
            assert [o.state for o in outcomes[:2]] == [S.DENIED, S.DENIED]
            assert [o.state for o in outcomes[2:6]] == [S.FILLED] * 4

    run(work())
    assert check_agreement(tmp_path) == (5, 0)


def test_an_old_signature_is_renewed_and_prepared_orders_end_with_the_gateway(tmp_path: Path) -> None:
    async def work() -> None:
        async with running_venue(tmp_path) as (_, port):
            orders = entry(1)[:2]
            async with running_gateway(tmp_path, port) as trader:
                trader.gateway.prepare(orders)
                await asyncio.sleep(0.4)  # beyond the receive window of 300 ms
                name = orders[0].client_order_id
                assert (await trader.gateway.release([name], authority()).answered())[0].state is S.FILLED
            async with running_gateway(tmp_path, port) as trader:
                assert not trader.differences
                with pytest.raises(UnknownOrder):
                    trader.gateway.release([orders[1].client_order_id], authority())
                assert (await trader.gateway.execute(orders[1:], authority()))[0].state is S.FILLED

    run(work())
    assert check_agreement(tmp_path) == (2, 0)


def test_refusals_leave_nothing_behind(tmp_path: Path) -> None:
    async def work() -> None:
        async with running_venue(tmp_path) as (_, port), running_gateway(tmp_path, port, prepared_max=8) as trader:
            gateway, good = trader.gateway, request(1)
            for bad in (
                replace(good, quantity_lots=0),
                replace(good, instrument=INSTRUMENTS),
                replace(good, client_order_id="not one"),
            ):
                with pytest.raises(InvalidOrder):
                    gateway.prepare([request(2), bad])
            assert gateway.order(request(2).client_order_id) is None
            with pytest.raises(OtherTerms):
                gateway.prepare([good, replace(good, quantity_lots=4)])
            with pytest.raises(GatewayFull):
                gateway.prepare([request(9, i) for i in range(9)])
            gateway.prepare([good])
            with pytest.raises(UnknownOrder):
                gateway.release([good.client_order_id, request(2).client_order_id], authority())
            forged = replace(authority(), certificate=b"certificate of something else")
            with pytest.raises(PermissionError):
                gateway.release([good.client_order_id], forged)
            assert gateway.order(good.client_order_id) is None
            assert gateway.fence == (0, 0)

    run(work())
    assert accepted(tmp_path) == []


def test_the_fence_holds_across_a_restart(tmp_path: Path) -> None:
    async def work() -> None:
        async with running_venue(tmp_path) as (_, port):
            async with running_gateway(tmp_path, port) as trader:
                await trader.gateway.execute([request(1)], authority(epoch=2, term=5))
                with pytest.raises(FencedError, match="epoch 2, term 4"):
                    trader.gateway.submit([request(2)], authority(epoch=2, term=4))
            async with running_gateway(tmp_path, port) as trader:
                assert trader.gateway.fence == (2, 5)
                for epoch, term in ((2, 4), (1, 9)):
                    with pytest.raises(FencedError):
                        await trader.gateway.execute([request(3)], authority(epoch, term))
                    with pytest.raises(FencedError):
                        trader.gateway.cancel([request(1).client_order_id], authority(epoch, term))
                (outcome,) = await trader.gateway.execute([request(3)], authority(epoch=3, term=1))
                assert outcome.state is S.FILLED

    run(work())
    assert check_agreement(tmp_path) == (2, 0)


@pytest.mark.parametrize("in_flight", [1, 8])
def test_orders_of_one_instrument_keep_their_order(tmp_path: Path, in_flight: int) -> None:
    orders = [request(1, i, instrument=i % 3) for i in range(24)]

    async def work() -> None:
        far = running_venue(tmp_path, latency_ms=1, jitter_ms=3)
        async with far as (_, port), running_gateway(tmp_path, port) as trader:
            outcomes = await trader.gateway.execute(orders, authority(), in_flight)
            assert {o.state for o in outcomes} == {S.FILLED}
            assert trader.connector.captions[:3] == (
                "modelled liquidity",
                "venue latency 1 ms (injected)",
                "venue jitter 3 ms (injected)",
            )

    run(work())
    taken = accepted(tmp_path)
    for instrument in range(3):
        expected = [r.client_order_id for r in orders if r.instrument == instrument]
        assert [e.client_order_id for e in taken if e.instrument == instrument] == expected
    if in_flight == 1:
        assert [e.client_order_id for e in taken] == [r.client_order_id for r in orders]
    check_agreement(tmp_path)


def test_no_answer_in_time_is_unknown_asked_after_and_never_sent_again(tmp_path: Path) -> None:
    patience = {"answer_timeout_ms": 200, "heartbeat_ms": 5_000}

    async def work() -> None:
        async with running_venue(tmp_path) as (venue, port), running_gateway(tmp_path, port, **patience) as trader:
            # The venue trades at once and answers late: the order times out, so does the question after it.
            quick = venue.faults.injection
            venue.faults.injection = replace(quick, latency_ms=500)
            waiting = asyncio.create_task(trader.gateway.execute([request(1)], authority()))
            await until(lambda: any(r.state is S.UNKNOWN for r in trader.reports))
            venue.faults.injection = quick
            (outcome,) = await waiting
            assert outcome.state is S.FILLED
            assert [r.state for r in trader.reports].count(S.FILLED) == 1

    run(work())
    assert check_agreement(tmp_path) == (1, 0)


def test_down_is_said_at_once_and_refused_by_name_and_comes_back(tmp_path: Path) -> None:
    async def work() -> None:
        async with running_venue(tmp_path) as (_, port):
            trader = Trader(tmp_path, port)
            await trader.gateway.start()
            await trader.gateway.execute(entry(1), authority(), 8)
        await until(lambda: trader.gateway.state is VenueState.DOWN)
        with pytest.raises(VenueUnavailable, match="venue is down"):
            await trader.gateway.execute([request(2)], authority())
        with pytest.raises(VenueUnavailable):
            trader.gateway.advance(3)
        assert trader.gateway.order(request(2).client_order_id) is None
        async with running_venue(tmp_path, port):
            await trader.gateway.connected()
            (outcome,) = await trader.gateway.execute([request(2)], authority())
            assert outcome.state is S.FILLED
            await trader.gateway.stop()
        seen = [
            state
            for state, following in zip(trader.states, [*trader.states[1:], None], strict=True)
            if state != following
        ]
        assert seen == [
            VenueState.RECONCILING,
            VenueState.CONNECTED,
            VenueState.DOWN,
            VenueState.RECONCILING,
            VenueState.CONNECTED,
        ]

    run(work())
    assert check_agreement(tmp_path) == (8, 0)


def test_a_gateway_started_before_its_venue_waits_for_it(tmp_path: Path) -> None:
    async def work() -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        trader = Trader(tmp_path, port)
        await trader.gateway.start(wait=False)
        await until(lambda: trader.gateway.state is VenueState.DOWN)
        assert "does not exist yet" in trader.gateway.state_reason
        async with running_venue(tmp_path, port):
            await trader.gateway.connected()
            await trader.gateway.stop()

    run(work())


def test_reconciliation_shows_and_resolves_each_difference(tmp_path: Path) -> None:
    async def work() -> None:
        async with running_venue(tmp_path) as (venue, port):
            async with running_gateway(tmp_path, port) as trader:
                await trader.gateway.execute(entry(1), authority(), 8)
            # Behind the gateway's back: an order as ours of a lost journal, a stranger's, and a trade.
            exchange, now = venue.exchange, server_module.unix_ms()
            exchange.place(TRADER, NewOrder("tt-lost", 0, 1, 9_000, 1, TimeInForce.GTC), now)
            exchange.place(TRADER, NewOrder("by-hand", 0, 1, 9_000, 1, TimeInForce.GTC), now)
            exchange.place(TRADER, NewOrder("by-hand-2", 1, 1, 12_000, 2, TimeInForce.IOC), now)
            venue.server.publish()
            async with running_gateway(tmp_path, port) as trader:
                kinds = [(d.kind, d.subject) for d in trader.differences]
                assert ("foreign order", "tt-lost") in kinds
                assert ("foreign order", "by-hand") in kinds
                assert [k for k, _ in kinds].count("foreign trade") == 1
                assert {s for k, s in kinds if k == "balance"} == {"cash (quanta)", "S1 (lots)"}
            assert [o.client_order_id for o in exchange.open_orders(TRADER)] == [
                request(1, 6).client_order_id,
                "by-hand",
            ]
            async with running_gateway(tmp_path, port) as trader:
                # The stranger's resting order and trade are still there; balances agree by the new baseline.
                assert {d.kind for d in trader.differences} == {"foreign order", "foreign trade"}

    run(work())


def test_reconciliation_takes_as_many_open_orders_as_the_venue_does(tmp_path: Path) -> None:
    async def work() -> None:
        async with running_venue(tmp_path) as (venue, port):
            most = venue.exchange.settings.open_orders_max
            for i in range(most):
                resting = NewOrder(f"by-hand-{i:026d}", i % INSTRUMENTS, 1, 9_000, 1, TimeInForce.GTC)
                venue.exchange.place(TRADER, resting, server_module.unix_ms())
            venue.server.publish()
            async with running_gateway(tmp_path, port) as trader:
                assert [d.kind for d in trader.differences] == ["foreign order"] * most
                assert trader.states == [VenueState.RECONCILING, VenueState.CONNECTED]

    run(work())


def test_a_message_that_is_too_large_is_named_as_the_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binance_module, "ANSWER_BYTES_MAX", 500)

    async def work() -> None:
        async with running_venue(tmp_path) as (_, port):
            trader = Trader(tmp_path, port)
            with pytest.raises(ConnectorError, match=r"exceeds limit|too big"):
                await trader.connector.connect(trader.gateway._link)
            await trader.gateway.stop()

    run(work())


def test_a_venue_of_another_market_or_clock_is_refused(tmp_path: Path) -> None:
    async def work() -> None:
        async with running_venue(tmp_path) as (venue, port):
            trader = Trader(tmp_path, port)
            trader.connector._scale = MarketScale.of(["S0"], "0.05", "1")
            with pytest.raises(ConnectorError, match=r"tick 0\.01"):
                await trader.connector.connect(trader.gateway._link)
            trader.connector._scale = MarketScale.of(["GOOG"], "0.01", "1")
            with pytest.raises(ConnectorError, match="does not trade GOOG"):
                await trader.connector.connect(trader.gateway._link)
            venue.server._clock_ms = lambda: server_module.unix_ms() + 3_000
            with pytest.raises(ConnectorError, match="set this machine's clock"):
                await trader.connector.connect(trader.gateway._link)
            await trader.gateway.stop()

    run(work())


def test_the_port_refuses_browsers_and_other_paths(tmp_path: Path) -> None:
    async def work() -> None:
        async with running_venue(tmp_path) as (_, port):
            with pytest.raises(InvalidStatus) as caught:
                await connect(f"ws://127.0.0.1:{port}/elsewhere", proxy=None)
            assert caught.value.response.status_code == 404
            with pytest.raises(InvalidStatus) as caught:
                await connect(f"ws://127.0.0.1:{port}/ws-api/v3", origin="http://evil.example", proxy=None)  # type: ignore[arg-type]
            assert caught.value.response.status_code == 403
            async with connect(f"ws://127.0.0.1:{port}/ws-api/v3", proxy=None) as client:
                await client.send([b'{"id":1,', b'"method":"ping"}'], text=True)  # in two frames
                assert json.loads(await client.recv())["result"] == {}
                await client.send("nonsense")
                assert json.loads(await client.recv())["status"] == 400

    run(work())


def test_a_venue_on_its_own_comes_back_with_everything(tmp_path: Path) -> None:
    async def work() -> None:
        async with running_venue(tmp_path) as (venue, port):
            async with running_gateway(tmp_path, port) as trader:
                for index in range(1, 6):
                    trader.gateway.advance(index)
                    await trader.gateway.execute(entry(index), authority(), 8)
            before = venue.exchange
        after = Venue(venue_settings(tmp_path), SCALE, WavePrices())
        assert after.exchange.step == before.step == 5
        assert after.exchange.accounts[TRADER].cash == before.accounts[TRADER].cash
        assert after.exchange.open_orders(TRADER) == before.open_orders(TRADER)
        assert after.exchange.events_total == before.events_total
        await after.stop()

    run(work())
    check_agreement(tmp_path)


def test_the_kill_switch_stops_what_waits_cancels_what_rests_and_holds(tmp_path: Path) -> None:
    async def work() -> None:
        far = running_venue(tmp_path, latency_ms=20)
        async with far as (_, port), running_gateway(tmp_path, port) as trader:
            gateway = trader.gateway
            resting = [request(1, i, side=1, limit_ticks=9_000, time_in_force=TimeInForce.GTC) for i in range(3)]
            await gateway.execute(resting, authority(), in_flight=8)
            prepared = request(2, 0)
            gateway.prepare([prepared])
            late = [request(3, i, side=1, limit_ticks=9_000, time_in_force=TimeInForce.GTC) for i in range(8)]
            release = gateway.submit(late, authority(), in_flight=2)
            sent = gateway.orders_sent
            assert sent == 3 + 2
            gateway.halt("kill switch: a test")
            for refused in (lambda: gateway.submit([request(4)], authority()), lambda: gateway.prepare([request(5)])):
                with pytest.raises(TradingHalted, match="kill switch: a test"):
                    refused()
            outcomes = await release.answered()
            assert [o.state for o in outcomes[2:]] == [S.EXPIRED] * 6
            assert all("never reached the venue: kill switch" in o.reason for o in outcomes[2:])
            await until(lambda: not gateway.open_orders())
            ended = [gateway.order(r.client_order_id).state for r in [*resting, *late[:2]]]  # type: ignore[union-attr]
            assert ended == [S.CANCELLED] * 5
            with pytest.raises(TradingHalted):
                gateway.release([prepared.client_order_id], authority())
            gateway.deny([prepared, request(6)], "trading is halted")
            assert gateway.order(prepared.client_order_id).state is S.DENIED  # type: ignore[union-attr]
            assert gateway.order(request(6).client_order_id).state is S.DENIED  # type: ignore[union-attr]
            assert (gateway.orders_sent, gateway.cancels_sent) == (sent, 5)
            gateway.advance(1)
            gateway.resume()
            (outcome,) = await gateway.execute([request(7)], authority())
            assert outcome.state is S.FILLED

    run(work())
    assert check_agreement(tmp_path) == (6, 6)


def test_a_link_that_comes_back_under_the_kill_switch_cancels_what_the_venue_still_holds(tmp_path: Path) -> None:
    async def work() -> None:
        async with running_venue(tmp_path) as (_, port):
            trader = Trader(tmp_path, port)
            await trader.gateway.start()
            resting = request(1, 0, side=1, limit_ticks=9_000, time_in_force=TimeInForce.GTC)
            await trader.gateway.execute([resting], authority())
        await until(lambda: trader.gateway.state is VenueState.DOWN)
        trader.gateway.halt("kill switch")
        async with running_venue(tmp_path, port):
            await trader.gateway.connected()
            await until(lambda: not trader.gateway.open_orders())
            assert trader.gateway.order(resting.client_order_id).state is S.CANCELLED  # type: ignore[union-attr]
            await trader.gateway.stop()

    run(work())
    assert check_agreement(tmp_path) == (1, 0)


@pytest.mark.parametrize("protocol", ["binance", "fix"])
@pytest.mark.parametrize("cancels", [True, False])
def test_cancel_on_disconnect(tmp_path: Path, protocol: str, cancels: bool) -> None:
    async def work() -> None:
        settings = replace(venue_settings(tmp_path), cancel_on_disconnect=cancels)
        venue = Venue(settings, SCALE, WavePrices())
        port = await venue.start()
        port = port if protocol == "binance" else venue.fix_port
        rest = request(1, 0, side=1, limit_ticks=9_000, time_in_force=TimeInForce.GTC)
        async with running_gateway(tmp_path, port, protocol) as trader:
            await trader.gateway.execute([rest], authority())
        if cancels:
            await until(lambda: venue.exchange.open_orders(TRADER) == [])
        else:
            await asyncio.sleep(0.1)
        async with running_gateway(tmp_path, port, protocol) as trader:
            expected = S.CANCELLED if cancels else S.ACCEPTED
            assert trader.gateway.order(rest.client_order_id).state is expected  # type: ignore[union-attr]
        await venue.stop()
        assert ("cancel on disconnect" in settings.captions(False)) == cancels

    run(work())
    check_agreement(tmp_path)
