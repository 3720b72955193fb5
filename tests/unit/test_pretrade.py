"""Each deny code of a node's own pre-trade risk, at its edge."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from core.decision import PROPOSAL_DTYPE, Side, Veto
from core.portfolio import Portfolio
from core.pretrade import PreTradeLimits, PreTradeRisk

N = 3
MARKS = np.full(N, 10_000, np.int64)
EQUITY = 100_000_000
NOW = 1_700_000_000_000_000_000
RETURNS = np.random.default_rng(1).normal(0.0, 0.01, (252, N))


def proposals(*rows: tuple[int, Side, int]) -> NDArray[Any]:
    array = np.zeros(len(rows), PROPOSAL_DTYPE)
    for at, (instrument, side, lots) in enumerate(rows):
        array[at] = (0, lots, 10_000 if side else 0, 0, 0.5, instrument, side, 0)
    return array


def check(
    risk: PreTradeRisk, rows: NDArray[Any], held: dict[int, int] | None = None, cash: int = EQUITY, **times: int
) -> list[int]:
    portfolio = Portfolio(N, cash)
    for instrument, lots in (held or {}).items():
        portfolio.positions[instrument] = lots
    at = {"proposed_ns": NOW, "now_ns": NOW} | times
    return risk.check(rows, portfolio, MARKS, RETURNS, at["proposed_ns"], at["now_ns"]).tolist()


BUY = proposals((0, Side.BUY, 100))


@pytest.mark.parametrize("sign", [1, -1])
def test_clock_skew(sign: int) -> None:
    risk = PreTradeRisk(PreTradeLimits(clock_skew_ms_max=100))
    assert check(risk, BUY, proposed_ns=NOW + sign * 100_000_000) == [Veto.NONE]
    assert check(risk, BUY, proposed_ns=NOW + sign * 100_000_001) == [Veto.CLOCK_SKEW]
    assert check(risk, proposals((0, Side.HOLD, 0)), proposed_ns=0) == [Veto.NONE]


def test_order_rate_within_a_batch_and_over_a_second() -> None:
    risk = PreTradeRisk(PreTradeLimits(orders_per_s_max=2))
    three = proposals((0, Side.BUY, 1), (1, Side.BUY, 1), (2, Side.BUY, 1))
    assert check(risk, three) == [Veto.NONE, Veto.NONE, Veto.ORDER_RATE]
    risk.accepted(2, NOW)
    assert check(risk, BUY, proposed_ns=NOW + 999_000_000, now_ns=NOW + 999_000_000) == [Veto.ORDER_RATE]
    assert check(risk, BUY, proposed_ns=NOW + 10**9, now_ns=NOW + 10**9) == [Veto.NONE]


def test_daily_loss_lets_only_what_reduces_pass_until_the_day_ends() -> None:
    risk = PreTradeRisk(PreTradeLimits(daily_loss_fraction_max=0.1))
    assert check(risk, BUY) == [Veto.NONE]
    assert check(risk, BUY, cash=EQUITY * 90 // 100) == [Veto.NONE]
    lost = EQUITY * 89 // 100
    assert check(risk, BUY, cash=lost) == [Veto.DAILY_LOSS]
    both = proposals((0, Side.SELL, 50), (1, Side.BUY, 1))
    assert check(risk, both, held={0: 50}, cash=lost - 50 * 10_000) == [Veto.NONE, Veto.DAILY_LOSS]
    tomorrow = NOW + 86_400_000_000_000
    assert check(risk, BUY, cash=lost, proposed_ns=tomorrow, now_ns=tomorrow) == [Veto.NONE]


def test_var_budget_counts_each_order_on_top_of_those_that_passed() -> None:
    risk = PreTradeRisk(PreTradeLimits(var_budget_fraction=0.01))
    lots = 4_000  # 0.4 of equity at about 2 % a step: under 1 %
    two = proposals((0, Side.BUY, lots), (1, Side.BUY, lots), (2, Side.BUY, 1))
    assert check(risk, two) == [Veto.NONE, Veto.VAR_BUDGET, Veto.NONE]
    assert check(risk, proposals((0, Side.SELL, lots)), held={0: 10_000}, cash=0) == [Veto.NONE], "it reduces"
    assert check(risk, BUY, cash=0) == [Veto.DAILY_LOSS], "no equity at all"


def test_no_equity_on_the_first_day_is_no_budget() -> None:
    risk = PreTradeRisk(PreTradeLimits(daily_loss_fraction_max=1.0))
    assert check(risk, BUY, cash=0) == [Veto.VAR_BUDGET]


@pytest.mark.parametrize(
    "name", ["orders_per_s_max", "var_budget_fraction", "daily_loss_fraction_max", "clock_skew_ms_max"]
)
def test_limits_refuse_nonsense(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        PreTradeLimits(**{name: 0})
