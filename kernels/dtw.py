"""Dynamic time warping, one pair at a time: the plain baseline and the scalar kernel.

One convention everywhere: the cost of matching two values is their squared difference, a path may stray at most `band`
steps from the diagonal (|i - j| <= band, Sakoe & Chiba 1978), and the distance is the square root of the cheapest
path's sum. With band 0 it is the Euclidean distance; a band of length - 1 or more does not constrain.

The fast form, many patterns at a time, is in `kernels.dtw_batch`; the pruned search in `kernels.dtw_topk`; paths, other
regions and unequal lengths in `kernels.dtw_path`.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels import numpy_dtw
from kernels.checks import checked, checked_band, checked_series, shaped
from kernels.dtw_pair import pair_distance
from kernels.readiness import is_compiled

CONSTANT: Final = 1e-7
"""A row that departs from its mean by no more than this share of its largest magnitude is constant: rounding."""
TINY: Final = float(np.finfo(np.float64).tiny / np.finfo(np.float64).eps)
"""So is one that departs by less than this: its mean has no digits left."""


def z_normalise(windows: NDArray[Any]) -> NDArray[np.float32]:
    """Each row minus its mean, over its population standard deviation.

    windows: float32 or float64 [n, m], m >= 1. Returns float32 [n, m]; a constant row becomes zeros. Computed in
    float64. Raises ValueError on NaN, infinity, or another dtype or rank.
    """
    dtype = np.float32 if getattr(windows, "dtype", None) == np.float32 else np.float64
    rows = checked("windows", windows, dtype, 2).astype(np.float64)
    if rows.shape[1] == 0:
        raise ValueError("windows must have at least one step a row")
    rows -= rows.mean(axis=1, keepdims=True)
    peak = np.abs(rows).max(axis=1, keepdims=True)
    constant = peak <= np.maximum(CONSTANT * np.abs(windows).max(axis=1, keepdims=True), TINY)
    # By the peak first: squares of very small numbers leave the range of float64.
    rows /= np.where(constant, 1.0, peak)
    deviation = np.sqrt((rows * rows).mean(axis=1, keepdims=True))
    rows /= np.where(constant, 1.0, deviation)
    rows[constant[:, 0]] = 0.0
    return rows.astype(np.float32)


def dtw_distance_python(a: NDArray[Any], b: NDArray[Any], band: int) -> float:
    """The distance of two series in plain Python: the baseline that everything else is held against.

    a, b: float32 or float64 [m], m >= 1. Raises ValueError on unequal or no length, NaN, infinity, or a negative band.
    """
    first, second = _checked_pair(a, b)
    return _distance_of_lists(first.tolist(), second.tolist(), checked_band(band))


def _distance_of_lists(a: list[float], b: list[float], band: int) -> float:
    m = len(a)
    above = [math.inf] * (m + 1)
    above[0] = 0.0
    for i in range(m):
        here = [math.inf] * (m + 1)
        for j in range(max(0, i - band), min(m, i + band + 1)):
            difference = a[i] - b[j]
            here[j + 1] = difference * difference + min(above[j + 1], here[j], above[j])
        above = here
    return math.sqrt(above[m])


def library_distances_python(window: NDArray[np.float32], patterns: NDArray[np.float32], band: int) -> NDArray[Any]:
    """One window against every pattern in plain Python.

    window: float32 [m]; patterns: float32 [n, m]. Returns float32 [n]. Raises ValueError as `dtw_distance_python`.
    """
    return library_distances_python_range(window, patterns, band, 0, len(patterns))


def library_distances_python_range(
    window: NDArray[np.float32], patterns: NDArray[np.float32], band: int, start: int, stop: int
) -> NDArray[Any]:
    """As `library_distances_python` for patterns start..stop-1 only, so that a caller can yield between chunks.

    Returns float32 [stop - start]. Raises ValueError as `dtw_distance_python`, and when the range leaves the library.
    """
    if not 0 <= start <= stop <= len(patterns):
        raise ValueError(f"patterns {start} to {stop} are not within the library of {len(patterns)}")
    window, patterns = _checked_library(window, patterns[start:stop])
    band = checked_band(band)
    values = window.tolist()
    distances = [_distance_of_lists(values, pattern, band) for pattern in patterns.tolist()]
    return np.array(distances, np.float32)


def dtw_distance(a: NDArray[Any], b: NDArray[Any], band: int) -> float:
    """The distance of two series, compiled, in float64: the bits of `dtw_distance_python`.

    a, b: float32 or float64 [m], m >= 1. Raises ValueError on unequal or no length, NaN, infinity, or a negative band.
    """
    first, second = _checked_pair(a, b)
    return float(pair_distance(first, second, checked_band(band), np.empty(first.size + 1)))


def library_distances_scalar(
    window: NDArray[np.float32], patterns: NDArray[np.float32], band: int
) -> NDArray[np.float32]:
    """One window against every pattern, one pair after another, compiled, float64 inside.

    window: float32 [m]; patterns: float32 [n, m]. Returns float32 [n]. Raises ValueError as `dtw_distance`.
    """
    window, patterns = _checked_library(window, patterns)
    band = checked_band(band)
    distances: NDArray[np.float32]
    if is_compiled("dtw_scalar"):
        distances = _each_pair(window, patterns, band)
    else:
        distances = numpy_dtw.distances(window[None].astype(np.float64), patterns.T.astype(np.float64), band)[0]
    return distances


@njit(cache=True, nogil=True)
def _each_pair(window: Any, patterns: Any, band: int) -> Any:
    n, m = patterns.shape
    distances = np.empty(n, np.float32)
    row = np.empty(m + 1)
    a = window.astype(np.float64)
    b = np.empty(m)
    for k in range(n):
        for j in range(m):
            b[j] = patterns[k, j]
        distances[k] = pair_distance(a, b, band, row)
    return distances


def _checked_pair(a: Any, b: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, second = checked_series("a", a), checked_series("b", b)
    if first.size != second.size:
        raise ValueError(
            f"a and b must have the same length, got {first.size} and {second.size};"
            " kernels.dtw_path has a distance for unequal ones"
        )
    return first, second


def _checked_library(window: Any, patterns: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    window = checked("window", window, np.float32, 1)
    patterns = shaped("patterns", patterns, np.float32, 2)
    if not window.size or patterns.shape[1] != window.size:
        raise ValueError(
            f"window has {window.size} steps, the patterns {patterns.shape[1]}: they must agree, 1 or more"
        )
    return window, checked("patterns", patterns, np.float32, 2)
