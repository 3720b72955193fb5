"""A session that stops knows the fate of every order; one that was killed learns it at the next start."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import duckdb
import pytest

from core.attach import SwarmClient, stop_session
from core.commands.start import StartedSwarm, start_swarm
from core.config import load_settings
from core.gateway.journal import OrderJournal
from core.recorder import recording_file
from core.records import OrderState
from core.session import Session, create_session
from core.verify import Finding, verify
from tests.integration.books import check_books
from tests.integration.swarm import process_ids, running, until

pytestmark = [pytest.mark.swarm, pytest.mark.timeout(240)]

FAR_AWAY = {"toggles": "b,m=raft,p,c", "venue_latency_ms": 250.0, "pace": "20/s"}
"""Orders are always on the wire: a cycle does not wait for a venue that answers after many cycles."""


async def trade(session: Session, cycles: int) -> StartedSwarm:
    """Start the session's swarm; returns after so many cycles, while it trades."""
    started = start_swarm(session.settings(), owned=True, session=session)
    client = SwarmClient(session, owns_swarm=True)
    await client.connect()
    try:
        first = len(client.cycles)
        await until(lambda: len(client.cycles) >= first + cycles, 120, f"{cycles} cycles")
    finally:
        await client.close()
    return started


def in_doubt(session: Session) -> list[Finding]:
    return [finding for finding in verify(session).findings if finding.rule == "order is known"]


async def freeze_with_orders_on_the_wire(session: Session) -> int:
    """Stop the venue in its tracks and wait until the gateway waits for it. Returns the venue's process id."""
    venue = process_ids(session)["venue"]
    os.kill(venue, signal.SIGSTOP)
    await until(lambda: verify(session).counts["orders in doubt"] > 0, 60, "orders are on the wire")
    return venue


def nodes_are_stopped(session: Session) -> bool:
    state = session.read_swarm()
    return state is not None and all(p.state == "stopped" for p in state.processes if p.name.startswith("node"))


def records(session: Session) -> bool:
    """Whether the recorder writes; its file is locked, and what is new lies in the log beside it."""
    log = recording_file(session).with_name("recording.duckdb.wal")
    return log.exists() and log.stat().st_size > 100_000


def test_a_stop_waits_for_the_venues_word_on_what_is_on_the_wire(tmp_path: Path) -> None:
    session = create_session(load_settings(**FAR_AWAY), tmp_path / "session")

    async def work() -> None:
        started = await trade(session, 5)
        await until(lambda: records(session), 60, "the recorder has heard of some cycles")
        venue = await freeze_with_orders_on_the_wire(session)
        stopping = asyncio.create_task(stop_session(session))
        await until(lambda: nodes_are_stopped(session), 60, "the nodes are stopped")
        os.kill(venue, signal.SIGCONT)
        await stopping
        await asyncio.to_thread(started.supervisor.wait)

    asyncio.run(work())
    verdict = verify(session)
    assert verdict.findings == []
    assert verdict.counts["orders in doubt"] == 0
    assert verdict.counts["orders at the venue"] > 0
    check_books(session, settled=False)
    journal = OrderJournal(session.folder("gateway"))
    ended = {order.request.client_order_id: str(order.state) for order in journal.orders_in(OrderState)}
    journal.close()
    with duckdb.connect(str(recording_file(session)), read_only=True) as db:
        recorded = dict(db.execute("SELECT client_order_id, arg_max(state, rowid) FROM orders GROUP BY ALL").fetchall())
    assert recorded == ended, "the recording has the end of every order"


def test_a_killed_session_has_orders_in_doubt_until_it_is_started_again(tmp_path: Path) -> None:
    session = create_session(load_settings(**FAR_AWAY), tmp_path / "session")

    async def work() -> None:
        started = await trade(session, 5)
        await freeze_with_orders_on_the_wire(session)
        state = session.read_swarm()
        assert state is not None
        # All at once and the supervisor first, as a power cut does.
        pids = (state.supervisor_pid, *process_ids(session).values())
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(started.supervisor.wait)
        await until(lambda: running(pids) == [], 60, "no killed process still writes")
        found = in_doubt(session)
        assert found, "orders that were on the wire are in doubt"
        assert verify(session).findings == found, "and nothing else is wrong"
        assert "start the session again" in str(found[0])

        started = await trade(session, 1)
        await stop_session(session)
        await asyncio.to_thread(started.supervisor.wait)

    asyncio.run(work())
    verdict = verify(session)
    assert verdict.findings == []
    assert verdict.counts["orders in doubt"] == 0
