"""Orders on the wire, and what became of each: every answer, event and silence of the venue ends in the ledger.

A request that was not answered leaves its order unknown. It is asked after and never sent again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from core.gateway.connector import Answer, Connector, ConnectorError, EncodedOrder, NoAnswer, Refusal, VenueUpdate
from core.gateway.errors import UnknownOrder
from core.gateway.ledger import OrderLedger
from core.gateway.outbox import Outbox
from core.gateway.reconcile import NEVER_REACHED, Difference, Reconciler
from core.gateway.release import Outcome
from core.orders.life_cycle import FINAL, RefusedTransition, move
from core.orders.order import ExecutionReport, Order, OrderRequest
from core.records import OrderState

BEING_ANSWERED: Final = frozenset({OrderState.SUBMITTED, OrderState.UNKNOWN})
IN_DOUBT: Final = BEING_ANSWERED | {OrderState.PENDING_CANCEL}
"""The venue's last word on these is still to come."""
_CANCELLABLE: Final = frozenset({OrderState.ACCEPTED, OrderState.PARTIALLY_FILLED})


class Placement:
    """Sends what the gateway released, and keeps the ledger true to the venue's word."""

    def __init__(
        self,
        connector: Connector,
        ledger: OrderLedger,
        queued_max: int,
        *,
        is_connected: Callable[[], bool],
        give_up_link: Callable[[str], Awaitable[None]],
        on_report: Callable[[ExecutionReport], None],
        on_difference: Callable[[Difference], None],
        on_error: Callable[[str], None],
        on_answer: Callable[[OrderRequest, int, Answer], None],
    ) -> None:
        """`give_up_link` closes a link on which a question stayed without answer: connecting anew asks after all.
        `on_answer` hears of each order when it went out (perf_counter_ns) and what came back."""
        self._connector = connector
        self._ledger = ledger
        self._is_connected = is_connected
        self._give_up_link = give_up_link
        self._on_report = on_report
        self._on_difference = on_difference
        self._on_error = on_error
        self._on_answer = on_answer
        self.reconciler: Reconciler | None = None
        """Who is asked after an order; set once, before the first order."""
        self.orders_sent = 0
        """Orders written to the wire since this process started."""
        self.cancels_sent = 0
        self.cancels_all_for = ""
        """While not empty, whatever the venue comes to hold is cancelled, for this reason."""
        self._outbox = Outbox(self._send, queued_max)
        self._cancelling: set[str] = set()
        self._waiters: dict[str, asyncio.Future[Outcome]] = {}
        self._settled: list[str] = []
        self._committed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    # Orders out

    def room(self) -> int:
        """How many more orders the queue takes."""
        return self._outbox.room()

    def put(self, encoded: list[EncodedOrder], in_flight: int) -> None:
        """Queue journalled orders; the first leave at once."""
        self._outbox.put(encoded, in_flight)

    def await_answer(self, name: str) -> None:
        """From now on `outcome` waits for the venue's word on this order."""
        self._waiters[name] = asyncio.get_running_loop().create_future()

    def outcome(self, name: str, duplicate: bool) -> asyncio.Future[Outcome] | Outcome:
        """How an order stands, or the future of it while the venue has not answered."""
        waiter = self._waiters.get(name)
        if waiter is None:
            return self._outcome(name, duplicate)
        if not duplicate:
            return waiter
        follower: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        waiter.add_done_callback(lambda done: follower.set_result(self._outcome(name, duplicate=True)))
        return follower

    def cancel(self, orders: list[Order]) -> None:
        """Ask the venue to cancel orders that are marked and journalled as such."""
        for order in orders:
            self.cancels_sent += 1
            self._cancelling.add(order.request.client_order_id)
            self._connector.cancel(order.request, partial(self._cancel_answered, order.request))

    def cancel_open(self, reason: str) -> None:
        """Ask the venue to cancel whatever it is known to hold."""
        orders = [order for order in self._ledger.unfinished() if order.state in _CANCELLABLE]
        for order in orders:
            self._ledger.stage(move(order, OrderState.PENDING_CANCEL, reason))
        try:
            self.commit()
        finally:
            # A journal that cannot be written keeps no order at the venue: after a restart the venue's word stands.
            self.cancel(orders)

    def expire_queued(self, reason: str) -> None:
        """What waits for its turn never leaves."""
        self._expire(self._outbox.drop_queued(), reason)

    def under_way(self) -> frozenset[str]:
        """Orders that wait for their turn or for the venue's answer, to the order or to its cancel."""
        return frozenset(self._outbox.names() | self._cancelling)

    def in_doubt(self) -> list[Order]:
        """Orders whose fate the venue has still to tell."""
        return [order for order in self._ledger.unfinished() if order.state in IN_DOUBT]

    async def settled(self) -> None:
        """Returns once no order is in doubt."""
        while self.in_doubt():
            self._committed.clear()
            await self._committed.wait()

    async def stop(self) -> None:
        """Ask after nothing more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def forget_waiters(self) -> None:
        """Nobody will be told any more."""
        for waiter in self._waiters.values():
            waiter.cancel()

    def known(self, client_order_id: str) -> Order:
        """Raises UnknownOrder."""
        order = self._ledger.get(client_order_id)
        if order is None:
            raise UnknownOrder(f"order {client_order_id} was never prepared; prepare it first")
        return order

    def _outcome(self, name: str, duplicate: bool) -> Outcome:
        order = self.known(name)
        return Outcome(name, order.state, order.cumulative_quantity, duplicate, order.reason)

    def _send(self, order: EncodedOrder) -> None:
        self.orders_sent += 1
        self._connector.place(order, partial(self._place_answered, order.request, time.perf_counter_ns()))

    def _expire(self, unsent: list[EncodedOrder], reason: str) -> None:
        for encoded in unsent:
            order = self.known(encoded.request.client_order_id)
            if order.state not in FINAL:
                self._ledger.mark(order, OrderState.EXPIRED, f"{NEVER_REACHED}: {reason}")
                self._settled.append(encoded.request.client_order_id)

    # Answers in

    def _place_answered(self, request: OrderRequest, sent_ns: int, answer: Answer) -> None:
        self._on_answer(request, sent_ns, answer)
        name = request.client_order_id
        if isinstance(answer, VenueUpdate):
            self.updated(answer)
            self._settle(name)
        elif isinstance(answer, Refusal):
            order = self.known(name)
            if order.state in BEING_ANSWERED:
                self._ledger.mark(order, OrderState.REJECTED, f"{answer.code} {answer.message}")
            self._settle(name)
        else:
            self._unanswered(self.known(name), answer)

    def _unanswered(self, order: Order, answer: NoAnswer) -> None:
        """The order may be there or not: unknown, asked after, never sent again."""
        if order.state is OrderState.SUBMITTED:
            self._ledger.mark(order, OrderState.UNKNOWN, answer.reason)
        if not answer.link_lost:
            self._ask_after(order)

    def _cancel_answered(self, request: OrderRequest, answer: Answer) -> None:
        self._cancelling.discard(request.client_order_id)
        if isinstance(answer, VenueUpdate):
            self.updated(answer)
        elif isinstance(answer, Refusal) or not answer.link_lost:
            # Refused: it was done before the cancel came. The venue's word on the order says how.
            self._ask_after(self.known(request.client_order_id))

    def _ask_after(self, order: Order) -> None:
        task = asyncio.create_task(self._resolve(order))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _resolve(self, order: Order) -> None:
        assert self.reconciler is not None
        try:
            await self.reconciler.resolve(order, time.time_ns() // 1_000_000)
            self._settle(order.request.client_order_id)
            self.commit()
        except ConnectorError as error:
            # Not answered either: the link is of no use, and connecting anew asks after every open order.
            await self._give_up_link(str(error))
        except Exception as error:
            name = order.request.client_order_id
            self._on_error(f"order {name} could not be asked after: {error!r}")
            # Else its place before the wire would never be free again.
            await self._give_up_link(repr(error))

    def _settle(self, name: str) -> None:
        self._settled.append(name)
        self._outbox.answered(name)

    def settle_known(self) -> None:
        """After a reconciliation: whoever still waits for an answer of the old link gets what is known now."""
        self._settled += [name for name in self._waiters if self.known(name).state not in BEING_ANSWERED]
        self.commit()

    def updated(self, update: VenueUpdate) -> None:
        """The venue's word, as an answer or unasked."""
        try:
            missing = self._ledger.absorb(update)
        except KeyError:
            what = "left alone until the next reconciliation"
            self._on_difference(Difference("foreign order", update.client_order_id, "absent", update.state, what))
        except RefusedTransition as error:
            name = update.client_order_id
            self._on_difference(Difference("life cycle", name, error.old, update.state, str(error)))
        else:
            if missing is not None and self._is_connected():
                self._ask_after(missing)

    def commit(self) -> None:
        """Journal what is staged, tell it, and answer whoever waits for it."""
        self.tell(self._ledger.commit())
        if self.cancels_all_for and self._is_connected() and self._holds_cancellable():
            self.cancel_open(self.cancels_all_for)
        settled, self._settled = self._settled, []
        for name in settled:
            waiter = self._waiters.pop(name, None)
            if waiter is not None:
                waiter.set_result(self._outcome(name, duplicate=False))
        self._committed.set()

    def tell(self, reports: list[ExecutionReport]) -> None:
        """Hand on what is journalled."""
        for report in reports:
            self._on_report(report)

    def _holds_cancellable(self) -> bool:
        return any(order.state in _CANCELLABLE for order in self._ledger.unfinished())

    def link_lost(self, reason: str) -> None:
        """What was never sent expires; what was sent is unknown until the next link."""
        self._cancelling.clear()
        self._expire(self._outbox.clear(), reason)
        self.commit()
