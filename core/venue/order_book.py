"""Price-time-priority matching of one instrument, in integer ticks and lots. Pure: no I/O, no clock.

Trades happen at the resting order's price. Orders of one owner never trade with each other (self-trade prevention, by
the names of Binance Spot's selfTradePreventionMode).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from core.orders.order import TimeInForce

BUY = 1
SELL = -1


class SelfTradePrevention(StrEnum):
    EXPIRE_TAKER = "EXPIRE_TAKER"
    """The arriving order ends where it meets one of its owner."""
    EXPIRE_MAKER = "EXPIRE_MAKER"
    """The resting order is taken out, the arriving one goes on."""
    EXPIRE_BOTH = "EXPIRE_BOTH"


class Outcome(StrEnum):
    """What became of an arriving order once matching was done."""

    RESTING = "resting"
    FILLED = "filled"
    EXPIRED = "expired"
    """What IOC, FOK or market could not take."""
    WOULD_TAKE = "would take"
    """Post-only, and it crossed: the book is unchanged."""
    SELF_TRADE = "self trade"
    """Ended by self-trade prevention."""


@dataclass(frozen=True, slots=True)
class BookTrade:
    """One execution of the arriving order against a resting one."""

    maker_order_id: int
    maker_owner: int
    price_ticks: int
    quantity_lots: int
    maker_leaves: int
    """Lots that the resting order has left."""


@dataclass(frozen=True, slots=True)
class Match:
    """The result of `OrderBook.submit`. `leaves` lots are resting or expired, as `outcome` says."""

    outcome: Outcome
    leaves: int
    trades: tuple[BookTrade, ...]
    prevented: tuple[int, ...] = ()
    """Resting orders that self-trade prevention took out."""


class RestingOrder:
    """One order in the book's queue."""

    __slots__ = ("leaves", "order_id", "owner", "price", "side")

    def __init__(self, order_id: int, owner: int, side: int, price: int, leaves: int) -> None:
        self.order_id = order_id
        self.owner = owner
        self.side = side
        self.price = price
        self.leaves = leaves


class _BookSide:
    """Levels of one side: ascending prices, and per price the orders in time order with their total."""

    __slots__ = ("best_at", "levels", "prices", "sign", "totals")

    def __init__(self, side: int) -> None:
        self.sign = side
        self.best_at = -1 if side == BUY else 0
        self.prices: list[int] = []
        self.levels: dict[int, OrderedDict[int, RestingOrder]] = {}
        self.totals: dict[int, int] = {}

    def add(self, order: RestingOrder) -> None:
        level = self.levels.get(order.price)
        if level is None:
            level = self.levels[order.price] = OrderedDict()
            self.totals[order.price] = 0
            insort(self.prices, order.price)
        level[order.order_id] = order
        self.totals[order.price] += order.leaves

    def remove(self, order: RestingOrder) -> None:
        price = order.price
        level = self.levels[price]
        del level[order.order_id]
        if level:
            self.totals[price] -= order.leaves
        else:
            del self.levels[price], self.totals[price]
            del self.prices[bisect_left(self.prices, price)]

    def from_best(self) -> Iterator[int]:
        return reversed(self.prices) if self.sign == BUY else iter(self.prices)


