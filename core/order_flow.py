"""The leader's side of order execution: committed decisions go to the gateway, its word comes back.

The toggles decide how much is under way at once and what is waited for:
parallel orders: up to `in_flight` positions at the venue at once, else one after another;
async confirmation: go on once the gateway has journaled the orders, else wait for each one's fill or reject;
optimistic execution: the gateway was given the payload before the vote and has its orders built and encoded.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from core.applied import OpenDecision
from core.records import OrderState
from core.telemetry import CycleTracer
from core.telemetry_messages import OrderKind, pack, unpack
from core.toggles import Toggles
from net.messages import Application, Channel, Committed, CommittedEntries
from net.wire.codec import encode
from net.wire.kinds import CodecKind

WAITING_MAX = 10_000


class Wire(Protocol):
    def send(self, peer_id: int, message: Application, *, round_id: int = 0) -> bool: ...


class GatewayAwayError(ConnectionError):
    """The gateway or its venue went away while orders were under way; they are reconciled when it is back."""


class _Waiting:
    __slots__ = ("background", "closed", "journaled", "placed", "sent_ns")

    def __init__(self, loop: asyncio.AbstractEventLoop, background: bool) -> None:
        self.journaled: asyncio.Future[None] = loop.create_future()
        self.placed: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.background = background
        self.sent_ns = time.perf_counter_ns()

    def fail(self, error: Exception) -> None:
        for future in (self.journaled, self.placed, self.closed):
            if not future.done():
                future.set_exception(error)
                future.exception()  # whoever still waits sees it; an unwatched one is not "never retrieved"


@dataclass(frozen=True, slots=True)
class Fence:
    """Who speaks: the gateway refuses a lower epoch or term than it has seen."""

    epoch: int
    term: int


class OrderFlow:
    """Sends decisions to the gateway and waits for what the toggles say."""

    def __init__(
        self,
        wire: Wire,
        gateway_id: int,
        tracer: CycleTracer,
        certify: Callable[[Committed], Committed],
        on_refused: Callable[[str], None],
    ) -> None:
        """`certify` gives a decided entry this node's word where its certificate has no signer (Raft, taken over)."""
        self._wire = wire
        self._gateway = gateway_id
        self._tracer = tracer
        self._certify = certify
        self._on_refused = on_refused
        self._waiting: dict[str, _Waiting] = {}
        self._filled = 0
        self._unfilled = 0

    def take_closed(self) -> tuple[int, int]:
        """Orders that ended filled, and otherwise, since the last call."""
        counts = (self._filled, self._unfilled)
        self._filled = self._unfilled = 0
        return counts

    @property
    def open_orders(self) -> int:
        return len(self._waiting)

    def prepare(self, epoch: int, index: int, payload: bytes) -> None:
        """Optimistic execution: let the gateway build the orders of a payload that is being voted on.

        `epoch` and `index` are where the entry is expected in the log; the certificate says where it came to stand.
        """
        body = pack({"epoch": epoch, "index": index, "payload": payload})
        self._wire.send(self._gateway, Application(Channel.ORDER, OrderKind.PREPARE, 0, 0, 0, b"", body))

    async def execute(self, decisions: Sequence[OpenDecision], toggles: Toggles, in_flight: int, fence: Fence) -> None:
        """Place these decisions. Raises GatewayAwayError when the gateway or the venue goes away meanwhile."""
        if toggles.parallel_orders or toggles.async_confirmation:
            # Confirmed in the background, they are journalled together; the gateway still sends one after another.
            await self._place(decisions, toggles, in_flight if toggles.parallel_orders else 1, fence)
            return
        for decision in decisions:
            await self._place((decision,), toggles, 1, fence)

    async def _place(self, decisions: Sequence[OpenDecision], toggles: Toggles, in_flight: int, fence: Fence) -> None:
        with self._tracer.span("order_validation") as span:
            span.count = len(decisions)
            messages = _messages(decisions, in_flight, fence, self._certify)
            loop = asyncio.get_running_loop()
            waiting = {decision.client_order_id: _Waiting(loop, toggles.async_confirmation) for decision in decisions}
            if len(self._waiting) + len(waiting) > WAITING_MAX:
                raise GatewayAwayError(f"more than {WAITING_MAX} orders wait for the gateway")
            self._waiting.update(waiting)
        placement = self._tracer.span("order_placement")
        placement.count = len(decisions)
        try:
            for message in messages:
                if not self._wire.send(self._gateway, message):
                    raise GatewayAwayError("the gateway cannot be reached")
            awaited = [w.journaled if toggles.async_confirmation else w.placed for w in waiting.values()]
            await asyncio.gather(*awaited)
        except BaseException:
            for name in waiting:
                self._waiting.pop(name, None)
            raise
        finally:
            placement.close()
        if toggles.async_confirmation:
            return
        with self._tracer.span("order_confirmation") as span:
            span.count = len(decisions)
            await asyncio.gather(*(w.closed for w in waiting.values()))

    def deliver(self, message: Application) -> None:
        """A message of the gateway about orders under way."""
        if message.kind == OrderKind.REFUSED:
            values = unpack(message.body)
            self._on_refused(values["reason"])
            for name in values["ids"]:
                self._fail(name, GatewayAwayError(values["reason"]))
            return
        now_ns = time.perf_counter_ns()
        values = unpack(message.body)
        if message.kind == OrderKind.CLOSED:
            filled = values["states"].count(OrderState.FILLED.value)
            self._filled += filled
            self._unfilled += len(values["states"]) - filled
        for name in values["ids"]:
            waiting = self._waiting.get(name)
            if waiting is not None:
                self._advance(name, waiting, OrderKind(message.kind), now_ns)

    def _advance(self, name: str, waiting: _Waiting, kind: OrderKind, now_ns: int) -> None:
        if not waiting.journaled.done():
            waiting.journaled.set_result(None)
        if kind in (OrderKind.PLACED, OrderKind.CLOSED) and not waiting.placed.done():
            waiting.placed.set_result(None)
        if kind is OrderKind.CLOSED and not waiting.closed.done():
            waiting.closed.set_result(None)
            del self._waiting[name]
            if waiting.background:
                self._tracer.background("order_confirmation", now_ns - waiting.sent_ns)

    def _fail(self, name: str, error: Exception) -> None:
        waiting = self._waiting.pop(name, None)
        if waiting is not None:
            waiting.fail(error)

    def gateway_lost(self, reason: str) -> None:
        """Nobody will answer any more: whoever waits must reconcile."""
        for name in list(self._waiting):
            self._fail(name, GatewayAwayError(reason))


def _messages(
    decisions: Sequence[OpenDecision], in_flight: int, fence: Fence, certify: Callable[[Committed], Committed]
) -> list[Application]:
    """One EXECUTE per payload of a log entry: the entry's proof and the rows of that payload to send now."""
    by_payload: dict[tuple[int, int], list[OpenDecision]] = {}
    for decision in decisions:
        by_payload.setdefault((decision.committed.entry.index, decision.part), []).append(decision)
    messages = []
    for (index, part), rows in by_payload.items():
        committed = certify(rows[0].committed)
        proof = encode(CommittedEntries(committed.epoch, index, (committed,)), CodecKind.CAPNP)
        body = pack(
            {
                "epoch": fence.epoch,
                "term": fence.term,
                "in_flight": in_flight,
                "part": part,
                "positions": [row.position for row in rows],
                "ids": [row.client_order_id for row in rows],
                "proof": proof,
            }
        )
        messages.append(Application(Channel.ORDER, OrderKind.EXECUTE, 0, rows[0].step, 0, b"", body))
    return messages
