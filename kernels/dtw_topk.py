"""The k nearest patterns, exactly, without computing every distance.

Same convention as `kernels.dtw`. A lower bound rules out most patterns: LB_Keogh (Keogh & Ratanamahatana 2005) from
the window to the pattern's envelope and, the other way round, from the pattern to the window's envelope (Lemire 2009),
with exact first and last cells as in LB_Kim. Survivors go through the vector kernel a block at a time, and a block
ends early when all of it is beyond the k-th best.

Exact even in the last bit: a bound adds the terms in the order in which a warping path meets them, each no larger than
the path's own, and rounding is monotone, so the computed bound never exceeds the computed distance.

The library stays in its own order. Blocks in the order of a k-d tree over eight principal components, each with one
bound for all of its patterns, were built and taken out again: on 100,000 windows of the shipped panel that bound rules
out 52 % of the blocks at m = 64 and 62 % at 128 (0.1 and 0.5 % in the panel's order), but the limit is tight later, and
the search as a whole took 0.98 and 0.88 of the time at k = 10 (ratios 1.02, 0.94 to 1.10, and 1.13, 1.09 to 1.20; 12
interleaved rounds of processor time, load 22), 1.15 and 0.99 at k = 32, 1.33 and 1.00 for windows of another market,
and more at 20,000 patterns in every case.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels import numpy_dtw
from kernels.checks import checked, checked_band, shaped
from kernels.dtw_batch import block_distances, library_distances_batch, pack_patterns
from kernels.readiness import is_compiled
from kernels.simd import LANES, load, maximum, multiply_add, splat, square_root, store, subtract

_INFINITY: Final = np.float32(np.inf)
_ZERO: Final = np.float32(0.0)
_TAKEN: Final = np.float32(np.nan)
"""The bound of a pattern that was already compared: no limit admits it."""

_PRUNED_STEPS_MIN: Final = 16
"""In shorter windows every distance costs less than the bounds."""


class PackedLibrary(NamedTuple):
    """A pattern library prepared for the search at one band; made by `pack_library`."""

    patterns: NDArray[np.float32]
    """float32 [n, m]"""
    blocks: NDArray[np.float32]
    """As `pack_patterns` makes them, fit for `library_distances_batch` too."""
    lower: NDArray[np.float32]
    """Lower envelopes in the layout of `blocks`."""
    upper: NDArray[np.float32]
    band: int


def pack_library(patterns: NDArray[np.float32], band: int) -> PackedLibrary:
    """patterns: float32 [n, m], n and m >= 1. Raises ValueError as `pack_patterns`, and on a negative band."""
    blocks = pack_patterns(patterns)
    band = checked_band(band)
    lower, upper = pattern_envelopes(np.ascontiguousarray(patterns), band)
    return PackedLibrary(np.ascontiguousarray(patterns), blocks, pack_patterns(lower), pack_patterns(upper), band)


def library_topk(
    windows: NDArray[np.float32],
    library: PackedLibrary,
    k: int,
    band: int,
    hulls: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The k patterns nearest to each window, nearest first, equal distances by index.

    windows: float32 [q, m]; 1 <= k <= n; band: the one that the library was packed for; hulls: float32 [q, 2, m], the
    windows' envelopes at that band where they are known (`kernels.dtw_sliding`), believed. Returns (indices int64
    [q, k], distances float32 [q, k]), the very numbers that a stable sort of `library_distances_batch` gives. Raises
    ValueError on NaN, infinity, magnitudes above 1e15, wrong dtype, rank or shape, another band, or k out of range.
    """
    windows = checked("windows", windows, np.float32, 2)
    n, m = library.patterns.shape
    if windows.shape[1] != m:
        raise ValueError(f"windows have {windows.shape[1]} steps, the library's patterns {m}")
    if checked_band(band) != library.band:
        raise ValueError(f"the library is packed for band {library.band}, not {band}: pack it again")
    if not 1 <= k <= n:
        raise ValueError(f"k must lie between 1 and the {n} patterns of the library, got {k}")
    if hulls is None:
        hulls = np.empty((0, 2, m), np.float32)
    elif shaped("hulls", hulls, np.float32, 3).shape != (len(windows), 2, m):
        raise ValueError(f"hulls have shape {hulls.shape}; {len(windows)} windows of {m} steps need another")
    if not is_compiled("dtw_topk_short" if m < _PRUNED_STEPS_MIN else "dtw_topk"):
        return numpy_dtw.nearest(library_distances_batch(windows, library.blocks, n, library.band), k)
    indices = np.empty((windows.shape[0], k), np.int64)
    distances = np.empty((windows.shape[0], k), np.float32)
    if m < _PRUNED_STEPS_MIN:
        _smallest(library_distances_batch(windows, library.blocks, n, library.band), indices, distances)
        return indices, distances
    flat = (library.blocks.reshape(-1), library.lower.reshape(-1), library.upper.reshape(-1))
    _search(windows, np.ascontiguousarray(hulls), library.patterns, *flat, library.band, indices, distances)
    return indices, distances


