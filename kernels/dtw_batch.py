"""Dynamic time warping of windows against a whole library: LANES patterns a vector, four window steps a tile.

Same convention as `kernels.dtw`. The library is kept as structure of arrays, `blocks[block, step, lane]`, so that one
load takes one step of LANES patterns (16 or 32, see `kernels.simd`). The recurrence runs over tiles of four window
steps whose cells stay in registers; only the tile's last row goes to memory. Nothing allocates inside the loops.

One thread, on purpose. Two over numba's omp layer were measured on two shared cores, 60 interleaved rounds while other
processes wanted those cores (load 24), as they do in a swarm. On their best rounds they take half the time (20 windows,
1,000 patterns, m = 64: 453 against 891 us); on the median round one thread waits at the barrier for the other, which is
not running: 28,000 against 990 us. No size from 11 us to 67 ms of work won with 95 % confidence; the nearest was 10,000
patterns, 1.07 times (0.96 to 1.27). Processes share the work better: each node, or worker of mining, has its own.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels import numpy_dtw
from kernels.checks import checked, checked_band, shaped
from kernels.readiness import is_compiled
from kernels.simd import (
    LANES,
    load,
    minimum_non_negative,
    multiply_add,
    smallest_lane,
    splat,
    square_root,
    store,
    subtract,
)

TILE: Final = 4
"""Window steps to a tile. Rows of a tile overlap in at least one column only if TILE <= 2 * band + 2."""

_INFINITY: Final = np.float32(np.inf)
_ZERO: Final = np.float32(0.0)


def pack_patterns(patterns: NDArray[np.float32]) -> NDArray[np.float32]:
    """The library as structure of arrays.

    patterns: float32 [n, m], n and m >= 1. Returns float32 [ceil(n / LANES), m, LANES], the last block filled up
    with zeros; not to be stored, the lanes depend on the processor. Raises ValueError on NaN, infinity, magnitudes
    above 1e15, or another dtype, rank or no size.
    """
    patterns = checked("patterns", patterns, np.float32, 2)
    n, m = patterns.shape
    if n == 0 or m == 0:
        raise ValueError(f"patterns must hold at least one pattern of one step, got shape {patterns.shape}")
    n_blocks = -(-n // LANES)
    padded = np.zeros((n_blocks * LANES, m), np.float32)
    padded[:n] = patterns
    return np.ascontiguousarray(padded.reshape(n_blocks, LANES, m).transpose(0, 2, 1))


def library_distances_batch(
    windows: NDArray[np.float32], blocks: NDArray[np.float32], n: int, band: int
) -> NDArray[np.float32]:
    """Every window against every pattern in one compiled call that releases the interpreter lock.

    windows: float32 [q, m]; blocks: of `pack_patterns`; n: the count of patterns. Returns float32 [q, n]. Sums are
    float32: they agree with the float64 reference to its rounding (relative error about 1e-6 at m = 64). Raises
    ValueError on NaN, infinity, magnitudes above 1e15, or wrong dtype, rank or shape.
    """
    windows = checked("windows", windows, np.float32, 2)
    blocks = checked_blocks(blocks, n, windows.shape[1])
    band = checked_band(band)
    if not is_compiled("dtw_batch"):
        steps_first = blocks.transpose(1, 0, 2).reshape(windows.shape[1], -1)[:, :n]
        return numpy_dtw.distances(windows, steps_first, band)
    distances = np.empty((windows.shape[0], n), np.float32)
    _batch(windows, blocks.reshape(-1), band, distances)
    return distances


def checked_blocks(blocks: Any, n: int, m: int) -> NDArray[np.float32]:
    """The packed library, if it fits n patterns of m steps; else ValueError."""
    packed = shaped("blocks", blocks, np.float32, 3)
    if n < 1 or packed.shape != (-(-n // LANES), m, LANES):
        wanted = (-(-n // LANES), m, LANES)
        raise ValueError(f"blocks have shape {packed.shape}; {n} patterns of {m} steps need {wanted}")
    return packed


@njit(cache=True)
def cell(q: Any, y: Any, above: Any, diagonal: Any, left: Any) -> Any:
    """One cell of LANES warping matrices."""
    difference = subtract(q, y)
    return multiply_add(difference, difference, minimum_non_negative(minimum_non_negative(above, diagonal), left))


@njit(cache=True)
def one_row(window: Any, i: int, blocks: Any, base: int, m: int, band: int, row: Any) -> None:
    """Row i of the matrices of one block. row: the row above, replaced; element 0 is the column before the first."""
    infinite = splat(_INFINITY)
    q = splat(window[i])
    first = max(0, i - band)
    diagonal = load(row, first * LANES)
    left = infinite
    for j in range(first, min(m, i + band + 1)):
        above = load(row, (j + 1) * LANES)
        left = cell(q, load(blocks, base + j * LANES), above, diagonal, left)
        diagonal = above
        store(row, (j + 1) * LANES, left)


@njit(cache=True)
def four_rows(window: Any, i: int, blocks: Any, base: int, m: int, band: int, row: Any) -> None:
    """Rows i to i + 3, band >= 1. row: row i - 1, replaced by row i + 3.

    Column j of row i + k is open for i + k - band <= j <= i + k + band: the four rows start one after another on the
    left edge (prologue), run together, and end one after another on the right edge (epilogue).
    """
    infinite = splat(_INFINITY)
    q0, q1, q2, q3 = splat(window[i]), splat(window[i + 1]), splat(window[i + 2]), splat(window[i + 3])
    a, b, c, d = infinite, infinite, infinite, infinite
    diagonal = load(row, max(0, i - band) * LANES)
    j = i - band
    if j >= 0:
        above = load(row, (j + 1) * LANES)
        a = cell(q0, load(blocks, base + j * LANES), above, diagonal, a)
        diagonal = above
    j += 1
    if 0 <= j < m:
        y, above = load(blocks, base + j * LANES), load(row, (j + 1) * LANES)
        next_a = cell(q0, y, above, diagonal, a)
        b = cell(q1, y, next_a, a, b)
        a, diagonal = next_a, above
    j += 1
    if 0 <= j < m:
        y, above = load(blocks, base + j * LANES), load(row, (j + 1) * LANES)
        next_a = cell(q0, y, above, diagonal, a)
        next_b = cell(q1, y, next_a, a, b)
        c = cell(q2, y, next_b, b, c)
        a, b, diagonal = next_a, next_b, above
    for j in range(max(0, i - band + 3), min(m, i + band + 1)):
        y, above = load(blocks, base + j * LANES), load(row, (j + 1) * LANES)
        next_a = cell(q0, y, above, diagonal, a)
        next_b = cell(q1, y, next_a, a, b)
        next_c = cell(q2, y, next_b, b, c)
        d = cell(q3, y, next_c, c, d)
        a, b, c, diagonal = next_a, next_b, next_c, above
        store(row, (j + 1) * LANES, d)
    j = i + band + 1
    if j < m:
        y = load(blocks, base + j * LANES)
        next_b = cell(q1, y, infinite, a, b)
        next_c = cell(q2, y, next_b, b, c)
        d = cell(q3, y, next_c, c, d)
        b, c = next_b, next_c
        store(row, (j + 1) * LANES, d)
    j += 1
    if j < m:
        y = load(blocks, base + j * LANES)
        next_c = cell(q2, y, infinite, b, c)
        d = cell(q3, y, next_c, c, d)
        c = next_c
        store(row, (j + 1) * LANES, d)
    j += 1
    if j < m:
        d = cell(q3, load(blocks, base + j * LANES), infinite, c, d)
        store(row, (j + 1) * LANES, d)


@njit(cache=True)
def _lowest(row: Any, first: int, stop: int) -> Any:
    """The lowest cost in columns first..stop-1 of the latest row, over all lanes."""
    lowest = splat(_INFINITY)
    for j in range(first, stop):
        lowest = minimum_non_negative(lowest, load(row, (j + 1) * LANES))
    return smallest_lane(lowest)


@njit(cache=True)
def block_distances(window: Any, blocks: Any, base: int, band: int, row: Any, out: Any, limit: Any) -> bool:
    """One window against one block; `out` [LANES] gets the distances. False when all are known to exceed `limit`.

    row: scratch float32 [(m + 1) * LANES]. A row's lowest cost never falls from one row to the next, so a row above the
    limit ends the block.
    """
    m = window.size
    infinite = splat(_INFINITY)
    for j in range(1, m + 1):
        store(row, j * LANES, infinite)
    store(row, 0, splat(_ZERO))
    rows_at_once = TILE if 2 * band + 2 >= TILE else 1
    i = 0
    while i < m:
        if rows_at_once == TILE and i + TILE <= m:
            four_rows(window, i, blocks, base, m, band, row)
            i += TILE
        else:
            one_row(window, i, blocks, base, m, band, row)
            i += 1
        # only the very first cell may be reached from outside the matrix
        store(row, 0, infinite)
        if limit < _INFINITY and np.sqrt(_lowest(row, max(0, i - 1 - band), min(m, i + band))) > limit:
            return False
    store(out, 0, square_root(load(row, m * LANES)))
    return True


@njit(cache=True, nogil=True)
def _batch(windows: Any, blocks: Any, band: int, distances: Any) -> None:
    q, m = windows.shape
    n = distances.shape[1]
    row = np.empty((m + 1) * LANES, np.float32)
    out = np.empty(LANES, np.float32)
    # a block stays in the first-level cache while all windows pass over it
    for first in range(0, n, LANES):
        for w in range(q):
            block_distances(windows[w], blocks, first * m, band, row, out, _INFINITY)
            for lane in range(min(LANES, n - first)):
                distances[w, first + lane] = out[lane]
