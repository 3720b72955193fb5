"""Price-time-priority matching of a stream of messages, compiled: `core.venue.order_book`, an array at a time.

A price is an index into a ladder, a level is a queue through the orders' own slots (an intrusive list), and the best
prices are two cursors. It is a second engine, written apart from the plain one, so that each can prove the other; and
it is the one for sweeps over millions of messages.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

MESSAGE_COLUMNS: Final = ("kind", "order_id", "owner", "side", "price", "quantity", "time_in_force")
ORDER, CANCEL, REDUCE = 0, 1, 2
"""Kinds: an arriving order; a cancel; an order's lots set to fewer, its place kept."""
GTC, IOC, FOK, POST_ONLY = 0, 1, 2, 3
EXPIRE_TAKER, EXPIRE_MAKER, EXPIRE_BOTH = 0, 1, 2
"""What ends when an order meets one of its owner."""
RESTING, FILLED, EXPIRED, WOULD_TAKE, SELF_TRADE, DONE, UNKNOWN = 0, 1, 2, 3, 4, 5, 6
"""Outcomes; DONE and UNKNOWN are of cancels and reductions."""
BUY_SIDE, SELL_SIDE = 0, 1
PARTS: Final = 1_000_000


class Matched(NamedTuple):
    """What a stream of messages did, in order."""

    trades: NDArray[np.int64]
    """int64[t, 7]: message, taker's id, maker's id, price in ticks, lots, taker's fee, maker's fee (quanta)."""
    outcomes: NDArray[np.int64]
    """int64[m, 2]: outcome of each message, and the lots that it left."""
    resting: NDArray[np.int64]
    """int64[k, 5]: order id, owner, side (1 or -1), price, lots; bids from the best down, then asks from the best up,
    each level in time order."""


def match_messages(
    messages: NDArray[np.int64], ladder_ticks: int, prevention: int, maker_ppm: int, taker_ppm: int
) -> Matched:
    """Match `messages` int64[m, 7] (`MESSAGE_COLUMNS`) against an empty book.

    Order ids are 0 to m - 1, each used once; side 1 buys, -1 sells; price 0 is a market order, others are 1 to
    `ladder_ticks` - 1. Fees are millionths of the traded value, each trade rounded half up. Raises ValueError for
    messages that are out of range; nothing is matched then.
    """
    if messages.ndim != 2 or messages.shape[1] != len(MESSAGE_COLUMNS) or messages.dtype != np.int64:
        raise ValueError(f"messages {messages.dtype}{list(messages.shape)}; want int64[m, {len(MESSAGE_COLUMNS)}]")
    count = len(messages)
    orders = messages[messages[:, 0] == ORDER]
    if count and (messages[:, 1].min() < 0 or messages[:, 1].max() >= count):
        raise ValueError(f"order ids must be 0 to {count - 1}")
    if len(np.unique(orders[:, 1])) != len(orders):
        raise ValueError("an order id is used twice")
    if len(orders) and (orders[:, 4].min() < 0 or orders[:, 4].max() >= ladder_ticks or orders[:, 5].min() < 1):
        raise ValueError(f"prices must be 0 to {ladder_ticks - 1} ticks, quantities 1 lot or more")
    trades = np.zeros((max(16, count), 7), np.int64)
    outcomes = np.zeros((count, 2), np.int64)
    while True:
        made, resting = _run(messages, ladder_ticks, prevention, maker_ppm, taker_ppm, trades, outcomes)
        if made <= len(trades):
            return Matched(trades[:made].copy(), outcomes, resting)
        trades = np.zeros((made, 7), np.int64)


@njit(cache=True)
def _unlink(book: Any, slot: int) -> None:
    head, tail, total, following, previous, _, side, price, leaves, live, best = book
    s, p = side[slot], price[slot]
    before, after = previous[slot], following[slot]
    if before >= 0:
        following[before] = after
    else:
        head[s, p] = after
    if after >= 0:
        previous[after] = before
    else:
        tail[s, p] = before
    total[s, p] -= leaves[slot]
    live[slot] = False
    if head[s, p] < 0 and best[s] == p:
        step = -1 if s == BUY_SIDE else 1
        while 0 < p < head.shape[1] and head[s, p] < 0:
            p += step
        best[s] = p


@njit(cache=True)
def _append(book: Any, slot: int, own: int, s: int, p: int, lots: int) -> None:
    head, tail, total, following, previous, owner, side, price, leaves, live, best = book
    owner[slot], side[slot], price[slot], leaves[slot], live[slot] = own, s, p, lots, True
    last = tail[s, p]
    previous[slot], following[slot] = last, -1
    if last >= 0:
        following[last] = slot
    else:
        head[s, p] = slot
    tail[s, p] = slot
    total[s, p] += lots
    if (s == BUY_SIDE and p > best[s]) or (s == SELL_SIDE and p < best[s]):
        best[s] = p


@njit(cache=True)
def _reaches(s: int, facing: int, limit: int, ladder: int) -> bool:
    """Whether an order of side `s` may trade at the facing price; `limit` 0 is any."""
    if facing <= 0 or facing >= ladder:
        return False
    if limit == 0:
        return True
    return facing <= limit if s == BUY_SIDE else facing >= limit


