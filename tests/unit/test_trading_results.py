"""What trading has come to: drawdown from a high, turnover, trades that won; and through a snapshot."""

from __future__ import annotations

import pytest

from core.portfolio import Fill, Portfolio
from core.trading_results import TradingResults


def fill(name: str, side: int, quantity: int, price: int, fee: int, trade_id: int) -> Fill:
    return Fill(name, trade_id, 0, side, quantity, price, fee, 1)


def test_drawdown_is_the_largest_fall_from_an_earlier_high() -> None:
    results = TradingResults()
    for equity in (100, 120, 90, 110, 85, 130, 101):
        results.marked(equity)
    assert (results.equity_high, results.drawdown, results.drawdown_from) == (130, 35, 120)


def test_turnover_and_trades_that_won_after_fees() -> None:
    results, portfolio = TradingResults(), Portfolio(1, 10_000)
    for each in (
        fill("a", 1, 10, 100, 5, 1),
        fill("b", -1, 4, 101, 4, 2),  # 4 before fees, and less than its fees
        fill("c", -1, 6, 110, 2, 3),
    ):
        results.traded(each.quantity * each.price, portfolio.apply([each]))
    assert results.turnover == 1_000 + 404 + 660
    assert (results.closed_trades, results.winning_trades) == (2, 1)


def test_a_row_and_back_also_beyond_64_bits() -> None:
    results = TradingResults(2**80, 3, 2**79, 2**90, 7, 4)
    assert TradingResults.from_row(results.to_row()) == results
    for row in ((), (1, 2), ("1", "-2", "3", "4", 5, 4), ("1", "2", "3", "4", 4, 5), ("x", "2", "3", "4", 5, 4)):
        with pytest.raises((ValueError, TypeError)):
            TradingResults.from_row(row)
