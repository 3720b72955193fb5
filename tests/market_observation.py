"""Everything that a feed shows at a step, in a form to compare; recordings made at random, or spoilt after a row."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from core.market.depth import DepthEvents
from core.market.events import Bars, Events, MarketData, PanelEvents, Quotes, TickEvents, Trades
from core.market.feed import Feed
from core.market.layout import layout_of
from core.market.spec import Instrument, MarketSpec

Observation = dict[str, NDArray[np.float64]]


def observe(feed: Feed, step: int) -> Observation:
    """All that a feed shows at a step. `Step.events` is left out: it counts what the call drained, so it depends on
    the path."""
    seen = feed.advance_to(step)
    numbers = (seen.number, seen.lap, seen.position, seen.first_of_lap, seen.last_of_lap, seen.ts_ns)
    shown = {"step": np.array(numbers), "history": feed.history, "window": feed.windows(64), "windows": feed.windows(7)}
    for name in ("close", "best_bid", "best_ask", "volume"):
        shown[name] = getattr(seen, name)
    for name in ("open", "high", "low", "close", "volume"):
        shown[f"bar {name}"] = getattr(feed.bars, name)
    if feed.data.spec.has_depth:
        for index in range(len(feed.data.spec.instruments)):
            book = feed.book(index, levels=1_000)
            shown[f"bids {index}"], shown[f"asks {index}"] = book.bids, book.asks
    return {name: np.array(values, dtype=np.float64) for name, values in shown.items()}


def differences(left: Observation, right: Observation) -> list[str]:
    """Names of what is not equal."""
    assert left.keys() == right.keys()
    return [name for name in left if not np.array_equal(left[name], right[name], equal_nan=True)]


def spoilt_after(data: MarketData, row: int) -> MarketData:
    """The recording with every event of the rows after `row` replaced; lengths and row ends stay."""
    return replace(data, events=_spoilt(data.events, row))


def _spoilt(events: Events, row: int) -> Events:
    if isinstance(events, PanelEvents):
        close = events.close.copy()
        close[row + 1 :] = close[row + 1 :] * 3 + 101
        return PanelEvents(close)
    assert isinstance(events, TickEvents)
    trades = tuple(
        Trades(_changed(t.price, t.ends[row], 101), _changed(t.lots, t.ends[row], 7), t.ends) for t in events.trades
    )
    quotes = tuple(
        Quotes(_changed(q.bid, q.ends[row], 101), _changed(q.ask, q.ends[row], 103), q.ends) for q in events.quotes
    )
    depth = tuple(replace(d, lots=_changed(d.lots, d.ends[row], 11)) for d in events.depth)
    return TickEvents(trades, quotes, depth)


def _changed(values: NDArray[np.int64], first: int, by: int) -> NDArray[np.int64]:
    changed = values.copy()
    changed[int(first) :] = changed[int(first) :] * 3 + by
    return changed


@dataclass(frozen=True, slots=True, eq=False)
class PeekingEvents:
    """A recording that answers one of its questions from one row too late: the off-by-one that no test may miss."""

    events: Events
    leak: str

    def _row(self, question: str, row: int) -> int:
        return row + (self.leak == question)

    def closes(self, first: int, stop: int) -> NDArray[np.int64]:
        return self.events.closes(self._row("closes", first), self._row("closes", stop))

    def bars(self, row: int) -> Bars:
        return self.events.bars(self._row("bars", row))

    def count(self, first: int, stop: int) -> int:
        return self.events.count(first, stop)

    def best(self, row: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return self.events.best(self._row("best", row))

    @property
    def depth(self) -> tuple[DepthEvents, ...]:
        if self.leak != "depth":
            return self.events.depth
        return tuple(replace(d, ends=np.append(d.ends[1:], d.ends[-1])) for d in self.events.depth)


def random_panel(seed: int, steps: int, instruments: int) -> MarketData:
    generator = np.random.default_rng(seed)
    return _data(PanelEvents(generator.integers(1, 10_000, (steps, instruments))), steps, instruments, False)


def random_ticks(seed: int, steps: int, instruments: int, *, quotes: bool = False, depth: bool = False) -> MarketData:
    """Rows without events, several trades a row, levels that come and go, snapshots in the middle of a row."""
    generator = np.random.default_rng(seed)
    trades, best, books = [], [], []
    for _ in range(instruments):
        ends = np.cumsum(generator.integers(0, 4, steps)) + 1
        trades.append(Trades(generator.integers(1, 500, ends[-1]), generator.integers(1, 50, ends[-1]), ends))
        ends = np.cumsum(generator.integers(0, 3, steps))
        best.append(Quotes(generator.integers(1, 500, ends[-1]), generator.integers(1, 500, ends[-1]), ends))
        ends = np.cumsum(generator.integers(0, 6, steps))
        count, levels = int(ends[-1]), int(generator.integers(1, 700))
        resets = np.unique(generator.integers(0, count, generator.integers(1, 6)))
        prices = np.sort(generator.choice(5_000, levels, replace=False)) + 1
        cells = generator.integers(0, 2 * levels, count)
        books.append(DepthEvents(prices, cells, generator.integers(0, 3, count), resets, ends))
    events = TickEvents(tuple(trades), tuple(best) if quotes else (), tuple(books) if depth else ())
    return _data(events, steps, instruments, depth)


def _data(events: Events, steps: int, instruments: int, has_depth: bool) -> MarketData:
    names = tuple(Instrument(index, f"I{index}") for index in range(instruments))
    spec = MarketSpec("random", "random", names, 0.01, 1.0, steps, "second", has_depth, "test", 252.0)
    return MarketData(spec, layout_of(steps), np.arange(steps, dtype=np.int64) * 1_000_000_000, events)
