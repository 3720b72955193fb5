"""What a node pushes to the monitors that subscribed: cycle records, its status, its events."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from core.push_schedule import PUSH_INTERVAL_S, PushSchedule
from core.records import CycleRecord, EventRow, Severity
from core.telemetry_messages import NodeReport, Telemetry, application, cycle_to_dict, report_message
from net.messages import Application, Channel

RECORDS_KEPT = 4_096
RECORDS_PER_MESSAGE = 400
EVENTS_KEPT = 500


class Wire(Protocol):
    def send(self, peer_id: int, message: Application, *, round_id: int = 0) -> bool: ...


class NodeTelemetry:
    """Buffers records and events; pushes what each subscriber has not had yet, up to ten times a second."""

    def __init__(
        self,
        source: str,
        wire: Wire,
        report: Callable[[tuple[EventRow, ...]], NodeReport],
        leads: Callable[[], bool] = lambda: False,
    ) -> None:
        """`report(events)` builds the status push around the events that one subscriber has not had. `leads`: whether
        this node does (`PushSchedule`).
        """
        self._source = source
        self._wire = wire
        self._report = report
        self._records: deque[CycleRecord] = deque(maxlen=RECORDS_KEPT)
        self._events: deque[tuple[int, EventRow]] = deque(maxlen=EVENTS_KEPT)
        self._event_number = 0
        self._next_cycle: dict[int, int] = {}
        self._next_event: dict[int, int] = {}
        self._schedule = PushSchedule(self._push, leads)

    def start(self) -> None:
        self._schedule.start()

    async def close(self) -> None:
        await self._schedule.close()

    def subscribe(
        self, operator: int, from_cycle: int, events_after_ns: int, interval_s: float = PUSH_INTERVAL_S
    ) -> None:
        """Push to `operator` the cycles from `from_cycle` on and the events after a time (Unix), each `interval_s`
        (`PushSchedule.add`).
        """
        self._schedule.add(operator, interval_s)
        self._next_cycle[operator] = from_cycle
        known = (number for number, event in self._events if event.time_ns <= events_after_ns)
        self._next_event[operator] = max(known, default=0)

    def unsubscribe(self, operator: int) -> None:
        self._schedule.remove(operator)

    def add_cycle(self, record: CycleRecord) -> None:
        self._records.append(record)

    def event(self, severity: Severity, text: str, source: str | None = None) -> None:
        """Add a line to the event log that monitors show."""
        self._event_number += 1
        self._events.append((self._event_number, EventRow(time.time_ns(), severity, source or self._source, text)))

    def events(self) -> tuple[EventRow, ...]:
        """The newest lines, oldest first."""
        return tuple(event for _, event in self._events)

    def _push(self, operator: int) -> None:
        first = self._next_cycle[operator]
        fresh = self._newest_first(first)[::-1][:RECORDS_PER_MESSAGE]
        if fresh:
            message = application(Channel.TELEMETRY, Telemetry.CYCLES, [cycle_to_dict(record) for record in fresh])
            if self._wire.send(operator, message):
                self._next_cycle[operator] = fresh[-1].cycle + 1
        since = self._next_event[operator]
        events = tuple(event for number, event in self._events if number > since)
        if self._wire.send(operator, report_message(self._report(events))) and self._events:
            self._next_event[operator] = self._events[-1][0]

    def _newest_first(self, first: int) -> list[CycleRecord]:
        found = []
        for record in reversed(self._records):
            if record.cycle < first:
                break
            found.append(record)
        return found
