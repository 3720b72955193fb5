"""Limits: every veto at its edge, against proposals of a leader that lies, and the router."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.decision import PROPOSAL_DTYPE, Veto
from core.limits import Limits, check, is_critical, limits_for_equity
from core.portfolio import Fill, Portfolio

LIMITS = Limits(
    order_notional_max=1_000,
    position_notional_max=2_000,
    gross_exposure_max=4_000,
    gross_exposure_soft=3_000,
    critical_notional=500,
    price_band_bps=100,
)
MARKS = np.array([100, 100, 100, 100])


def rows(*orders: tuple[int, int, int, int]) -> np.ndarray:
    """(instrument, side, quantity, price) each."""
    out = np.zeros(len(orders), PROPOSAL_DTYPE)
    for row, (instrument, side, quantity, price) in zip(out, orders, strict=True):
        row["instrument"], row["side"], row["quantity"], row["limit_price"] = instrument, side, quantity, price
    return out


def holding(*positions: int) -> Portfolio:
    portfolio = Portfolio(4, 100_000)
    portfolio.apply(
        Fill(f"p{i}", i, i, 1 if lots > 0 else -1, abs(lots), 100, 0, 0) for i, lots in enumerate(positions) if lots
    )
    return portfolio


def codes(portfolio: Portfolio, *orders: tuple[int, int, int, int]) -> list[int]:
    return check(rows(*orders), portfolio, MARKS, LIMITS).tolist()


def test_each_limit_at_its_edge() -> None:
    flat = holding()
    assert codes(flat, (0, 1, 10, 100)) == [Veto.NONE]
    assert codes(flat, (0, 1, 11, 100)) == [Veto.NOTIONAL_LIMIT]
    assert codes(flat, (0, 1, 5, 102)) == [Veto.NONE]
    assert codes(flat, (0, 1, 5, 103)) == [Veto.PRICE_BAND]
    assert codes(flat, (0, -1, 5, 97)) == [Veto.PRICE_BAND]
    dear = np.array([1_000] * 4)
    wide = rows((0, 1, 1, 1_000 + 10), (1, 1, 1, 1_000 + 11))
    assert check(wide, flat, dear, Limits(10_000, 20_000, 40_000, 30_000, 500)).tolist() == [0, Veto.PRICE_BAND]
    assert codes(holding(15), (0, 1, 5, 100)) == [Veto.NONE]
    assert codes(holding(15), (0, 1, 6, 100)) == [Veto.POSITION_LIMIT]
    assert codes(holding(15, 15), (2, 1, 10, 100)) == [Veto.NONE]
    assert codes(holding(15, -15, 5), (2, 1, 6, 100)) == [Veto.EXPOSURE_LIMIT]
    assert codes(flat, (0, 0, 0, 100), (1, 0, 0, 0)) == [Veto.NONE, Veto.NONE]


def test_rows_count_on_top_of_those_that_passed() -> None:
    portfolio = holding(20, 15)
    # 3,500 held; the second row no longer fits, the smaller third one does.
    assert codes(portfolio, (2, 1, 3, 100), (3, 1, 3, 100), (1, 1, 2, 100)) == [
        Veto.NONE,
        Veto.EXPOSURE_LIMIT,
        Veto.NONE,
    ]


def test_what_reduces_always_passes() -> None:
    portfolio = holding(45, -20)
    assert codes(portfolio, (0, -1, 45, 100), (1, 1, 20, 100)) == [Veto.NONE, Veto.NONE]
    # One lot beyond flat is a new position and a large order.
    assert codes(portfolio, (0, -1, 46, 100)) == [Veto.NOTIONAL_LIMIT]


def test_orders_in_flight_count_at_their_worst() -> None:
    portfolio = holding(10)
    portfolio.reserve("a", 0, 1, 8, 100)
    assert codes(portfolio, (0, 1, 3, 100)) == [Veto.POSITION_LIMIT]
    portfolio.reserve("b", 0, -1, 10, 100)
    # The sale in flight closes all that is held, so another sale opens a short and is no reduction.
    assert codes(portfolio, (0, -1, 11, 100)) == [Veto.NOTIONAL_LIMIT]
    portfolio.release("a")
    assert codes(portfolio, (0, 1, 3, 100)) == [Veto.NONE]


def test_an_instrument_named_twice_is_a_duplicate() -> None:
    assert codes(holding(), (0, 1, 5, 100), (0, 0, 0, 100), (0, 1, 5, 100), (1, 1, 5, 100)) == [0, 0, Veto.DUPLICATE, 0]


def test_lies_are_vetoed_not_believed() -> None:
    flat = holding()
    huge = np.iinfo(np.int64).max
    lies = [(0, 1, huge, 100), (0, 1, 2**40, 2**40), (0, 1, -5, 100), (0, 2, 5, 100), (0, 0, 5, 100), (9, 1, 5, 100)]
    lies += [(65535, 0, 0, 0), (0, 1, 5, huge), (0, 1, 5, 0), (0, -1, 5, -100), (0, -128, 5, 100)]
    for lie in lies:
        assert codes(flat, lie) == [Veto.NOTIONAL_LIMIT], lie
        assert bool(is_critical(rows(lie), flat, MARKS, LIMITS)[0]), lie
    confident = rows((0, 1, 5, 100))
    confident["confidence"] = np.nan
    assert check(confident, flat, MARKS, LIMITS).tolist() == [Veto.NOTIONAL_LIMIT]
    with pytest.raises(TypeError, match="PROPOSAL_DTYPE"):
        check(np.zeros(1), flat, MARKS, LIMITS)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 5),
            st.integers(-2, 2),
            st.integers(-(2**62), 2**62) | st.integers(1, 60),
            st.integers(90, 110),
        ),
        max_size=12,
    ),
    st.tuples(*[st.integers(-25, 25)] * 4),
)
@settings(max_examples=150, deadline=None)
def test_whatever_passes_keeps_the_limits_or_reduces(
    orders: list[tuple[int, int, int, int]], held: tuple[int, int, int, int]
) -> None:
    portfolio = holding(*held)
    proposals = rows(*orders)
    passed = proposals[(check(proposals, portfolio, MARKS, LIMITS) == 0) & (proposals["side"] != 0)]
    after = portfolio.positions.copy()
    for order in passed:
        i, before = int(order["instrument"]), int(after[int(order["instrument"])])
        after[i] += int(order["side"]) * int(order["quantity"])
        reduces = before * int(order["side"]) < 0 and int(order["quantity"]) <= abs(before)
        assert reduces or int(order["quantity"]) * int(order["limit_price"]) <= LIMITS.order_notional_max
        assert abs(int(after[i])) * 100 <= max(LIMITS.position_notional_max, abs(before) * 100)
    gross_before, gross_after = int(np.abs(portfolio.positions).sum()) * 100, int(np.abs(after).sum()) * 100
    assert gross_after <= max(LIMITS.gross_exposure_max, gross_before)


def test_the_router() -> None:
    flat, heavy = holding(), holding(20, 8)
    assert is_critical(rows((0, 1, 5, 100), (1, 1, 6, 100), (2, 0, 0, 100)), flat, MARKS, LIMITS).tolist() == [
        False,
        True,
        False,
    ]
    # 2,800 held, soft limit 3,000: the first addition fits, the next is beyond; a reduction is not critical.
    critical = is_critical(rows((1, 1, 2, 100), (2, 1, 1, 100), (0, -1, 5, 100)), heavy, MARKS, LIMITS)
    assert critical.tolist() == [False, True, False]


def test_limits_refuse_nonsense() -> None:
    with pytest.raises(ValueError, match="order_notional_max"):
        limits_for_equity(0)
    with pytest.raises(ValueError, match="soft"):
        limits_for_equity(10**9, soft_fraction=3.0)
    with pytest.raises(ValueError, match="price_band_bps"):
        limits_for_equity(10**9, price_band_bps=0)
    assert limits_for_equity(10**9).order_notional_max == 150_000_000
