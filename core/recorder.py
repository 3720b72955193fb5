"""The recorder process: attaches like a monitor, asks for news once a second, and writes several at a time.

A write costs mostly what it costs for one row, and syncs the disk that the nodes wait for: see `MOMENTS_A_WRITE`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from core.attach import SwarmClient
from core.recording import Moment, Recording
from core.records import CycleRecord, EventRow, OrderRow, Severity, SwarmSnapshot
from core.scheduling import give_way
from core.session import Session
from core.swarm_news import OrderChanges

PUSH_INTERVAL_S = 1.0
"""So often it is told, and keeps the state of the swarm."""
MOMENTS_A_WRITE = 5
"""A recorder that is killed loses as many seconds; nodes and gateway tell its successor what they still keep."""
CYCLES_KEPT = 4_096
"""As many as a node tells of anew."""
ORDERS_KNOWN = 6_000
"""More than a gateway tells of anew."""
ORDERS_WAITING_MAX = 50_000
"""Changed orders in a second; what is beyond is not recorded, and an event says how many."""


def recording_file(session: Session) -> Path:
    """Where the recording of a session is."""
    return session.directory / "recording.duckdb"


class Recorder:
    """Finds out what is new since the last write."""

    def __init__(self, recording: Recording, bytes_max: int) -> None:
        self._recording = recording
        self._bytes_max = bytes_max
        self._cycles = recording.newest_cycles(CYCLES_KEPT)
        self._first_cycle = min(self._cycles, default=0)
        self._last_event: EventRow | None = None
        self._orders: dict[str, OrderRow] = {}
        self._moments: list[Moment] = []

    @property
    def waiting(self) -> int:
        """Moments taken and not written yet."""
        return len(self._moments)

    def take(self, snapshot: SwarmSnapshot, changed: Sequence[OrderRow] | None = None) -> None:
        """Keep what is new for the next write.

        `changed` are the orders that may have changed, in the order in which they did; without it, the snapshot's.
        """
        cycles = self._new_cycles(snapshot.cycles)
        events = self._new_events(snapshot.events)
        orders = [
            order
            for order in (reversed(snapshot.orders) if changed is None else changed)
            if self._orders.get(order.client_order_id) != order
        ]
        if not cycles and not events and not orders and not snapshot.nodes:
            return
        self._moments.append(Moment(snapshot, tuple(cycles), tuple(events), tuple(orders)))
        self._cycles.update(record.cycle for record in cycles)
        if len(self._cycles) > 2 * CYCLES_KEPT:
            self._cycles = set(sorted(self._cycles)[-CYCLES_KEPT:])
            self._first_cycle = min(self._cycles)
        for order in orders:
            self._orders.pop(order.client_order_id, None)
            self._orders[order.client_order_id] = order
        while len(self._orders) > ORDERS_KNOWN:
            del self._orders[next(iter(self._orders))]

    def write(self) -> int:
        """Append what was taken; returns how many old cycles had to go for it. Blocks for some tens of ms."""
        if not self._moments:
            return 0
        self._recording.append(self._moments)
        self._moments = []
        if self._recording.bytes_on_disk() > self._bytes_max:
            return self._recording.drop_older_half()
        return 0

    def _new_cycles(self, cycles: Sequence[CycleRecord]) -> list[CycleRecord]:
        """Those not in the file: a former leader's may come behind its successor's. What the file began with or had to
        drop before this process came is the past.
        """
        return [record for record in cycles if record.cycle > self._first_cycle and record.cycle not in self._cycles]

    def _new_events(self, events: tuple[EventRow, ...]) -> list[EventRow]:
        """Those behind the last one seen that are not in the file: whoever attaches is told of the past again."""
        fresh: list[EventRow] = []
        for event in reversed(events):
            if event is self._last_event:
                break
            fresh.append(event)
        if events:
            self._last_event = events[-1]
        fresh.reverse()
        if not fresh:
            return fresh
        times = [event.time_ns for event in fresh]
        known = {event for moment in self._moments for event in moment.events}
        known |= self._recording.events_between(min(times), max(times))
        return [event for event in fresh if event not in known]


async def run_recorder_process(
    session: Session, stopping: asyncio.Event, ready: Callable[[], None], mb_max: int | None = None
) -> None:
    """The body of process `recorder`: run until `stopping` is set. `mb_max` is the session's unless it is given."""
    give_way()
    mb_max = session.settings().recording_mb_max if mb_max is None else mb_max
    recording = Recording(recording_file(session))
    recorder = Recorder(recording, mb_max * 1_000_000)
    changes = OrderChanges(ORDERS_WAITING_MAX)
    client = SwarmClient(
        session,
        owns_swarm=False,
        keep_cycles=CYCLES_KEPT,
        push_interval_s=PUSH_INTERVAL_S,
        read_only=True,
        order_changes=changes,
    )
    await client.connect()
    ready()
    try:
        is_last = False
        while not is_last:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PUSH_INTERVAL_S):
                    await stopping.wait()
            is_last = stopping.is_set()  # and not later: what came during a write is written, too
            changed, lost = changes.take()
            recorder.take(client.snapshot(), changed)
            dropped = 0
            if is_last or recorder.waiting >= MOMENTS_A_WRITE:
                dropped = await asyncio.to_thread(recorder.write)
            if lost:
                text = f"{lost:,} orders changed faster than they can be recorded: the recording lacks them"
                session.add_event(Severity.WARNING, "recorder", text)
            if dropped:
                text = f"the recording reached {mb_max} MB: its oldest {dropped:,} cycles went"
                session.add_event(Severity.WARNING, "recorder", text)
    finally:
        await client.close()
        recording.close()
