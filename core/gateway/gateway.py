"""The gateway: the only one that sends orders. Journal first, send once, know what became of each.

`prepare` does everything up to the wire, in memory; `release` journals and lets go; `execute` is both. An order is
identified by its client order id alone: asking again, by the same leader or the next, gives the recorded outcome and
sends nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final, Generic

from core.gateway.connector import Answer, Connector, EncodedOrder
from core.gateway.errors import (
    FencedError,
    GatewayFull,
    GatewayStopping,
    OtherTerms,
    TradingHalted,
    VenueUnavailable,
)
from core.gateway.journal import OrderJournal
from core.gateway.ledger import OrderLedger
from core.gateway.link import VenueLink
from core.gateway.placement import Placement
from core.gateway.preparations import Preparations
from core.gateway.reconcile import Difference, Reconciler, repeated_trade
from core.gateway.release import Authority, CertificateT, Outcome, Prepared, Release
from core.gateway.settings import GatewaySettings
from core.orders.identity import is_client_order_id
from core.orders.life_cycle import InvalidOrder, initialise, move
from core.orders.order import ExecutionReport, Order, OrderRequest
from core.orders.scale import MarketScale
from core.records import OrderState, VenueState

REPORTS_PAGE: Final = 1_000
IN_FLIGHT_ASKED_MAX: Final = 1_000
"""More than anybody means."""


def _print_error(text: str) -> None:
    print(text, file=sys.stderr)


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
        on_error: Callable[[str], None] = _print_error,
        on_answer: Callable[[OrderRequest, int, Answer], None] = lambda request, sent_ns, answer: None,
    ) -> None:
        """Opens the journal. Raises GatewayJournalError.

        `verify(certificate, payload)` raises where the certificate does not hold; that error goes to the caller of
        `release`. The other callables hear reports (journalled, in sequence), the venue's state with its reason in
        words, every difference between journal and venue, what went wrong inside, and (`on_answer`) the venue's answer
        to each order with when that went out (perf_counter_ns). They must not raise.
        """
        self.settings = settings
        self._scale = scale
        self._connector = connector
        self._verify = verify
        self._journal = OrderJournal(settings.directory, settings.synchronous)
        self._ledger = OrderLedger(self._journal, on_taken=lambda *taken: on_difference(repeated_trade(*taken)))
        self._latest_asked = self._fence = self._journal.fence()
        self._placement = Placement(
            connector,
            self._ledger,
            settings.queued_max,
            is_connected=lambda: self._link.is_connected,
            give_up_link=lambda reason: self._link.give_up(reason),
            on_report=on_report,
            on_difference=on_difference,
            on_error=on_error,
            on_answer=on_answer,
        )
        reconciler = Reconciler(
            connector,
            self._ledger,
            self._journal,
            scale.instruments,
            on_difference,
            self._placement.commit,
            lambda: time.time_ns() // 1_000_000,
        )
        self._placement.reconciler = reconciler
        self._link = VenueLink(settings, connector, self._placement, reconciler, on_venue_state, on_error)
        self._halted = ""
        self._is_stopping = False
        self._preparations = Preparations(settings.prepared_max)

    # Life

    async def start(self, wait: bool = True) -> None:
        """Connect and reconcile, and from then on stay connected. `wait` False returns at once."""
        self._link.start()
        if wait:
            await self.connected()

    async def connected(self) -> None:
        """Returns once the venue is connected and reconciled. Raises what ended the link for good."""
        await self._link.connected()

    async def drain(self, timeout_s: float) -> list[Order]:
        """Before `stop`: nothing more leaves, and what is on the wire is waited for. Returns what is still in doubt.

        What was released and not sent expires. Orders that rest at the venue stay there.
        """
        self._is_stopping = True
        self._placement.expire_queued("the gateway stops")
        self._placement.commit()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._placement.settled()
        return self._placement.in_doubt()

    async def stop(self) -> None:
        """Close link and journal. Orders on their way are asked after at the next start."""
        await self._placement.stop()
        await self._link.stop()
        self._placement.commit()
        self._journal.close()
        self._placement.forget_waiters()

    @property
    def state(self) -> VenueState:
        return self._link.state

    @property
    def state_reason(self) -> str:
        """Why the venue's state is what it is, in words."""
        return self._link.reason

    @property
    def orders_sent(self) -> int:
        """Orders written to the wire since this process started."""
        return self._placement.orders_sent

    @property
    def cancels_sent(self) -> int:
        """Cancels written to the wire since this process started."""
        return self._placement.cancels_sent

    # What a leader asks

    def prepare(self, requests: Sequence[OrderRequest], sender: int = 0) -> list[Prepared]:
        """Validate, sign and encode, for a release that may come. Nothing is journalled and nothing leaves the process.

        Each `sender` has room for `settings.prepared_max`; its newest push out its oldest. All or nothing: raises
        InvalidOrder naming the bad field, OtherTerms for a known id with other terms, GatewayFull, VenueUnavailable.
        """
        self._refuse_unavailable()
        if len(requests) > self.settings.prepared_max:
            raise GatewayFull(f"{len(requests)} orders to prepare at once, {self.settings.prepared_max} at most")
        encoded: list[EncodedOrder] = []
        prepared = []
        for order in self._orders(requests):
            before = self._preparations.encoded(order.request)
            is_new = order.state is OrderState.INITIALISED
            prepared.append(Prepared(order.request.client_order_id, order.state, before is not None or not is_new))
            if is_new:
                # Kept for each sender that asks: one that was first could let it be pushed out.
                encoded.append(before or self._connector.encode(order.request))
        self._preparations.keep(sender, encoded)
        return prepared

    def release(
        self, client_order_ids: Sequence[str], authority: Authority[CertificateT], in_flight: int = 1
    ) -> Release:
        """Let prepared orders go: check certificate and fence, journal as submitted, then send.

        When this returns, every order is in the journal and the first are on the wire. At most `in_flight` (and
        `settings.in_flight_max`) wait for the venue's answer at once, one at a time for each instrument, in the order
        given; 1 is strictly one after another. Await `Release.answered` for the outcomes. Where it raises, nothing was
        journalled or sent: what `verify` raises, FencedError, UnknownOrder (never prepared), VenueUnavailable,
        GatewayFull, ValueError (`in_flight`), sqlite3.Error (the journal cannot be written).
        """
        self._refuse_release(authority, in_flight)
        return self._release([self._known(name) for name in client_order_ids], authority, in_flight)

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
        """Prepare what is not, and release, with one commit before the first byte, without waiting for answers.

        Raises as both, except that what others prepared leaves these no less room.
        """
        self._refuse_release(authority, in_flight)
        return self._release(self._orders(requests), authority, in_flight)

    @staticmethod
    def refuse_in_flight(in_flight: int) -> None:
        """Raises ValueError for a number that makes no sense: below one, no order would ever leave again."""
        if not 1 <= in_flight <= IN_FLIGHT_ASKED_MAX:
            raise ValueError(f"in_flight = {in_flight}; want 1 to {IN_FLIGHT_ASKED_MAX}")

    def deny(self, requests: Sequence[OrderRequest], reason: str) -> None:
        """Journal orders that must not be sent as DENIED; those that are known beyond INITIALISED stay as they are.

        Raises InvalidOrder that names the bad field, OtherTerms; nothing is then journalled.
        """
        for order in self._orders(requests):
            if order.state is OrderState.INITIALISED:
                self._preparations.drop(order.request.client_order_id)
                self._ledger.mark(order, OrderState.DENIED, reason)
        self._placement.commit()

    def cancel(self, client_order_ids: Sequence[str], authority: Authority[CertificateT]) -> None:
        """Ask the venue to cancel orders that it holds; reports tell what came of it. Raises as `release`.

        Orders in other states stay as they are.
        """
        self._refuse_unconnected()
        self._check_authority(authority)
        orders = [self._placement.known(name) for name in dict.fromkeys(client_order_ids)]
        open_orders = [o for o in orders if o.state in (OrderState.ACCEPTED, OrderState.PARTIALLY_FILLED)]
        for order in open_orders:
            self._ledger.stage(move(order, OrderState.PENDING_CANCEL))
        try:
            reports = self._ledger.commit(self._raised_fence(authority))
        except BaseException:
            for order in open_orders:
                self._ledger.stage(order)
            raise
        self._placement.tell(reports)
        self._raise_fence(authority)
        self._placement.cancel(open_orders)

    def halt(self, reason: str) -> None:
        """The kill switch: when this returns no order leaves any more, and open ones were asked to be cancelled.

        What was released and not sent expires; an order that is on the wire is cancelled as soon as the venue has
        acknowledged it; what was only prepared stays prepared, and cannot be released. Needs no certificate; holds
        until `resume`, also over lost links.
        """
        self._halted = self._placement.cancels_all_for = reason
        self._placement.expire_queued(reason)
        self._connector.recall_unsent(reason)
        if self._link.is_connected:
            self._placement.cancel_open(reason)
        self._placement.commit()

    def resume(self) -> None:
        """Orders may leave again."""
        self._halted = self._placement.cancels_all_for = ""

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

    def decided_steps(self) -> list[tuple[int, int, int]]:
        """Instrument, log index and step of the newest order of each that a Byzantine quorum decided."""
        return self._journal.decided_steps()

    @property
    def fence(self) -> tuple[int, int]:
        """The highest (epoch, term) that a certificate proved; who asks for a lower one has lost its office."""
        return self._fence

    # Inside

    def _refuse_unavailable(self) -> None:
        if self._is_stopping:
            raise GatewayStopping
        if self._halted:
            raise TradingHalted(self._halted)
        self._refuse_unconnected()

    def _refuse_unconnected(self) -> None:
        if not self._link.is_connected:
            raise VenueUnavailable(self.state, self.state_reason)

    def _refuse_release(self, authority: Authority[CertificateT], in_flight: int) -> None:
        self._refuse_unavailable()
        self.refuse_in_flight(in_flight)
        self._check_authority(authority)

    def _check_authority(self, authority: Authority[CertificateT]) -> None:
        asked = (authority.epoch, authority.term)
        if asked < self._fence:
            raise FencedError(asked, self._fence)
        self._verify(authority.certificate, authority.payload)

    def _raised_fence(self, authority: Authority[CertificateT]) -> tuple[int, int] | None:
        """What the certificate proves, where that is later: a bare claim would lock out every leader after it."""
        return authority.proven if authority.proven > self._fence else None

    def _raise_fence(self, authority: Authority[CertificateT]) -> None:
        """A later leader has come, or says so: journal and venue are compared, as at every failover."""
        self._fence = self._raised_fence(authority) or self._fence
        asked = max((authority.epoch, authority.term), self._fence)
        if asked > self._latest_asked:
            self._latest_asked = asked
            self._link.reconcile_soon()

    def _orders(self, requests: Sequence[OrderRequest]) -> list[Order]:
        """Each order as it stands, or as a new one; nothing is staged. Raises InvalidOrder, OtherTerms."""
        found: dict[str, Order] = {}
        for request in requests:
            name = request.client_order_id
            known = found.get(name) or self._ledger.get(name)
            if known is not None and known.request != request:
                raise OtherTerms(f"order {name} is known with other terms: {known.request}")
            if known is None:
                self._refuse_bad(request)
            found[name] = known or initialise(request)
        return [found[request.client_order_id] for request in requests]

    def _known(self, name: str) -> Order:
        """The order as it stands, or as it was prepared. Raises UnknownOrder."""
        order = self._ledger.get(name)
        prepared = self._preparations.find(name)
        return initialise(prepared[0].request) if order is None and prepared else self._placement.known(name)

    def _release(self, orders: Sequence[Order], authority: Authority[CertificateT], in_flight: int) -> Release:
        names = [order.request.client_order_id for order in orders]
        fresh = {n: o for n, o in zip(names, orders, strict=True) if o.state is OrderState.INITIALISED}
        if len(fresh) > self._placement.room():
            raise GatewayFull(f"{self.settings.queued_max} orders wait for the venue; slow down")
        requests = [order.request for order in fresh.values()]
        encoded = [self._preparations.encoded(request) or self._connector.encode(request) for request in requests]
        reports = self._journal_submitted(list(fresh.values()), authority)
        self._raise_fence(authority)
        for name in fresh:
            self._preparations.drop(name)
            self._placement.await_answer(name)
        outcomes = [self._placement.outcome(name, name not in fresh) for name in names]
        self._placement.put(encoded, min(in_flight, self.settings.in_flight_max))
        self._placement.tell(reports)
        return Release(outcomes)

    def _journal_submitted(self, fresh: Sequence[Order], authority: Authority[CertificateT]) -> list[ExecutionReport]:
        """On disk when this returns; where it raises, no later commit writes them either."""
        for order in fresh:
            self._ledger.stage(move(order, OrderState.SUBMITTED))
        try:
            decided = [order.request for order in fresh] if authority.by_quorum else []
            return self._ledger.commit(self._raised_fence(authority), decided)
        except BaseException:
            for order in fresh:
                self._ledger.unstage(order.request.client_order_id)
            raise

    def _refuse_bad(self, request: OrderRequest) -> None:
        if not is_client_order_id(request.client_order_id):
            raise InvalidOrder(f"client order id {request.client_order_id!r} has characters that no venue takes")
        if not 0 <= request.instrument < len(self._scale.instruments):
            raise InvalidOrder(
                f"order {request.client_order_id}: instrument {request.instrument} of {len(self._scale.instruments)}"
            )
