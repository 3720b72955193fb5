"""The windows that kernel benchmarks run on: real ones, from the shipped panel, drawn by seed."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from core.market.load import load_market
from kernels.dtw import z_normalise

_BLOCK: Final = 500


@lru_cache(maxsize=1)
def panel_closes() -> NDArray[np.float64]:
    """Closes of the shipped panel, float64 [20, 8313]."""
    data = load_market("us-stocks")
    return data.closes(0, data.layout.steps_total)


def panel_windows(steps: int) -> NDArray[np.float32]:
    """Every window of the shipped panel, z-normalised, float32 [n, steps]: 163,720 of them at 128 steps."""
    closes = panel_closes()
    windows = sliding_window_view(closes, steps, axis=1)
    return np.concatenate([z_normalise(of_one) for of_one in windows])


def library_and_queries(steps: int, count: int, queries: int, seed: int = 7) -> tuple[NDArray[np.float32], ...]:
    """`count` patterns and `queries` windows of the panel, no window in both: float32 [count, steps], [queries, steps].

    Above the number of windows that there are, patterns are drawn again with replacement and told apart by a copy's
    noise of a tenth of a deviation, normalised anew: resampled, and to be labelled so.
    """
    every = panel_windows(steps)
    random = np.random.default_rng(seed)
    order = random.permutation(len(every))
    asked, rest = every[order[:queries]], every[order[queries:]]
    if count <= len(rest):
        return np.ascontiguousarray(rest[:count]), asked
    more = rest[random.integers(0, len(rest), count - len(rest))]
    noise = random.standard_normal(more.shape, dtype=np.float32) * np.float32(0.1)
    return np.concatenate([rest, z_normalise(more + noise)]), asked


def foreign_queries(steps: int, queries: int, seed: int = 7) -> NDArray[np.float32]:
    """Windows of the other shipped recording, one-second bars of a future: no near copy of them is in the panel."""
    data = load_market("futures-ticks")
    closes = data.closes(0, data.layout.steps_total)[0]
    starts = np.random.default_rng(seed).choice(closes.size - steps, queries, replace=False)
    return z_normalise(closes[starts[:, None] + np.arange(steps)])


def long_series(steps: int, seed: int = 7) -> NDArray[np.float64]:
    """A price series longer than any shipped: blocks of 500 one-second changes of the future, drawn by seed."""
    data = load_market("futures-ticks")
    closes = data.closes(0, data.layout.steps_total)[0]
    changes = np.diff(closes)
    starts = np.random.default_rng(seed).integers(0, changes.size - _BLOCK, -(-steps // _BLOCK))
    drawn = changes[starts[:, None] + np.arange(_BLOCK)].reshape(-1)[:steps]
    return np.asarray(closes[0] + np.cumsum(drawn), np.float64)
