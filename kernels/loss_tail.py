"""Value at risk and expected shortfall of many equally likely losses, without sorting them all.

Quantile convention as in `kernels.risk`.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.checks import checked, checked_level

_BINS: Final = 512
_SAMPLE: Final = 128
_NARROW: Final = np.float32(1e-30)
"""A histogram of a narrower range would divide by nothing."""


def loss_tail(losses: NDArray[np.float32], level: float) -> tuple[float, float]:
    """Value at risk and expected shortfall of equally likely losses float32 [t], t >= 1.

    Raises ValueError on NaN, wrong dtype or rank, no losses, or a level outside (0.5, 1).
    """
    losses = checked("losses", losses, np.float32, 1)
    if not losses.size:
        raise ValueError("losses must hold at least one")
    value_at_risk, shortfall = tail(losses, checked_level(level))
    return float(value_at_risk), float(shortfall)


@njit(cache=True, nogil=True, error_model="numpy")
def tail(losses: Any, level: float) -> Any:
    """As `loss_tail`, for other kernels; checks nothing.

    A sample says about where the tail begins, then only what lies beyond is looked at.
    """
    n = losses.size
    tail = (1.0 - level) * n
    whole = math.floor(tail + 1e-9)
    fraction = max(tail - whole, 0.0)
    worst = np.empty(n + 1, losses.dtype)
    taken = _beyond(losses, _threshold(losses, whole), worst)
    if taken <= whole:
        # the sample was unlucky
        taken = _beyond(losses, np.float32(-np.inf), worst)
    value_at_risk, total = _largest(worst[:taken], whole)
    return np.float64(value_at_risk), (total + fraction * value_at_risk) / (whole + fraction)


@njit(cache=True)
def _threshold(losses: Any, whole: int) -> Any:
    """What about half as many again as needed should exceed, by every so manieth loss."""
    stride = losses.size // _SAMPLE
    if stride < 4:
        return np.float32(-np.inf)
    sample = np.empty(_SAMPLE, losses.dtype)
    for k in range(_SAMPLE):
        sample[k] = losses[k * stride]
    sample.sort()
    wanted = int(1.5 * whole * _SAMPLE / losses.size) + 3
    return sample[_SAMPLE - 1 - wanted] if wanted < _SAMPLE else np.float32(-np.inf)


@njit(cache=True)
def _beyond(losses: Any, threshold: Any, worst: Any) -> int:
    """Gather the losses of `threshold` or more, without a branch; worst: [n + 1]. Returns how many."""
    taken = 0
    for p in range(losses.size):
        worst[taken] = losses[p]
        taken += 1 if losses[p] >= threshold else 0
    return taken


@njit(cache=True, error_model="numpy")
def _largest(losses: Any, whole: int) -> Any:
    """The (whole + 1)th largest, and the sum of the `whole` larger ones, in float64; by a histogram."""
    low = high = losses[0]
    for p in range(losses.size):
        low = losses[p] if losses[p] < low else low
        high = losses[p] if losses[p] > high else high
    if high - low < _NARROW:
        ordered = np.sort(losses)[::-1]
        return np.float64(ordered[whole]), ordered[:whole].astype(np.float64).sum()
    scale = np.float32(_BINS - 1) / (high - low)
    counts = np.zeros(_BINS, np.int64)
    for p in range(losses.size):
        counts[np.int64((high - losses[p]) * scale)] += 1
    above, chosen = 0, 0
    while above + counts[chosen] <= whole:
        above += counts[chosen]
        chosen += 1
    inside = np.empty(counts[chosen], losses.dtype)
    found = 0
    total = 0.0
    for p in range(losses.size):
        at = np.int64((high - losses[p]) * scale)
        if at < chosen:
            total += losses[p]
        elif at == chosen:
            inside[found] = losses[p]
            found += 1
    inside.sort()
    for k in range(whole - above):
        total += inside[found - 1 - k]
    return np.float64(inside[found - 1 - (whole - above)]), total