class OrderBook:
    """The book of one instrument. Order ids are the caller's and unique among resting orders."""

    def __init__(self, prevention: SelfTradePrevention = SelfTradePrevention.EXPIRE_TAKER) -> None:
        self._prevention = prevention
        self._sides = {BUY: _BookSide(BUY), SELL: _BookSide(SELL)}
        self._orders: dict[int, RestingOrder] = {}

    def __len__(self) -> int:
        return len(self._orders)

    def best(self, side: int) -> int | None:
        """The best price of a side in ticks, or None where it is empty."""
        book_side = self._sides[side]
        return book_side.prices[book_side.best_at] if book_side.prices else None

    def depth(self, side: int, levels: int) -> list[tuple[int, int]]:
        """(price ticks, total lots) from the best price on, at most `levels`."""
        book_side = self._sides[side]
        return [(p, book_side.totals[p]) for p, _ in zip(book_side.from_best(), range(levels), strict=False)]

    def queue(self, side: int, price: int) -> list[tuple[int, int, int]]:
        """(order id, owner, lots left) of one level in time order."""
        level = self._sides[side].levels.get(price)
        return [(order.order_id, order.owner, order.leaves) for order in level.values()] if level else []

    def cost(self, side: int, quantity: int, limit: int | None = None) -> tuple[int, int]:
        """(lots, quanta) that an order of `side` could take now, other owners or not: value is lots times ticks."""
        lots = value = 0
        opposite = self._sides[-side]
        for price in opposite.from_best():
            if lots == quantity or (limit is not None and (price - limit) * side > 0):
                break
            part = min(quantity - lots, opposite.totals[price])
            lots += part
            value += part * price
        return lots, value

    def submit(
        self, order_id: int, owner: int, side: int, price: int | None, quantity: int, time_in_force: TimeInForce
    ) -> Match:
        """Match an arriving order; what is left rests if its terms allow. `price` None is a market order.

        Raises ValueError for an order id that rests already or a quantity below 1; the book is then unchanged.
        """
        if quantity < 1 or order_id in self._orders:
            raise ValueError(f"order {order_id} of {quantity} lots: the id rests already, or there is nothing to do")
        opposite = self._sides[-side]
        crosses = bool(opposite.prices) and (price is None or (opposite.prices[opposite.best_at] - price) * side <= 0)
        if crosses and time_in_force is TimeInForce.POST_ONLY:
            return Match(Outcome.WOULD_TAKE, quantity, ())
        if time_in_force is TimeInForce.FOK and not (crosses and self._can_fill(owner, side, price, quantity)):
            return Match(Outcome.EXPIRED, quantity, ())
        trades: list[BookTrade] = []
        prevented: list[int] = []
        leaves, stopped = quantity, False
        if crosses:
            leaves, stopped = self._take(opposite, owner, side, price, quantity, trades, prevented)
        if leaves == 0:
            outcome = Outcome.FILLED
        elif stopped:
            outcome = Outcome.SELF_TRADE
        elif price is None or time_in_force in (TimeInForce.IOC, TimeInForce.FOK):
            outcome = Outcome.EXPIRED
        else:
            outcome = Outcome.RESTING
            order = RestingOrder(order_id, owner, side, price, leaves)
            self._orders[order_id] = order
            self._sides[side].add(order)
        return Match(outcome, leaves, tuple(trades), tuple(prevented))

    def _take(
        self,
        opposite: _BookSide,
        owner: int,
        side: int,
        limit: int | None,
        quantity: int,
        trades: list[BookTrade],
        prevented: list[int],
    ) -> tuple[int, bool]:
        """Trade until done or blocked. Returns lots left, and whether self-trade prevention ended the order."""
        while quantity and opposite.prices:
            price = opposite.prices[opposite.best_at]
            if limit is not None and (price - limit) * side > 0:
                break
            maker = next(iter(opposite.levels[price].values()))
            if maker.owner == owner:
                if self._prevention is not SelfTradePrevention.EXPIRE_TAKER:
                    self._drop(maker, opposite)
                    prevented.append(maker.order_id)
                if self._prevention is not SelfTradePrevention.EXPIRE_MAKER:
                    return quantity, True
                continue
            lots = min(quantity, maker.leaves)
            quantity -= lots
            if lots == maker.leaves:
                self._drop(maker, opposite)
                maker.leaves = 0
            else:
                maker.leaves -= lots
                opposite.totals[price] -= lots
            trades.append(BookTrade(maker.order_id, maker.owner, price, lots, maker.leaves))
        return quantity, False

    def _can_fill(self, owner: int, side: int, limit: int | None, quantity: int) -> bool:
        """Whether a FOK order would be filled whole, with self-trade prevention counted."""
        opposite = self._sides[-side]
        for price in opposite.from_best():
            if limit is not None and (price - limit) * side > 0:
                return False
            for maker in opposite.levels[price].values():
                if maker.owner != owner:
                    quantity -= maker.leaves
                    if quantity <= 0:
                        return True
                elif self._prevention is not SelfTradePrevention.EXPIRE_MAKER:
                    return False
        return False

    def _drop(self, order: RestingOrder, book_side: _BookSide) -> None:
        book_side.remove(order)
        del self._orders[order.order_id]

    def cancel(self, order_id: int) -> int | None:
        """Take an order out. Returns the lots it had left, or None where no such order rests."""
        order = self._orders.get(order_id)
        if order is None:
            return None
        self._drop(order, self._sides[order.side])
        return order.leaves

    def reduce(self, order_id: int, leaves: int) -> bool:
        """Set the lots that an order has left to fewer; it keeps its place. False where it does not rest, or has no
        more than that already."""
        order = self._orders.get(order_id)
        if order is None or not 0 < leaves < order.leaves:
            return False
        self._sides[order.side].totals[order.price] -= order.leaves - leaves
        order.leaves = leaves
        return True
