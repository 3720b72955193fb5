"""Where leaders bring their decisions: checked, made orders, handed to the gateway; its word on them goes back.

Whatever fails here is shown and refused by name: a leader that hears nothing would wait for ever.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any, Protocol

from core.cycle_trace import Stage
from core.gateway.errors import GatewayError
from core.gateway.gateway import Gateway
from core.gateway.guard import GuardError, OrderGuard, UnknownEpochError, is_by_quorum
from core.gateway.monitor_feed import MonitorFeed
from core.gateway.order_trace import OrderTrace
from core.gateway.release import Authority
from core.orders.order import ExecutionReport
from core.records import OrderState, Severity
from core.swarm_state import CLOSED_STATES
from core.telemetry_messages import OrderKind, application
from net.messages import Application, Channel, Committed, CommittedEntries
from net.wire.codec import decode

ORDERS_REMEMBERED = 10_000
HELD_MAX = 256
HOLD_S = 2.0
"""How long orders wait for f + 1 nodes to tell of the epoch that they were decided in."""


class Wire(Protocol):
    def send(self, peer_id: int, message: Application, *, round_id: int = 0) -> bool: ...


class OrderDesk:
    """Takes PREPARE and EXECUTE of any node; remembers who asked for which order."""

    def __init__(
        self,
        gateway: Gateway[Committed],
        guard: OrderGuard,
        feed: MonitorFeed,
        wire: Wire,
        replays: bool,
        trace: OrderTrace,
    ) -> None:
        """`replays`: the venue plays a recording, and its clock follows the orders' steps."""
        self._gateway = gateway
        self._guard = guard
        self._feed = feed
        self._wire = wire
        self._replays = replays
        self._trace = trace
        self._asked_by: dict[str, int] = {}
        self._held: deque[tuple[int, dict[str, Any], int, list[str], asyncio.TimerHandle]] = deque()
        """Orders of an epoch that is not known yet, oldest first."""
        self._outcomes: list[tuple[int, str, OrderState]] = []
        self._step = -1

    def prepare(self, sender: int, values: dict[str, Any]) -> None:
        """Optimistic execution: build, sign and encode. It has no certificate, so nothing comes of it but speed."""
        start_ns = time.perf_counter_ns()
        try:
            epoch, index, payload = int(values["epoch"]), int(values["index"]), bytes(values["payload"])
            requests = self._guard.requests(epoch, index, payload)
            self._gateway.prepare(requests, sender)
            if requests:
                self._trace.add(Stage.PREPARE, start_ns, requests[0].step)
        except Exception as error:
            self._feed.event(Severity.WARNING, f"nothing prepared for node {sender}: {_said(error)}")

    def execute(self, sender: int, values: dict[str, Any], step: int) -> None:
        """Send the orders of a decided entry, and answer JOURNALED or REFUSED. `step`: that of the message."""
        start_ns = time.perf_counter_ns()
        names: list[str] = []
        try:
            names = [str(name) for name in values["ids"]]
            self._release(sender, values, names)
        except UnknownEpochError as error:
            if len(self._held) < HELD_MAX:
                timer = asyncio.get_running_loop().call_later(HOLD_S, self._give_up)
                self._held.append((sender, values, step, names, timer))
            else:
                self._refuse(sender, names, error)
            return
        except Exception as error:
            self._refuse(sender, names, error)
            self._trace.refused(start_ns, step, error, _said(error))
            return
        self._wire.send(sender, application(Channel.ORDER, OrderKind.JOURNALED, {"ids": names}))
        closed = [name for name in names if self._is_closed(name)]
        if closed:
            self._tell_closed(sender, closed)
        self._trace.add(Stage.EXECUTE, start_ns, step, names)

    def _refuse(self, sender: int, names: list[str], error: Exception) -> None:
        self._feed.event(Severity.ERROR, f"refused orders of node {sender}: {_said(error)}")
        body = {"ids": names, "reason": _said(error)}
        self._wire.send(sender, application(Channel.ORDER, OrderKind.REFUSED, body))

    def epoch_known(self) -> None:
        """Another epoch is believed to run: orders that came ahead of that are looked at again."""
        held = list(self._held)
        self._held.clear()
        for sender, values, step, _, timer in held:
            timer.cancel()
            self.execute(sender, values, step)

    def _give_up(self) -> None:
        """The oldest orders of an unknown epoch have waited long enough."""
        sender, _, _, names, _ = self._held.popleft()
        self._refuse(sender, names, UnknownEpochError(f"too few nodes told of their epoch within {HOLD_S:g} s"))

    def _release(self, sender: int, values: dict[str, Any], names: list[str]) -> None:
        """Check, journal and send what is new. Orders that are known already keep their outcome."""
        proof = decode(bytes(values["proof"]))
        if not isinstance(proof, CommittedEntries) or len(proof.entries) != 1:
            raise GuardError("the proof is not one committed entry")
        committed = proof.entries[0]
        positions, part = [int(position) for position in values["positions"]], int(values["part"])
        office, in_flight = (int(values["epoch"]), int(values["term"])), int(values["in_flight"])
        self._gateway.refuse_in_flight(in_flight)
        self._guard.verify(committed)
        requests = self._guard.requests_at(committed, positions, part)
        if [request.client_order_id for request in requests] != names:
            raise GuardError("the client order ids are not those of the decisions")
        self._remember(sender, names)
        fresh = [request for request in requests if self._is_new(request.client_order_id)]
        if not fresh:
            return
        denials = self._guard.check(committed, fresh, part)
        sendable = [request for request in fresh if request.client_order_id not in denials]
        for request in fresh:
            if request.client_order_id in denials:
                self._gateway.deny([request], denials[request.client_order_id])
        if not sendable:
            return
        self._advance_venue(max(request.step for request in sendable))
        proven = (committed.epoch, committed.certificate.term)
        payload = self._guard.payload(committed, part)
        authority = Authority(*office, committed, payload, proven, is_by_quorum(committed))
        try:
            self._guard.reserve(sendable)
            self._gateway.submit(sendable, authority, in_flight)
        except Exception:
            self._guard.release(sendable)
            raise
        for request in sendable:
            self._feed.sent(request)

    def _remember(self, sender: int, names: list[str]) -> None:
        for name in names:
            self._asked_by[name] = sender
        while len(self._asked_by) > ORDERS_REMEMBERED:
            del self._asked_by[next(iter(self._asked_by))]

    def _is_new(self, name: str) -> bool:
        order = self._gateway.order(name)
        return order is None or order.state is OrderState.INITIALISED

    def _is_closed(self, name: str) -> bool:
        order = self._gateway.order(name)
        return order is not None and order.state in CLOSED_STATES

    # The replay clock

    def forget_step(self) -> None:
        """The venue is away: what step it is at when it comes back is not known."""
        self._step = -1

    def _advance_venue(self, step: int) -> None:
        """The swarm drives the replay clock: the venue's prices follow the step of the orders."""
        if step <= self._step or not self._replays:
            return
        self._step = step
        self._gateway.advance(step).add_done_callback(self._advanced)

    def _advanced(self, future: asyncio.Future[int]) -> None:
        if not future.cancelled() and future.exception() is not None:
            self._step = -1
            self._feed.event(Severity.WARNING, f"the venue's replay clock did not move: {future.exception()}")

    # What became of them

    def reported(self, report: ExecutionReport) -> None:
        """A journalled report: into the books, to the monitors, and to whoever asked for the order."""
        order = self._gateway.order(report.client_order_id)
        step = order.request.step if order is not None else 0
        self._guard.reported(report, step)
        if order is not None:
            self._feed.reported(order)
        node = self._asked_by.get(report.client_order_id)
        if node is None:
            return
        if not self._outcomes:
            asyncio.get_running_loop().call_soon(self._tell_outcomes)
        self._outcomes.append((node, report.client_order_id, report.state))

    def _tell_outcomes(self) -> None:
        """One message a node for everything that one read from the venue brought."""
        outcomes, self._outcomes = self._outcomes, []
        for node in {node for node, _, _ in outcomes}:
            mine = {name: state for asked, name, state in outcomes if asked == node}
            placed = [name for name, state in mine.items() if state not in CLOSED_STATES]
            if placed:
                self._wire.send(node, application(Channel.ORDER, OrderKind.PLACED, {"ids": placed}))
            closed = [name for name, state in mine.items() if state in CLOSED_STATES]
            if closed:
                self._tell_closed(node, closed)

    def _tell_closed(self, node: int, names: list[str]) -> None:
        orders = [self._gateway.order(name) for name in names]
        states = [order.state.value for order in orders if order is not None]
        self._wire.send(node, application(Channel.ORDER, OrderKind.CLOSED, {"ids": names, "states": states}))


def _said(error: Exception) -> str:
    """In words where the error was made for a reader; with its kind where nobody expected it."""
    return str(error) if isinstance(error, GatewayError | ValueError) else repr(error)
