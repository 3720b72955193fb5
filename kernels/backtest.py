"""Did a value at risk hold? Tests of its violations: how many there were, and whether they came in clusters."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.checks import checked_level


class LikelihoodRatio(NamedTuple):
    """A test's statistic and the probability of a larger one if the model is right."""

    statistic: float
    p_value: float


class TrafficLight(NamedTuple):
    """Basel's verdict: zone, the probability of as many violations or fewer, and the factor's increase if published."""

    zone: str
    cumulative: float
    increase: float | None


def kupiec(violations: int, steps: int, level: float) -> LikelihoodRatio:
    """Proportion of failures: are violations as frequent as 1 - level? Chi-squared with one degree of freedom.

    Source: Kupiec 1995, Techniques for verifying the accuracy of risk measurement models. Raises ValueError for counts
    out of range or a bad level.
    """
    _check_counts(violations, steps)
    expected = 1.0 - checked_level(level)
    observed = violations / steps
    statistic = 2.0 * (
        _log_likelihood(steps - violations, violations, observed)
        - _log_likelihood(steps - violations, violations, expected)
    )
    statistic = max(statistic, 0.0)
    return LikelihoodRatio(statistic, math.erfc(math.sqrt(statistic / 2.0)))


def christoffersen(violations: NDArray[np.bool_]) -> LikelihoodRatio:
    """Independence: is a violation as likely after one as after none? Chi-squared with one degree of freedom.

    violations: bool [t], t >= 2, in order of time. Where no step followed a violation, or all did, nothing can be said:
    statistic 0. Source: Christoffersen 1998, Evaluating interval forecasts. Raises ValueError on another dtype or rank.
    """
    hits = _checked_hits(violations)
    counts = np.zeros((2, 2), np.int64)
    np.add.at(counts, (hits[:-1].astype(int), hits[1:].astype(int)), 1)
    together = counts.sum(axis=0)
    free = sum(_log_likelihood(int(calm), int(hit), hit / max(calm + hit, 1)) for calm, hit in counts)
    bound = _log_likelihood(int(together[0]), int(together[1]), together[1] / together.sum())
    statistic = max(2.0 * (free - bound), 0.0)
    return LikelihoodRatio(statistic, math.erfc(math.sqrt(statistic / 2.0)))


def conditional_coverage(violations: NDArray[np.bool_], level: float) -> LikelihoodRatio:
    """Frequency and independence at once: the sum of both statistics, chi-squared with two degrees of freedom."""
    hits = _checked_hits(violations)
    statistic = kupiec(int(hits.sum()), hits.size, level).statistic + christoffersen(hits).statistic
    return LikelihoodRatio(statistic, math.exp(-statistic / 2.0))


_INCREASES = (0.0, 0.0, 0.0, 0.0, 0.0, 0.40, 0.50, 0.65, 0.75, 0.85, 1.0)


def traffic_light(violations: int, steps: int = 250, level: float = 0.99) -> TrafficLight:
    """Basel's zones: green below a cumulative probability of 95 %, yellow below 99.99 %, then red.

    The increase of the factor is published for 250 steps at 99 % alone, and None elsewhere. Source: Basel Committee
    1996, Supervisory framework for the use of backtesting, table 2. Raises ValueError for counts out of range or a bad
    level.
    """
    _check_counts(violations, steps)
    cumulative = _binomial_cumulative(violations, steps, 1.0 - checked_level(level))
    zone = "green" if cumulative < 0.95 else "yellow" if cumulative < 0.9999 else "red"
    published = (steps, level) == (250, 0.99)
    return TrafficLight(zone, cumulative, _INCREASES[min(violations, len(_INCREASES) - 1)] if published else None)


def _binomial_cumulative(count: int, trials: int, probability: float) -> float:
    log_odds = math.log(probability), math.log1p(-probability)
    logs = (
        math.lgamma(trials + 1)
        - math.lgamma(k + 1)
        - math.lgamma(trials - k + 1)
        + k * log_odds[0]
        + (trials - k) * log_odds[1]
        for k in range(count + 1)
    )
    return min(math.fsum(map(math.exp, logs)), 1.0)


def _log_likelihood(calm: int, hit: int, probability: float) -> float:
    """0 log 0 is 0."""
    total = hit * math.log(probability) if hit else 0.0
    return total + (calm * math.log1p(-probability) if calm else 0.0)


def _check_counts(violations: int, steps: int) -> None:
    if not (steps >= 1 and 0 <= violations <= steps):
        raise ValueError(f"{violations} violations in {steps} steps: want 1 step or more, and no more violations")


def _checked_hits(violations: Any) -> NDArray[np.bool_]:
    if not isinstance(violations, np.ndarray) or violations.dtype != np.bool_ or violations.ndim != 1:
        raise ValueError("violations must be a bool array of one dimension")
    if violations.size < 2:
        raise ValueError(f"{violations.size} steps are too few, 2 is the least")
    return violations
