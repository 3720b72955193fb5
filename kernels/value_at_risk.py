"""Value at risk by models of the tail: Cornish-Fisher, EWMA, filtered historical; and what each position adds to it.

Losses are positive. Quantile convention of samples as in `kernels.risk`.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kernels.checks import checked, checked_level
from kernels.risk import historical_var_es, normal_es_multiplier

_NORMAL: Final = NormalDist()
DECAY: Final = 0.94
"""RiskMetrics' for daily returns."""


def cornish_fisher_var(mean: float, deviation: float, skewness: float, kurtosis: float, level: float) -> float:
    """Value at risk from four moments of the return.

    kurtosis: 3 for a normal distribution. The fourth-order expansion of Cornish and Fisher 1938 as in Dowd, Measuring
    Market Risk (2005), section 6.4. It is good near the normal only: ask `cornish_fisher_rises`. Raises ValueError for
    figures that are not finite, a negative deviation, or a bad level.
    """
    if not all(map(math.isfinite, (mean, deviation, skewness, kurtosis))) or deviation < 0.0:
        raise ValueError(f"moments {mean}, {deviation}, {skewness}, {kurtosis}: want finite ones, deviation 0 or more")
    z = _NORMAL.inv_cdf(1.0 - checked_level(level))
    adjusted = z + (z * z - 1.0) * skewness / 6.0 + (z**3 - 3.0 * z) * (kurtosis - 3.0) / 24.0
    adjusted -= (2.0 * z**3 - 5.0 * z) * skewness**2 / 36.0
    return -(mean + deviation * adjusted)


def cornish_fisher_rises(skewness: float, kurtosis: float, level: float) -> bool:
    """Whether the expansion's quantile still rises with the level here; if not, its figure means nothing.

    Source: Maillard 2012, A user's guide to the Cornish Fisher expansion.
    """
    z = _NORMAL.inv_cdf(1.0 - checked_level(level))
    slope = 1.0 + z * skewness / 3.0 + (z * z - 1.0) * (kurtosis - 3.0) / 8.0
    return slope - (6.0 * z * z - 5.0) * skewness**2 / 36.0 > 0.0


def ewma_deviations(returns: NDArray[np.float64], decay: float = DECAY) -> NDArray[np.float64]:
    """The volatility known before each step and, last, after all: float64 [t + 1].

    returns: float64 [t] with mean about 0, t >= 2. The variance starts with the mean square of all returns when there
    are fewer than 30, else of the first 30. Source: RiskMetrics technical document (1996). Raises ValueError on NaN,
    wrong dtype or rank, fewer than 2 returns, or a decay outside (0, 1).
    """
    returns = checked("returns", returns, np.float64, 1)
    if returns.size < 2:
        raise ValueError(f"{returns.size} returns are too few, 2 is the least")
    if not 0.0 < decay < 1.0:
        raise ValueError(f"decay must lie between 0 and 1, got {decay!r}")
    variance = np.empty(returns.size + 1)
    variance[0] = np.square(returns[:30]).mean()
    for step, square in enumerate(np.square(returns)):
        variance[step + 1] = decay * variance[step] + (1.0 - decay) * square
    return np.sqrt(variance)


def ewma_var_es(returns: NDArray[np.float64], level: float, decay: float = DECAY) -> tuple[float, float]:
    """Normal value at risk and shortfall at the present EWMA volatility, mean 0. Arguments as `ewma_deviations`."""
    deviation = float(ewma_deviations(returns, decay)[-1])
    quantile = _NORMAL.inv_cdf(checked_level(level))
    return quantile * deviation, normal_es_multiplier(level) * deviation


def filtered_historical_var_es(returns: NDArray[np.float64], level: float, decay: float = DECAY) -> tuple[float, float]:
    """Historical figures of past returns, each scaled by the present volatility over that before it.

    Source: Hull and White 1998, Incorporating volatility updating into the historical simulation method; filtered by
    EWMA. A step before which nothing had moved counts as it is. Arguments and errors as `ewma_deviations`.
    """
    deviations = ewma_deviations(returns, decay)
    before = deviations[:-1]
    ratio = np.divide(deviations[-1], before, out=np.ones_like(before), where=before > 0.0)
    return historical_var_es((returns * ratio)[:, None], np.ones(1), level)


def component_var(
    mean: NDArray[np.float64], covariance: NDArray[np.float64], weights: NDArray[np.float64], level: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What each position adds to the normal value at risk, and what one more unit of it would: float64 [n] each.

    Components sum to the portfolio's figure (Euler). Source: Garman 1996; Jorion, Value at Risk (2007), chapter 7. A
    portfolio without risk has marginal figures of its means alone. Raises ValueError on NaN, wrong dtype or shape.
    """
    mean, weights = checked("mean", mean, np.float64, 1), checked("weights", weights, np.float64, 1)
    covariance = checked("covariance", covariance, np.float64, 2)
    if mean.size != weights.size or covariance.shape != (weights.size, weights.size):
        raise ValueError(
            f"{weights.size} weights, {mean.size} means, covariance {covariance.shape} do not fit together"
        )
    along = covariance @ weights
    deviation = math.sqrt(max(float(weights @ along), 0.0))
    quantile = _NORMAL.inv_cdf(checked_level(level))
    marginal = -mean + (quantile * along / deviation if deviation > 0.0 else 0.0)
    return weights * marginal, marginal


def moments(returns: NDArray[Any]) -> tuple[float, float, float, float]:
    """Mean, standard deviation (t - 1), skewness and kurtosis (3 for a normal) of returns float64 [t], t >= 2.

    Skewness and kurtosis by the population formulas; 0 and 3 where nothing moves. ValueError as `ewma_deviations`.
    """
    returns = checked("returns", returns, np.float64, 1)
    if returns.size < 2:
        raise ValueError(f"{returns.size} returns are too few, 2 is the least")
    away = returns - returns.mean()
    spread = math.sqrt(float(np.square(away).mean()))
    if spread <= 1e-12 * float(np.abs(returns).max()):
        return float(returns.mean()), 0.0, 0.0, 3.0
    scaled = away / spread
    deviation = spread * math.sqrt(returns.size / (returns.size - 1))
    return float(returns.mean()), deviation, float((scaled**3).mean()), float((scaled**4).mean())
