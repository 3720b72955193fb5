"""Which step meets which: the warping path of one pair, within any region, for series of any two lengths.

Same cost as `kernels.dtw`. A *region* says which cells (i, j) a path may use: `first[i] <= j < stop[i]`. Two are given:
the Sakoe-Chiba band (1978), around the straight line between the corners where lengths differ, and the Itakura
parallelogram (1975).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.checks import checked_band, checked_series

_DIAGONAL, _ABOVE, _LEFT = 0, 1, 2


class Region(NamedTuple):
    """The cells that a path may use, row by row; made by `sakoe_chiba` or `itakura`."""

    first: NDArray[np.int64]
    """int64 [n], first column of each row."""
    stop: NDArray[np.int64]
    """int64 [n], the column after its last."""
    columns: int


def sakoe_chiba(n: int, m: int, band: int) -> Region:
    """Cells at most `band` steps of the longer series from the line between the corners; |i - j| <= band where n = m.

    A series of one step meets every step of the other. Raises ValueError for a length below 1, or a band too narrow for
    any path, and says how wide it must be.
    """
    _lengths(n, m)
    band = checked_band(band)
    shorter, longer = min(n, m) - 1, max(n, m) - 1
    if shorter == 0:
        return Region(np.zeros(n, np.int64), np.full(n, m, np.int64), m)
    region = _band_region(n, m, band)
    if not _passable(region):
        # a diagonal step goes longer - shorter off the line, from one side of it to the other at best
        least = max(band + 1, -(-(longer - shorter) // (2 * shorter)))
        while not _passable(_band_region(n, m, least)):
            least += 1
        raise ValueError(f"a band of {band} lets no path through series of {n} and {m} steps; {least} is the least")
    return region


def _band_region(n: int, m: int, band: int) -> Region:
    reach = band * (min(n, m) - 1)
    # |i (m - 1) - j (n - 1)| <= reach, in whole numbers
    centre = np.arange(n, dtype=np.int64) * (m - 1)
    first = -((reach - centre) // (n - 1))
    stop = (centre + reach) // (n - 1) + 1
    return Region(np.maximum(first, 0), np.minimum(stop, m), m)


def _passable(region: Region) -> bool:
    """Whether a path gets from corner to corner, in a region whose rows begin and end no earlier than those before."""
    first, stop, _ = region
    return not ((first >= stop).any() or (first[1:] > stop[:-1]).any())


def itakura(n: int, m: int, slope: float = 2.0) -> Region:
    """The parallelogram between lines of `slope` and 1 / `slope` times m / n from both corners.

    slope: above 1. Raises ValueError for a length below 1, a slope of 1 or less, or lengths between which the
    parallelogram has no path of whole steps.
    """
    _lengths(n, m)
    if not (slope > 1.0 and math.isfinite(slope)):
        raise ValueError(f"slope must be a finite number above 1, got {slope!r}")
    if min(n, m) == 1:
        return Region(np.zeros(n, np.int64), np.full(n, m, np.int64), m)
    done = np.arange(n) * ((m - 1) / (n - 1))
    left = (m - 1) - done
    # a hair's breadth, so that a corner that rounding moved still belongs to it
    tolerance = 1e-9 * m
    first = np.ceil(np.maximum(done / slope, (m - 1) - slope * left) - tolerance).astype(np.int64)
    stop = np.floor(np.minimum(slope * done, (m - 1) - left / slope) + tolerance).astype(np.int64) + 1
    region = Region(first, stop, m)
    if not _passable(region):
        raise ValueError(f"a slope of {slope:g} leaves no path between {n} and {m} steps; give a larger one, or a band")
    return region


def dtw_distance_within(a: NDArray[Any], b: NDArray[Any], region: Region) -> float:
    """The distance of two series, float64 inside, along the best path within the region.

    a: float32 or float64 [n]; b: [m]; region: for n and m. Raises ValueError on no length, NaN, infinity, another dtype
    or rank, or a region for other lengths.
    """
    first, second = _checked(a, b, region)
    return float(_distance(first, second, region.first, region.stop, np.empty((2, second.size + 1))))


def dtw_path(a: NDArray[Any], b: NDArray[Any], region: Region) -> tuple[float, NDArray[np.int64]]:
    """The distance as `dtw_distance_within`, and its path: int64 [k, 2], pairs (i, j) from the first to the last cell.

    Of equally cheap predecessors the diagonal one is taken, then (i - 1, j). Keeps n * m bytes. Raises ValueError as
    `dtw_distance_within`.
    """
    first, second = _checked(a, b, region)
    moves = np.empty((first.size, second.size), np.int8)
    distance = _moves(first, second, region.first, region.stop, np.empty((2, second.size + 1)), moves)
    path = np.empty((first.size + second.size - 1, 2), np.int64)
    return float(distance), path[_trace(moves, path) :].copy()


@njit(cache=True, nogil=True)
def _distance(a: Any, b: Any, first: Any, stop: Any, rows: Any) -> float:
    above, here = rows[0], rows[1]
    for j in range(b.size + 1):
        above[j] = np.inf
        here[j] = np.inf
    above[0] = 0.0
    for i in range(a.size):
        left = np.inf
        # what row i - 2 left behind on both sides of this row's columns
        here[first[i]] = np.inf
        for j in range(first[i], stop[i]):
            difference = a[i] - b[j]
            left = difference * difference + min(min(above[j + 1], above[j]), left)
            here[j + 1] = left
        for j in range(stop[i], stop[min(i + 1, a.size - 1)]):
            here[j + 1] = np.inf
        above, here = here, above
    return math.sqrt(above[b.size])


@njit(cache=True, nogil=True)
def _moves(a: Any, b: Any, first: Any, stop: Any, rows: Any, moves: Any) -> float:
    """As `_distance`; notes where each cell came from."""
    above, here = rows[0], rows[1]
    for j in range(b.size + 1):
        above[j] = np.inf
        here[j] = np.inf
    above[0] = 0.0
    for i in range(a.size):
        left = np.inf
        here[first[i]] = np.inf
        for j in range(first[i], stop[i]):
            lowest, move = above[j], _DIAGONAL
            if above[j + 1] < lowest:
                lowest, move = above[j + 1], _ABOVE
            if left < lowest:
                lowest, move = left, _LEFT
            difference = a[i] - b[j]
            left = difference * difference + lowest
            here[j + 1] = left
            moves[i, j] = move
        for j in range(stop[i], stop[min(i + 1, a.size - 1)]):
            here[j + 1] = np.inf
        above, here = here, above
    return math.sqrt(above[b.size])


@njit(cache=True)
def _trace(moves: Any, path: Any) -> int:
    """Fill `path` from its end; returns where it begins."""
    i, j = moves.shape[0] - 1, moves.shape[1] - 1
    at = path.shape[0] - 1
    path[at] = i, j
    while i > 0 or j > 0:
        move = moves[i, j]
        if move != _LEFT:
            i -= 1
        if move != _ABOVE:
            j -= 1
        at -= 1
        path[at] = i, j
    return int(at)


def _lengths(n: int, m: int) -> None:
    if min(n, m) < 1:
        raise ValueError(f"series of {n} and {m} steps: each needs 1 or more")


def _checked(a: Any, b: Any, region: Region) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, second = checked_series("a", a), checked_series("b", b)
    if (first.size, second.size) != (region.first.size, region.columns):
        raise ValueError(
            f"the region is for {region.first.size} and {region.columns} steps, a has {first.size} and b {second.size}"
        )
    return first, second
