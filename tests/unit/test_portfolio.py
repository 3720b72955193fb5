"""The replicated portfolio: exact, deterministic, restorable."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.portfolio import OPEN_LOTS_MAX, TRADE_IDS_MAX, Fill, Portfolio, cash_quanta


def fill(trade_id: int, side: int, quantity: int, price: int, fee: int = 0, step: int = 1, order: str = "") -> Fill:
    return Fill(order or f"order-{trade_id}", trade_id, 0, side, quantity, price, fee, step)


def test_a_round_trip_is_worked_out_by_hand() -> None:
    portfolio = Portfolio(2, 1_000_000)
    assert portfolio.apply([fill(1, +1, 10, 100, fee=5, step=3)]) == []
    closed = portfolio.apply([fill(2, -1, 4, 120, fee=3, step=7)])
    # Sold 4 of 10: 4 * (120 - 100) = 80, less 2 of the entry fee (5 * 4 // 10) and 3 of the exit fee.
    assert [(c.quantity, c.side, c.opened_step, c.closed_step, c.fees, c.profit) for c in closed] == [
        (4, 1, 3, 7, 5, 75)
    ]
    assert (closed[0].entry_value, closed[0].exit_value) == (400, 480)
    assert portfolio.positions.tolist() == [6, 0]
    assert portfolio.cash == 1_000_000 - 1000 - 5 + 480 - 3
    assert portfolio.average_price(0) == 100.0
    assert portfolio.unrealised(0, 110) == 60 - 3
    assert portfolio.equity(np.array([110, 1])) == portfolio.cash + 660


def test_a_turn_from_long_to_short_closes_then_opens() -> None:
    portfolio = Portfolio(1, 0)
    portfolio.apply([fill(1, +1, 5, 100)])
    closed = portfolio.apply([fill(2, -1, 8, 90, fee=8, step=2)])
    assert [(c.quantity, c.profit) for c in closed] == [(5, -50 - 5)]
    assert portfolio.positions.tolist() == [-3]
    assert portfolio.average_price(0) == 90.0
    assert portfolio.unrealised(0, 80) == 30 - 3
    closed = portfolio.apply([fill(3, +1, 3, 80, step=4)])
    assert [(c.side, c.opened_step, c.profit) for c in closed] == [(-1, 2, 27)]


def test_lots_close_first_in_first_out_with_their_own_entry_step() -> None:
    portfolio = Portfolio(1, 0)
    portfolio.apply([fill(1, +1, 2, 10, step=1), fill(2, +1, 2, 20, step=2), fill(3, -1, 3, 30, step=5)])
    closed = portfolio.apply([fill(4, -1, 1, 30, step=6)])
    assert portfolio.positions[0] == 0
    assert [(c.opened_step, c.quantity, c.profit) for c in closed] == [(2, 1, 10)]
    assert portfolio.realised[0] == 2 * 20 + 2 * 10


def test_a_trade_id_counts_once_also_long_after() -> None:
    portfolio = Portfolio(1, 0)
    for trade_id in range(3 * TRADE_IDS_MAX):
        portfolio.apply([fill(trade_id, +1, 1, 10)])
    before = portfolio.to_bytes()
    again = [fill(trade_id, +1, 1, 10) for trade_id in (0, 17, TRADE_IDS_MAX, 3 * TRADE_IDS_MAX - 1)]
    portfolio.apply(again)
    assert portfolio.duplicates_ignored == 4
    assert portfolio.positions[0] == 3 * TRADE_IDS_MAX
    assert Portfolio.from_bytes(before).state_hash() == portfolio.state_hash()


def test_bad_fills_change_nothing() -> None:
    portfolio = Portfolio(1, 100)
    before = portfolio.to_bytes()
    for bad in (fill(2, 0, 1, 1), fill(2, 1, 0, 1), fill(2, 1, 1, 0), Fill("x", 2, 1, 1, 1, 1, 0, 1)):
        with pytest.raises(ValueError, match="portfolio"):
            portfolio.apply([fill(1, +1, 1, 1), bad])
    assert portfolio.to_bytes() == before


def test_reservations_shrink_with_fills_and_end_on_release() -> None:
    portfolio = Portfolio(2, 1000)
    portfolio.reserve("a", 1, -1, 10, 50)
    assert portfolio.reserved_sell.tolist() == [0, 10]
    with pytest.raises(ValueError, match="already"):
        portfolio.reserve("a", 1, -1, 10, 50)
    portfolio.apply([Fill("a", 1, 1, -1, 4, 50, 0, 1)])
    assert portfolio.reserved_sell.tolist() == [0, 6]
    assert portfolio.in_flight() == ("a",)
    assert portfolio.release("a") == 6
    assert portfolio.release("a") == 0
    assert portfolio.reserved_sell.tolist() == [0, 0]


fills_strategy = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from((-1, 1)),
        st.integers(1, 10**6),
        st.integers(1, 10**6),
        st.integers(-50, 10**5),
    ),
    max_size=60,
)


@given(fills_strategy)
@settings(max_examples=80, deadline=None)
def test_money_is_conserved_and_a_checkpoint_goes_on_alike(rows: list[tuple[int, int, int, int, int]]) -> None:
    portfolio = Portfolio(3, 10**12)
    fills = [Fill(f"o{at}", at, i, side, q, p, fee, at) for at, (i, side, q, p, fee) in enumerate(rows)]
    half = len(fills) // 2
    portfolio.reserve("later", 2, 1, 7, 7)
    profit = sum(c.profit for c in portfolio.apply(fills[:half]))
    restored = Portfolio.from_bytes(portfolio.to_bytes())
    assert restored.state_hash() == portfolio.state_hash()
    rest = portfolio.apply(fills[half:])
    assert restored.apply(fills[half:]) == rest
    assert restored.to_bytes() == portfolio.to_bytes()
    profit += sum(c.profit for c in rest)
    assert profit == sum(portfolio.realised)
    marks = np.array([123, 456, 789])
    open_profit = sum(portfolio.unrealised(i, int(marks[i])) for i in range(3))
    assert portfolio.equity(marks) == 10**12 + profit + open_profit


def test_merged_lots_lose_no_money() -> None:
    portfolio = Portfolio(1, 0)
    count = OPEN_LOTS_MAX + 50
    portfolio.apply([fill(t, +1, 3, 100 + t, fee=1) for t in range(count)])
    closed = portfolio.apply([fill(count, -1, 3 * count, 500, fee=7)])
    assert sum(c.quantity for c in closed) == 3 * count
    assert len(closed) == OPEN_LOTS_MAX
    assert portfolio.cash == sum(c.profit for c in closed)


def test_the_hash_tells_histories_apart() -> None:
    one, other = Portfolio(1, 100), Portfolio(1, 100)
    assert one.state_hash() == other.state_hash()
    one.apply([fill(1, +1, 1, 10)])
    other.apply([fill(2, +1, 1, 10)])
    assert one.state_hash() != other.state_hash()


def test_a_checkpoint_that_is_none_is_refused() -> None:
    good = Portfolio(1, 5).to_bytes()
    for bad in (b"", b"\x80", good[:-3], good.replace(b"cash", b"hsac")):
        with pytest.raises(ValueError, match="checkpoint"):
            Portfolio.from_bytes(bad)


def test_cash_in_quanta() -> None:
    assert cash_quanta(1_000_000, 0.001, 1.0) == 1_000_000_000
    with pytest.raises(ValueError, match="positive"):
        cash_quanta(1, 0, 1)
