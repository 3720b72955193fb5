"""Warping paths and regions: worked examples, published masks, and what holds for any input."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from kernels.dtw import dtw_distance
from kernels.dtw_path import Region, dtw_distance_within, dtw_path, itakura, sakoe_chiba

Series = NDArray[np.float64]


def cells(region: Region) -> NDArray[np.bool_]:
    columns = np.arange(region.columns)
    return (region.first[:, None] <= columns) & (columns < region.stop[:, None])


def by_definition(a: Series, b: Series, allowed: NDArray[np.bool_]) -> float:
    cost = np.full((len(a) + 1, len(b) + 1), np.inf)
    cost[0, 0] = 0.0
    for i, j in np.argwhere(allowed):
        step = min(cost[i, j], cost[i, j + 1], cost[i + 1, j])
        cost[i + 1, j + 1] = (a[i] - b[j]) ** 2 + step
    return math.sqrt(cost[-1, -1])


def test_itakura_of_six_steps_is_the_published_mask() -> None:
    # the example of tslearn's documentation of itakura_mask(6, 6)
    published = ["*.....", ".**...", ".***..", "..***.", "...**.", ".....*"]
    assert ["".join(".*"[int(cell)] for cell in row) for row in cells(itakura(6, 6))] == published


def test_band_of_equal_lengths_is_the_distance_from_the_diagonal() -> None:
    i, j = np.indices((7, 7))
    for band in range(8):
        np.testing.assert_array_equal(cells(sakoe_chiba(7, 7, band)), abs(i - j) <= band)


def test_path_worked_by_hand() -> None:
    distance, path = dtw_path(np.array([0.0, 1.0, 2.0]), np.array([0.0, 0.0, 1.0, 2.0]), sakoe_chiba(3, 4, 1))
    assert distance == 0.0
    assert path.tolist() == [[0, 0], [0, 1], [1, 2], [2, 3]]
    distance, path = dtw_path(np.array([1.0, 4.0]), np.array([2.0]), sakoe_chiba(2, 1, 0))
    assert (distance, path.tolist()) == (math.sqrt(5.0), [[0, 0], [1, 0]])


VALUES = st.floats(-1e6, 1e6) | st.integers(-2, 2).map(float)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Series, Series, Region]:
    n, m = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    a = draw(arrays(np.float64, n, elements=VALUES))
    b = draw(arrays(np.float64, m, elements=VALUES))
    if draw(st.booleans()):
        return a, b, sakoe_chiba(n, m, draw(st.integers(24, 30)) if n != m else draw(st.integers(0, 30)))
    try:
        return a, b, itakura(n, m, draw(st.floats(1.5, 8.0)))
    except ValueError:
        reject()


@settings(max_examples=150, deadline=None)
@given(pairs())
def test_path_is_whole_cheapest_and_within_its_region(case: tuple[Series, Series, Region]) -> None:
    a, b, region = case
    allowed = cells(region)
    distance, path = dtw_path(a, b, region)
    assert distance == dtw_distance_within(a, b, region)
    assert distance == pytest.approx(by_definition(a, b, allowed), rel=1e-12)
    assert path[0].tolist() == [0, 0]
    assert path[-1].tolist() == [len(a) - 1, len(b) - 1]
    assert {tuple(step) for step in np.diff(path, axis=0)} <= {(0, 1), (1, 0), (1, 1)}
    assert allowed[path[:, 0], path[:, 1]].all()
    assert math.sqrt(((a[path[:, 0]] - b[path[:, 1]]) ** 2).sum()) == pytest.approx(distance, rel=1e-9)


@settings(max_examples=100, deadline=None)
@given(pairs(), st.integers(0, 30))
def test_band_is_symmetric_and_widening_it_never_raises_the_distance(
    case: tuple[Series, Series, Region], band: int
) -> None:
    a, b, _ = case
    try:
        region = sakoe_chiba(len(a), len(b), band)
    except ValueError:
        with pytest.raises(ValueError, match="is the least"):
            sakoe_chiba(len(b), len(a), band)
        return
    distance = dtw_distance_within(a, b, region)
    swapped = sakoe_chiba(len(b), len(a), band)
    np.testing.assert_array_equal(cells(region), cells(swapped).T)
    assert distance == pytest.approx(dtw_distance_within(b, a, swapped), rel=1e-12)
    assert math.isfinite(distance)
    assert dtw_distance_within(a, b, sakoe_chiba(len(a), len(b), band + 1)) <= distance
    if len(a) == len(b):
        assert distance == dtw_distance(a, b, band)


@pytest.mark.parametrize("n", range(2, 15))
@pytest.mark.parametrize("m", range(2, 15))
def test_least_band_is_the_least_that_a_path_gets_through(n: int, m: int) -> None:
    i, j = np.indices((n, m))
    off = abs(i * (m - 1) - j * (n - 1))

    def gets_through(band: int) -> bool:
        return math.isfinite(by_definition(np.zeros(n), np.zeros(m), off <= band * (min(n, m) - 1)))

    least = next(band for band in range(max(n, m)) if gets_through(band))
    np.testing.assert_array_equal(cells(sakoe_chiba(n, m, least)), off <= least * (min(n, m) - 1))
    for band in range(least):
        with pytest.raises(ValueError, match=rf"of {band} lets no path .* {least} is the least"):
            sakoe_chiba(n, m, band)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sakoe_chiba(0, 3, 1), "0 and 3 steps"),
        (lambda: sakoe_chiba(3, 9, 1), "2 is the least"),
        (lambda: sakoe_chiba(3, 3, -1), "band must be"),
        (lambda: itakura(5, 5, 1.0), "above 1"),
        (lambda: itakura(3, 2, 1.1), "give a larger one"),
        (lambda: dtw_path(np.zeros(3), np.zeros(4), sakoe_chiba(3, 3, 1)), "for 3 and 3 steps, a has 3 and b 4"),
        (lambda: dtw_path(np.zeros(0), np.zeros(1), sakoe_chiba(1, 1, 1)), "a must have 1 step or more"),
        (lambda: dtw_path(np.array([np.nan]), np.zeros(1), sakoe_chiba(1, 1, 1)), r"a\[0\] is nan"),
        (lambda: dtw_path(np.zeros(2), np.array([0.0, np.inf]), sakoe_chiba(2, 2, 1)), r"b\[1\] is inf"),
        (lambda: dtw_path(np.zeros(2, np.int64), np.zeros(2), sakoe_chiba(2, 2, 1)), "dtype float64, got int64"),
    ],
)
def test_bad_input_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_strided_series_give_the_right_answer() -> None:
    a, b = np.arange(12.0)[::2], np.arange(16.0, dtype=np.float32)[::2]
    region = sakoe_chiba(6, 8, 2)
    assert dtw_distance_within(a, b, region) == dtw_distance_within(a.copy(), b.copy(), region)
