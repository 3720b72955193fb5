"""Two engines written apart, plain Python and compiled, agree on every trade, fee, outcome and queue."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from core.bench.order_streams import random_messages, run_plain
from core.venue.fees import FeeSchedule
from kernels import order_book as kernel

FEES = FeeSchedule(maker_ppm=500, taker_ppm=1_000)
LADDER = 2_000


def check_agreement(count: int, seed: int, prevention: int) -> kernel.Matched:
    messages = random_messages(count, seed, LADDER)
    ours = kernel.match_messages(messages, LADDER, prevention, FEES.maker_ppm, FEES.taker_ppm)
    plain = run_plain(messages, prevention, FEES)
    np.testing.assert_array_equal(ours.outcomes, plain.outcomes)
    np.testing.assert_array_equal(ours.trades, plain.trades)
    np.testing.assert_array_equal(ours.resting, plain.resting)
    return ours


@pytest.mark.parametrize("prevention", [kernel.EXPIRE_TAKER, kernel.EXPIRE_MAKER, kernel.EXPIRE_BOTH])
def test_a_long_stream(prevention: int) -> None:
    matched = check_agreement(40_000, seed=prevention, prevention=prevention)
    assert len(matched.trades) > 5_000
    never = {kernel.SELF_TRADE} if prevention == kernel.EXPIRE_MAKER else set()
    assert set(matched.outcomes[:, 0].tolist()) == set(range(7)) - never, "every outcome must have come up"
    best_bid = matched.resting[matched.resting[:, 2] == 1][0, 3]
    best_ask = matched.resting[matched.resting[:, 2] == -1][0, 3]
    assert best_bid < best_ask


@pytest.mark.prove
def test_a_million_messages() -> None:
    matched = check_agreement(1_000_000, seed=2026, prevention=kernel.EXPIRE_TAKER)
    assert len(matched.trades) > 100_000


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2), st.integers(1, 300))
def test_short_streams(seed: int, prevention: int, count: int) -> None:
    matched = check_agreement(count, seed, prevention)
    messages = random_messages(count, seed, LADDER)
    orders = messages[messages[:, 0] == kernel.ORDER]
    traded = matched.trades[:, 4].sum()
    assert 2 * traded + matched.resting[:, 4].sum() <= orders[:, 5].sum(), "lots were made out of nothing"


@pytest.mark.parametrize(
    ("column", "value", "text"), [(1, -1, "ids"), (1, 99, "ids"), (4, LADDER, "prices"), (5, 0, "quantities")]
)
def test_messages_out_of_range_are_refused_whole(column: int, value: int, text: str) -> None:
    messages = np.array([[kernel.ORDER, 0, 1, 1, 10, 5, kernel.GTC]], np.int64)
    messages[0, column] = value
    with pytest.raises(ValueError, match=text):
        kernel.match_messages(messages, LADDER, kernel.EXPIRE_TAKER, 0, 0)


def test_an_id_used_twice_and_a_wrong_shape_are_refused() -> None:
    row = [kernel.ORDER, 0, 1, 1, 10, 5, kernel.GTC]
    with pytest.raises(ValueError, match="twice"):
        kernel.match_messages(np.array([row, row], np.int64), LADDER, kernel.EXPIRE_TAKER, 0, 0)
    with pytest.raises(ValueError, match="want int64"):
        kernel.match_messages(np.zeros((2, 3), np.int64), LADDER, kernel.EXPIRE_TAKER, 0, 0)
