"""The circular block bootstrap: intervals for figures of consecutive cycles, which are not independent.

Whole blocks of about n^(1/3) cycles are drawn, with wrap-around (Politis and Romano 1992).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1_000
CONFIDENCE = 0.95
_CHUNK = 100
"""Resamples at once, so that long recordings fit in memory."""


def block_length(n: int) -> int:
    """Cycles in a block of a series of `n`."""
    return max(1, int(n ** (1.0 / 3.0) + 0.5))


def drawn_weights(n: int, resamples: int, random: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    """How often each of `n` cycles is drawn, float64 (up to 100, n) at a time, `resamples` rows in all."""
    block = block_length(n)
    blocks = -(-n // block)
    for first in range(0, resamples, _CHUNK):
        rows = min(_CHUNK, resamples - first)
        starts = random.integers(0, n, size=(rows, blocks)) + np.arange(rows)[:, None] * n
        begun = np.bincount(starts.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)
        weights = begun.copy()
        for shift in range(1, block):
            weights += np.roll(begun, shift, axis=1)
        yield weights


def drawn_indices(n: int, resamples: int, random: np.random.Generator) -> NDArray[np.int64]:
    """int64 (resamples, n): the cycles of each resample, in blocks."""
    block = block_length(n)
    blocks = -(-n // block)
    starts = random.integers(0, n, size=(resamples, blocks, 1))
    return np.asarray(((starts + np.arange(block)) % n).reshape(resamples, -1)[:, :n], np.int64)


def quotient_intervals(
    parts: NDArray[np.float64], whole: NDArray[np.float64], seed: int, resamples: int = RESAMPLES
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """95 % percentile intervals of sum(parts) / sum(whole), float64 (k,) low and high.

    parts: float64 (n, k), in time order; whole: float64 (n,). The same seed gives the same interval. Raises ValueError
    for fewer than 2 rows.
    """
    n = parts.shape[0]
    if n < 2:
        raise ValueError(f"quotient_intervals: {n} cycles have no interval; 2 or more have")
    random = np.random.default_rng(seed)
    drawn = [w @ parts / np.maximum(w @ whole, 1e-300)[:, None] for w in drawn_weights(n, resamples, random)]
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(np.concatenate(drawn), (tail, 1.0 - tail), axis=0)
    return low, high


def median_interval(values: NDArray[np.float64], seed: int, resamples: int = RESAMPLES) -> tuple[float, float]:
    """95 % percentile interval of the median of `values`, float64 (n,), in time order. Raises ValueError as above."""
    n = len(values)
    if n < 2:
        raise ValueError(f"median_interval: {n} cycles have no interval; 2 or more have")
    random = np.random.default_rng(seed)
    medians = [
        np.median(values[drawn_indices(n, min(_CHUNK, resamples - first), random)], axis=1)
        for first in range(0, resamples, _CHUNK)
    ]
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(np.concatenate(medians), (tail, 1.0 - tail))
    return float(low), float(high)
