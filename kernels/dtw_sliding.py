"""Live windows that slide by one step at a time: normalised, with their envelopes, without starting over.

A step brings one new value a window. Its mean and deviation come from running sums; of its envelope (least and greatest
value within `band` steps, Lemire 2009) only what the two ends cut off is new, 3 band + 2 values instead of the whole
length. Envelopes are kept of the prices: normalising is monotone, so that the normalised envelope is, to the bit, the
envelope of the normalised window.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.checks import checked, checked_band
from kernels.dtw import CONSTANT, TINY, z_normalise
from kernels.dtw_topk import envelope, pattern_envelopes
from kernels.readiness import is_compiled

_SUM, _SQUARES, _REFERENCE, _PEAK, _SLIDES = range(5)
_PEAK_MAX: Final = 1e3
"""Times the present sum of squared deviations that the running sum of squares may have been: above, both are made anew.
With `_SLIDES_MAX` it bounds what cancels, a drift and a spike that has left alike: 1e3 * 1e3 * 1.1e-16 of the variance.
"""
_SLIDES_MAX: Final = 1_000
_SMALL: Final = 1e-200
"""Below, squares come near to the least number there is, and the sums are made anew from scaled values."""


class SlidingWindows(NamedTuple):
    """State of `slide`, and its result; made by `start_sliding`. `slide` writes into these arrays."""

    windows: NDArray[np.float32]
    """float32 [q, m], as `kernels.dtw.z_normalise` has them to float32 rounding."""
    hulls: NDArray[np.float32]
    """float32 [q, 2, m]: least, then greatest of each window within `band` steps; for `library_topk`."""
    values: NDArray[np.float64]
    """float64 [q, m], the series as they are, the newest last."""
    envelopes: NDArray[np.float64]
    """float64 [q, 2, m] of `values`."""
    sums: NDArray[np.float64]
    """float64 [q, 5]: sum and sum of squares of what is above a reference, the reference, the largest sum of squares
    since these were made, and slides since then."""
    band: int


def start_sliding(values: NDArray[np.float64], band: int) -> SlidingWindows:
    """values: float64 [q, m], m >= 1. Raises ValueError on NaN, infinity, magnitudes above 1e15, wrong dtype or rank,
    or a negative band.
    """
    values = checked("values", values, np.float64, 2).copy()
    q, m = values.shape
    if m == 0:
        raise ValueError("values must have at least one step a row")
    state = SlidingWindows(
        np.empty((q, m), np.float32),
        np.empty((q, 2, m), np.float32),
        values,
        np.empty((q, 2, m)),
        np.empty((q, 5)),
        checked_band(band),
    )
    if is_compiled("dtw_sliding"):
        _start(*state)
    else:
        _in_numpy(state)
    return state


def slide(state: SlidingWindows, newest: NDArray[np.float64]) -> SlidingWindows:
    """Every window one step on: its oldest value leaves, `newest` float64 [q] comes. Returns `state`, changed in place.

    Normalised values differ from `z_normalise` of the same windows by at most 2e-7 and 2e-7 of their size. Raises
    ValueError as `start_sliding`, or when the sizes do not fit; then nothing is changed.
    """
    newest = checked("newest", newest, np.float64, 1)
    if newest.size != state.values.shape[0]:
        raise ValueError(f"{newest.size} new values for {state.values.shape[0]} windows")
    if is_compiled("dtw_sliding"):
        _slide(*state, newest)
    else:
        state.values[:, :-1] = state.values[:, 1:]
        state.values[:, -1] = newest
        _in_numpy(state)
    return state


def _in_numpy(state: SlidingWindows) -> None:
    """The whole state from its values. Sums are left for the compiled form to make: its reference is never near."""
    state.windows[:] = z_normalise(state.values)
    for place, of_windows, of_values in zip(
        (0, 1),
        pattern_envelopes(state.windows, state.band),
        pattern_envelopes(state.values, state.band),
        strict=True,
    ):
        state.hulls[:, place] = of_windows
        state.envelopes[:, place] = of_values
    state.sums[:] = np.nan


@njit(cache=True, nogil=True)
def _start(windows: Any, hulls: Any, values: Any, envelopes: Any, sums: Any, band: int) -> None:
    for w in range(values.shape[0]):
        envelope(values[w], band, envelopes[w, 0], envelopes[w, 1])
        mean, deviation = _measured_anew(values[w], sums[w])
        _normalise(values[w], envelopes[w], mean, deviation, windows[w], hulls[w])


@njit(cache=True, nogil=True)
def _slide(windows: Any, hulls: Any, values: Any, envelopes: Any, sums: Any, band: int, newest: Any) -> None:
    m = values.shape[1]
    for w in range(values.shape[0]):
        row, running = values[w], sums[w]
        left = row[0] - running[_REFERENCE]
        came = newest[w] - running[_REFERENCE]
        for i in range(m - 1):
            row[i] = row[i + 1]
        row[m - 1] = newest[w]
        running[_SUM] += came - left
        running[_SQUARES] += came * came - left * left
        running[_PEAK] = max(running[_PEAK], running[_SQUARES] + left * left)
        running[_SLIDES] += 1.0
        _slide_envelope(row, band, envelopes[w])
        above = running[_SUM] / m
        variance = running[_SQUARES] / m - above * above
        usable = variance > _SMALL and running[_SLIDES] < _SLIDES_MAX
        # NaN fails the comparison too
        if usable and running[_PEAK] <= _PEAK_MAX * m * variance:
            mean, deviation = running[_REFERENCE] + above, np.sqrt(variance)
        else:
            mean, deviation = _measured_anew(row, running)
        _normalise(row, envelopes[w], mean, deviation, windows[w], hulls[w])


@njit(cache=True)
def _slide_envelope(row: Any, band: int, bounds: Any) -> None:
    m = row.size
    if m <= 2 * band + 1:
        envelope(row, band, bounds[0], bounds[1])
        return
    lower, upper = bounds[0], bounds[1]
    last = m - 1 - band
    for i in range(band, last):
        lower[i] = lower[i + 1]
        upper[i] = upper[i + 1]
    low = high = row[last]
    for j in range(last - band, m):
        low = min(low, row[j])
        high = max(high, row[j])
    lower[last], upper[last] = low, high
    # the ends: one value more a step towards the middle
    low = high = row[0]
    for j in range(band):
        low, high = min(low, row[j]), max(high, row[j])
    for i in range(band):
        low, high = min(low, row[i + band]), max(high, row[i + band])
        lower[i], upper[i] = low, high
    low = high = row[m - 1]
    for j in range(m - band, m):
        low, high = min(low, row[j]), max(high, row[j])
    for i in range(m - 1, last, -1):
        low, high = min(low, row[i - band]), max(high, row[i - band])
        lower[i], upper[i] = low, high


@njit(cache=True)
def _measured_anew(row: Any, running: Any) -> Any:
    """Mean and standard deviation in two passes, 0 for a constant row; the running sums begin again at that mean."""
    m = row.size
    total = 0.0
    largest = 0.0
    for i in range(m):
        total += row[i]
        largest = max(largest, abs(row[i]))
    mean = total / m
    peak = 0.0
    for i in range(m):
        peak = max(peak, abs(row[i] - mean))
    running[_REFERENCE] = mean
    running[_SUM] = running[_SQUARES] = 0.0
    scaled = 0.0
    for i in range(m):
        above = row[i] - mean
        running[_SUM] += above
        running[_SQUARES] += above * above
        if peak > 0.0:
            scaled += (above / peak) * (above / peak)
    running[_PEAK], running[_SLIDES] = running[_SQUARES], 0.0
    if peak <= max(CONSTANT * largest, TINY):
        return mean, 0.0
    return mean, peak * np.sqrt(scaled / m)


@njit(cache=True)
def _normalise(row: Any, bounds: Any, mean: float, deviation: float, window: Any, hull: Any) -> None:
    """The same monotone map of the values and of their envelope; zeros for a constant row."""
    m = row.size
    largest = 0.0
    peak = 0.0
    for i in range(m):
        largest = max(largest, abs(row[i]))
        peak = max(peak, abs(row[i] - mean))
    constant = peak <= max(CONSTANT * largest, TINY)
    for i in range(m):
        if constant or deviation == 0.0:
            window[i] = hull[0, i] = hull[1, i] = np.float32(0.0)
        else:
            window[i] = np.float32((row[i] - mean) / deviation)
            hull[0, i] = np.float32((bounds[0, i] - mean) / deviation)
            hull[1, i] = np.float32((bounds[1, i] - mean) / deviation)
