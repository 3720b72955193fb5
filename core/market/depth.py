"""Order books rebuilt from recorded depth: snapshots, then updates that set the quantity at a price."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SCAN = 256
"""Levels looked at together while searching for the next best price."""


@dataclass(frozen=True, slots=True, eq=False)
class DepthBook:
    """The best levels of one instrument: int64 [k, 2] of (price ticks, lots), best first, both sides."""

    bids: NDArray[np.int64]
    asks: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class DepthEvents:
    """One instrument's depth in the order in which it is applied.

    An event sets the quantity of one level: `cell` is side * levels + level (side 0 bid, 1 ask), `level` an index into
    `prices`. The book is emptied before each event index in `resets` (a snapshot starts there).
    """

    prices: NDArray[np.int64]
    """Ticks, int64 [levels], ascending: every price of the recording."""
    cell: NDArray[np.int64]
    lots: NDArray[np.int64]
    resets: NDArray[np.int64]
    ends: NDArray[np.int64]
    """int64 [steps]: events applied once the row is over."""


class BookState:
    """The book of one instrument after some of its events."""

    def __init__(self, events: DepthEvents) -> None:
        self._events = events
        self._levels = len(events.prices)
        self._lots = np.zeros(2 * self._levels, dtype=np.int64)
        self._applied = 0
        self._best_bid = -1
        self._best_ask = self._levels

    def apply_to(self, stop: int) -> int:
        """Apply every event up to index `stop` (exclusive) not yet applied; returns how many.

        One assignment over all of them is exact: each event sets a level, and where a level occurs more than once
        numpy keeps the last value.
        """
        start, self._applied = self._applied, stop
        resets = self._events.resets
        inside = resets[(resets >= start) & (resets < stop)]
        first = start
        if inside.size:
            first = int(inside[-1])
            self._lots[:] = 0
            self._best_bid, self._best_ask = -1, self._levels
        cell = self._events.cell[first:stop]
        if not cell.size:
            return stop - start
        self._lots[cell] = self._events.lots[first:stop]
        bids = cell[cell < self._levels]
        asks = cell[cell >= self._levels]
        if bids.size:
            self._best_bid = self._highest_bid(max(self._best_bid, int(bids.max())))
        if asks.size:
            self._best_ask = self._lowest_ask(min(self._best_ask, int(asks.min()) - self._levels))
        return stop - start

    def best(self) -> tuple[int, int]:
        """Best bid and ask in ticks, 0 for an empty side."""
        prices = self._events.prices
        bid = int(prices[self._best_bid]) if self._best_bid >= 0 else 0
        ask = int(prices[self._best_ask]) if self._best_ask < self._levels else 0
        return bid, ask

    def book(self, levels: int) -> DepthBook:
        """At most `levels` of each side."""
        prices = self._events.prices
        bids = np.flatnonzero(self._lots[: self._best_bid + 1])[::-1][:levels]
        asks = self._best_ask + np.flatnonzero(self._lots[self._levels + self._best_ask :])[:levels]
        return DepthBook(
            bids=np.column_stack((prices[bids], self._lots[bids])),
            asks=np.column_stack((prices[asks], self._lots[self._levels + asks])),
        )

    def _highest_bid(self, level: int) -> int:
        """The highest level at or below `level` with quantity, -1 if there is none."""
        while level >= 0:
            low = max(0, level - _SCAN + 1)
            found = np.flatnonzero(self._lots[low : level + 1])
            if found.size:
                return low + int(found[-1])
            level = low - 1
        return -1

    def _lowest_ask(self, level: int) -> int:
        """The lowest level at or above `level` with quantity, the number of levels if there is none."""
        while level < self._levels:
            high = min(self._levels, level + _SCAN)
            found = np.flatnonzero(self._lots[self._levels + level : self._levels + high])
            if found.size:
                return level + int(found[0])
            level = high
        return self._levels