@njit(cache=True)
def _can_fill(book: Any, own: int, s: int, limit: int, lots: int, prevention: int, ladder: int) -> bool:
    head, _, _, following, _, owner, _, _, leaves, _, best = book
    facing, step = 1 - s, 1 if s == BUY_SIDE else -1
    p = best[facing]
    while _reaches(s, p, limit, ladder):
        slot = head[facing, p]
        while slot >= 0:
            if owner[slot] != own:
                lots -= leaves[slot]
                if lots <= 0:
                    return True
            elif prevention != EXPIRE_MAKER:
                return False
            slot = following[slot]
        p += step
    return False


@njit(cache=True)
def _fee(value: int, ppm: int) -> int:
    return (value * ppm + PARTS // 2) // PARTS


@njit(cache=True)
def _submit(
    book: Any, message: Any, at: int, prevention: int, ladder: int, ppm: tuple[int, int], trades: Any, made: int
) -> tuple[int, int, int]:
    """(outcome, lots left, trades made so far)."""
    head, _, total, _, _, owner, _, _, leaves, _, best = book
    slot, own, limit, lots, terms = message[1], message[2], message[4], message[5], message[6]
    s = BUY_SIDE if message[3] > 0 else SELL_SIDE
    facing = 1 - s
    crosses = _reaches(s, best[facing], limit, ladder)
    if crosses and terms == POST_ONLY:
        return WOULD_TAKE, lots, made
    if terms == FOK and not (crosses and _can_fill(book, own, s, limit, lots, prevention, ladder)):
        return EXPIRED, lots, made
    stopped = False
    while lots > 0 and not stopped and _reaches(s, best[facing], limit, ladder):
        p = best[facing]
        maker = head[facing, p]
        if owner[maker] == own:
            if prevention != EXPIRE_TAKER:
                _unlink(book, maker)
            stopped = prevention != EXPIRE_MAKER
            continue
        part = min(lots, leaves[maker])
        if made < len(trades):
            row = trades[made]
            row[0], row[1], row[2], row[3], row[4] = at, slot, maker, p, part
            row[5], row[6] = _fee(part * p, ppm[1]), _fee(part * p, ppm[0])
        made += 1
        lots -= part
        leaves[maker] -= part
        total[facing, p] -= part
        if leaves[maker] == 0:
            _unlink(book, maker)
    if lots == 0:
        return FILLED, 0, made
    if stopped:
        return SELF_TRADE, lots, made
    if limit == 0 or terms in (IOC, FOK):
        return EXPIRED, lots, made
    _append(book, slot, own, s, limit, lots)
    return RESTING, lots, made


@njit(cache=True)
def _reduce(book: Any, slot: int, lots: int) -> tuple[int, int]:
    _, _, total, _, _, _, side, price, leaves, live, _ = book
    if not live[slot] or not 0 < lots < leaves[slot]:
        return UNKNOWN, 0
    total[side[slot], price[slot]] -= leaves[slot] - lots
    leaves[slot] = lots
    return DONE, lots


@njit(cache=True)
def _run(
    messages: Any, ladder: int, prevention: int, maker_ppm: int, taker_ppm: int, trades: Any, outcomes: Any
) -> tuple[int, Any]:
    count = len(messages)
    book = (
        np.full((2, ladder), -1, np.int64),
        np.full((2, ladder), -1, np.int64),
        np.zeros((2, ladder), np.int64),
        np.full(count, -1, np.int64),
        np.full(count, -1, np.int64),
        np.zeros(count, np.int64),
        np.zeros(count, np.int64),
        np.zeros(count, np.int64),
        np.zeros(count, np.int64),
        np.zeros(count, np.bool_),
        np.array([0, ladder], np.int64),
    )
    made = 0
    for at in range(count):
        message = messages[at]
        if message[0] == ORDER:
            outcome, left, made = _submit(book, message, at, prevention, ladder, (maker_ppm, taker_ppm), trades, made)
        elif message[0] == CANCEL:
            outcome, left = UNKNOWN, 0
            if book[9][message[1]]:
                outcome, left = DONE, book[8][message[1]]
                _unlink(book, message[1])
        else:
            outcome, left = _reduce(book, message[1], message[5])
        outcomes[at, 0], outcomes[at, 1] = outcome, left
    return made, _resting(book, ladder)


@njit(cache=True)
def _resting(book: Any, ladder: int) -> Any:
    head, _, _, following, _, owner, _, _, leaves, live, best = book
    found = np.zeros((live.sum(), 5), np.int64)
    at = 0
    for s in (BUY_SIDE, SELL_SIDE):
        p = best[s]
        while 0 < p < ladder:
            slot = head[s, p]
            while slot >= 0:
                row = found[at]
                row[0], row[1], row[3], row[4] = slot, owner[slot], p, leaves[slot]
                row[2] = 1 if s == BUY_SIDE else -1
                at += 1
                slot = following[slot]
            p += -1 if s == BUY_SIDE else 1
    return found
