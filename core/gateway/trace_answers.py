"""Monitors' questions when gateway and venue had which order in hand."""

from __future__ import annotations

import contextlib
from typing import Protocol

from core.cycle_trace import OrderInterval, Stage, clock_now
from core.gateway.connector import ConnectorError
from core.gateway.monitor_answers import MonitorAnswers, Wire
from core.gateway.order_trace import OrderTrace
from core.session import GATEWAY_ID
from core.telemetry_messages import unpack
from net.messages import Application


class TracedVenue(Protocol):
    """`core.gateway.venue_times`."""

    async def after(self, after_ns: int) -> list[tuple[str, int, int]]: ...


class TraceAnswers(MonitorAnswers):
    """Tells the gateway's own intervals, and those of the session's own venue, which it asks."""

    refusal = "no trace"

    def __init__(self, wire: Wire, trace: OrderTrace, venue: TracedVenue | None) -> None:
        """`venue` None: another's, which tells no times; the gateway's own say how long each answer took."""
        super().__init__(wire)
        self._trace = trace
        self._venue = venue

    async def _reply(self, message: Application) -> dict[str, object]:
        after_ns = int(unpack(message.body)["after_ns"])
        now = clock_now()
        found = self._trace.between(after_ns, now["until_ns"])
        if self._venue is not None:
            # A venue that does not answer now has no times to tell; that it is down is shown elsewhere.
            with contextlib.suppress(ConnectorError):
                found += [
                    OrderInterval(Stage.MATCH, start, end, -1, (name,))
                    for name, start, end in await self._venue.after(after_ns)
                    if end <= now["until_ns"]
                ]
        return {"node": GATEWAY_ID, **now, "cycles": [], "work": [], "orders": [_row(each) for each in found]}


def _row(each: OrderInterval) -> list[object]:
    return [
        int(each.stage), each.start_ns, each.end_ns, each.step, list(each.orders), each.error_type, each.problem,
    ]  # fmt: skip
