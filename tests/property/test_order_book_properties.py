"""The book against a list that is sorted anew for every message: same trades, same queues; nothing is made or lost."""

from __future__ import annotations

from dataclasses import dataclass

import hypothesis.strategies as st
from hypothesis import given, settings

from core.orders.order import TimeInForce as T
from core.venue.order_book import BUY, SELL, OrderBook, Outcome, SelfTradePrevention

PRICES = st.integers(95, 105)
ORDERS = st.tuples(
    st.just("order"),
    st.sampled_from([BUY, SELL]),
    st.one_of(PRICES, st.none()),
    st.integers(1, 20),
    st.sampled_from([T.GTC, T.GTC, T.IOC, T.FOK, T.POST_ONLY]),
    st.integers(1, 3),
)
CANCELS = st.tuples(st.just("cancel"), st.integers(0, 60))
REDUCES = st.tuples(st.just("reduce"), st.integers(0, 60), st.integers(0, 20))


@dataclass
class Resting:
    order_id: int
    owner: int
    side: int
    price: int
    lots: int


class ListBook:
    """The oracle: one list of resting orders in time order."""

    def __init__(self, prevention: SelfTradePrevention) -> None:
        self.orders: list[Resting] = []
        self.prevention = prevention

    def facing(self, side: int, price: int | None) -> list[Resting]:
        found = [o for o in self.orders if o.side == -side and (price is None or (o.price - price) * side <= 0)]
        return sorted(found, key=lambda o: o.price * side)  # stable: time order within a price

    def would_fill(self, owner: int, side: int, price: int | None, lots: int) -> bool:
        for order in self.facing(side, price):
            if order.owner != owner:
                lots -= order.lots
            elif self.prevention is not SelfTradePrevention.EXPIRE_MAKER:
                return lots <= 0
            if lots <= 0:
                return True
        return False

    def submit(
        self, order_id: int, owner: int, side: int, price: int | None, lots: int, terms: T
    ) -> tuple[list[tuple[int, int, int]], int]:
        """(maker id, price, lots) of each trade, and what is left."""
        facing = self.facing(side, price)
        if terms is T.POST_ONLY and facing:
            return [], lots
        if terms is T.FOK and not self.would_fill(owner, side, price, lots):
            return [], lots
        trades, stopped = [], False
        for maker in facing:
            if lots == 0 or stopped:
                break
            if maker.owner == owner:
                if self.prevention is not SelfTradePrevention.EXPIRE_TAKER:
                    self.orders.remove(maker)
                stopped = self.prevention is not SelfTradePrevention.EXPIRE_MAKER
                continue
            part = min(lots, maker.lots)
            trades.append((maker.order_id, maker.price, part))
            lots -= part
            maker.lots -= part
            if maker.lots == 0:
                self.orders.remove(maker)
        if lots and not stopped and price is not None and terms in (T.GTC, T.POST_ONLY):
            self.orders.append(Resting(order_id, owner, side, price, lots))
        return trades, lots


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(list(SelfTradePrevention)), st.lists(st.one_of(ORDERS, ORDERS, CANCELS, REDUCES), max_size=60))
def test_book_equals_the_sorted_list(prevention: SelfTradePrevention, messages: list[tuple]) -> None:  # type: ignore[type-arg]
    book, oracle = OrderBook(prevention), ListBook(prevention)
    for order_id, message in enumerate(messages, start=1):
        if message[0] == "cancel":
            found = next((o for o in oracle.orders if o.order_id == message[1]), None)
            assert book.cancel(message[1]) == (found.lots if found else None)
            if found:
                oracle.orders.remove(found)
        elif message[0] == "reduce":
            _, name, leaves = message
            found = next((o for o in oracle.orders if o.order_id == name), None)
            fits = found is not None and 0 < leaves < found.lots
            assert book.reduce(name, leaves) == fits
            if found is not None and fits:
                found.lots = leaves  # and it keeps its place in the queue
        else:
            _, side, price, lots, terms, owner = message
            match = book.submit(order_id, owner, side, price, lots, terms)
            trades, left = oracle.submit(order_id, owner, side, price, lots, terms)
            assert [(t.maker_order_id, t.price_ticks, t.quantity_lots) for t in match.trades] == trades
            assert match.leaves == left
            assert lots == match.leaves + sum(t.quantity_lots for t in match.trades)
            assert (match.outcome is Outcome.FILLED) == (left == 0)
        check_same(book, oracle)


def check_same(book: OrderBook, oracle: ListBook) -> None:
    bid, ask = book.best(BUY), book.best(SELL)
    assert bid is None or ask is None or bid < ask
    assert len(book) == len(oracle.orders)
    for side in (BUY, SELL):
        mine = [o for o in oracle.orders if o.side == side]
        prices = sorted({o.price for o in mine}, reverse=side == BUY)
        assert book.depth(side, 1_000) == [(p, sum(o.lots for o in mine if o.price == p)) for p in prices]
        for price in prices:
            assert book.queue(side, price) == [(o.order_id, o.owner, o.lots) for o in mine if o.price == price]
