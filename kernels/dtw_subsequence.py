"""The window of a long series nearest to a query under DTW, each window z-normalised: UCR-style search, exact.

Same convention as `kernels.dtw`. After Rakthanmanon et al. 2012, Searching and mining trillions of time series
subsequences under dynamic time warping: LB_Keogh against the query's envelope, steps in order of the query's magnitude,
then LB_Keogh the other way round, then the distance, abandoned early. Here neighbouring windows are the lanes of a
vector, so that a load takes one step of all of them, and survivors are gathered into full vectors first.

The bounds work on float32 numbers that differ from the exact ones by rounding. LB_Keogh is a distance to a box, so it
moves by no more than they do; that slack is taken off it, and no window is lost. Distances are of exact numbers.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.checks import checked, checked_band, checked_series
from kernels.dtw import CONSTANT, TINY, z_normalise
from kernels.dtw_batch import block_distances
from kernels.dtw_topk import envelope
from kernels.simd import LANES, load, maximum, multiply, multiply_add, smallest_lane, splat, store, subtract

CHUNK: Final = 1024
"""Windows whose running sums start afresh from the same origin, which keeps rounding small."""
_ROUNDING: Final = 4 * float(np.finfo(np.float32).eps)
_DOUBTFUL: Final = 1e-5
"""Windows that deviate by less than this share of their magnitude are compared without a bound."""
_STRIDE: Final = 16
_ZERO: Final = np.float32(0.0)
_INFINITY: Final = np.float32(np.inf)


def subsequence_search(query: NDArray[Any], series: NDArray[np.float64], band: int) -> tuple[int, float]:
    """Where the nearest window starts, the first of equally near ones, and its distance.

    query: float32 or float64 [m], normalised here; series: float64 [n], n >= m. The distance is in float32, as
    `library_distances_batch` of `z_normalise` gives it to its rounding. Raises ValueError on NaN, infinity, magnitudes
    above 1e15, wrong dtype or rank, an empty query, or a series shorter than it.
    """
    window = z_normalise(checked_series("query", query)[None])[0]
    series = checked("series", series, np.float64, 1)
    if series.size < window.size:
        raise ValueError(f"series has {series.size} steps and must have the query's {window.size} at least")
    order = np.argsort(-np.abs(window), kind="stable")
    start, distance = _search(window, order, series, checked_band(band))
    return int(start), float(distance)


@njit(cache=True, nogil=True)
def _search(window: Any, order: Any, series: Any, band: int) -> Any:
    m = window.size
    bounds_of_query = np.empty((2, m), np.float32)
    envelope(window, band, bounds_of_query[0], bounds_of_query[1])
    n_windows = series.size - m + 1
    raw = np.zeros(CHUNK + m + LANES, np.float32)
    low, high = np.zeros_like(raw), np.zeros_like(raw)
    mean, scale, slack = np.zeros(CHUNK, np.float32), np.zeros(CHUNK, np.float32), np.zeros(CHUNK, np.float32)
    bounds = np.empty(LANES, np.float32)
    waiting = np.empty(LANES, np.int64)
    gathered = np.empty(m * LANES, np.float32)
    row = np.empty((m + 1) * LANES, np.float32)
    out = np.empty(LANES, np.float32)
    best, best_start, count = _INFINITY, n_windows, 0
    for first in range(0, n_windows, CHUNK):
        size = min(CHUNK, n_windows - first)
        _prepare(series, first, size, m, band, raw, low, high, mean, scale, slack)
        for base in range(0, size, LANES):
            if not _block_bounds(
                window, order, bounds_of_query, raw, low, high, mean, scale, slack, base, best, bounds
            ):
                continue
            for lane in range(min(LANES, size - base)):
                if bounds[lane] <= best:
                    _gather(series, first + base + lane, m, count, gathered)
                    waiting[count] = first + base + lane
                    count += 1
                if count == LANES:
                    best, best_start = _compare(window, band, gathered, waiting, count, row, out, best, best_start)
                    count = 0
    if count:
        for lane in range(count, LANES):
            _gather(series, waiting[0], m, lane, gathered)
        best, best_start = _compare(window, band, gathered, waiting, count, row, out, best, best_start)
    return best_start, best


@njit(cache=True)
def _compare(
    window: Any, band: int, gathered: Any, waiting: Any, count: int, row: Any, out: Any, best: Any, best_start: Any
) -> Any:
    if block_distances(window, gathered, 0, band, row, out, best):
        for lane in range(count):
            # windows come in order, so the first of equal ones stays
            if out[lane] < best:
                best, best_start = out[lane], waiting[lane]
    return best, best_start


@njit(cache=True)
def _gather(series: Any, start: int, m: int, lane: int, gathered: Any) -> None:
    """One window, normalised as `z_normalise` does, into a lane of the block."""
    total = 0.0
    largest = 0.0
    for j in range(m):
        total += series[start + j]
        largest = max(largest, abs(series[start + j]))
    mean = total / m
    peak = 0.0
    for j in range(m):
        peak = max(peak, abs(series[start + j] - mean))
    if peak <= max(CONSTANT * largest, TINY):
        for j in range(m):
            gathered[j * LANES + lane] = 0.0
        return
    squares = 0.0
    for j in range(m):
        squares += ((series[start + j] - mean) / peak) ** 2
    scale = 1.0 / (peak * math.sqrt(squares / m))
    for j in range(m):
        gathered[j * LANES + lane] = (series[start + j] - mean) * scale


@njit(cache=True)
def _prepare(
    series: Any,
    first: int,
    size: int,
    m: int,
    band: int,
    raw: Any,
    low: Any,
    high: Any,
    mean: Any,
    scale: Any,
    slack: Any,
) -> None:
    """Of windows first..first+size-1: the numbers less the first one, their envelopes, and each window's statistics."""
    origin = series[first]
    steps = size + m - 1
    span = 0.0
    for j in range(steps):
        value = series[first + j] - origin
        raw[j] = value
        span = max(span, abs(value))
    # beyond the series, for lanes that nobody asks about
    raw[steps:] = 0.0
    envelope(raw[:steps], band, low[:steps], high[:steps])
    total = 0.0
    squares = 0.0
    for j in range(m - 1):
        value = series[first + j] - origin
        total += value
        squares += value * value
    for s in range(size):
        value = series[first + s + m - 1] - origin
        total += value
        squares += value * value
        centre = total / m
        deviation = math.sqrt(max(squares / m - centre * centre, 0.0))
        mean[s] = centre
        if deviation > _DOUBTFUL * (span + abs(origin)) and deviation > TINY:
            scale[s] = 1.0 / deviation
            slack[s] = _ROUNDING * span / deviation * math.sqrt(m)
        else:
            scale[s] = 0.0
            slack[s] = np.inf
        value = series[first + s] - origin
        total -= value
        squares -= value * value
    for s in range(size, min(mean.size, size + LANES)):
        mean[s] = 0.0
        scale[s] = 0.0
        slack[s] = 0.0


