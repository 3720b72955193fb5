"""The exchange, sans-I/O: orders, accounts and the recorded price in, numbered events out.

Every change of state is an event, and state (`core.venue.state`) is nothing but its events applied in order, live and
after a restart alike. The house's quotes are no part of that state: they are made from the recorded price of the step.
So a restart within a step renews what was taken from the house in that step, and changes nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from core.orders.order import TimeInForce
from core.orders.scale import MarketScale
from core.venue import rejects
from core.venue.account import Account, VenueOrder
from core.venue.archive import OrderArchive
from core.venue.events import (
    AccountOpened,
    OrderAccepted,
    OrderEnded,
    OrderReplaced,
    OrderStatus,
    StepAdvanced,
    Traded,
    VenueEvent,
)
from core.venue.journal import BEGINNING, VenueJournal
from core.venue.liquidity import Level, ladder
from core.venue.order_book import BUY, SELL, BookTrade, Match, OrderBook, Outcome
from core.venue.settings import ExchangeSettings
from core.venue.state import ExchangeState

HOUSE: Final = 0
"""Owner of the house's quotes."""
PRICE_TICKS_MAX: Final = 1 << 40
QUANTITY_LOTS_MAX: Final = 1 << 40
NOTIONAL_QUANTA_MAX: Final = 1 << 60
EVENTS_AT_RESTART: Final = 50_000
"""Events between checkpoints while an archive is made anew: nobody waits for an answer, and fewer are cheaper."""

RecordedBook = Callable[[int], tuple[Sequence[Level], Sequence[Level]]]
"""Instrument index to recorded (bids, asks), best first, as of the current step."""


@dataclass(frozen=True, slots=True)
class NewOrder:
    """What an owner asks for. `price_ticks` 0 is a market order."""

    client_order_id: str
    instrument: int
    side: int
    price_ticks: int
    quantity_lots: int
    time_in_force: TimeInForce


@dataclass(frozen=True, slots=True)
class Happened:
    """One event with the order as it stands right after it (None for events of no order)."""

    event: VenueEvent
    order: VenueOrder | None


