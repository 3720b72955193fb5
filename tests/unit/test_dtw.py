"""DTW kernels against a full-matrix reference, on wide and narrow registers; refusals."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels.dtw import (
    dtw_distance,
    dtw_distance_python,
    library_distances_python,
    library_distances_python_range,
    library_distances_scalar,
    z_normalise,
)
from kernels.dtw_batch import library_distances_batch, pack_patterns
from kernels.dtw_topk import library_topk, pack_library
from kernels.simd import LANES


def walks(seed: int, count: int, steps: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, steps)).cumsum(axis=1).astype(np.float32)


def full_matrix(a: NDArray[np.float32], b: NDArray[np.float32], band: int) -> float:
    """The definition, cell by cell, in float64."""
    m = len(a)
    cost = np.full((m + 1, m + 1), np.inf)
    cost[0, 0] = 0.0
    for i in range(1, m + 1):
        for j in range(1, m + 1):
            if abs(i - j) <= band:
                step = min(cost[i - 1, j], cost[i, j - 1], cost[i - 1, j - 1])
                cost[i, j] = (float(a[i - 1]) - float(b[j - 1])) ** 2 + step
    return math.sqrt(cost[m, m])


def test_distance_worked_by_hand() -> None:
    a, b = np.array([0.0, 1.0, 2.0]), np.array([0.0, 2.0, 2.0])
    # 0-0 costs 0, 1 must meet 0 or 2 and costs 1, 2-2 costs 0
    for band in (0, 1, 2):
        assert dtw_distance_python(a, b, band) == dtw_distance(a, b, band) == 1.0
    shifted = np.array([0.0, 0.0, 1.0, 2.0]), np.array([0.0, 1.0, 2.0, 2.0])
    assert dtw_distance(*shifted, 0) == math.sqrt(2.0)
    assert dtw_distance(*shifted, 1) == 0.0


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 7, 8, 13])
@pytest.mark.parametrize("band", [0, 1, 2, 3, 5, 13])
def test_every_kernel_equals_the_definition(steps: int, band: int) -> None:
    patterns, windows = walks(steps, LANES + 3, steps), walks(band + 100, 3, steps)
    batch = library_distances_batch(windows, pack_patterns(patterns), len(patterns), band)
    for window, row in zip(windows, batch, strict=True):
        expected = [full_matrix(window, pattern, band) for pattern in patterns]
        np.testing.assert_allclose(row, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(library_distances_scalar(window, patterns, band), expected, rtol=1e-6)
        np.testing.assert_allclose(library_distances_python(window, patterns, band), expected, rtol=1e-6)
        assert dtw_distance(window, patterns[0], band) == pytest.approx(expected[0], rel=1e-12)
        assert dtw_distance_python(window, patterns[0], band) == pytest.approx(expected[0], rel=1e-12)


@pytest.mark.parametrize("count", [1, LANES - 1, LANES, LANES + 1, 100])
def test_product_size_batch_equals_scalar(count: int) -> None:
    patterns, windows = z_normalise(walks(1, count, 64)), z_normalise(walks(2, 4, 64))
    batch = library_distances_batch(windows, pack_patterns(patterns), count, 6)
    assert batch.shape == (4, count)
    assert batch.dtype == np.float32
    assert batch.flags.c_contiguous
    scalar = np.stack([library_distances_scalar(window, patterns, 6) for window in windows])
    np.testing.assert_allclose(batch, scalar, rtol=2e-6)


@pytest.mark.parametrize("steps", [8, 16, 64])
def test_topk_is_a_stable_sort_of_the_batch(steps: int) -> None:
    # few distinct values, and every pattern twice: many ties
    half = np.random.default_rng(steps).integers(-1, 2, (60, steps)).astype(np.float32)
    patterns = np.concatenate((half, half[::-1]))
    windows = np.concatenate((half[:3], walks(4, 3, steps)))
    for band in (0, 2, steps):
        library = pack_library(patterns, band)
        every = library_distances_batch(windows, library.blocks, len(patterns), band)
        order = np.argsort(every, axis=1, kind="stable")
        for k in (1, 10, LANES + 1, len(patterns)):
            indices, distances = library_topk(windows, library, k, band)
            np.testing.assert_array_equal(indices, order[:, :k])
            np.testing.assert_array_equal(distances, np.take_along_axis(every, order, axis=1)[:, :k])


@pytest.mark.parametrize("steps", [16, 64, 128])
def test_topk_of_a_product_size_library(steps: int) -> None:
    patterns, windows = z_normalise(walks(10, 1000, steps)), z_normalise(walks(11, 6, steps))
    library = pack_library(patterns, steps // 10)
    every = library_distances_batch(windows, library.blocks, 1000, steps // 10)
    order = np.argsort(every, axis=1, kind="stable")[:, :10]
    indices, distances = library_topk(windows, library, 10, steps // 10)
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_array_equal(distances, np.take_along_axis(every, order, axis=1))


def test_tie_with_a_bound_equal_to_the_best_distance_goes_to_the_lower_index() -> None:
    window, tight, loose = (np.zeros(16, np.float32) for _ in range(3))
    window[[9, 12]] = 2.0
    # the first value costs 2 and the bound knows it; the spikes fit within the band
    tight[[0, 9, 13]] = -2.0, 2.0, 2.0
    # the same distance, of which the envelopes hide one half
    loose[[4, 10, 11]] = 1.0, 1.0, 2.0
    assert [full_matrix(window, pattern, 1) for pattern in (tight, loose)] == [2.0, 2.0]
    # enough loose ones, all with the lower bound, that they are compared first
    library = pack_library(np.stack([tight] + [loose] * (LANES + 5)), 1)
    indices, distances = library_topk(window[None], library, 1, 1)
    assert (indices[0, 0], distances[0, 0]) == (0, 2.0)


def test_chunks_of_the_python_library_make_the_whole() -> None:
    patterns, window = walks(5, 7, 9), walks(6, 1, 9)[0]
    whole = library_distances_python(window, patterns, 2)
    chunks = [library_distances_python_range(window, patterns, 2, start, min(start + 3, 7)) for start in (0, 3, 6)]
    np.testing.assert_array_equal(np.concatenate(chunks), whole)
    assert library_distances_python_range(window, patterns, 2, 4, 4).size == 0
    with pytest.raises(ValueError, match="patterns 5 to 8"):
        library_distances_python_range(window, patterns, 2, 5, 8)


def test_z_normalise() -> None:
    rows = np.array([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0], [1e9 + 0.1, 1e9 + 0.1, 1e9 + 0.1]])
    out = z_normalise(rows)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out[0], [-math.sqrt(1.5), 0.0, math.sqrt(1.5)], rtol=1e-6)
    np.testing.assert_array_equal(out[1:], 0.0)
    np.testing.assert_allclose(z_normalise(rows[:1].astype(np.float32) * 7 + 3), out[:1], rtol=1e-5)
    assert z_normalise(np.empty((0, 4))).shape == (0, 4)


def test_arrays_that_are_not_contiguous_give_the_right_answer() -> None:
    patterns, windows = walks(7, 40, 32), walks(8, 4, 32)
    blocks = pack_patterns(patterns[::2, ::2])
    strided = library_distances_batch(windows[::2, ::2], blocks, 20, 3)
    plain = library_distances_batch(windows[::2, ::2].copy(), pack_patterns(patterns[::2, ::2].copy()), 20, 3)
    np.testing.assert_array_equal(strided, plain)
    indices, _ = library_topk(windows[::2, ::2], pack_library(patterns[::2, ::2], 3), 1, 3)
    np.testing.assert_array_equal(indices[:, 0], plain.argmin(axis=1))
    np.testing.assert_array_equal(
        library_distances_scalar(windows[0, ::2], patterns[:, ::2], 3),
        library_distances_scalar(windows[0, ::2].copy(), patterns[:, ::2].copy(), 3),
    )


GOOD = walks(9, 3, 8)
PACKED = pack_library(GOOD, 1)
BAD = GOOD.copy()
BAD[1, 2] = np.nan
HUGE = GOOD.copy()
HUGE[0, 0] = np.inf


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: z_normalise(BAD), r"windows\[1, 2\] is nan"),
        (lambda: z_normalise(GOOD.astype(np.int64)), "dtype float64, got int64"),
        (lambda: z_normalise(np.empty((2, 0))), "at least one step"),
        (lambda: dtw_distance(GOOD[0], GOOD[1][:5], 1), "same length, got 8 and 5"),
        (lambda: dtw_distance_python(GOOD[0][:0], GOOD[1][:0], 1), "a must have 1 step or more"),
        (lambda: dtw_distance(GOOD[0], BAD[1], 1), r"b\[2\] is nan"),
        (lambda: dtw_distance(GOOD[0], GOOD[1], -1), "band must be"),
        (lambda: dtw_distance(GOOD[0], GOOD[1], 1.5), "band must be"),
        (lambda: dtw_distance([1.0], [2.0], 1), "numpy array"),
        (lambda: library_distances_python(GOOD[0], BAD, 1), r"patterns\[1, 2\] is nan"),
        (lambda: library_distances_scalar(GOOD[0], GOOD[:, :4].copy(), 1), "8 steps, the patterns 4"),
        (lambda: library_distances_scalar(GOOD[0].astype(np.float64), GOOD, 1), "dtype float32, got float64"),
        (lambda: pack_patterns(HUGE), r"patterns\[0, 0\] is inf"),
        (lambda: pack_patterns(np.full((1, 4), 2e15, np.float32)), "up to 1e\\+15"),
        (lambda: pack_patterns(GOOD[:0]), "at least one pattern"),
        (lambda: pack_patterns(GOOD[0]), "two dimensions"),
        (lambda: library_distances_batch(BAD, PACKED.blocks, 3, 1), r"windows\[1, 2\] is nan"),
        (lambda: library_distances_batch(GOOD, PACKED.blocks, LANES + 1, 1), "need"),
        (lambda: library_distances_batch(GOOD, PACKED.blocks, 0, 1), "need"),
        (lambda: library_distances_batch(GOOD[:, :4].copy(), PACKED.blocks, 3, 1), "need"),
        (lambda: library_topk(GOOD, PACKED, 4, 1), "between 1 and the 3 patterns"),
        (lambda: library_topk(GOOD, PACKED, 0, 1), "between 1 and the 3 patterns"),
        (lambda: library_topk(GOOD, PACKED, 1, 2), "packed for band 1, not 2"),
        (lambda: library_topk(GOOD[:, :4].copy(), PACKED, 1, 1), "4 steps, the library's patterns 8"),
    ],
)
def test_bad_input_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_no_window_gives_an_empty_answer() -> None:
    assert library_distances_batch(GOOD[:0], PACKED.blocks, 3, 1).shape == (0, 3)
    assert library_topk(GOOD[:0], PACKED, 2, 1)[0].shape == (0, 2)


NARROW = """
import numpy as np
from kernels.dtw import library_distances_scalar, z_normalise
from kernels.dtw_topk import library_distances_batch, library_topk, pack_library
from kernels.simd import LANES
assert LANES == 16, LANES
rows = z_normalise(np.random.default_rng(3).standard_normal((60, 33)).cumsum(axis=1))
library = pack_library(rows[:50], 3)
every = library_distances_batch(rows[50:], library.blocks, 50, 3)
scalar = np.stack([library_distances_scalar(window, rows[:50], 3) for window in rows[50:]])
np.testing.assert_allclose(every, scalar, rtol=2e-6)
indices, distances = library_topk(rows[50:], library, 5, 3)
np.testing.assert_array_equal(indices, np.argsort(every, axis=1, kind="stable")[:, :5])
print("equal")
"""


def test_processor_without_wide_registers_computes_the_same(tmp_path: Path) -> None:
    plain = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", NARROW], env=os.environ | plain, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.strip() == "equal", done.stderr
