"""Journal against venue beside trading: on a timer and at a change of leader, with no word on what is under way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from core.orders.order import TimeInForce
from core.records import OrderState as S
from core.records import VenueState
from core.venue import server as server_module
from core.venue.exchange import NewOrder
from core.venue.process import TRADER, Venue
from tests.integration.venue_session import (
    Trader,
    authority,
    check_agreement,
    entry,
    request,
    running_gateway,
    running_venue,
)

RESTS = request(1, 0, side=1, limit_ticks=9_000, time_in_force=TimeInForce.GTC)
CONNECTED_ONCE = [VenueState.RECONCILING, VenueState.CONNECTED]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def go_silent(venue: Venue, monkeypatch: pytest.MonkeyPatch) -> None:
    """The venue tells nothing unasked any more, as when a user stream has died unnoticed."""
    monkeypatch.setattr(venue.server, "_push", lambda *_: None)
    monkeypatch.setattr(venue.fix, "published", lambda *_: None)


def differences(trader: Trader, kind: str) -> list[str]:
    return [difference.subject for difference in trader.differences if difference.kind == kind]


def test_an_order_that_ended_unheard_is_found_on_the_timer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with (
            running_venue(tmp_path) as (venue, port),
            running_gateway(tmp_path, port, reconcile_interval_s=0.05) as trader,
        ):
            fills = request(1, 1, side=-1, limit_ticks=10_150, time_in_force=TimeInForce.GTC)
            assert [o.state for o in await trader.gateway.execute([RESTS, fills], authority())] == [S.ACCEPTED] * 2
            go_silent(venue, monkeypatch)
            venue.exchange.cancel(TRADER, None, RESTS.client_order_id, "by-hand", server_module.unix_ms())
            venue.server.publish()
            await trader.gateway.advance(2)
            ended = lambda: [trader.gateway.order(r.client_order_id).state for r in (RESTS, fills)]  # type: ignore[union-attr] # noqa: E731
            await until(lambda: ended() == [S.CANCELLED, S.FILLED])
            assert sorted(differences(trader, "order")) == sorted([RESTS.client_order_id, fills.client_order_id])
            assert all("venue's word taken" in difference.resolution for difference in trader.differences)
            assert trader.states == CONNECTED_ONCE, "the link was never lost"

    asyncio.run(work())
    assert check_agreement(tmp_path) == (2, 0)


def test_a_new_leader_has_journal_and_venue_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with (
            running_venue(tmp_path) as (venue, port),
            running_gateway(tmp_path, port, reconcile_interval_s=0) as trader,
        ):
            await trader.gateway.execute([RESTS], authority())
            go_silent(venue, monkeypatch)
            venue.exchange.cancel(TRADER, None, RESTS.client_order_id, "by-hand", server_module.unix_ms())
            venue.server.publish()
            await trader.gateway.execute([request(2)], authority())
            await asyncio.sleep(0.1)
            assert differences(trader, "order") == [], "the leader is the same"
            await trader.gateway.execute([request(3)], authority(term=2))
            await until(lambda: differences(trader, "order") == [RESTS.client_order_id])

    asyncio.run(work())


def test_a_balance_is_taken_from_the_venue_when_two_comparisons_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        async with (
            running_venue(tmp_path) as (venue, port),
            running_gateway(tmp_path, port, reconcile_interval_s=0.05) as trader,
        ):
            go_silent(venue, monkeypatch)
            venue.exchange.place(TRADER, NewOrder("by-hand", 1, 1, 12_000, 2, TimeInForce.IOC), server_module.unix_ms())
            venue.server.publish()
            await until(lambda: differences(trader, "balance"))
            assert differences(trader, "foreign trade") == ["S1 1"] * 2, "seen twice before the balance was taken"
            assert set(differences(trader, "balance")) == {"cash (quanta)", "S1 (lots)"}
            seen = len(differences(trader, "balance"))
            await asyncio.sleep(0.3)
            assert len(differences(trader, "balance")) == seen, "settled"

    asyncio.run(work())


@pytest.mark.parametrize("protocol", ["binance", "fix"])
def test_nothing_is_said_of_orders_under_way(tmp_path: Path, protocol: str) -> None:
    """Compared without a pause while eight orders are on the wire at all times, cancels among them."""

    async def work() -> None:
        async with running_venue(tmp_path, latency_ms=2.0, jitter_ms=4.0) as (venue, ws_port):
            port = venue.fix_port if protocol == "fix" else ws_port
            async with running_gateway(tmp_path, port, protocol, reconcile_interval_s=0.001) as trader:
                async with asyncio.TaskGroup() as group:
                    for index in range(1, 25):
                        trader.gateway.advance(index)
                        release = trader.gateway.submit(entry(index), authority(), in_flight=8)
                        group.create_task(release.answered())
                        await asyncio.sleep(0.02)
                        resting = [o.request.client_order_id for o in trader.gateway.open_orders()]
                        trader.gateway.cancel(resting, authority())
                await trader.gateway.drain(10)
                assert trader.differences == []
                assert trader.states == CONNECTED_ONCE

    asyncio.run(work())
    assert check_agreement(tmp_path)[1] == 0


def test_a_drain_waits_for_what_is_on_the_wire_and_lets_nothing_else_leave(tmp_path: Path) -> None:
    async def work() -> None:
        async with (
            running_venue(tmp_path, latency_ms=100.0) as (_, port),
            running_gateway(tmp_path, port) as trader,
        ):
            orders = entry(1)
            release = trader.gateway.submit(orders, authority(), in_flight=3)
            assert await trader.gateway.drain(5) == []
            states = [outcome.state for outcome in await release.answered()]
            assert states == [S.FILLED] * 3 + [S.EXPIRED] * 5
            with pytest.raises(Exception, match="the gateway is stopping"):
                trader.gateway.submit(entry(2), authority())

    asyncio.run(work())
    assert check_agreement(tmp_path) == (3, 5)


def test_a_drain_gives_up_and_names_what_is_in_doubt(tmp_path: Path) -> None:
    async def work() -> None:
        async with (
            running_venue(tmp_path, latency_ms=2_000.0) as (_, port),
            running_gateway(tmp_path, port, answer_timeout_ms=60_000.0) as trader,
        ):
            trader.gateway.submit([RESTS], authority())
            (doubtful,) = await trader.gateway.drain(0.1)
            assert (doubtful.request, doubtful.state) == (RESTS, S.SUBMITTED)

    asyncio.run(work())
