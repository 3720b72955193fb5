"""What must hold of DTW for any input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from kernels.dtw import dtw_distance, dtw_distance_python, library_distances_scalar, z_normalise
from kernels.dtw_batch import library_distances_batch, pack_patterns
from kernels.dtw_topk import _lower_bounds, envelope, library_topk, pack_library

Rows = NDArray[np.float32]
VALUES = st.floats(-1e6, 1e6, width=32)
# few distinct values, so that equal distances are common
COARSE = st.integers(-2, 2).map(float)


@st.composite
def libraries(draw: st.DrawFn, values: st.SearchStrategy[float] = VALUES) -> tuple[Rows, Rows, int]:
    """Windows, patterns and a band."""
    steps = draw(st.integers(1, 40))
    windows = draw(arrays(np.float32, (draw(st.integers(1, 3)), steps), elements=values))
    patterns = draw(arrays(np.float32, (draw(st.integers(1, 70)), steps), elements=values))
    return windows, patterns, draw(st.integers(0, steps))


@settings(max_examples=80, deadline=None)
@given(libraries())
def test_pair_is_symmetric_zero_to_itself_and_monotone_in_the_band(case: tuple[Rows, Rows, int]) -> None:
    windows, patterns, band = case
    a, b = windows[0], patterns[0]
    distance = dtw_distance(a, b, band)
    assert distance == pytest.approx(dtw_distance(b, a, band), rel=1e-12)
    assert distance == pytest.approx(dtw_distance_python(a, b, band), rel=1e-12)
    assert dtw_distance(a, a, band) == 0.0
    assert dtw_distance(a, b, band + 1) <= distance
    assert dtw_distance(a, b, 0) == pytest.approx(float(np.linalg.norm(a.astype(np.float64) - b)), rel=1e-12)


@settings(max_examples=80, deadline=None)
@given(libraries())
def test_batch_equals_pairs_to_float32_rounding(case: tuple[Rows, Rows, int]) -> None:
    windows, patterns, band = case
    batch = library_distances_batch(windows, pack_patterns(patterns), len(patterns), band)
    pairs = np.stack([library_distances_scalar(window, patterns, band) for window in windows])
    # a difference below the square root of the smallest float32 squares to nothing
    np.testing.assert_allclose(batch, pairs, rtol=1e-5, atol=1e-18)


@settings(max_examples=120, deadline=None)
@given(libraries() | libraries(COARSE), st.integers(1, 70))
def test_pruned_search_equals_brute_force_exactly(case: tuple[Rows, Rows, int], k: int) -> None:
    windows, patterns, band = case
    k = min(k, len(patterns))
    library = pack_library(patterns, band)
    every = library_distances_batch(windows, library.blocks, len(patterns), band)
    order = np.argsort(every, axis=1, kind="stable")[:, :k]
    indices, distances = library_topk(windows, library, k, band)
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_array_equal(distances, np.take_along_axis(every, order, axis=1))


def lower_bounds(window: Rows, patterns: Rows, band: int) -> Rows:
    """The compiled bounds that the search prunes by."""
    library = pack_library(patterns, band)
    hull = np.empty((2, window.size), np.float32)
    envelope(window, band, hull[0], hull[1])
    bounds = np.empty(library.blocks.size // window.size, np.float32)
    flat = (library.blocks.reshape(-1), library.lower.reshape(-1), library.upper.reshape(-1))
    _lower_bounds(window, hull, *flat, bounds)
    return bounds[: len(patterns)]


@settings(max_examples=150, deadline=None)
@given(libraries(st.floats(-1.0, 1.0, width=32)) | libraries(COARSE) | libraries())
def test_bounds_never_exceed_the_computed_distance_by_a_single_bit(case: tuple[Rows, Rows, int]) -> None:
    windows, patterns, band = case
    distances = library_distances_batch(windows[:1], pack_patterns(patterns), len(patterns), band)[0]
    assert (lower_bounds(windows[0], patterns, band) <= distances).all()


def test_bounds_are_tight_enough_to_prune() -> None:
    walks = np.random.default_rng(0).standard_normal((400, 64)).cumsum(axis=1)
    rows = z_normalise(walks)
    distances = library_distances_batch(rows[:1], pack_patterns(rows), 400, 6)[0]
    bounds = lower_bounds(rows[0], rows, 6)
    assert np.median(bounds[1:] / distances[1:]) > 0.5


@settings(max_examples=80, deadline=None)
@given(libraries())
def test_envelopes_bound_the_patterns_and_so_the_distance(case: tuple[Rows, Rows, int]) -> None:
    windows, patterns, band = case
    n, steps = patterns.shape
    library = pack_library(patterns, band)
    lower = library.lower.transpose(0, 2, 1).reshape(-1, steps)[:n]
    upper = library.upper.transpose(0, 2, 1).reshape(-1, steps)[:n]
    for i in range(steps):
        near = patterns[:, max(0, i - band) : i + band + 1]
        np.testing.assert_array_equal(lower[:, i], near.min(axis=1))
        np.testing.assert_array_equal(upper[:, i], near.max(axis=1))
    outside = np.maximum(np.maximum(windows[0] - upper, lower - windows[0]), 0.0).astype(np.float64)
    bound = np.sqrt((outside**2).sum(axis=1))
    assert (bound <= library_distances_scalar(windows[0], patterns, band) * (1 + 1e-5)).all()


@settings(max_examples=60, deadline=None)
@given(arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 20)), elements=st.floats(-1e6, 1e6)))
@example(np.array([[7.61831344e-162, 0.0]]))
@example(np.array([[5e-324, 0.0], [1e-160, -1e-161]]))
def test_z_normalised_rows_have_mean_zero_and_deviation_one_or_are_zero(rows: NDArray[np.float64]) -> None:
    out = z_normalise(rows).astype(np.float64)
    assert np.isfinite(out).all()
    for row in out:
        assert abs(row.mean()) < 1e-5
        assert row.std() == pytest.approx(1.0, abs=1e-5) or not row.any()


@settings(max_examples=40, deadline=None)
@given(libraries(), st.sampled_from([np.nan, np.inf, -np.inf, 1e30]), st.data())
def test_a_single_bad_number_is_refused(case: tuple[Rows, Rows, int], bad: float, data: st.DataObject) -> None:
    windows, patterns, band = case
    blocks = pack_patterns(patterns)
    spoiled = windows.copy()
    spoiled.flat[data.draw(st.integers(0, spoiled.size - 1))] = bad
    with pytest.raises(ValueError, match="only finite numbers"):
        library_distances_batch(spoiled, blocks, len(patterns), band)
    spoiled = patterns.copy()
    spoiled.flat[data.draw(st.integers(0, spoiled.size - 1))] = bad
    with pytest.raises(ValueError, match="only finite numbers"):
        pack_library(spoiled, band)
