"""Windows that slide: at every step what the whole window gives when it is begun anew."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kernels import readiness
from kernels.dtw import z_normalise
from kernels.dtw_sliding import SlidingWindows, slide, start_sliding
from kernels.dtw_topk import library_topk, pack_library, pattern_envelopes

prices = st.one_of(
    st.integers(1, 200).map(float),
    st.floats(1e-3, 1e6),
    st.sampled_from([1e-9, 1e14, -1e14, 1e-162, 0.0, 50_000.01, 50_000.02]),
)


def check(state: SlidingWindows, values: np.ndarray) -> None:
    """Against the batch forms of the same windows."""
    np.testing.assert_array_equal(state.values, values)
    np.testing.assert_allclose(state.windows, z_normalise(values), rtol=2e-7, atol=2e-7)
    # to the bit: normalising is monotone
    for place, bound in enumerate(pattern_envelopes(state.windows, state.band)):
        np.testing.assert_array_equal(state.hulls[:, place], bound)
    for place, bound in enumerate(pattern_envelopes(state.values, state.band)):
        np.testing.assert_array_equal(state.envelopes[:, place], bound)


@given(st.integers(1, 24), st.integers(0, 30), st.lists(prices, min_size=30, max_size=90))
@example(4, 1, [1.0, 2.0, 3.0, 1e14, *[1.0, 2.0] * 20])
@example(8, 2, [1e-162, 2e-162, 5e-162, 1e-162, 3e-162, 2e-162, 1e-162, 9e-162, 4e-162, 1.0, 2.0, *[3.0] * 20])
@settings(max_examples=150, deadline=None)
def test_each_step_equals_the_window_begun_anew(m: int, band: int, series: list[float]) -> None:
    values = np.array([series, series[::-1]])
    state = start_sliding(np.ascontiguousarray(values[:, :m]), band)
    check(state, values[:, :m])
    for end in range(m + 1, len(series) + 1):
        slide(state, values[:, end - 1])
        check(state, values[:, end - m : end])


def test_sums_do_not_drift_over_a_long_random_walk() -> None:
    walk = np.exp(np.random.default_rng(5).standard_normal((3, 20_000)).cumsum(axis=1) * 0.01) * 1e4
    state = start_sliding(walk[:, :64].copy(), 6)
    for end in range(65, walk.shape[1] + 1):
        slide(state, walk[:, end - 1])
        if end % 997 == 0 or end == walk.shape[1]:
            check(state, walk[:, end - 64 : end])


def test_search_by_the_known_envelopes_is_the_same_search() -> None:
    walk = np.random.default_rng(6).standard_normal((1_040, 80)).cumsum(axis=1)
    library = pack_library(z_normalise(walk[40:, :64].copy()), 6)
    state = start_sliding(walk[:40, :64].copy(), 6)
    for end in range(65, 81):
        slide(state, walk[:40, end - 1])
        known = library_topk(state.windows, library, 10, 6, state.hulls)
        for one, other in zip(known, library_topk(state.windows, library, 10, 6), strict=True):
            np.testing.assert_array_equal(one, other)


def test_numpy_until_it_is_compiled_and_on_from_there() -> None:
    values = np.random.default_rng(7).standard_normal((5, 90)).cumsum(axis=1)
    readiness.postpone(["dtw_sliding"])
    try:
        state = start_sliding(values[:, :30].copy(), 3)
        for end in range(31, 50):
            slide(state, values[:, end - 1])
            check(state, values[:, end - 30 : end])
    finally:
        readiness.load("dtw_sliding", lambda: None)
    for end in range(50, 91):
        slide(state, values[:, end - 1])
        check(state, values[:, end - 30 : end])


def test_bad_input_is_refused_whole() -> None:
    values = np.arange(12.0).reshape(2, 6)
    state = start_sliding(values, 1)
    before = [array.copy() for array in state[:-1]]
    for newest in (np.array([1.0, np.nan]), np.array([1.0]), np.array([1.0, 1e16]), np.ones(2, np.float32)):
        with pytest.raises(ValueError, match=r"newest|new values"):
            slide(state, newest)
    for array, old in zip(state[:-1], before, strict=True):
        np.testing.assert_array_equal(array, old)
    np.testing.assert_array_equal(values, np.arange(12.0).reshape(2, 6))
    with pytest.raises(ValueError, match="at least one step"):
        start_sliding(np.zeros((2, 0)), 1)
    library = pack_library(z_normalise(values), 1)
    with pytest.raises(ValueError, match="hulls have shape"):
        library_topk(state.windows, library, 1, 1, state.hulls[:1])
