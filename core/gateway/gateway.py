"""The gateway: the only one that sends orders. Journal first, send once, know what became of each.

`prepare` does everything up to the wire and `release` lets it go; `execute` is both. An order is identified by its
client order id alone: asking again, by the same leader or the next, gives the recorded outcome and sends nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Generic, TypeVar

from core.gateway.connector import Answer, Connector, ConnectorError, EncodedOrder, NoAnswer, Refusal, VenueUpdate
from core.gateway.errors import FencedError, GatewayFull, OtherTerms, TradingHalted, UnknownOrder, VenueUnavailable
from core.gateway.journal import OrderJournal
from core.gateway.ledger import OrderLedger
from core.gateway.outbox import Outbox
from core.gateway.reconcile import NEVER_REACHED, Difference, Reconciler
from core.gateway.settings import GatewaySettings
from core.orders.identity import is_client_order_id
from core.orders.life_cycle import FINAL, InvalidOrder, RefusedTransition, initialise, move
from core.orders.order import ExecutionReport, Order, OrderRequest
from core.orders.scale import MarketScale
from core.records import OrderState, VenueState

CertificateT = TypeVar("CertificateT")
REPORTS_PAGE: Final = 1_000
_BEING_ANSWERED: Final = frozenset({OrderState.SUBMITTED, OrderState.UNKNOWN})


@dataclass(frozen=True, slots=True)
class Authority(Generic[CertificateT]):
    """By what right orders are released. `epoch` and `term` are the office of the leader that asks (the fence);
    `certificate` proves that `payload`, the entry that the orders come from, is committed."""

    epoch: int
    term: int
    certificate: CertificateT
    payload: bytes


@dataclass(frozen=True, slots=True)
class Prepared:
    """One order after `prepare`. `duplicate`: it was known before; `state` is how it stands."""

    client_order_id: str
    state: OrderState
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an order stood once the venue had answered. `duplicate`: it was released before, nothing was sent now."""

    client_order_id: str
    state: OrderState
    cumulative_quantity: int
    duplicate: bool
    reason: str


class Release:
    """Orders on their way. They are journalled, whatever becomes of this object."""

    def __init__(self, outcomes: list[asyncio.Future[Outcome] | Outcome]) -> None:
        self._outcomes = outcomes

    async def answered(self) -> tuple[Outcome, ...]:
        """Once the venue has answered every one, or it is known that it never will, in the order asked."""
        waiting = [item for item in self._outcomes if isinstance(item, asyncio.Future)]
        if waiting:
            # wait, not gather: a caller that gives up must not cancel what others wait for.
            await asyncio.wait(waiting)
        return tuple(item.result() if isinstance(item, asyncio.Future) else item for item in self._outcomes)


