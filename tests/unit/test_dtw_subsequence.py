"""Subsequence search against the distances of every window."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from kernels.dtw import z_normalise
from kernels.dtw_batch import library_distances_batch, pack_patterns
from kernels.dtw_subsequence import CHUNK, subsequence_search
from kernels.simd import LANES


def every_distance(query: NDArray[np.float64], series: NDArray[np.float64], band: int) -> NDArray[np.float32]:
    windows = z_normalise(sliding_window_view(series, query.size))
    return library_distances_batch(z_normalise(query[None]), pack_patterns(windows), len(windows), band)[0]


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(0, 2 * CHUNK),
    st.integers(0, 40),
    st.integers(-6, 6),
    st.sampled_from([0.0, 1.0, 1e4, 1e8]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_finds_what_the_distances_of_all_windows_say(
    steps: int, more: int, band: int, magnitude: int, offset: float, whole: bool, seed: int
) -> None:
    random = np.random.default_rng(seed)
    series = offset + random.standard_normal(steps + more).cumsum() * 10.0**magnitude
    if whole:
        # ties, and stretches that do not move
        series = np.round(series)
    query = random.standard_normal(steps).cumsum()
    every = every_distance(query, series, band)
    start, distance = subsequence_search(query, series, band)
    assert distance == pytest.approx(float(every.min()), rel=2e-5, abs=2e-5)
    assert every[start] == pytest.approx(float(every.min()), rel=2e-5, abs=2e-5)


@pytest.mark.parametrize("start", [0, 1, LANES - 1, LANES, CHUNK - 1, CHUNK, CHUNK + 1, 3_000 - 64])
def test_finds_a_planted_copy_wherever_it_lies(start: int) -> None:
    random = np.random.default_rng(start)
    series = random.standard_normal(3_000).cumsum()
    query = 5.0 + 3.0 * series[start : start + 64]
    assert subsequence_search(query, series, 6) == (start, pytest.approx(0.0, abs=1e-5))


def test_first_of_equal_windows_and_constant_ones() -> None:
    period = np.sin(np.arange(16) * np.pi / 8).round(3)
    series = np.tile(period, 200)
    assert subsequence_search(period, series, 2) == (0, pytest.approx(0.0, abs=1e-5))
    flat = np.full(500, 1e8)
    assert subsequence_search(np.zeros(10), flat, 1) == (0, 0.0)
    # a constant window is zeros, and the query keeps its length
    assert subsequence_search(np.arange(4.0), flat, 0) == (0, pytest.approx(2.0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: subsequence_search(np.zeros(5), np.zeros(4), 1), "at least"),
        (lambda: subsequence_search(np.zeros(0), np.zeros(4), 1), "1 step or more"),
        (lambda: subsequence_search(np.array([np.nan]), np.zeros(4), 1), "is nan"),
        (lambda: subsequence_search(np.zeros(2), np.array([0.0, np.inf]), 1), r"series\[1\] is inf"),
        (lambda: subsequence_search(np.zeros(2), np.zeros(4, np.float32), 1), "dtype float64"),
        (lambda: subsequence_search(np.zeros(2), np.zeros((2, 2)), 1), "one dimension"),
        (lambda: subsequence_search(np.zeros(2), np.zeros(4), -1), "band must be"),
    ],
)
def test_bad_input_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
