"""Events in, steps out: a recording played step by step, lap after lap, never looking ahead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.market.depth import BookState, DepthBook
from core.market.events import Bars, MarketData

WINDOW_STEPS: Final = 64
"""Length of a live window."""
BOOK_LEVELS: Final = 20


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """The market at the end of one trading step. Arrays are int64 [n] and read-only; prices in ticks."""

    number: int
    """Counts from 0 over all laps."""
    lap: int
    position: int
    """Within the lap, from 0."""
    first_of_lap: bool
    last_of_lap: bool
    ts_ns: int
    """Unix time of the recording at which the step is complete."""
    close: NDArray[np.int64]
    best_bid: NDArray[np.int64]
    """0 where no book is recorded, or where its side is empty."""
    best_ask: NDArray[np.int64]
    volume: NDArray[np.int64]
    """Lots traded within the step; 0 for a panel."""
    events: int
    """Drained by the call that returned this: a jump counts all it passed, a rebuild the warm-up as well, a call that
    goes nowhere counts 0. The only field that depends on the path."""


class Feed:
    """Plays one recording. Two feeds at the same step are equal, whatever path took them there.

    A new feed has drained the warm-up of lap 0 and no trading step.
    """

    def __init__(self, data: MarketData) -> None:
        self._data = data
        self._layout = data.layout
        self._columns = data.layout.history_rows
        # Every close is written twice, one ring length apart, so that the latest closes always lie side by side.
        self._ring = np.empty((len(data.spec.instruments), 2 * self._columns), dtype=np.float64)
        self._books: list[BookState] = []
        self._lap = 0
        self._row = -1
        self._step: Step | None = None
        self._bars: Bars | None = None
        self._warm_up(0)

    @property
    def data(self) -> MarketData:
        return self._data

    @property
    def steps_per_lap(self) -> int:
        return self._layout.steps_per_lap

    @property
    def history_rows(self) -> int:
        """Columns of `history`: HISTORY, fewer where the recording's live part is short, never under 64."""
        return self._columns

    @property
    def step(self) -> Step | None:
        """Where the feed is; None before the first `advance_to`."""
        return self._step

    @property
    def bars(self) -> Bars:
        """Open, high, low, close and volume of the current step. Raises RuntimeError before the first `advance_to`."""
        if self._bars is None:
            raise RuntimeError("the feed has not reached a step yet; call advance_to first")
        return self._bars

    @property
    def history(self) -> NDArray[np.float64]:
        """Closes up to and including the current step, quote currency, float64 [n, history_rows], oldest first.

        A copy in C order. Before the first step it is the warm-up.
        """
        return self._latest(self._columns).copy()

    def windows(self, length: int = WINDOW_STEPS) -> NDArray[np.float64]:
        """The last `length` closes of each instrument, as `history`: float64 [n, length].

        Raises ValueError for a length outside 1..history_rows.
        """
        if not 1 <= length <= self._columns:
            raise ValueError(f"a window of {length} steps does not fit the history of {self._columns}")
        return self._latest(length).copy()

    def book(self, instrument: int, levels: int = BOOK_LEVELS) -> DepthBook:
        """The rebuilt order book of an instrument at the current step, at most `levels` of each side.

        Raises LookupError where the recording has no depth (its liquidity is modelled) or no such instrument.
        """
        if not self._books:
            raise LookupError(f"{self._data.spec.name} has no recorded depth")
        if not 0 <= instrument < len(self._books):
            raise LookupError(f"{self._data.spec.name} has no instrument {instrument}")
        return self._books[instrument].book(levels)

    def advance_to(self, step: int) -> Step:
        """Drain every event up to the end of a step, update books and bars.

        A jump forward applies all that lies between. Going backward, or to another lap, starts again from that lap's
        own warm-up, so that no price is carried across. Raises ValueError for a negative step.
        """
        if step < 0:
            raise ValueError(f"step {step} is negative; steps count from 0")
        lap, position = divmod(step, self._layout.steps_per_lap)
        row = self._layout.first_trading_row + position
        drained = self._warm_up(lap) if lap != self._lap or row < self._row else 0
        drained += self._drain(row)
        self._bars = self._data.events.bars(row)
        self._step = self._step_at(step, lap, position, drained)
        return self._step

    def _latest(self, length: int) -> NDArray[np.float64]:
        end = self._row % self._columns + self._columns + 1
        return self._ring[:, end - length : end]

    def _warm_up(self, lap: int) -> int:
        """Forget everything, then drain the lap's warm-up rows; returns how many events that took.

        A recorded book needs its snapshot, which may lie before the live part: its depth is applied from the start.
        """
        self._lap = lap
        self._row = self._layout.library_rows - 1
        self._ring.fill(np.nan)
        self._books = [BookState(depth) for depth in self._data.events.depth]
        self._bars = None
        return self._drain(self._layout.first_trading_row - 1)

    def _drain(self, row: int) -> int:
        """Apply the events of every row after the current one up to `row`; returns how many."""
        first = self._row + 1
        if first > row:
            return 0
        events = self._data.events
        drained = events.count(first, row + 1)
        # Older closes would leave the ring again within this call.
        kept = max(first, row + 1 - self._columns)
        closes = self._data.spec.price(events.closes(kept, row + 1))
        slots = np.arange(kept, row + 1) % self._columns
        self._ring[:, slots] = closes.T
        self._ring[:, slots + self._columns] = closes.T
        for state, depth in zip(self._books, events.depth, strict=True):
            drained += state.apply_to(int(depth.ends[row]))
        self._row = row
        return drained

    def _step_at(self, number: int, lap: int, position: int, drained: int) -> Step:
        bars = self.bars
        if self._books:
            best = np.array([book.best() for book in self._books], dtype=np.int64)
            best_bid, best_ask = best[:, 0], best[:, 1]
        else:
            best_bid, best_ask = self._data.events.best(self._row)
        for array in (bars.close, bars.volume, best_bid, best_ask):
            array.setflags(write=False)
        return Step(
            number=number,
            lap=lap,
            position=position,
            first_of_lap=position == 0,
            last_of_lap=position == self._layout.steps_per_lap - 1,
            ts_ns=int(self._data.ts_ns[self._row]),
            close=bars.close,
            best_bid=best_bid,
            best_ask=best_ask,
            volume=bars.volume,
            events=drained,
        )