class Gateway(Generic[CertificateT]):
    """One gateway over one venue account. All calls from one event loop."""

    def __init__(
        self,
        settings: GatewaySettings,
        scale: MarketScale,
        connector: Connector,
        *,
        verify: Callable[[CertificateT, bytes], None],
        on_report: Callable[[ExecutionReport], None],
        on_venue_state: Callable[[VenueState, str], None],
        on_difference: Callable[[Difference], None],
    ) -> None:
        """Opens the journal. Raises GatewayJournalError.

        `verify(certificate, payload)` raises where the certificate does not hold; that error goes to the caller of
        `release`. The other callables hear reports (journalled, in sequence), the venue's state with its reason in
        words, and every difference between journal and venue. They must not raise.
        """
        self.settings = settings
        self.state = VenueState.UNKNOWN
        self.state_reason = "not connected yet"
        self._scale = scale
        self._connector = connector
        self._verify = verify
        self._on_report = on_report
        self._on_venue_state = on_venue_state
        self._on_difference = on_difference
        self._journal = OrderJournal(settings.directory, settings.synchronous)
        self._ledger = OrderLedger(self._journal)
        self._fence = self._journal.fence()
        self._outbox = Outbox(self._send, settings.queued_max)
        self._reconciler = Reconciler(
            connector, self._ledger, self._journal, scale.instruments, on_difference, self._commit, _unix_ms
        )
        self.orders_sent = 0
        """Orders written to the wire since this process started."""
        self.cancels_sent = 0
        self._halted = ""
        self._encoded: dict[str, EncodedOrder] = {}
        self._waiters: dict[str, asyncio.Future[Outcome]] = {}
        self._settled: list[str] = []
        self._lost = asyncio.Event()
        self._connected = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._link: asyncio.Task[None] | None = None

    # Life

    async def start(self, wait: bool = True) -> None:
        """Connect and reconcile, and from then on stay connected. `wait` False returns at once."""
        self._link = asyncio.create_task(self._stay_connected())
        if wait:
            await self.connected()

    async def connected(self) -> None:
        """Returns once the venue is connected and reconciled. Raises what ended the link for good."""
        assert self._link is not None, "start first"
        waiting = asyncio.ensure_future(self._connected.wait())
        try:
            await asyncio.wait({waiting, self._link}, return_when=asyncio.FIRST_COMPLETED)
            if self._link.done():
                self._link.result()
        finally:
            waiting.cancel()

    async def stop(self) -> None:
        """Close link and journal. Orders on their way are asked after at the next start."""
        tasks = [task for task in (self._link, *self._tasks) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._connector.close()
        self._commit()
        self._journal.close()
        for waiter in self._waiters.values():
            waiter.cancel()

    # What a leader asks

    def prepare(self, requests: Sequence[OrderRequest]) -> list[Prepared]:
        """Validate, journal as initialised, sign and encode. Nothing leaves the process.

        All or nothing: raises InvalidOrder naming the bad field, OtherTerms for a known id with other terms,
        GatewayFull, VenueUnavailable.
        """
        prepared = self._prepare(requests)
        self._commit()
        return prepared

    def release(
        self, client_order_ids: Sequence[str], authority: Authority[CertificateT], in_flight: int = 1
    ) -> Release:
        """Let prepared orders go: check certificate and fence, journal as submitted, then send.

        When this returns, every order is in the journal and the first are on the wire. At most `in_flight` (and
        `settings.in_flight_max`) wait for the venue's answer at once, one at a time for each instrument, in the order
        given; 1 is strictly one after another. Await `Release.answered` for the outcomes. Where it raises, nothing was
        journalled or sent: what `verify` raises, FencedError, UnknownOrder (never prepared), VenueUnavailable,
        GatewayFull, sqlite3.Error (the journal cannot be written).
        """
        self._refuse_unavailable()
        self._check_authority(authority)
        orders = [self._known(name) for name in dict.fromkeys(client_order_ids)]
        fresh = [order for order in orders if order.state is OrderState.INITIALISED]
        if len(fresh) > self._outbox.room():
            raise GatewayFull(f"{self.settings.queued_max} orders wait for the venue; slow down")
        names = {order.request.client_order_id for order in fresh}
        encoded = [self._encoded.get(o.request.client_order_id) or self._connector.encode(o.request) for o in fresh]
        for order in fresh:
            self._ledger.stage(move(order, OrderState.SUBMITTED))
        try:
            reports = self._ledger.commit(self._raised_fence(authority))
        except Exception:
            for order in fresh:
                self._ledger.stage(order)
            raise
        self._fence = max(self._fence, (authority.epoch, authority.term))
        for order in fresh:
            name = order.request.client_order_id
            self._encoded.pop(name, None)
            self._waiters[name] = asyncio.get_running_loop().create_future()
        outcomes = [self._outcome_or_waiter(name, name not in names) for name in client_order_ids]
        self._outbox.put(encoded, min(in_flight, self.settings.in_flight_max))
        self._tell(reports)
        return Release(outcomes)

    async def execute(
        self, requests: Sequence[OrderRequest], authority: Authority[CertificateT], in_flight: int = 1
    ) -> tuple[Outcome, ...]:
        """Prepare, release and wait for the venue's answers, with one commit before the first byte.

        Raises as `prepare` and `release`.
        """
        return await self.submit(requests, authority, in_flight).answered()

    def submit(
        self, requests: Sequence[OrderRequest], authority: Authority[CertificateT], in_flight: int = 1
    ) -> Release:
        """Prepare and release with one commit before the first byte, without waiting for answers. Raises as both."""
        self._prepare(requests)
        return self.release([request.client_order_id for request in requests], authority, in_flight)

    def discard(self, client_order_ids: Sequence[str], reason: str) -> None:
        """Give up prepared orders whose decision was denied: they become DENIED and can never be sent.

        Those that are released already, or unknown, stay as they are.
        """
        for name in client_order_ids:
            order = self._ledger.get(name)
            if order is not None and order.state is OrderState.INITIALISED:
                self._ledger.mark(order, OrderState.DENIED, reason)
                self._encoded.pop(name, None)
        self._commit()

    def deny(self, requests: Sequence[OrderRequest], reason: str) -> None:
        """Journal orders that must not be sent as DENIED; those that are known beyond INITIALISED stay as they are.

        Raises InvalidOrder that names the bad field; nothing is then journalled.
        """
        orders = [self._ledger.get(request.client_order_id) or initialise(request) for request in requests]
        for order in orders:
            if order.state is OrderState.INITIALISED:
                self._encoded.pop(order.request.client_order_id, None)
                self._ledger.mark(order, OrderState.DENIED, reason)
        self._commit()

    def cancel(self, client_order_ids: Sequence[str], authority: Authority[CertificateT]) -> None:
        """Ask the venue to cancel orders that it holds; reports tell what came of it. Raises as `release`.

        Orders in other states stay as they are.
        """
        self._refuse_unconnected()
        self._check_authority(authority)
        orders = [self._known(name) for name in dict.fromkeys(client_order_ids)]
        open_orders = [o for o in orders if o.state in (OrderState.ACCEPTED, OrderState.PARTIALLY_FILLED)]
        for order in open_orders:
            self._ledger.stage(move(order, OrderState.PENDING_CANCEL))
        self._tell(self._ledger.commit(self._raised_fence(authority)))
        self._fence = max(self._fence, (authority.epoch, authority.term))
        for order in open_orders:
            request = order.request
            self.cancels_sent += 1
            self._connector.cancel(request, partial(self._cancel_answered, request))

    def halt(self, reason: str) -> None:
        """The kill switch: when this returns no order leaves any more, and open ones were asked to be cancelled.

        What was released and not sent expires; an order that is on the wire is cancelled as soon as the venue has
        acknowledged it; what was only prepared stays prepared, and cannot be released. Needs no certificate; holds
        until `resume`, also over lost links.
        """
        self._halted = reason
        for encoded in self._outbox.drop_queued():
            order = self._known(encoded.request.client_order_id)
            if order.state not in FINAL:
                self._ledger.mark(order, OrderState.EXPIRED, f"{NEVER_REACHED}: {reason}")
                self._settled.append(encoded.request.client_order_id)
        if self.state is VenueState.CONNECTED:
            self._cancel_open()
        self._commit()

    def resume(self) -> None:
        """Orders may leave again."""
        self._halted = ""

    def _cancel_open(self) -> None:
        """Ask the venue to cancel whatever it is known to hold."""
        open_states = (OrderState.ACCEPTED, OrderState.PARTIALLY_FILLED)
        orders = [order for order in self._ledger.unfinished() if order.state in open_states]
        for order in orders:
            self._ledger.stage(move(order, OrderState.PENDING_CANCEL, self._halted))
        self._commit()
        for order in orders:
            self.cancels_sent += 1
            self._connector.cancel(order.request, partial(self._cancel_answered, order.request))

    def advance(self, step: int) -> asyncio.Future[int]:
        """Move a replaying venue to a market step; orders released later are matched at it. No need to await.

        The future fails with ConnectorError where the venue refuses or goes. Raises VenueUnavailable.
        """
        self._refuse_unconnected()
        return self._connector.advance(step)

    def order(self, client_order_id: str) -> Order | None:
        """How an order stands, or None."""
        return self._ledger.get(client_order_id)

    def open_orders(self) -> list[Order]:
        """Every order that is not final, oldest first."""
        return self._ledger.unfinished()

    def reports_since(self, sequence: int, limit: int = REPORTS_PAGE) -> list[ExecutionReport]:
        """Reports numbered above `sequence`, in order, at most `limit`: what a new leader missed."""
        return self._journal.reports_since(sequence, limit)

    @property
    def fence(self) -> tuple[int, int]:
        """The highest (epoch, term) that was let through."""
        return self._fence

    # Inside

    def _refuse_unavailable(self) -> None:
        if self._halted:
            raise TradingHalted(self._halted)
        self._refuse_unconnected()

    def _refuse_unconnected(self) -> None:
        if self.state is not VenueState.CONNECTED:
            raise VenueUnavailable(self.state, self.state_reason)

    def _check_authority(self, authority: Authority[CertificateT]) -> None:
        asked = (authority.epoch, authority.term)
        if asked < self._fence:
            raise FencedError(asked, self._fence)
        self._verify(authority.certificate, authority.payload)

    def _raised_fence(self, authority: Authority[CertificateT]) -> tuple[int, int] | None:
        asked = (authority.epoch, authority.term)
        return asked if asked > self._fence else None

    def _known(self, client_order_id: str) -> Order:
        order = self._ledger.get(client_order_id)
        if order is None:
            raise UnknownOrder(f"order {client_order_id} was never prepared; prepare it first")
        return order

    def _prepare(self, requests: Sequence[OrderRequest]) -> list[Prepared]:
        self._refuse_unavailable()
        fresh: dict[str, Order] = {}
        prepared = []
        for request in requests:
            name = request.client_order_id
            known = self._ledger.get(name) or fresh.get(name)
            if known is not None and known.request != request:
                raise OtherTerms(f"order {name} is known with other terms: {known.request}")
            if known is None:
                self._refuse_bad(request)
                fresh[name] = initialise(request)
            state = OrderState.INITIALISED if known is None else known.state
            prepared.append(Prepared(name, state, known is not None))
        if len(self._encoded) + len(fresh) > self.settings.prepared_max:
            raise GatewayFull(f"{self.settings.prepared_max} orders are prepared; release or discard some")
        encoded = {name: self._connector.encode(order.request) for name, order in fresh.items()}
        for order in fresh.values():
            self._ledger.stage(order)
        self._encoded |= encoded
        return prepared

    def _refuse_bad(self, request: OrderRequest) -> None:
        if not is_client_order_id(request.client_order_id):
            raise InvalidOrder(f"client order id {request.client_order_id!r} has characters that no venue takes")
        if not 0 <= request.instrument < len(self._scale.instruments):
            raise InvalidOrder(
                f"order {request.client_order_id}: instrument {request.instrument} of {len(self._scale.instruments)}"
            )

    def _outcome_or_waiter(self, name: str, duplicate: bool) -> asyncio.Future[Outcome] | Outcome:
        waiter = self._waiters.get(name)
        if waiter is None:
            return self._outcome(name, duplicate)
        if not duplicate:
            return waiter
        follower: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        waiter.add_done_callback(lambda done: follower.set_result(self._outcome(name, duplicate=True)))
        return follower

    def _outcome(self, name: str, duplicate: bool) -> Outcome:
        order = self._known(name)
        return Outcome(name, order.state, order.cumulative_quantity, duplicate, order.reason)

    def _send(self, order: EncodedOrder) -> None:
        self.orders_sent += 1
        self._connector.place(order, partial(self._place_answered, order.request))

    def _place_answered(self, request: OrderRequest, answer: Answer) -> None:
        name = request.client_order_id
        if isinstance(answer, VenueUpdate):
            self._absorb(answer)
            self._settle(name)
        elif isinstance(answer, Refusal):
            order = self._known(name)
            if order.state in _BEING_ANSWERED:
                self._ledger.mark(order, OrderState.REJECTED, f"{answer.code} {answer.message}")
            self._settle(name)
        else:
            self._unanswered(self._known(name), answer)

    def _unanswered(self, order: Order, answer: NoAnswer) -> None:
        """The order may be there or not: unknown, asked after, never sent again."""
        if order.state is OrderState.SUBMITTED:
            self._ledger.mark(order, OrderState.UNKNOWN, answer.reason)
        if not answer.link_lost:
            self._ask_after(order)

    def _cancel_answered(self, request: OrderRequest, answer: Answer) -> None:
        if isinstance(answer, VenueUpdate):
            self._absorb(answer)
        elif isinstance(answer, Refusal) or not answer.link_lost:
            # Refused: it was done before the cancel came. The venue's word on the order says how.
            self._ask_after(self._known(request.client_order_id))

    def _ask_after(self, order: Order) -> None:
        task = asyncio.create_task(self._resolve(order))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _resolve(self, order: Order) -> None:
        try:
            await self._reconciler.resolve(order, _unix_ms())
        except ConnectorError as error:
            # Not answered either: the link is of no use, and connecting anew asks after every open order.
            if self.state is VenueState.CONNECTED:
                await self._connector.close()
                self.lost(str(error))
            return
        self._settle(order.request.client_order_id)
        self._commit()

    def _settle(self, name: str) -> None:
        self._settled.append(name)
        self._outbox.answered(name)

    def _absorb(self, update: VenueUpdate) -> None:
        try:
            missing = self._ledger.absorb(update)
        except KeyError:
            what = "left alone until the next reconciliation"
            self._on_difference(Difference("foreign order", update.client_order_id, "absent", update.state, what))
        except RefusedTransition as error:
            name = update.client_order_id
            self._on_difference(Difference("life cycle", name, error.old, update.state, str(error)))
        else:
            if missing is not None and self.state is VenueState.CONNECTED:
                self._ask_after(missing)

    def _commit(self) -> None:
        self._tell(self._ledger.commit())
        if self._halted and self.state is VenueState.CONNECTED and self._has_cancellable():
            self._cancel_open()
        settled, self._settled = self._settled, []
        for name in settled:
            waiter = self._waiters.pop(name, None)
            if waiter is not None:
                waiter.set_result(self._outcome(name, duplicate=False))

    def _has_cancellable(self) -> bool:
        open_states = (OrderState.ACCEPTED, OrderState.PARTIALLY_FILLED)
        return any(order.state in open_states for order in self._ledger.unfinished())

    def _tell(self, reports: list[ExecutionReport]) -> None:
        for report in reports:
            self._on_report(report)

    def _set_state(self, state: VenueState, reason: str) -> None:
        self.state, self.state_reason = state, reason
        if state is VenueState.CONNECTED:
            self._connected.set()
        else:
            self._connected.clear()
        self._on_venue_state(state, reason)

    async def _stay_connected(self) -> None:
        settings = self.settings
        backoff_ms = settings.backoff_min_ms
        while True:
            self._lost.clear()
            try:
                await self._connector.connect(self)
                self._set_state(VenueState.RECONCILING, "comparing the journal with the venue")
                await self._reconciler.run()
                if self._lost.is_set():
                    raise ConnectorError(self.state_reason)
            except (ConnectorError, OSError) as error:
                await self._connector.close()
                if not self._lost.is_set():
                    self.lost(str(error))
                await asyncio.sleep(backoff_ms / 1e3)
                backoff_ms = min(2 * backoff_ms, settings.backoff_max_ms)
                continue
            backoff_ms = settings.backoff_min_ms
            self._settle_known()
            self._set_state(VenueState.CONNECTED, "")
            self._commit()  # halted meanwhile: what the venue still holds is cancelled now
            await self._lost.wait()

    def _settle_known(self) -> None:
        """After a reconciliation: whoever still waits for an answer of the old link gets what is known now."""
        self._settled += [name for name in self._waiters if self._known(name).state not in _BEING_ANSWERED]
        self._commit()

    # LinkHandler

    def updated(self, update: VenueUpdate) -> None:
        """An event of the user stream."""
        self._absorb(update)

    def drained(self) -> None:
        """One commit for everything that one read brought."""
        self._commit()

    def lost(self, reason: str) -> None:
        """The link is gone: DOWN at once; what was never sent expires, what was sent is unknown."""
        self._lost.set()
        self._set_state(VenueState.DOWN, reason)
        for encoded in self._outbox.clear():
            order = self._known(encoded.request.client_order_id)
            if order.state not in FINAL:
                self._ledger.mark(order, OrderState.EXPIRED, f"{NEVER_REACHED}: {reason}")
                self._settled.append(encoded.request.client_order_id)
        self._commit()


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000
