"""Microprice and order-flow imbalance against their definitions, and step by step against the series."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.quotes import FlowImbalance, microprice, order_flow_imbalance

Quotes = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def quotes(seed: int, n: int, t: int) -> Quotes:
    """Whole ticks and lots that wander, with empty sides now and then."""
    random = np.random.default_rng(seed)
    bid = 100.0 + random.integers(-1, 2, (n, t)).cumsum(axis=1)
    ask = bid + random.integers(1, 4, (n, t))
    return bid, random.integers(0, 50, (n, t)) * 1.0, ask, random.integers(0, 50, (n, t)) * 1.0


def test_the_microprice_leans_to_the_thinner_side() -> None:
    one = [np.array([[value]]) for value in (100.0, 30.0, 102.0, 10.0)]
    assert microprice(*one) == pytest.approx(101.5)
    empty = [np.array([[value]]) for value in (100.0, 0.0, 102.0, 0.0)]
    assert np.isnan(microprice(*empty))


@given(st.integers(0, 1000), st.integers(1, 3), st.integers(1, 30))
def test_the_microprice_lies_between_bid_and_ask(seed: int, n: int, t: int) -> None:
    bid, bid_size, ask, ask_size = quotes(seed, n, t)
    found = microprice(bid, bid_size, ask, ask_size)
    known = ~np.isnan(found)
    assert (known == (bid_size + ask_size > 0)).all()
    assert (found[known] >= bid[known] - 1e-9).all()
    assert (found[known] <= ask[known] + 1e-9).all()


def by_definition(row: list[tuple[float, float, float, float]], period: int) -> float:
    """Cont, Kukanov and Stoikov 2014, eq. 3 and 4, of the last `period` changes."""
    total = 0.0
    for (bid0, bid_size0, ask0, ask_size0), (bid, bid_size, ask, ask_size) in pairwise(row):
        total += (bid_size if bid >= bid0 else 0.0) - (bid_size0 if bid <= bid0 else 0.0)
        total -= (ask_size if ask <= ask0 else 0.0) - (ask_size0 if ask >= ask0 else 0.0)
    return total


@given(st.integers(0, 1000), st.integers(1, 3), st.integers(2, 30), st.integers(1, 10))
def test_the_series_is_its_definition_and_steps_are_the_series(seed: int, n: int, t: int, period: int) -> None:
    data = quotes(seed, n, t)
    series = order_flow_imbalance(*data, period)
    flow = FlowImbalance(n, period)
    for step in range(t):
        sums = flow.step(*(each[:, step] for each in data))
        assert flow.steps == min(step, period)
        if step < period:
            assert np.isnan(series[:, step]).all()
            continue
        np.testing.assert_array_equal(sums, series[:, step])
        for row in range(n):
            seen = [tuple(float(each[row, at]) for each in data) for at in range(step - period, step + 1)]
            assert sums[row] == by_definition(seen, period)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "text"),
    [((2, 99.0), "below the bid"), ((1, -1.0), "negative"), ((0, np.nan), "bid_price"), ((3, np.inf), "ask_size")],
)
def test_quotes_that_make_no_sense_are_refused_and_change_nothing(change: tuple[int, float], text: str) -> None:
    good = [np.array([value]) for value in (100.0, 10.0, 101.0, 10.0)]
    flow = FlowImbalance(1, 3)
    flow.step(*good)
    bad = [each.copy() for each in good]
    bad[change[0]][0] = change[1]
    with pytest.raises(ValueError, match=text):
        flow.step(*bad)
    assert flow.steps == 0
    with pytest.raises(ValueError, match="period"):
        FlowImbalance(1, 0)
    with pytest.raises(ValueError, match="2 quotes for 1"):
        flow.step(*(np.repeat(each, 2) for each in good))
