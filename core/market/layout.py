"""How a recording is divided: the pattern library's rows, the warm-up, the trading steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

HISTORY: Final = 252
"""Warm-up rows of a lap, and closes of `Feed.history`, where the live part is long enough."""
SHORTEST_HISTORY: Final = 64
"""Never fewer: one live window."""
STEPS_LEAST: Final = 161
"""The shortest recording: its library part holds one window of 64 steps and the return that followed."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Rows of a recording, counted from 0.

    `[0, library_rows)` is for the pattern library alone. The rest is live: `history_rows` of warm-up, then one
    trading step a row. Step number s is lap s // steps_per_lap, position s % steps_per_lap.
    """

    steps_total: int
    library_rows: int
    history_rows: int

    @property
    def first_trading_row(self) -> int:
        return self.library_rows + self.history_rows

    @property
    def steps_per_lap(self) -> int:
        return self.steps_total - self.first_trading_row

    def row_of(self, step: int) -> int:
        """The row of a global step number, whichever lap it is in."""
        return self.first_trading_row + step % self.steps_per_lap


def layout_of(steps_total: int) -> Layout:
    """The first 40 % to the library; of the live rest at most half, and at most HISTORY rows, to the warm-up.

    Raises ValueError below STEPS_LEAST rows.
    """
    if steps_total < STEPS_LEAST:
        raise ValueError(f"{steps_total} steps are too few: {STEPS_LEAST} is the least")
    library_rows = -(-steps_total * 2 // 5)  # ceil(0.4 * steps_total) in integers
    live_rows = steps_total - library_rows
    history_rows = min(HISTORY, max(SHORTEST_HISTORY, live_rows // 2))
    return Layout(steps_total=steps_total, library_rows=library_rows, history_rows=history_rows)