@njit(cache=True)
def _block_bounds(
    window: Any,
    order: Any,
    bounds_of_query: Any,
    raw: Any,
    low: Any,
    high: Any,
    mean: Any,
    scale: Any,
    slack: Any,
    base: int,
    best: Any,
    bounds: Any,
) -> bool:
    """Lower bounds of LANES neighbouring windows. False when all of them exceed `best`."""
    zero = splat(_ZERO)
    centre, scaled = load(mean, base), load(scale, base)
    most = _ZERO
    for lane in range(LANES):
        most = max(most, slack[base + lane])
    limit = (best + most) * (best + most)
    to_query = zero
    for step in range(order.size):
        j = order[step]
        y = multiply(subtract(load(raw, base + j), centre), scaled)
        out = maximum(subtract(y, splat(bounds_of_query[1, j])), subtract(splat(bounds_of_query[0, j]), y))
        out = maximum(out, zero)
        to_query = multiply_add(out, out, to_query)
        if step % _STRIDE == _STRIDE - 1 and smallest_lane(to_query) > limit:
            return False
    to_window = zero
    for step in range(order.size):
        j = order[step]
        q = splat(window[j])
        above = subtract(q, multiply(subtract(load(high, base + j), centre), scaled))
        below = subtract(multiply(subtract(load(low, base + j), centre), scaled), q)
        out = maximum(maximum(above, below), zero)
        to_window = multiply_add(out, out, to_window)
    store(bounds, 0, maximum(to_query, to_window))
    for lane in range(LANES):
        bounds[lane] = math.sqrt(bounds[lane]) - slack[base + lane]
    return True
