"""Profit and loss by hand: average cost and FIFO, fees, drawdown, turnover, hit rate, slippage."""

from __future__ import annotations

from fractions import Fraction

import hypothesis.strategies as st
import pytest
from hypothesis import given

from core.orders.order import TimeInForce as T
from core.orders.scale import MarketScale
from core.performance import AverageCost, performance
from core.venue.events import VenueEvent
from core.venue.exchange import Exchange, NewOrder
from core.venue.fees import FeeSchedule
from core.venue.liquidity import LiquiditySettings
from core.venue.settings import ExchangeSettings

CASH = 1_000_000
RULES = ExchangeSettings(
    fees=FeeSchedule(maker_ppm=0, taker_ppm=1_000),
    liquidity=LiquiditySettings(spread_bps=0.0, levels=1, depth_per_level=1e6),
)


def trade(*acts: tuple[int, int] | int) -> list[VenueEvent]:
    """Events of a venue at closes 1,000, then: a number moves the close, (side, lots) takes at the market."""
    venue = Exchange(MarketScale.of(["A", "B"], "1", "1"), RULES)
    venue.open_account(1, CASH, 0)
    venue.advance(0, [1_000, 500], 0)
    for at, act in enumerate(acts, start=1):
        if isinstance(act, int):
            venue.advance(at, [act, 500], at)
        else:
            venue.place(1, NewOrder(f"o{at}", 0, act[0], 0, act[1], T.IOC), at)
    return [item.event for item in venue.take_happened()]


def test_a_round_trip_by_hand() -> None:
    # The ask is one tick above the close, the bid is the close.
    found = performance(trade((1, 10), 1_100, (1, 10), 1_200, (-1, 15)), 1, 2)
    row = found.instruments[0]
    assert row.position_lots == 5
    assert row.turnover == 10 * 1_001 + 10 * 1_101 + 15 * 1_200
    assert row.average_cost_ticks == (1_001 + 1_101) / 2
    assert row.realised_average_cost == 15 * 1_200 - Fraction(15 * 2_102, 2)
    fees = [10, 11, 18]
    assert row.fees == sum(fees)
    assert row.realised_fifo == 10 * (1_200 - 1_001) - 10 + 5 * (1_200 - 1_101) - 5 - 18
    assert row.unrealised == 5 * (1_200 - 1_101) - 6
    assert row.slippage == 10 + 10 + 0
    assert found.cash == CASH - 10_010 - 11_010 + 18_000 - sum(fees)
    assert found.equity == found.cash + 5 * 1_200
    assert (found.closed_trades, found.winning_trades, found.hit_rate) == (2, 2, 1.0)
    assert found.instruments[1].turnover == 0
    assert found.slippage_bps == pytest.approx(20 / row.turnover * 1e4)


def test_drawdown_is_the_largest_fall_from_a_high() -> None:
    found = performance(trade((1, 100), 1_500, 1_200, 1_400, 1_100, 1_600), 1, 2)
    high = CASH - 100_100 - 100 + 150_000
    assert found.drawdown == 100 * (1_500 - 1_100)
    assert found.drawdown_fraction == found.drawdown / high


def test_nothing_traded_is_nothing_won() -> None:
    found = performance(trade(1_100), 1, 2)
    assert (found.turnover, found.hit_rate, found.slippage_bps, found.drawdown) == (0, 0.0, 0.0, 0)
    assert found.equity == CASH


def test_an_account_that_was_never_opened_is_named() -> None:
    with pytest.raises(ValueError, match="before the account"):
        performance(trade(1_100), 2, 2)
    with pytest.raises(ValueError, match="never opened"):
        performance([], 1, 2)


@given(st.lists(st.tuples(st.sampled_from([1, -1]), st.integers(1, 9), st.integers(1, 99)), max_size=40))
def test_average_cost_keeps_the_money(fills: list[tuple[int, int, int]]) -> None:
    book = AverageCost()
    cash = 0
    for side, lots, price in fills:
        book.trade(side, lots, price)
        cash -= side * lots * price
    side = 1 if book.lots > 0 else -1
    assert book.realised - side * book.value == cash
    assert book.lots == sum(side * lots for side, lots, _ in fills)
    assert book.value >= 0
