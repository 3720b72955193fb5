"""Journal against venue, in orders, trades and balances: after every connect and change of leader, and on a timer.

Each difference is shown and resolved, and says by which rule. The rules: on orders and trades the venue's word stands
and becomes reports. An order that the venue does not know, and that can no longer arrive, has expired and never reached
it; it is never sent again. One that the venue had acknowledged and does not know any more has ended there: it expires
with what was filled, and a trade of it that is found still counts. An open order with our prefix that the journal does
not hold (a lost journal) is cancelled; anybody else's is left alone. Balances that differ once all trades are counted
are taken from the venue, and the difference moves into the journal's baseline. Positions are the balances of the
instruments.

Beside trading the same rules hold, with care for what is under way: an order that waits for its answer is left to that
answer, and a balance is taken from the venue only where two comparisons in a row, with nothing under way, found the
same difference.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from core.gateway.connector import AccountTrade, Answer, Balances, Connector, ConnectorError, VenueTrade, VenueUpdate
from core.gateway.journal import OrderJournal
from core.gateway.ledger import OrderLedger
from core.orders.identity import PREFIX
from core.orders.life_cycle import FINAL, OPEN, RefusedTransition
from core.orders.order import ExecutionReport, Order, OrderRequest, TimeInForce
from core.records import OrderState as S

NEVER_REACHED: Final = "never reached the venue"
FORGOTTEN: Final = "the venue took it and does not know it any more"
_ACKNOWLEDGED: Final = frozenset({S.ACCEPTED, S.PARTIALLY_FILLED, S.PENDING_CANCEL})
"""Only what the venue acknowledged is asked to be cancelled."""
_BALANCE_TRIES: Final = 3
_AT_ONCE: Final = 256
_REPORTS_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class Difference:
    """Where journal and venue did not agree, and what was done about it."""

    kind: str
    """`order`, `foreign order`, `foreign trade`, `repeated trade`, `balance` or `life cycle`."""
    subject: str
    journal: str
    venue: str
    resolution: str

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}: journal {self.journal}, venue {self.venue}; {self.resolution}"


def repeated_trade(order: Order, trade: VenueTrade, owner: str) -> Difference:
    """A trade that the venue tells of `order`, and that was counted under `owner` before."""
    subject = f"{trade.trade_id} of instrument {order.request.instrument}"
    venue = f"{trade.quantity_lots} lots of {order.request.client_order_id}"
    return Difference("repeated trade", subject, f"a fill of {owner}", venue, "left with the first")


class Reconciler:
    """Asks one venue about one ledger."""

    def __init__(
        self,
        connector: Connector,
        ledger: OrderLedger,
        journal: OrderJournal,
        instruments: Sequence[str],
        tell: Callable[[Difference], None],
        commit: Callable[[], None],
        clock_ms: Callable[[], int],
    ) -> None:
        """`tell` hears each difference; `commit` writes and tells staged reports."""
        self._connector = connector
        self._ledger = ledger
        self._journal = journal
        self._instruments = instruments
        self._tell = tell
        self._commit = commit
        self._clock_ms = clock_ms
        self._suspected: Balances | None = None
        """What balances differed by when last compared beside trading, with nothing under way."""

    async def run(self, under_way: Callable[[], frozenset[str]] | None = None) -> None:
        """All of it. Raises ConnectorError where the link fails meanwhile; nothing is then half done.

        `under_way` names the orders that wait for an answer of this link; None: the link is new and carried nothing.
        """
        # Before anything is learned: what we are about to hear must not hide an older trade that we missed.
        known = [self._journal.last_trade_id(i) for i in range(len(self._instruments))]
        signed_until_ms = self._clock_ms()
        # What is released from here on is signed later, and so no order to doubt.
        waiting = frozenset() if under_way is None else under_way()
        released = [order for order in self._ledger.unfinished() if order.state is not S.INITIALISED]
        names = [order.request.client_order_id for order in released]
        at_venue = {update.client_order_id: update for update in await self._connector.open_orders()}
        current = [self._ledger.get(name) for name in names if name not in waiting]
        doubtful = [order for order in current if order is not None and not self._stands(order, at_venue)]
        for first in range(0, len(doubtful), _AT_ONCE):
            part = doubtful[first : first + _AT_ONCE]
            await asyncio.gather(*(self.resolve(order, signed_until_ms) for order in part))
        await self._foreign_orders(list(at_venue.values()))
        await self._missed_trades(known, under_way)
        self._commit()
        await self._balances(under_way)

    @staticmethod
    def _stands(order: Order, at_venue: dict[str, VenueUpdate]) -> bool:
        """Whether an order needs no question: it has ended, or rests there exactly as we hold it."""
        if order.state in FINAL:
            return True
        update = at_venue.get(order.request.client_order_id)
        ours = (order.state, order.cumulative_quantity)
        return update is not None and ours == (update.state, update.cumulative_quantity)

    async def resolve(self, order: Order, signed_until_ms: int) -> None:
        """Ask the venue how one order stands and take its word; commits. Raises ConnectorError.

        `signed_until_ms`: nothing of this order was signed later (gateway's clock).
        """
        request = order.request
        update = await self._connector.query(request)
        if update is None:
            await self._connector.cannot_arrive(signed_until_ms)
            update = await self._connector.query(request)
        # While we asked, the stream may have told as much, or more.
        current = self._ledger.get(request.client_order_id) or order
        if update is None:
            self._expire(current)
        else:
            self._take(current, update)
        self._commit()

    def _expire(self, order: Order) -> None:
        """The venue does not know it, asked twice, and no request of it can still arrive."""
        if order.state not in OPEN:
            return
        was_there = order.venue_order_id or order.cumulative_quantity or order.state in _ACKNOWLEDGED
        reason = FORGOTTEN if was_there else NEVER_REACHED
        self._tell(_difference(order, "does not know it", f"expired: {reason}"))
        self._ledger.mark(order, S.EXPIRED, reason)

    def _take(self, order: Order, update: VenueUpdate) -> None:
        before = order
        try:
            missing = self._ledger.absorb(update, asked=True)
        except RefusedTransition as error:
            self._tell(Difference("life cycle", order.request.client_order_id, order.state, update.state, str(error)))
            return
        after = self._ledger.get(order.request.client_order_id)
        if missing is not None:
            raise ConnectorError(
                f"venue says {update.cumulative_quantity} lots of {order.request.client_order_id} are filled"
                f" and tells trades of {missing.cumulative_quantity}"
            )
        if after is not None and (after.state, after.cumulative_quantity) != (before.state, before.cumulative_quantity):
            fills = len(after.trade_ids) - len(before.trade_ids)
            self._tell(_difference(before, f"{update.state}", f"venue's word taken, {fills} fills reported"))

    async def _foreign_orders(self, updates: Sequence[VenueUpdate]) -> None:
        for update in updates:
            if self._ledger.get(update.client_order_id) is not None:
                continue
            if not update.client_order_id.startswith(PREFIX):
                self._tell(Difference("foreign order", update.client_order_id, "absent", update.state, "left alone"))
                continue
            answer = await self._cancel(update)
            what = "cancelled" if isinstance(answer, VenueUpdate) else f"cancel was not taken: {answer}"
            self._tell(Difference("foreign order", update.client_order_id, "absent", update.state, what))

    async def _cancel(self, update: VenueUpdate) -> Answer:
        request = OrderRequest(
            update.client_order_id, update.instrument, 1, 1, 0, TimeInForce.IOC, step=0, epoch=0, index=0, position=0
        )
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._connector.cancel(request, answered.set_result)
        return await answered

    async def _missed_trades(self, known: Sequence[int], under_way: Callable[[], frozenset[str]] | None) -> None:
        """Late fills of orders that were final already, and trades of orders that are not ours."""
        asked = (self._connector.trades_after(i, trade_id) for i, trade_id in enumerate(known))
        found = await asyncio.gather(*asked)
        self._commit()  # the venue's id of an order that was answered meanwhile is in the journal now
        for trade in (trade for trades in found for trade in trades):
            await self._missed_trade(trade, bool(under_way and under_way()))

    async def _missed_trade(self, found: AccountTrade, may_be_under_way: bool) -> None:
        order = self._journal.order_of_venue_id(found.venue_order_id)
        if order is None and may_be_under_way:
            return  # of an order whose answer is still to come, perhaps; if not, the balances say so
        if order is None:
            trade, name = found.trade, self._instruments[found.instrument]
            text = f"{trade.quantity_lots} lots at {trade.price_ticks} ticks, order {found.venue_order_id}"
            what = "counted in the balances only"
            self._tell(Difference("foreign trade", f"{name} {trade.trade_id}", "absent", text, what))
            return
        current = self._ledger.get(order.request.client_order_id)
        if current is not None and found.trade.trade_id not in current.trade_ids:
            await self.resolve(current, self._clock_ms())
            self._take_trade(current.request.client_order_id, found)

    def _take_trade(self, name: str, found: AccountTrade) -> None:
        """A trade of an order that the venue itself does not know any more: of others it told all trades."""
        order, trade = self._ledger.get(name), found.trade
        if order is None or order.reason != FORGOTTEN or trade.trade_id in order.trade_ids:
            return
        cumulative = order.cumulative_quantity + trade.quantity_lots
        told = VenueUpdate(
            name, found.venue_order_id, found.instrument, order.state, cumulative, (trade,), order.reason, trade.ts_ns
        )
        self._take(order, told)
        self._commit()

    async def _balances(self, under_way: Callable[[], frozenset[str]] | None) -> None:
        if self._journal.baseline() is None:
            venue = await self._connector.balances()
            self._commit()
            self._journal.write(baseline=_minus(venue, self._journal.traded(len(self._instruments))))
            return
        for _ in range(_BALANCE_TRIES):
            quiet = not (under_way and under_way())
            before = self._journal.last_sequence()
            venue = await self._connector.balances()
            self._commit()  # a fill may have come meanwhile; it is counted by now
            gap = _minus(venue, self._expected())
            reports = self._journal.reports_since(before, _REPORTS_MAX)
            if _is_explained(gap, reports):
                self._suspected = None
                return
            quiet = quiet and not reports and not (under_way and under_way())
            await asyncio.sleep(0)
        if under_way is None or (quiet and gap == self._suspected):
            self._suspected = None
            self._adopt(venue)
        else:
            self._suspected = gap if quiet else None

    def _expected(self) -> Balances:
        """What the account holds by the journal."""
        baseline = self._journal.baseline()
        assert baseline is not None
        return _plus(baseline, self._journal.traded(len(self._instruments)))

    def _adopt(self, venue: Balances) -> None:
        expected = self._expected()
        rows = [("cash (quanta)", expected.cash_quanta, venue.cash_quanta)]
        rows += [
            (f"{name} (lots)", ours, theirs)
            for name, ours, theirs in zip(self._instruments, expected.base_lots, venue.base_lots, strict=True)
        ]
        for subject, ours, theirs in rows:
            if ours != theirs:
                what = "venue's word taken, the difference goes into the baseline"
                self._tell(Difference("balance", subject, str(ours), str(theirs), what))
        self._journal.write(baseline=_minus(venue, self._journal.traded(len(self._instruments))))


def _is_explained(gap: Balances, reports: Sequence[ExecutionReport]) -> bool:
    """Whether the venue's balances are ours, or ours before the last of `reports`, which came while we asked."""
    cash, base = gap.cash_quanta, list(gap.base_lots)
    for report in (None, *reversed(reports)):
        if report is not None:
            base[report.instrument] += report.side * report.last_quantity
            cash -= report.side * report.last_quantity * report.last_price_ticks + report.fee_quanta
        if not cash and not any(base):
            return True
    return False


def _difference(order: Order, venue: str, resolution: str) -> Difference:
    return Difference("order", order.request.client_order_id, str(order.state), venue, resolution)


def _plus(a: Balances, b: Balances) -> Balances:
    return Balances(a.cash_quanta + b.cash_quanta, tuple(x + y for x, y in zip(a.base_lots, b.base_lots, strict=True)))


def _minus(a: Balances, b: Balances) -> Balances:
    return Balances(a.cash_quanta - b.cash_quanta, tuple(x - y for x, y in zip(a.base_lots, b.base_lots, strict=True)))
