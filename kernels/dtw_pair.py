"""Dynamic time warping of one pair inside compiled code: four rows a tile, their cells in registers, float64.

Same convention as `kernels.dtw`. One row after another waits for each cell's left neighbour, a minimum and a sum; four
rows at once run as a wave front, so four such chains overlap. The operations of every cell are those of the plain form,
so the result is the same to the last bit. Other kernels may call `pair_distance`; it checks nothing.
"""

from __future__ import annotations

import math
from typing import Any, Final

from numba import njit

TILE: Final = 4
_INFINITY: Final = math.inf


@njit(cache=True, nogil=True)
def pair_distance(a: Any, b: Any, band: int, row: Any) -> float:
    """The distance of a and b, float64 [m] each, m >= 1, |i - j| <= band. row: scratch float64 [m + 1]."""
    m = a.size
    for j in range(m + 1):
        row[j] = _INFINITY
    row[0] = 0.0
    i = 0
    # rows of a tile overlap only from band 1 on
    while band >= 1 and i + TILE <= m:
        _four_rows(a, i, b, band, row)
        # only the very first cell may be reached from outside the matrix
        row[0] = _INFINITY
        i += TILE
    while i < m:
        _one_row(a, i, b, band, row)
        row[0] = _INFINITY
        i += 1
    return math.sqrt(row[m])


@njit(inline="always")
def _cell(q: float, y: float, above: float, diagonal: float, left: float) -> float:
    difference = q - y
    # numba's min() also looks for NaN, and there is none
    lowest = above if above < diagonal else diagonal
    lowest = lowest if lowest < left else left
    return difference * difference + lowest


@njit(cache=True)
def _one_row(a: Any, i: int, b: Any, band: int, row: Any) -> None:
    """Row i; row: the row above, replaced; element 0 is the column before the first."""
    q = a[i]
    first = max(0, i - band)
    diagonal = row[first]
    left = _INFINITY
    for j in range(first, min(b.size, i + band + 1)):
        above = row[j + 1]
        left = _cell(q, b[j], above, diagonal, left)
        diagonal = above
        row[j + 1] = left


@njit(cache=True)
def _four_rows(a: Any, i: int, b: Any, band: int, row: Any) -> None:
    """Rows i to i + 3; the columns start and end as in `kernels.dtw_batch.four_rows`."""
    m = b.size
    q0, q1, q2, q3 = a[i], a[i + 1], a[i + 2], a[i + 3]
    c0 = c1 = c2 = c3 = _INFINITY
    j = i - band
    diagonal = row[max(0, j)]
    if j >= 0:
        above = row[j + 1]
        c0 = _cell(q0, b[j], above, diagonal, c0)
        diagonal = above
    j += 1
    if 0 <= j < m:
        y, above = b[j], row[j + 1]
        n0 = _cell(q0, y, above, diagonal, c0)
        c1 = _cell(q1, y, n0, c0, c1)
        c0, diagonal = n0, above
    j += 1
    if 0 <= j < m:
        y, above = b[j], row[j + 1]
        n0 = _cell(q0, y, above, diagonal, c0)
        n1 = _cell(q1, y, n0, c0, c1)
        c2 = _cell(q2, y, n1, c1, c2)
        c0, c1, diagonal = n0, n1, above
    for j in range(max(0, i - band + 3), min(m, i + band + 1)):
        y, above = b[j], row[j + 1]
        n0 = _cell(q0, y, above, diagonal, c0)
        n1 = _cell(q1, y, n0, c0, c1)
        n2 = _cell(q2, y, n1, c1, c2)
        c3 = _cell(q3, y, n2, c2, c3)
        c0, c1, c2, diagonal = n0, n1, n2, above
        row[j + 1] = c3
    j = i + band + 1
    if j < m:
        y = b[j]
        n1 = _cell(q1, y, _INFINITY, c0, c1)
        n2 = _cell(q2, y, n1, c1, c2)
        c3 = _cell(q3, y, n2, c2, c3)
        c1, c2 = n1, n2
        row[j + 1] = c3
    j += 1
    if j < m:
        y = b[j]
        n2 = _cell(q2, y, _INFINITY, c1, c2)
        c3 = _cell(q3, y, n2, c2, c3)
        c2 = n2
        row[j + 1] = c3
    j += 1
    if j < m:
        row[j + 1] = _cell(q3, b[j], _INFINITY, c2, c3)
