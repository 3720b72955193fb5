"""A loaded recording: its events in columns, cut into rows (steps) by where each row ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from core.market.depth import DepthEvents
from core.market.layout import Layout
from core.market.spec import MarketSpec


@dataclass(frozen=True, slots=True, eq=False)
class Bars:
    """What one row did to each instrument: int64 [n], ticks and lots. Without a trade the last close stands."""

    open: NDArray[np.int64]
    high: NDArray[np.int64]
    low: NDArray[np.int64]
    close: NDArray[np.int64]
    volume: NDArray[np.int64]


class Events(Protocol):
    """Every answer about rows before `stop` depends on events of those rows alone."""

    def closes(self, first: int, stop: int) -> NDArray[np.int64]:
        """Closes of rows first..stop-1 in ticks, int64 [rows, n]."""
        ...

    def bars(self, row: int) -> Bars: ...

    def count(self, first: int, stop: int) -> int:
        """Events of rows first..stop-1, depth apart (the books count theirs)."""
        ...

    def best(self, row: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Best recorded bid and ask at the end of a row in ticks, int64 [n], 0 where none."""
        ...

    @property
    def depth(self) -> tuple[DepthEvents, ...]:
        """One per instrument, or empty where no depth is recorded."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class PanelEvents:
    """One close per instrument and row."""

    close: NDArray[np.int64]
    """Ticks, int64 [steps, n]."""

    def closes(self, first: int, stop: int) -> NDArray[np.int64]:
        return self.close[first:stop]

    def bars(self, row: int) -> Bars:
        close = self.close[row].copy()
        return Bars(open=close, high=close, low=close, close=close, volume=np.zeros_like(close))

    def count(self, first: int, stop: int) -> int:
        return (stop - first) * int(self.close.shape[1])

    def best(self, row: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        none = np.zeros(self.close.shape[1], dtype=np.int64)
        return none, none

    @property
    def depth(self) -> tuple[DepthEvents, ...]:
        return ()


@dataclass(frozen=True, slots=True, eq=False)
class Trades:
    """One instrument's trades in file order. `ends` int64 [steps]: trades up to the end of each row, at least 1."""

    price: NDArray[np.int64]
    lots: NDArray[np.int64]
    ends: NDArray[np.int64]

    def bar(self, row: int) -> tuple[int, int, int, int, int]:
        """Open, high, low and close in ticks, volume in lots."""
        start = int(self.ends[row - 1]) if row else 0
        stop = int(self.ends[row])
        if start == stop:
            last = int(self.price[stop - 1])
            return last, last, last, last, 0
        prices = self.price[start:stop]
        volume = int(self.lots[start:stop].sum())
        return int(prices[0]), int(prices.max()), int(prices.min()), int(prices[-1]), volume


@dataclass(frozen=True, slots=True, eq=False)
class Quotes:
    """One instrument's best quotes in ticks. `ends` int64 [steps]: quotes up to the end of each row."""

    bid: NDArray[np.int64]
    ask: NDArray[np.int64]
    ends: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class TickEvents:
    """Trades of each instrument; quotes and depth of every instrument or of none."""

    trades: tuple[Trades, ...]
    quotes: tuple[Quotes, ...] = ()
    depth: tuple[DepthEvents, ...] = ()

    def closes(self, first: int, stop: int) -> NDArray[np.int64]:
        return np.column_stack([trades.price[trades.ends[first:stop] - 1] for trades in self.trades])

    def bars(self, row: int) -> Bars:
        table = np.array([trades.bar(row) for trades in self.trades], dtype=np.int64).T
        return Bars(open=table[0], high=table[1], low=table[2], close=table[3], volume=table[4])

    def count(self, first: int, stop: int) -> int:
        total = 0
        for ends in [stream.ends for stream in self.trades] + [stream.ends for stream in self.quotes]:
            total += int(ends[stop - 1]) - (int(ends[first - 1]) if first else 0)
        return total

    def best(self, row: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        bid = np.zeros(len(self.trades), dtype=np.int64)
        ask = np.zeros(len(self.trades), dtype=np.int64)
        for index, quotes in enumerate(self.quotes):
            last = int(quotes.ends[row]) - 1
            if last >= 0:
                bid[index], ask[index] = quotes.bid[last], quotes.ask[last]
        return bid, ask


@dataclass(frozen=True, slots=True)
class QuoteAgreement:
    """How often the rebuilt book's best prices were those of the recorded quote at the same update id."""

    symbol: str
    checks: int
    agreed: int


@dataclass(frozen=True, slots=True, eq=False)
class MarketData:
    """A checked recording. Immutable; a process loads it once and makes any number of feeds from it."""

    spec: MarketSpec
    layout: Layout
    ts_ns: NDArray[np.int64]
    """int64 [steps], Unix time at which each row is complete (for dates: midnight UTC of the date)."""
    events: Events
    agreement: tuple[QuoteAgreement, ...] = ()
    """One per instrument that has both depth and quotes."""

    def closes(self, first: int, stop: int) -> NDArray[np.float64]:
        """Closes of rows first..stop-1, quote currency, float64 [n, rows], C order."""
        return np.ascontiguousarray(self.spec.price(self.events.closes(first, stop)).T)
