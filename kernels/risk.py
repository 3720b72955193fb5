"""Value at risk, expected shortfall, and how much to bet. Losses are positive numbers.

Quantile convention (Rockafellar & Uryasev 2002, Acerbi & Tasche 2002): with t equally likely scenarios and the losses
sorted from the largest, L1 >= L2 >= ..., and tail = (1 - level) * t, the historical VaR is L[floor(tail) + 1], the
lower empirical quantile, and the expected shortfall is the mean of the worst `tail` scenarios, of which the last one
counts with the fraction tail - floor(tail). So ES >= VaR always, and ES is coherent.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.checks import checked, checked_level
from kernels.readiness import is_compiled

_NORMAL: Final = NormalDist()
_WHOLE: Final = 1e-9
"""(1 - 0.9) * 10 is a hair below 1 in floating point and means 1."""


def normal_es_multiplier(level: float) -> float:
    """The expected shortfall of a standard normal loss: density at the quantile over the tail's probability.

    Source: McNeil, Frey & Embrechts, Quantitative Risk Management (2015), example 2.14. Raises ValueError for a level
    outside (0.5, 1).
    """
    level = checked_level(level)
    return _NORMAL.pdf(_NORMAL.inv_cdf(level)) / (1.0 - level)


def historical_var_es(returns: NDArray[np.float64], weights: NDArray[np.float64], level: float) -> tuple[float, float]:
    """Value at risk and expected shortfall of fixed weights over past returns.

    returns: float64 [t, n], t >= 1, one row a step, as fractions; weights: float64 [n], signed fractions of equity.
    Returns (var, es) as fractions of equity. Raises ValueError on NaN, wrong dtype or shape, or level outside (0.5, 1).
    """
    returns, weights = _checked_portfolio(returns, weights, 1)
    losses = np.sort(-(returns @ weights))[::-1]
    tail = (1.0 - checked_level(level)) * losses.size
    whole = math.floor(tail + _WHOLE)
    fraction = max(tail - whole, 0.0)
    value_at_risk = float(losses[whole])
    return value_at_risk, (float(losses[:whole].sum()) + fraction * value_at_risk) / (whole + fraction)


def parametric_var_es(
    mean: NDArray[np.float64], covariance: NDArray[np.float64], weights: NDArray[np.float64], level: float
) -> tuple[float, float]:
    """Value at risk and expected shortfall under normal returns (RiskMetrics technical document, 1996).

    mean, weights: float64 [n]; covariance: float64 [n, n], symmetric. Returns (var, es) as fractions of equity. Raises
    ValueError on NaN, wrong dtype or shape, asymmetry, a negative variance of the portfolio, or a bad level.
    """
    mean = checked("mean", mean, np.float64, 1)
    weights = checked("weights", weights, np.float64, 1)
    covariance = checked("covariance", covariance, np.float64, 2)
    n = weights.size
    if mean.size != n or covariance.shape != (n, n):
        raise ValueError(f"{n} weights, {mean.size} means and covariance {covariance.shape} do not fit together")
    scale = float(np.abs(covariance).max(initial=0.0))
    if not np.allclose(covariance, covariance.T, rtol=0.0, atol=1e-9 * scale):
        raise ValueError("covariance must be symmetric")
    variance = float(weights @ covariance @ weights)
    if variance < -1e-12 * scale * float(weights @ weights):
        raise ValueError(f"covariance gives the portfolio a negative variance, {variance}")
    deviation = math.sqrt(max(variance, 0.0))
    expected_loss = -float(weights @ mean)
    quantile = _NORMAL.inv_cdf(checked_level(level))
    return expected_loss + quantile * deviation, expected_loss + normal_es_multiplier(level) * deviation


def portfolio_var_es(returns: NDArray[np.float64], weights: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    """Both methods in one pass for the trading loop.

    returns: float64 [t, n], t >= 2; weights: float64 [n]. Returns float64 [4]: historical VaR and ES, then normal VaR
    and ES from the sample mean and standard deviation (t - 1) of the same portfolio returns. Raises ValueError as
    `historical_var_es`.
    """
    returns, weights = _checked_portfolio(returns, weights, 2)
    quantile = _NORMAL.inv_cdf(checked_level(level))
    es_multiplier = normal_es_multiplier(level)
    if not is_compiled("risk"):
        losses = -(returns @ weights)
        mean, deviation = losses.mean(), losses.std(ddof=1)
        historical = historical_var_es(returns, weights, level)
        return np.array([*historical, mean + quantile * deviation, mean + es_multiplier * deviation])
    out: NDArray[np.float64] = _portfolio(returns, weights, level, quantile, es_multiplier)
    return out


@njit(cache=True, nogil=True)
def _portfolio(returns: Any, weights: Any, level: float, quantile: float, es_multiplier: float) -> Any:
    t = returns.shape[0]
    tail = (1.0 - level) * t
    whole = math.floor(tail + _WHOLE)
    fraction = max(tail - whole, 0.0)
    losses = np.empty(t)
    worst = np.full(whole + 1, -np.inf)
    mean = 0.0
    for s in range(t):
        losses[s] = -_dot(returns[s], weights)
        mean += losses[s]
        if losses[s] > worst[0]:
            _replace_smallest(worst, losses[s])
    mean /= t
    squares = 0.0
    for s in range(t):
        squares += (losses[s] - mean) ** 2
    deviation = math.sqrt(squares / (t - 1))
    total = (fraction - 1.0) * worst[0]
    for s in range(whole + 1):
        total += worst[s]
    out = np.empty(4)
    out[0] = worst[0]
    out[1] = total / (whole + fraction)
    out[2] = mean + quantile * deviation
    out[3] = mean + es_multiplier * deviation
    return out


@njit(cache=True, fastmath={"reassoc", "contract"})
def _dot(a: Any, b: Any) -> float:
    total = 0.0
    for k in range(a.size):
        total += a[k] * b[k]
    return total


@njit(cache=True)
def _replace_smallest(heap: Any, value: float) -> None:
    """A binary heap whose smallest element, the first, gives way to a larger value: t log k, whatever the order."""
    size = heap.size
    parent = 0
    child = 1
    while child < size:
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= value:
            break
        heap[parent] = heap[child]
        parent = child
        child = 2 * parent + 1
    heap[parent] = value


def kelly_fraction(mean: NDArray[np.float64], variance: NDArray[np.float64], cap: float) -> NDArray[np.float64]:
    """The growth-optimal fraction of equity for small continuous returns: mean / variance, clipped to [-cap, cap].

    mean, variance: float64 [n], of the return of one step in excess of financing. A variance of zero is no evidence of
    safety, so it gets 0. Source: Thorp 2006, The Kelly criterion, section 7. Raises ValueError on NaN, wrong dtype or
    shape, a negative variance, or a cap that is not positive.
    """
    mean = checked("mean", mean, np.float64, 1)
    variance = checked("variance", variance, np.float64, 1)
    _same_size(mean=mean, variance=variance)
    _not_negative(variance=variance)
    known = variance > 0.0
    fraction = np.divide(mean, variance, out=np.zeros_like(mean), where=known)
    return np.clip(fraction, -_positive("cap", cap), cap)


def kelly_from_outcomes(
    wins: NDArray[np.int64],
    losses: NDArray[np.int64],
    mean_win: NDArray[np.float64],
    mean_loss: NDArray[np.float64],
    cap: float,
) -> NDArray[np.float64]:
    """The growth-optimal fraction of equity to put at risk, from past outcomes: p - (1 - p) / (mean_win / mean_loss).

    wins, losses: int64 [n] counts; mean_win, mean_loss: float64 [n], both 0 or more, in one unit. Returns float64 [n]
    within [0, cap]: no edge, no history, or no gain gets 0; wins without any loss get the cap. Source: Kelly 1956, A
    new interpretation of information rate. Raises ValueError on negative numbers, NaN, wrong dtype or shape.
    """
    wins, losses = checked("wins", wins, np.int64, 1), checked("losses", losses, np.int64, 1)
    mean_win = checked("mean_win", mean_win, np.float64, 1)
    mean_loss = checked("mean_loss", mean_loss, np.float64, 1)
    _same_size(wins=wins, losses=losses, mean_win=mean_win, mean_loss=mean_loss)
    _not_negative(wins=wins, losses=losses, mean_win=mean_win, mean_loss=mean_loss)
    count = wins + losses
    probability = np.divide(wins, count, out=np.zeros_like(mean_win), where=count > 0)
    gains = (wins > 0) & (mean_win > 0.0)
    loss_over_win = np.divide(mean_loss, mean_win, out=np.zeros_like(mean_win), where=gains)
    fraction = np.where(gains, probability - (1.0 - probability) * loss_over_win, 0.0)
    return np.clip(fraction, 0.0, _positive("cap", cap))


def volatility_target_weights(volatility: NDArray[np.float64], target: float, cap: float) -> NDArray[np.float64]:
    """The exposure that brings each instrument to the same volatility: target / volatility, at most `cap`.

    volatility: float64 [n] and target in the same unit (both a step, or both a year). An instrument that has not moved
    gets 0. Source: Moreira & Muir 2017, Volatility-managed portfolios. Raises ValueError on NaN, wrong dtype or shape,
    a negative volatility, or a target or cap that is not positive.
    """
    volatility = checked("volatility", volatility, np.float64, 1)
    _not_negative(volatility=volatility)
    moving = volatility > 0.0
    weights = np.divide(_positive("target", target), volatility, out=np.zeros_like(volatility), where=moving)
    return np.minimum(weights, _positive("cap", cap))


def _checked_portfolio(returns: Any, weights: Any, least: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    returns = checked("returns", returns, np.float64, 2)
    weights = checked("weights", weights, np.float64, 1)
    if returns.shape[0] < least or returns.shape[1] != weights.size:
        raise ValueError(
            f"returns {returns.shape} must have {least} or more rows and a column for each of {weights.size} weights"
        )
    return returns, weights


def _same_size(**arrays: NDArray[Any]) -> None:
    if len({array.size for array in arrays.values()}) > 1:
        sizes = ", ".join(f"{name} {array.size}" for name, array in arrays.items())
        raise ValueError(f"the arrays must have the same length, got {sizes}")


def _not_negative(**arrays: NDArray[Any]) -> None:
    for name, array in arrays.items():
        if array.size and array.min() < 0:
            bad = int(array.argmin())
            raise ValueError(f"{name}[{bad}] is {array[bad]}: it must not be negative")


def _positive(name: str, value: float) -> float:
    if not (value > 0.0 and math.isfinite(value)):
        raise ValueError(f"{name} must be a positive finite number, got {value!r}")
    return float(value)