class Exchange(ExchangeState):
    """The books of one market, and all that changes its state. Times are handed in, in Unix milliseconds."""

    def __init__(
        self,
        scale: MarketScale,
        settings: ExchangeSettings,
        *,
        recorded_book: RecordedBook | None = None,
        reject_rate: float = 0.0,
        random_source: random.Random | None = None,
        archive: OrderArchive | None = None,
    ) -> None:
        """`recorded_book` where the market has depth, else the book is modelled around the close; without `archive`
        everything stays in memory."""
        super().__init__(len(scale.instruments), archive)
        self.scale = scale
        self.settings = settings
        self._recorded_book = recorded_book
        self._reject_rate = reject_rate
        self._random = random_source or random.Random(0)
        self._quantum_value = float(scale.quantum.step)
        count = len(scale.instruments)
        self._books = [OrderBook(settings.self_trade_prevention) for _ in range(count)]
        self._quoted_step = [-1] * count
        self._house_quotes: list[list[int]] = [[] for _ in range(count)]
        self._resting = [0] * count  # orders of accounts in each book
        self._next_house_id = -1
        self._happened: list[Happened] = []

    # What an owner may ask

    def place(self, owner: int, new: NewOrder, now_ms: int) -> tuple[VenueOrder, bool]:
        """Accept and match an order. Returns it as it stands afterwards, and whether it is a duplicate.

        Idempotent by client order id, for as long as the venue's journal lives and whatever became of the first: the
        same id with the same terms returns the existing order and never trades again. The same id with other terms is
        refused with -2010 "Duplicate order sent.". (Binance answers -2010 in both cases, and only while the first
        order is open.) A refused order leaves no trace, its id stays free. Raises VenueReject.
        """
        known = self._order_id(owner, new.client_order_id)
        if known is not None:
            order = self._known(known)
            if _terms(order) != new:
                raise rejects.duplicate_order()
            return order, True
        self._refuse_bad(owner, new)
        instrument = new.instrument
        self._quote(instrument, now_ms)
        self._refuse_unaffordable(self.accounts[owner], new)
        order_id = self._next_order_id
        match = self._books[instrument].submit(
            order_id, owner, new.side, new.price_ticks or None, new.quantity_lots, new.time_in_force
        )
        if match.outcome is Outcome.WOULD_TAKE:
            raise rejects.would_take()
        self._emit(
            OrderAccepted(
                self.events_total + 1,
                now_ms,
                order_id,
                new.client_order_id,
                owner,
                instrument,
                new.side,
                new.price_ticks,
                new.quantity_lots,
                str(new.time_in_force),
                self.step,
            )
        )
        if match.outcome is Outcome.RESTING:
            self._resting[instrument] += 1
        self._settle(order_id, match, now_ms)
        return self._orders[order_id], False

    def cancel(
        self, owner: int, order_id: int | None, client_order_id: str | None, cancel_id: str, now_ms: int
    ) -> VenueOrder:
        """Cancel an open order of `owner` by either id. Raises VenueReject -2011 where there is none."""
        order = self._open_order(owner, order_id, client_order_id)
        self._books[order.instrument].cancel(order.order_id)
        self._resting[order.instrument] -= 1
        self._emit(OrderEnded(self.events_total + 1, now_ms, order.order_id, str(OrderStatus.CANCELED), cancel_id))
        return self._orders[order.order_id]

    def replace(
        self,
        owner: int,
        order_id: int | None,
        client_order_id: str | None,
        new_client_order_id: str,
        price_ticks: int,
        quantity_lots: int,
        now_ms: int,
    ) -> VenueOrder:
        """Give an open limit order another price or (whole) quantity, and its client's new id.

        Less quantity at the same price keeps its place in the queue; anything else goes to the end of its level, and
        trades first where it crosses. Raises VenueReject, and the order then stands as before: -2011 where it is not
        open, -2010 for an id that is taken, money, or a post-only order that would take, -2038 for a quantity that is
        executed already or terms that change nothing, -1013 for a filter.
        """
        order = self._open_order(owner, order_id, client_order_id)
        if self._order_id(owner, new_client_order_id) is not None:
            raise rejects.duplicate_order()
        self._refuse_executed(order, quantity_lots)
        if (price_ticks, quantity_lots) == (order.price_ticks, order.quantity_lots):
            raise rejects.amend_rejected("it changes nothing")
        keeps_place = price_ticks == order.price_ticks and quantity_lots < order.quantity_lots
        if not keeps_place:
            self._refuse_bad_terms(order.instrument, price_ticks or -1, quantity_lots)
            self._quote(order.instrument, now_ms)
            # The house's new quotes may have filled it, or more of it than is wanted now.
            order = self._open_order(owner, order.order_id, None)
            self._refuse_executed(order, quantity_lots)
            self._refuse_replacement(order, price_ticks, quantity_lots - order.executed_lots)
        event = OrderReplaced(
            self.events_total + 1, now_ms, order.order_id, new_client_order_id, price_ticks, quantity_lots, keeps_place
        )
        self._emit(event)
        book, leaves = self._books[order.instrument], quantity_lots - order.executed_lots
        if keeps_place:
            book.reduce(order.order_id, leaves)
            return self._orders[order.order_id]
        book.cancel(order.order_id)
        match = book.submit(order.order_id, owner, order.side, price_ticks, leaves, TimeInForce(order.time_in_force))
        if match.outcome is not Outcome.RESTING:
            self._resting[order.instrument] -= 1
        self._settle(order.order_id, match, now_ms)
        return self._orders[order.order_id]

    def is_halted(self, instrument: int) -> bool:
        """Whether trading of an instrument rests at the current step."""
        halts = self.settings.halts
        return any(halt.instrument == instrument and halt.first <= self.step <= halt.last for halt in halts)

    def depth(self, instrument: int, levels: int, now_ms: int) -> tuple[list[Level], list[Level]]:
        """Bids and asks of one book, best first."""
        self._quote(instrument, now_ms)
        book = self._books[instrument]
        return book.depth(BUY, levels), book.depth(SELL, levels)

    # What drives it

    def open_account(self, owner: int, cash_quanta: int, now_ms: int) -> None:
        """Raises ValueError for the house's id or an account that is open already."""
        if owner == HOUSE or owner in self.accounts:
            raise ValueError(f"account {owner} cannot be opened: it is the house's, or open already")
        self._emit(AccountOpened(self.events_total + 1, now_ms, owner, cash_quanta))

    def advance(self, step: int, closes: Sequence[int], now_ms: int) -> bool:
        """Move the recorded price to `step`. Returns False, and does nothing, where the venue is there or beyond.

        `closes` int ticks, one an instrument. Books with resting orders are quoted anew at once, so that these fill as
        the price reaches them; the others when next touched.
        """
        if step <= self.step:
            return False
        if len(closes) != len(self.scale.instruments) or any(close < 1 for close in closes):
            raise ValueError(f"closes {closes!r} of step {step}: want one positive number of ticks an instrument")
        self._emit(StepAdvanced(self.events_total + 1, now_ms, step, tuple(closes)))
        for instrument, resting in enumerate(self._resting):
            if resting:
                self._quote(instrument, now_ms)
        return True

    def take_happened(self) -> list[Happened]:
        """What happened since the last call; to be journalled before anyone is told."""
        happened, self._happened = self._happened, []
        return happened

    @property
    def is_checkpoint_due(self) -> bool:
        """Never while something waits for the journal."""
        return not self._happened and super().is_checkpoint_due

    def restore(self, events: Iterable[VenueEvent]) -> None:
        """Apply a whole journal's events to a new exchange without an archive, and open its books."""
        for event in events:
            self.apply(event)
        self.open_books()

    def recover(self, journal: VenueJournal) -> None:
        """Come back, as a new exchange with an archive: from the last checkpoint, and the events behind it.

        Where there is none of this journal, all events are applied, and the archive is made anew. Raises JournalError.
        """
        assert self._archive is not None
        found = self._archive.checkpoint()
        if found is None or not (journal.start_at(found.position) and self.load(found.state)):
            self._archive.clear()
            journal.start_at(BEGINNING)
        for events in journal.recover():
            for event in events:
                self.apply(event)
            if self._events_since_checkpoint >= EVENTS_AT_RESTART:
                self.checkpoint(journal.position)
        if self.is_checkpoint_due:
            self.checkpoint(journal.position)
        self.open_books()

    def open_books(self) -> None:
        """Put the open orders back into their queues."""
        for order in self._orders.values():
            if order.is_open:
                self._books[order.instrument].submit(
                    order.order_id, order.owner, order.side, order.price_ticks, order.leaves, TimeInForce.GTC
                )
                self._resting[order.instrument] += 1

    # Inside

    def _open_order(self, owner: int, order_id: int | None, client_order_id: str | None) -> VenueOrder:
        try:
            order = self.order(owner, order_id, client_order_id)
        except rejects.VenueReject:
            raise rejects.unknown_order_sent() from None
        if not order.is_open:
            raise rejects.unknown_order_sent()
        return order

    @staticmethod
    def _refuse_executed(order: VenueOrder, quantity_lots: int) -> None:
        if quantity_lots <= order.executed_lots:
            raise rejects.amend_rejected(f"{order.executed_lots} lots are executed already")

    def _refuse_replacement(self, order: VenueOrder, price: int, leaves: int) -> None:
        """Money, and post-only, with the old terms taken out of the account meanwhile."""
        best = self._books[order.instrument].best(-order.side)
        crosses = best is not None and (best - price) * order.side <= 0
        if crosses and order.time_in_force == TimeInForce.POST_ONLY:
            raise rejects.would_take()
        account, (instrument, side) = self.accounts[order.owner], (order.instrument, order.side)
        account.put(replace(order, status=OrderStatus.CANCELED))
        affordable = account.can_afford(instrument, side, leaves, leaves * price, self.closes, self.settings)
        account.put(order)
        if not affordable:
            raise rejects.insufficient_balance()

    def _refuse_bad(self, owner: int, new: NewOrder) -> None:
        if self._reject_rate and self._random.random() < self._reject_rate:
            raise rejects.injected_reject()
        if new.price_ticks == 0 and new.time_in_force not in (TimeInForce.IOC, TimeInForce.FOK):
            raise rejects.missing_parameter("price")
        self._refuse_bad_terms(new.instrument, new.price_ticks, new.quantity_lots)
        if len(self.accounts[owner].open_orders) >= self.settings.open_orders_max:
            raise rejects.filter_failure("MAX_NUM_ORDERS")

    def _refuse_bad_terms(self, instrument: int, price: int, lots: int) -> None:
        if self.step < 0 or self.is_halted(instrument):
            raise rejects.market_closed()
        if not 1 <= lots <= QUANTITY_LOTS_MAX:
            raise rejects.filter_failure("LOT_SIZE")
        if not 0 <= price <= PRICE_TICKS_MAX:
            raise rejects.filter_failure("PRICE_FILTER")
        value = lots * (price or self.closes[instrument])
        if not self.settings.notional_min_quanta <= value <= NOTIONAL_QUANTA_MAX:
            raise rejects.filter_failure("NOTIONAL")

    def _refuse_unaffordable(self, account: Account, new: NewOrder) -> None:
        if new.price_ticks:
            value = new.quantity_lots * new.price_ticks
        else:
            _, value = self._books[new.instrument].cost(new.side, new.quantity_lots)
        if not account.can_afford(new.instrument, new.side, new.quantity_lots, value, self.closes, self.settings):
            raise rejects.insufficient_balance()

    def _settle(self, order_id: int, match: Match, now_ms: int) -> None:
        """Events of an arriving order of an account: its trades, the makers' trades, and its end."""
        instrument = self._orders[order_id].instrument
        for trade in match.trades:
            trade_id = self._take_trade_id()
            if trade.maker_owner != HOUSE:
                self._maker_traded(instrument, trade, trade_id, now_ms)
            self._traded(order_id, trade_id, trade, is_maker=False, now_ms=now_ms)
        for prevented in match.prevented:
            self._resting[instrument] -= 1
            self._end(prevented, OrderStatus.EXPIRED_IN_MATCH, now_ms)
        if match.outcome is Outcome.EXPIRED:
            self._end(order_id, OrderStatus.EXPIRED, now_ms)
        elif match.outcome is Outcome.SELF_TRADE:
            self._end(order_id, OrderStatus.EXPIRED_IN_MATCH, now_ms)

    def _maker_traded(self, instrument: int, trade: BookTrade, trade_id: int, now_ms: int) -> None:
        if trade.maker_leaves == 0:
            self._resting[instrument] -= 1
        self._traded(trade.maker_order_id, trade_id, trade, is_maker=True, now_ms=now_ms)

    def _traded(self, order_id: int, trade_id: int, trade: BookTrade, *, is_maker: bool, now_ms: int) -> None:
        price, lots = trade.price_ticks, trade.quantity_lots
        fee = self.settings.fees.fee(price * lots, is_maker)
        self._emit(Traded(self.events_total + 1, now_ms, order_id, trade_id, price, lots, fee, is_maker))

    def _end(self, order_id: int, status: OrderStatus, now_ms: int) -> None:
        self._emit(OrderEnded(self.events_total + 1, now_ms, order_id, str(status), ""))

    def _take_trade_id(self) -> int:
        trade_id = self._next_trade_id
        self._next_trade_id += 1
        return trade_id

    def _quote(self, instrument: int, now_ms: int) -> None:
        """Cancel the house's quotes of an earlier step and post those of this one."""
        if self._quoted_step[instrument] == self.step:
            return
        self._quoted_step[instrument] = self.step
        book = self._books[instrument]
        for quote in self._house_quotes[instrument]:
            book.cancel(quote)
        quotes = self._house_quotes[instrument] = []
        if self.is_halted(instrument):
            return
        if self._recorded_book is not None:
            bids, asks = self._recorded_book(instrument)
        else:
            bids, asks = ladder(self.closes[instrument], self._quantum_value, self.settings.liquidity)
        for side, levels in ((BUY, bids), (SELL, asks)):
            for price, lots in levels:
                quotes.append(self._next_house_id)
                match = book.submit(self._next_house_id, HOUSE, side, int(price), int(lots), TimeInForce.GTC)
                self._next_house_id -= 1
                for trade in match.trades:
                    self._maker_traded(instrument, trade, self._take_trade_id(), now_ms)

    def _emit(self, event: VenueEvent) -> None:
        order = self.apply(event)
        self._happened.append(Happened(event, order))


def _terms(order: VenueOrder) -> NewOrder:
    return NewOrder(
        order.client_order_id,
        order.instrument,
        order.side,
        order.price_ticks,
        order.quantity_lots,
        TimeInForce(order.time_in_force),
    )
