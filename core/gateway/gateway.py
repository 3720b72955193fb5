"""The gateway: the only one that sends orders. Journal first, send once, know what became of each.

`prepare` does everything up to the wire and `release` lets it go; `execute` is both. An order is identified by its
client order id alone: asking again, by the same leader or the next, gives the recorded outcome and sends nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final, Generic

from core.gateway.connector import Connector, EncodedOrder
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
from core.gateway.reconcile import Difference, Reconciler
from core.gateway.release import Authority, CertificateT, Outcome, Prepared, Release
from core.gateway.settings import GatewaySettings
from core.orders.identity import is_client_order_id
from core.orders.life_cycle import InvalidOrder, initialise, move
from core.orders.order import ExecutionReport, Order, OrderRequest
from core.orders.scale import MarketScale
from core.records import OrderState, VenueState

REPORTS_PAGE: Final = 1_000


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
    ) -> None:
        """Opens the journal. Raises GatewayJournalError.

        `verify(certificate, payload)` raises where the certificate does not hold; that error goes to the caller of
        `release`. The other callables hear reports (journalled, in sequence), the venue's state with its reason in
        words, every difference between journal and venue, and what went wrong inside. They must not raise.
        """
        self.settings = settings
        self._scale = scale
        self._connector = connector
        self._verify = verify
        self._journal = OrderJournal(settings.directory, settings.synchronous)
        self._ledger = OrderLedger(self._journal)
        self._fence = self._journal.fence()
        self._placement = Placement(
            connector,
            self._ledger,
            settings.queued_max,
            is_connected=lambda: self._link.is_connected,
            give_up_link=lambda reason: self._link.give_up(reason),
            on_report=on_report,
            on_difference=on_difference,
            on_error=on_error,
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
        self._encoded: dict[str, EncodedOrder] = {}

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

    def prepare(self, requests: Sequence[OrderRequest]) -> list[Prepared]:
        """Validate, journal as initialised, sign and encode. Nothing leaves the process.

        All or nothing: raises InvalidOrder naming the bad field, OtherTerms for a known id with other terms,
        GatewayFull, VenueUnavailable.
        """
        prepared = self._prepare(requests)
        self._placement.commit()
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
        orders = [self._placement.known(name) for name in dict.fromkeys(client_order_ids)]
        fresh = [order for order in orders if order.state is OrderState.INITIALISED]
        if len(fresh) > self._placement.room():
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
        self._raise_fence(authority)
        for name in names:
            self._encoded.pop(name, None)
            self._placement.await_answer(name)
        outcomes = [self._placement.outcome(name, name not in names) for name in client_order_ids]
        self._placement.put(encoded, min(in_flight, self.settings.in_flight_max))
        self._placement.tell(reports)
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
        self._placement.commit()

    def deny(self, requests: Sequence[OrderRequest], reason: str) -> None:
        """Journal orders that must not be sent as DENIED; those that are known beyond INITIALISED stay as they are.

        Raises InvalidOrder that names the bad field; nothing is then journalled.
        """
        orders = [self._ledger.get(request.client_order_id) or initialise(request) for request in requests]
        for order in orders:
            if order.state is OrderState.INITIALISED:
                self._encoded.pop(order.request.client_order_id, None)
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
        self._placement.tell(self._ledger.commit(self._raised_fence(authority)))
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

    @property
    def fence(self) -> tuple[int, int]:
        """The highest (epoch, term) that was let through."""
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

    def _check_authority(self, authority: Authority[CertificateT]) -> None:
        asked = (authority.epoch, authority.term)
        if asked < self._fence:
            raise FencedError(asked, self._fence)
        self._verify(authority.certificate, authority.payload)

    def _raised_fence(self, authority: Authority[CertificateT]) -> tuple[int, int] | None:
        asked = (authority.epoch, authority.term)
        return asked if asked > self._fence else None

    def _raise_fence(self, authority: Authority[CertificateT]) -> None:
        """A later leader has come: journal and venue are compared, as at every failover."""
        if self._raised_fence(authority) is not None:
            self._fence = (authority.epoch, authority.term)
            self._link.reconcile_soon()

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