@njit(cache=True, nogil=True)
def _search(
    windows: Any,
    hulls: Any,
    patterns: Any,
    blocks: Any,
    lower: Any,
    upper: Any,
    band: int,
    indices: Any,
    distances: Any,
) -> None:
    n, m = patterns.shape
    k = indices.shape[1]
    # the k most promising ones first, in whole vectors: they make the limit tight
    n_seeds = min(n, -(-k // LANES) * LANES)
    seeds = np.empty(n_seeds, np.int64)
    seed_bounds = np.empty(n_seeds, np.float32)
    bounds = np.empty(-(-n // LANES) * LANES, np.float32)
    computed = np.empty((2, m), np.float32)
    lanes = np.empty(LANES, np.int64)
    gathered = np.empty(m * LANES, np.float32)
    row = np.empty((m + 1) * LANES, np.float32)
    out = np.empty(LANES, np.float32)
    for w in range(windows.shape[0]):
        window = windows[w]
        best = distances[w]
        best_indices = indices[w]
        best[:] = _INFINITY
        best_indices[:] = n
        if hulls.shape[0]:
            hull = hulls[w]
        else:
            envelope(window, band, computed[0], computed[1])
            hull = computed
        _lower_bounds(window, hull, blocks, lower, upper, bounds)
        seed_bounds[:] = _INFINITY
        seeds[:] = n
        for p in range(n):
            _insert(seed_bounds, seeds, bounds[p], p)
        waiting = 0
        for p in range(n_seeds + n):
            candidate = seeds[p] if p < n_seeds else p - n_seeds
            if bounds[candidate] <= best[k - 1]:
                lanes[waiting] = candidate
                waiting += 1
                bounds[candidate] = _TAKEN
            end_of_pass = p == n_seeds - 1 or p == n_seeds + n - 1
            if waiting == LANES or (end_of_pass and waiting > 0):
                _gather(patterns, lanes, waiting, gathered)
                if block_distances(window, gathered, 0, band, row, out, best[k - 1]):
                    for lane in range(waiting):
                        _insert(best, best_indices, out[lane], lanes[lane])
                waiting = 0


@njit(cache=True, nogil=True)
def _smallest(every: Any, indices: Any, distances: Any) -> None:
    n_windows, n = every.shape
    distances[:] = _INFINITY
    indices[:] = n
    for w in range(n_windows):
        for p in range(n):
            _insert(distances[w], indices[w], every[w, p], p)


@njit(cache=True)
def _insert(values: Any, indices: Any, value: float, index: int) -> None:
    """Keep the smallest values in order, equal ones by index."""
    p = values.size - 1
    if value > values[p] or (value == values[p] and index > indices[p]):
        return
    while p > 0 and (values[p - 1] > value or (values[p - 1] == value and indices[p - 1] > index)):
        values[p] = values[p - 1]
        indices[p] = indices[p - 1]
        p -= 1
    values[p] = value
    indices[p] = index


@njit(cache=True)
def _gather(patterns: Any, lanes: Any, count: int, gathered: Any) -> None:
    """The chosen patterns as one block; spare lanes repeat the first, so that a block still ends early."""
    m = patterns.shape[1]
    for lane in range(LANES):
        pattern = patterns[lanes[lane if lane < count else 0]]
        for j in range(m):
            gathered[j * LANES + lane] = pattern[j]


@njit(cache=True)
def _lower_bounds(window: Any, hull: Any, blocks: Any, lower: Any, upper: Any, bounds: Any) -> None:
    """bounds: float32 [blocks * LANES], on the scale of distances. The order of the sums matters, see the module."""
    m = window.size
    zero = splat(_ZERO)
    for first in range(0, bounds.size, LANES):
        base = first * m
        difference = subtract(splat(window[0]), load(blocks, base))
        to_pattern = multiply_add(difference, difference, zero)
        to_window = to_pattern
        for i in range(1, m - 1):
            q = splat(window[i])
            y = load(blocks, base + i * LANES)
            out = maximum(subtract(q, load(upper, base + i * LANES)), subtract(load(lower, base + i * LANES), q))
            out = maximum(out, zero)
            to_pattern = multiply_add(out, out, to_pattern)
            out = maximum(subtract(y, splat(hull[1, i])), subtract(splat(hull[0, i]), y))
            out = maximum(out, zero)
            to_window = multiply_add(out, out, to_window)
        if m > 1:
            difference = subtract(splat(window[m - 1]), load(blocks, base + (m - 1) * LANES))
            to_pattern = multiply_add(difference, difference, to_pattern)
            to_window = multiply_add(difference, difference, to_window)
        store(bounds, first, square_root(maximum(to_pattern, to_window)))


@njit(cache=True)
def envelope(series: Any, band: int, lower: Any, upper: Any) -> None:
    """The least and the greatest of series[i - band .. i + band], each [m] of the series' dtype; nothing checked."""
    m = series.size
    for i in range(m):
        low = high = series[i]
        for j in range(max(0, i - band), min(m, i + band + 1)):
            low = min(low, series[j])
            high = max(high, series[j])
        lower[i] = low
        upper[i] = high


def pattern_envelopes(patterns: NDArray[Any], band: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """As `envelope`, of every pattern: extremes over 1, 2, 4, ... steps, then two that overlap over the whole width."""
    m = patterns.shape[1]
    band = min(band, m - 1)
    width = 2 * band + 1
    padding = ((0, 0), (band, band))
    lower = np.pad(patterns, padding, constant_values=np.inf)
    upper = np.pad(patterns, padding, constant_values=-np.inf)
    reach = 1
    while 2 * reach <= width:
        lower = np.minimum(lower[:, :-reach], lower[:, reach:])
        upper = np.maximum(upper[:, :-reach], upper[:, reach:])
        reach *= 2
    last = width - reach
    return np.minimum(lower[:, :m], lower[:, last : last + m]), np.maximum(upper[:, :m], upper[:, last : last + m])
