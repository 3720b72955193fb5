"""Risk kernels against hand-worked and published figures."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.risk import (
    historical_var_es,
    kelly_fraction,
    kelly_from_outcomes,
    normal_es_multiplier,
    parametric_var_es,
    portfolio_var_es,
    volatility_target_weights,
)

ONE = np.ones(1)


def column(*losses: float) -> NDArray[np.float64]:
    return -np.array(losses, np.float64)[:, None]


@pytest.mark.parametrize(("level", "multiplier"), [(0.95, 2.062713), (0.975, 2.337803), (0.99, 2.665214)])
def test_normal_es_multipliers(level: float, multiplier: float) -> None:
    assert normal_es_multiplier(level) == pytest.approx(multiplier, abs=5e-7)
    _, es = parametric_var_es(np.zeros(1), np.eye(1), ONE, level)
    assert es == pytest.approx(multiplier, abs=5e-7)


def test_historical_convention_worked_by_hand() -> None:
    returns = column(*range(1, 101))
    # the worst 5 of 100 are 96..100; the VaR is the next one, the lower 95 % quantile
    assert historical_var_es(returns, ONE, 0.95) == pytest.approx((95.0, 98.0))
    # 2.5 scenarios: 100, 99 and half of 98
    assert historical_var_es(returns, ONE, 0.975) == pytest.approx((98.0, (100 + 99 + 49) / 2.5))
    # less than one scenario in the tail: the worst one is both
    assert historical_var_es(column(3.0, 1.0, 2.0), ONE, 0.95) == pytest.approx((3.0, 3.0))
    # (1 - 0.9) * 10 falls a hair below 1 and means 1
    assert historical_var_es(column(*range(1, 11)), ONE, 0.9) == pytest.approx((9.0, 10.0))


def test_parametric_of_two_assets_worked_by_hand() -> None:
    covariance = np.array([[0.04, 0.006], [0.006, 0.01]])
    weights, mean = np.array([0.5, -0.5]), np.array([0.02, 0.01])
    deviation = math.sqrt(0.25 * 0.04 + 0.25 * 0.01 - 2 * 0.25 * 0.006)
    var, es = parametric_var_es(mean, covariance, weights, 0.95)
    assert var == pytest.approx(-0.005 + 1.6448536 * deviation, abs=1e-7)
    assert es == pytest.approx(-0.005 + 2.0627128 * deviation, abs=1e-7)


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 300), st.integers(1, 5), st.floats(0.51, 0.999), st.integers(0, 2**32 - 1))
def test_fused_form_equals_both_methods(steps: int, assets: int, level: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    # rounded, so that equal losses occur
    returns = np.round(random.standard_t(4, (steps, assets)), 1) * 0.01
    weights = random.uniform(-1.0, 1.0, assets)
    covariance = np.atleast_2d(np.cov(returns.T))
    expected = (
        *historical_var_es(returns, weights, level),
        *parametric_var_es(returns.mean(axis=0), covariance, weights, level),
    )
    fused = portfolio_var_es(returns, weights, level)
    np.testing.assert_allclose(fused, expected, rtol=1e-9, atol=1e-12)
    assert fused[1] >= fused[0] - 1e-12
    assert fused[3] >= fused[2]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 200), st.floats(0.51, 0.999), st.integers(0, 2**32 - 1))
def test_expected_shortfall_is_subadditive(steps: int, level: float, seed: int) -> None:
    returns = np.random.default_rng(seed).standard_t(3, (steps, 2))
    parts = [historical_var_es(returns, np.array(weights), level)[1] for weights in ([1.0, 0.0], [0.0, 1.0])]
    assert historical_var_es(returns, np.ones(2), level)[1] <= sum(parts) + 1e-9


def test_es_of_normal_draws_meets_the_published_multiplier() -> None:
    draws = np.random.default_rng(1).standard_normal((200_000, 1))
    var, es, normal_var, normal_es = portfolio_var_es(draws, ONE, 0.975)
    # four standard errors of the tail mean
    assert es == pytest.approx(2.337803, abs=0.03)
    assert normal_es == pytest.approx(2.337803, abs=0.03)
    assert var == pytest.approx(1.959964, abs=0.03)
    assert normal_var == pytest.approx(1.959964, abs=0.03)


def test_kelly() -> None:
    mean, variance = np.array([0.02, -0.02, 0.5, 0.1, 0.0]), np.array([0.04, 0.04, 0.01, 0.0, 0.04])
    np.testing.assert_allclose(kelly_fraction(mean, variance, 2.0), [0.5, -0.5, 2.0, 0.0, 0.0])
    wins, losses = np.array([60, 50, 3, 0, 0, 40]), np.array([40, 50, 0, 3, 0, 60])
    mean_win, mean_loss = np.array([1.0, 2.0, 1.0, 0.0, 0.0, 1.0]), np.array([1.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    # 0.6 - 0.4 / 1; 0.5 - 0.5 / 2; no loss yet: the cap; no win; no history; no edge
    expected = [0.2, 0.25, 0.3, 0.0, 0.0, 0.0]
    np.testing.assert_allclose(kelly_from_outcomes(wins, losses, mean_win, mean_loss, 0.3), expected)


def test_kelly_maximises_growth() -> None:
    fractions = np.linspace(0.0, 0.9, 901)
    growth = 0.55 * np.log1p(1.5 * fractions) + 0.45 * np.log1p(-fractions)
    bet = kelly_from_outcomes(np.array([55]), np.array([45]), np.array([1.5]), np.array([1.0]), 1.0)[0]
    assert bet == pytest.approx(fractions[growth.argmax()], abs=1e-3)


def test_volatility_target() -> None:
    weights = volatility_target_weights(np.array([0.1, 0.4, 0.0, 0.01]), 0.2, 3.0)
    np.testing.assert_allclose(weights, [2.0, 0.5, 0.0, 3.0])


TWO = np.zeros((5, 2))
SPOILED = np.array([[0.1, np.nan]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: historical_var_es(SPOILED, np.ones(2), 0.95), r"returns\[0, 1\] is nan"),
        (lambda: historical_var_es(TWO, ONE, 0.95), "a column for each of 1 weights"),
        (lambda: historical_var_es(TWO[:0], np.ones(2), 0.95), "1 or more rows"),
        (lambda: historical_var_es(TWO, np.ones(2), 1.0), "level must lie between"),
        (lambda: historical_var_es(TWO, np.ones(2), 95), "level must lie between"),
        (lambda: historical_var_es(TWO.astype(np.float32), np.ones(2), 0.95), "dtype float64, got float32"),
        (lambda: portfolio_var_es(TWO[:1], np.ones(2), 0.95), "2 or more rows"),
        (lambda: portfolio_var_es(TWO, np.ones(2), math.nan), "level must lie between"),
        (lambda: parametric_var_es(np.zeros(2), np.eye(3), np.ones(2), 0.95), "do not fit together"),
        (lambda: parametric_var_es(np.zeros(2), np.array([[1.0, 0.5], [0.0, 1.0]]), np.ones(2), 0.95), "symmetric"),
        (lambda: parametric_var_es(np.zeros(1), -np.eye(1), ONE, 0.95), "negative variance"),
        (lambda: kelly_fraction(np.zeros(2), np.array([1.0, -1.0]), 1.0), r"variance\[1\] is -1.0"),
        (lambda: kelly_fraction(np.zeros(2), np.ones(3), 1.0), "mean 2, variance 3"),
        (lambda: kelly_fraction(np.zeros(1), ONE, 0.0), "cap must be a positive"),
        (lambda: kelly_from_outcomes(np.array([-1]), np.array([1]), ONE, ONE, 1.0), r"wins\[0\] is -1"),
        (lambda: volatility_target_weights(ONE, math.inf, 1.0), "target must be a positive"),
    ],
)
def test_bad_input_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
