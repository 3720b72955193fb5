"""The kill switch on a real swarm under full load: how many orders leave after it. It must be none."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from core.records import OrderState
from core.session import Session
from core.trading_state import TradingState
from core.venue.events import OrderAccepted
from core.venue.journal import read_events
from core.venue.process import journal_path
from tests.integration.books import check_books
from tests.integration.swarm import RunningSwarm, running_swarm, until

pytestmark = [pytest.mark.swarm, pytest.mark.timeout(400)]


def orders_at_venue(session: Session) -> int:
    events = read_events(journal_path(session.directory / "venue"))
    return sum(isinstance(event, OrderAccepted) for event in events)


async def press(swarm: RunningSwarm, state: TradingState) -> int:
    """Press, and return how many orders the gateway had sent by its answer."""
    answer = await swarm.client.change_trading(state, "a test")
    assert answer.orders_sent is not None, answer
    assert answer.swarm == f"committed: trading is {state}", answer
    return answer.orders_sent


async def kill_often(swarm: RunningSwarm, presses: int) -> list[int]:
    """Orders that left after each press: what the gateway had sent by its answer, against later, there and at the
    venue."""
    after: list[int] = []
    for _ in range(presses):
        sent = await press(swarm, TradingState.HALTED)
        # The swarm rests; what was on the wire before the press has arrived.
        await asyncio.sleep(0.1)
        at_venue = orders_at_venue(swarm.session)
        again = await press(swarm, TradingState.HALTED)
        later = orders_at_venue(swarm.session)
        assert at_venue <= sent
        after.append(max(again - sent, later - at_venue))
        await press(swarm, TradingState.ACTIVE)
        await until(lambda at=at_venue: orders_at_venue(swarm.session) > at, 30, "orders after the resume")
    assert swarm.snapshot().orders_sent_total > 0
    assert any("trading is halted" in text for text in swarm.events())
    return after


@pytest.mark.prove
@pytest.mark.parametrize("toggles", ["optimised", "b,m=bft,p"])
def test_no_order_leaves_after_fifty_presses(tmp_path: Path, toggles: str) -> None:
    async def work() -> Session:
        async with running_swarm(tmp_path, toggles=toggles) as swarm:
            assert await kill_often(swarm, 50) == [0] * 50
            await press(swarm, TradingState.HALTED)
            await asyncio.sleep(0.3)
            return swarm.session

    check_books(asyncio.run(work()), settled=False)


def test_by_hand_and_by_the_loss_of_the_venue_and_over_a_restart_of_the_gateway(tmp_path: Path) -> None:
    async def work() -> Session:
        flags = {"kill_after_link_loss_s": 0.3, "restart_delay_ms": 1_500}
        async with running_swarm(tmp_path, toggles="optimised", **flags) as swarm:
            assert await kill_often(swarm, 3) == [0] * 3
            swarm.kill("venue")
            halted = lambda: swarm.snapshot().trading == TradingState.HALTED  # noqa: E731
            await until(halted, 10, "the link loss pulls the kill switch")
            assert "no link to the venue for 0.3 s" in swarm.snapshot().trading_reason
            swarm.kill("gateway")
            await until(lambda: not swarm.snapshot().gateway_connected, 10, "the gateway is away")
            await until(lambda: swarm.snapshot().gateway_connected, 60, "the gateway is back")
            assert halted()
            cycle = swarm.last_cycle
            await asyncio.sleep(0.3)
            assert swarm.last_cycle == cycle
            await press(swarm, TradingState.ACTIVE)
            await swarm.cycles(3)
            assert OrderState.FILLED in {order.state for order in swarm.snapshot().orders}
            await press(swarm, TradingState.HALTED)
            await asyncio.sleep(0.3)
            return swarm.session

    check_books(asyncio.run(work()), settled=False)
