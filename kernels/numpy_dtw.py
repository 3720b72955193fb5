"""Dynamic time warping of windows against a library in numpy alone: what answers while the kernels are compiled.

Same convention as `kernels.dtw`. A row of the warping matrices is held for all patterns at once; only the chain from
one column to the next is a loop in Python.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_PAIRS_AT_ONCE: Final = 8_192
"""More leave the second-level cache, fewer pay for the interpreter."""


def distances(windows: NDArray[Any], patterns: NDArray[Any], band: int) -> NDArray[np.float32]:
    """Every window against every pattern; nothing is checked.

    windows: float32 or float64 [q, m]; patterns: of the same dtype, [m, n], a step a row. Returns float32 [q, n]. In
    float64 the bits of `kernels.dtw.dtw_distance_python` before they are rounded to float32; in float32 its rounding,
    without the fused multiply-add of the compiled batch (relative error about 1e-6 at m = 64 against float64).
    """
    q, n = windows.shape[0], patterns.shape[1]
    found = np.empty((q, n), np.float32)
    together = max(1, _PAIRS_AT_ONCE // n)
    for first in range(0, q, together):
        some = windows[first : first + together]
        found[first : first + together] = np.sqrt(_last_cells(some, patterns, band))
    return found


def _last_cells(windows: NDArray[Any], patterns: NDArray[Any], band: int) -> NDArray[Any]:
    q, m = windows.shape
    # element 0 is the column before the first
    row = np.full((m + 1, q, patterns.shape[1]), np.inf, windows.dtype)
    row[0] = 0.0
    for i in range(m):
        first, stop = max(0, i - band), min(m, i + band + 1)
        cost = windows[:, i, None] - patterns[first:stop, None, :]
        cost *= cost
        best = np.minimum(row[first + 1 : stop + 1], row[first:stop])
        best[0] += cost[0]
        for j in range(1, stop - first):
            np.minimum(best[j], best[j - 1], out=best[j])
            best[j] += cost[j]
        row[first + 1 : stop + 1] = best
        # only the very first cell is reached from outside the matrix, and a row never from left of its band
        row[first] = np.inf
    return row[m]


def nearest(every: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The k smallest of each row of float32 [q, n], in order, equal ones by index: (int64 [q, k], float32 [q, k])."""
    indices = np.argsort(every, axis=1, kind="stable")[:, :k]
    return indices.astype(np.int64), np.take_along_axis(every, indices, axis=1)
