"""What best bids and asks say: the microprice, and order-flow imbalance as a series and step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.checks import checked


def microprice(
    bid_price: NDArray[np.float64],
    bid_size: NDArray[np.float64],
    ask_price: NDArray[np.float64],
    ask_size: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The mid weighted by the size of the other side: nearer to the ask the more is bid; NaN where both sizes are 0.

    All float64 [n, t], prices in any unit. Source: Gatheral and Oomen 2010, "Zero-intelligence realized variance
    estimation", §3; Stoikov 2018, "The micro-price", calls it the weighted mid. Raises ValueError on NaN, infinity,
    wrong dtype or rank, differing shapes, an ask below its bid, or a negative size.
    """
    bid_price, bid_size, ask_price, ask_size = _checked_quotes(bid_price, bid_size, ask_price, ask_size)
    both = bid_size + ask_size
    weighted = ask_price * bid_size + bid_price * ask_size
    return np.where(both > 0.0, weighted / np.where(both > 0.0, both, 1.0), np.nan)


def order_flow_imbalance(
    bid_price: NDArray[np.float64],
    bid_size: NDArray[np.float64],
    ask_price: NDArray[np.float64],
    ask_size: NDArray[np.float64],
    period: int,
) -> NDArray[np.float64]:
    """Net size that came to the bid or left the ask, over the last `period` changes of the quotes.

    All float64 [n, t], one column a quote. NaN before `period` + 1 quotes. Sizes that are whole numbers (below 2**53)
    give exact sums. Source: Cont, Kukanov and Stoikov 2014, "The price impact of order book events", eq. 4. Raises
    ValueError as `microprice`, and for period < 1.
    """
    quotes = _checked_quotes(bid_price, bid_size, ask_price, ask_size)
    n, t = quotes[0].shape
    period = _checked_period(period)
    sums = np.full((n, t), np.nan)
    if t > period:
        event = _event(tuple(each[:, :-1] for each in quotes), tuple(each[:, 1:] for each in quotes))
        total = np.concatenate((np.zeros((n, 1)), event.cumsum(axis=1)), axis=1)
        sums[:, period:] = total[:, period:] - total[:, :-period]
    return sums


class FlowImbalance:
    """`order_flow_imbalance` as quotes come: the same work a step, whatever came before."""

    __slots__ = ("_before", "_events", "_period", "_steps", "_sums")

    def __init__(self, n: int, period: int) -> None:
        """For n instruments. Raises ValueError for period < 1."""
        self._period = _checked_period(period)
        self._events = np.zeros((n, period))
        self._sums = np.zeros(n)
        self._before: tuple[NDArray[np.float64], ...] | None = None
        self._steps = 0

    @property
    def steps(self) -> int:
        """Changes of the quotes that the sums cover, `period` at the most."""
        return min(self._steps, self._period)

    def step(
        self,
        bid_price: NDArray[np.float64],
        bid_size: NDArray[np.float64],
        ask_price: NDArray[np.float64],
        ask_size: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """The sums float64 [n] behind the next quotes, float64 [n] each; of fewer than `period` changes at first.

        Raises ValueError as `microprice`; then nothing is changed.
        """
        columns = (np.asarray(each)[:, None] for each in (bid_price, bid_size, ask_price, ask_size))
        quotes = tuple(each[:, 0] for each in _checked_quotes(*columns))
        if quotes[0].size != self._sums.size:
            raise ValueError(f"{quotes[0].size} quotes for {self._sums.size} instruments")
        if self._before is not None:
            event = _event(self._before, quotes)
            place = self._steps % self._period
            self._sums += event - self._events[:, place]
            self._events[:, place] = event
            self._steps += 1
        self._before = quotes
        return self._sums.copy()


def _event(before: tuple[NDArray[np.float64], ...], now: tuple[NDArray[np.float64], ...]) -> NDArray[np.float64]:
    bid_before, bid_size_before, ask_before, ask_size_before = before
    bid, bid_size, ask, ask_size = now
    came: NDArray[np.float64] = (bid >= bid_before) * bid_size - (bid <= bid_before) * bid_size_before
    left = (ask <= ask_before) * ask_size - (ask >= ask_before) * ask_size_before
    return came - left


def _checked_quotes(*quotes: Any) -> tuple[NDArray[np.float64], ...]:
    names = ("bid_price", "bid_size", "ask_price", "ask_size")
    bid, bid_size, ask, ask_size = (
        checked(name, each, np.float64, 2) for name, each in zip(names, quotes, strict=True)
    )
    if not bid.shape == bid_size.shape == ask.shape == ask_size.shape:
        shapes = (bid.shape, bid_size.shape, ask.shape, ask_size.shape)
        raise ValueError(f"prices and sizes must have the same shape, got {shapes}")
    if (ask < bid).any():
        row, column = (int(i) for i in np.argwhere(ask < bid)[0])
        raise ValueError(f"ask_price[{row}, {column}] is {ask[row, column]}, below the bid {bid[row, column]}")
    if (bid_size < 0.0).any() or (ask_size < 0.0).any():
        raise ValueError("a size is negative")
    return bid, bid_size, ask, ask_size


def _checked_period(period: int) -> int:
    if isinstance(period, bool) or not isinstance(period, (int, np.integer)) or period < 1:
        raise ValueError(f"period must be a whole number of changes, 1 or more, got {period!r}")
    return int(period)
