"""Monte Carlo rows of `tradetui bench kernels`: 10,000 paths of 10 assets, value at risk and shortfall at 95 %."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import numpy as np

from core.bench.kernel_dtw import Sides, measured, microseconds, us_row
from core.bench.kernel_windows import panel_closes
from core.bench.rows import Row, agree
from kernels.loss_tail import loss_tail
from kernels.monte_carlo import draw_scenarios, monte_carlo_losses, scenario_var_es
from kernels.risk import parametric_var_es

PATHS: Final = 10_000
ASSETS: Final = 10
LEVEL: Final = 0.95
CALLS: Final = 10
ERROR_SEEDS: Final = 40
"""Seeds over which the error of the value at risk is taken, the exact figure being known."""
Figures = tuple[float, float]


def risk_rows(rounds: int) -> Iterator[Row]:
    """Fresh draws against numpy's plain form, fixed scenarios against numpy's best; µs a call. Sobol points against
    random draws in time and in error, the root mean square of the value at risk's over seeds.
    """
    returns = np.diff(np.log(panel_closes()[:ASSETS]), axis=1)
    mean, covariance = returns.mean(axis=1), np.cov(returns)
    weights = np.full(ASSETS, 1.0 / ASSETS)
    # of the quantile: sqrt(a (1 - a) / n) over the normal density at it
    deviation = math.sqrt(weights @ covariance @ weights)
    error = deviation * math.sqrt(LEVEL * (1.0 - LEVEL) / PATHS) / 0.103136
    random = np.random.default_rng(1)
    count = int((1.0 - LEVEL) * PATHS)

    def ours(seed: int = 1) -> Figures:
        return loss_tail(monte_carlo_losses(mean, covariance, weights, PATHS, seed), LEVEL)

    def plain() -> Figures:
        shocks = random.standard_normal((PATHS, ASSETS))
        profit = (shocks @ np.linalg.cholesky(covariance).T + mean) @ weights
        quantile = np.quantile(profit, 1.0 - LEVEL)
        return -float(quantile), -float(profit[profit <= quantile].mean())

    # both are samples: two of them differ by less than five errors of a difference
    _within("risk.montecarlo.fresh", ours(), plain(), 5.0 * math.sqrt(2.0) * error)
    yield _row("risk.montecarlo.fresh", rounds, {"ours": ours, "numpy, plain vectorised": plain})

    def by_points(seed: int = 1) -> Figures:
        return loss_tail(monte_carlo_losses(mean, covariance, weights, PATHS, seed, sobol=True), LEVEL)

    yield _row("risk.montecarlo.sobol", rounds, {"ours": by_points, "random draws": ours})
    exact = parametric_var_es(mean, covariance, weights, LEVEL)[0]
    seeds = range(ERROR_SEEDS)
    errors = [
        1e6 * math.sqrt(sum((side(seed)[0] - exact) ** 2 for seed in seeds) / ERROR_SEEDS) for side in (by_points, ours)
    ]
    yield Row("risk.montecarlo.sobol.error", "1e-6", errors[0], "random draws", errors[1], errors[1] / errors[0])

    scenarios = draw_scenarios(mean, covariance, PATHS, 1)
    rows = np.ascontiguousarray(scenarios.T)
    narrow = weights.astype(np.float32)

    def by_rows() -> Figures:
        profit = rows @ narrow
        profit.partition(count)
        return -float(profit[count]), -float(profit[:count].mean())

    def by_columns() -> Figures:
        profit = narrow @ scenarios
        profit.partition(count)
        return -float(profit[count]), -float(profit[:count].mean())

    found = scenario_var_es(scenarios, weights, LEVEL)
    for other in (by_rows(), by_columns()):
        agree("risk.montecarlo.fixed", np.array(found), np.array(other), 1e-5)
    sides: Sides = {
        "ours": lambda: scenario_var_es(scenarios, weights, LEVEL),
        "numpy float32, paths by assets": by_rows,
        "numpy float32, assets by paths": by_columns,
    }
    yield _row("risk.montecarlo.fixed", rounds, sides)


def _within(name: str, found: Figures, expected: Figures, error: float) -> None:
    for one, other in zip(found, expected, strict=True):
        agree(f"{name}, in errors", np.array([1.0 + abs(one - other) / error]), np.array([1.0]), 1.0)


def _row(name: str, rounds: int, sides: Sides) -> Row:
    """Against the fastest of the others."""
    repeated: Sides = {side: (lambda call=call: [call() for _ in range(CALLS)]) for side, call in sides.items()}  # type: ignore[misc]
    us = {side: microseconds(seconds, CALLS) for side, seconds in measured(repeated, rounds).items()}
    mine = us.pop("ours")
    best = min(us, key=lambda side: float(np.median(us[side])))
    return us_row(name, mine, best, us[best])
