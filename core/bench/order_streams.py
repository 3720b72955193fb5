"""Random streams of order messages, and the plain book run over them as the compiled one is, for bench and tests."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.orders.order import TimeInForce as T
from core.venue.fees import FeeSchedule
from core.venue.order_book import BUY, SELL, OrderBook, Outcome, SelfTradePrevention
from kernels import order_book as kernel

LADDER_TICKS = 2_000
TERMS = (T.GTC, T.IOC, T.FOK, T.POST_ONLY)
PREVENTIONS = (SelfTradePrevention.EXPIRE_TAKER, SelfTradePrevention.EXPIRE_MAKER, SelfTradePrevention.EXPIRE_BOTH)
OUTCOMES = {
    Outcome.RESTING: kernel.RESTING,
    Outcome.FILLED: kernel.FILLED,
    Outcome.EXPIRED: kernel.EXPIRED,
    Outcome.WOULD_TAKE: kernel.WOULD_TAKE,
    Outcome.SELF_TRADE: kernel.SELF_TRADE,
}


def random_messages(count: int, seed: int, ladder_ticks: int = LADDER_TICKS, owners: int = 40) -> NDArray[np.int64]:
    """int64[count, 7]: around a price that wanders; cancels and reductions name orders of the recent past."""
    source = np.random.default_rng(seed)
    messages = np.zeros((count, 7), np.int64)
    at = np.arange(count)
    middle = np.clip(ladder_ticks // 2 + np.cumsum(source.integers(-1, 2, count)), 100, ladder_ticks - 100)
    side = source.choice([1, -1], count)
    messages[:, 0] = source.choice([kernel.ORDER, kernel.CANCEL, kernel.REDUCE], count, p=[0.6, 0.3, 0.1])
    past = np.maximum(at - source.integers(1, 400, count), 0)
    messages[:, 1] = np.where(messages[:, 0] == kernel.ORDER, at, past)
    messages[:, 2] = source.integers(1, owners + 1, count)
    messages[:, 3] = side
    messages[:, 4] = middle - side * (source.integers(-6, 20, count))
    messages[source.random(count) < 0.05, 4] = 0
    messages[:, 5] = source.integers(1, 100, count)
    messages[:, 6] = source.choice(
        [kernel.GTC, kernel.IOC, kernel.FOK, kernel.POST_ONLY], count, p=[0.7, 0.1, 0.1, 0.1]
    )
    return messages


def run_plain(messages: NDArray[np.int64], prevention: int, fees: FeeSchedule) -> kernel.Matched:
    """What `kernels.order_book.match_messages` returns, by the plain engine."""
    book = OrderBook(PREVENTIONS[prevention])
    trades: list[tuple[int, ...]] = []
    outcomes: list[tuple[int, int]] = []
    for at, (kind, order_id, owner, side, price, quantity, terms) in enumerate(messages.tolist()):
        if kind == kernel.ORDER:
            match = book.submit(order_id, owner, side, price or None, quantity, TERMS[terms])
            for t in match.trades:
                value = t.price_ticks * t.quantity_lots
                taker_fee, maker_fee = fees.fee(value, is_maker=False), fees.fee(value, is_maker=True)
                trades.append((at, order_id, t.maker_order_id, t.price_ticks, t.quantity_lots, taker_fee, maker_fee))
            outcomes.append((OUTCOMES[match.outcome], match.leaves))
        elif kind == kernel.CANCEL:
            left = book.cancel(order_id)
            outcomes.append((kernel.UNKNOWN, 0) if left is None else (kernel.DONE, left))
        else:
            outcomes.append((kernel.DONE, quantity) if book.reduce(order_id, quantity) else (kernel.UNKNOWN, 0))
    rows = np.array(trades, np.int64).reshape(-1, 7)
    return kernel.Matched(rows, np.array(outcomes, np.int64).reshape(-1, 2), _resting(book))


def _resting(book: OrderBook) -> NDArray[np.int64]:
    found: list[Any] = []
    for side in (BUY, SELL):
        for price, _ in book.depth(side, 1 << 30):
            found += [(order_id, owner, side, price, lots) for order_id, owner, lots in book.queue(side, price)]
    return np.array(found, np.int64).reshape(-1, 5)
