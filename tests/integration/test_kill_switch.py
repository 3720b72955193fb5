"""The kill switch on a real swarm under full load: how many orders leave after it. It must be none."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from core.records import OrderState
from core.session import Session, SessionError
from core.trading_state import TradingState
from core.venue.events import OrderAccepted
from core.venue.journal import read_events
from core.venue.process import journal_path
from core.verify import verify
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


async def all_arrived(session: Session) -> int:
    """Orders at the venue once none has come for half a second: what was on the wire before the press takes its time
    where the machine is busy."""
    count, quiet = orders_at_venue(session), 0
    while quiet < 5:
        await asyncio.sleep(0.1)
        before, count = count, orders_at_venue(session)
        quiet = quiet + 1 if count == before else 0
    return count


async def kill_often(swarm: RunningSwarm, presses: int) -> list[int]:
    """Orders that left after each press: what the gateway had sent by its answer, against later, there and at the
    venue."""
    after: list[int] = []
    for _ in range(presses):
        sent = await press(swarm, TradingState.HALTED)
        at_venue = await all_arrived(swarm.session)
        again = await press(swarm, TradingState.HALTED)
        later = orders_at_venue(swarm.session)
        assert at_venue <= sent
        after.append(max(again - sent, later - at_venue))
        await press(swarm, TradingState.ACTIVE)
        await until(lambda at=at_venue: orders_at_venue(swarm.session) > at, 30, "orders after the resume")
    assert swarm.snapshot().orders_sent_total > 0
    await swarm.told("trading is halted")
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
            # What the monitor shows comes a moment after the answer to a press.
            await until(lambda: swarm.snapshot().trading == TradingState.ACTIVE, 10, "trading is shown")
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

    session = asyncio.run(work())
    check_books(session, settled=False)
    check_that_verify_sees_tampering(session, tmp_path)


def tampered(session: Session, folder: Path, statement: str) -> set[str]:
    """The rules that `verify` finds broken in a copy of the session with a changed journal."""
    copy = Session(folder / "copy")
    one_log = shutil.ignore_patterns("node-[1-9]", "recording*")
    shutil.copytree(session.directory, copy.directory, ignore=one_log)
    with closing(sqlite3.connect(copy.directory / "gateway" / "orders.sqlite")) as journal, journal:
        assert journal.execute(statement).rowcount == 1, "the statement must change one row"
    verdict = verify(copy)
    shutil.rmtree(copy.directory)
    return {finding.rule for finding in verdict.findings}


FILLED = "SELECT client_order_id FROM orders WHERE state = 'filled' LIMIT 1"
TAMPERING = {
    f"DELETE FROM orders WHERE client_order_id = ({FILLED})": {"decision has an order", "order is in the journal"},
    f"UPDATE orders SET client_order_id = 'tt-stranger' WHERE client_order_id = ({FILLED})": {
        "order has a decision",
        "order is at the venue",
    },
    f"UPDATE orders SET quantity = quantity + 1 WHERE client_order_id = ({FILLED})": {
        "decision has an order",
        "order is at the venue",
    },
    f"UPDATE orders SET fee = fee + 1 WHERE client_order_id = ({FILLED})": {"fills", "cash"},
    "UPDATE reports SET quantity = quantity + 1 WHERE sequence = (SELECT MIN(sequence) FROM reports WHERE trade_id)": {
        "fills are in the position",
        "cash",
    },
    "DELETE FROM reports WHERE sequence = 1": {"reports"},
    f"UPDATE orders SET state = 'denied' WHERE client_order_id = ({FILLED})": {"order is at the venue"},
}


def check_that_verify_sees_tampering(session: Session, folder: Path) -> None:
    for statement, rules in TAMPERING.items():
        assert rules <= tampered(session, folder, statement), statement
    copy = Session(folder / "copy")
    shutil.copytree(session.directory, copy.directory)
    (copy.directory / "venue" / "venue.journal").unlink()
    with pytest.raises(SessionError, match="nothing was traded"):
        verify(copy)
