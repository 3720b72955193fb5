"""Exclusive time of overlapping spans: every instant belongs to exactly one span."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.readiness import is_compiled


def exclusive_time(
    starts: NDArray[np.int64], ends: NDArray[np.int64], spans: NDArray[np.int64], depths: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Share out the time of one cycle among the spans that were open.

    starts, ends: int64[m], nanoseconds, one interval a span call, starts <= ends; spans: int64[m], the index of the
    span's name; depths: int64[k], nesting depth by name. Returns int64[k], nanoseconds, whose sum is the length of the
    union of all intervals. At each instant the deepest open interval has the time; among equally deep ones the one that
    closes last, because that is the one its parent is waiting for (the critical path of a join).
    """
    # sorted here and not in the compiled part: numba takes seconds to compile a sort
    by_start = np.argsort(starts, kind="stable")
    cuts = np.sort(np.concatenate((starts, ends)))
    share_out = _share_out if is_compiled("timeline") else _share_out.py_func
    exclusive: NDArray[np.int64] = share_out(starts, ends, spans, depths, by_start, cuts)
    return exclusive


@njit(cache=True, nogil=True)
def _share_out(starts: Any, ends: Any, spans: Any, depths: Any, by_start: Any, cuts: Any) -> Any:
    m = starts.size
    out = np.zeros(depths.size, np.int64)
    active = np.empty(m, np.int64)
    n_active = 0
    upcoming = 0
    for c in range(cuts.size - 1):
        left = cuts[c]
        right = cuts[c + 1]
        if right == left:
            continue
        while upcoming < m and starts[by_start[upcoming]] <= left:
            active[n_active] = by_start[upcoming]
            n_active += 1
            upcoming += 1
        kept = 0
        winner = -1
        for a in range(n_active):
            i = active[a]
            if ends[i] <= left:
                continue
            active[kept] = i
            kept += 1
            if (
                winner < 0
                or depths[spans[i]] > depths[spans[winner]]
                or (depths[spans[i]] == depths[spans[winner]] and ends[i] > ends[winner])
            ):
                winner = i
        n_active = kept
        if winner >= 0:
            out[spans[winner]] += right - left
    return out
