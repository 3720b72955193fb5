"""Paired ratios from replicates that each measured every setting once: bootstrap-t intervals on the log scale.

A ratio is the exponential of a mean difference of logarithms within replicates, so a drift of the machine that is
slower than a replicate cancels. The interval is the studentised bootstrap over whole replicates (Efron and Tibshirani
1993, chapter 12), which keeps its coverage at ten replicates, where the plain percentile interval is too short.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2_000
CONFIDENCE = 0.95
REPLICATES_MIN = 6
"""With fewer, too many resamples draw one replicate over and over, and have no spread to divide by."""
_NEGLIGIBLE = 1e-12
"""A standard error below this is rounding: all replicates said the same."""


@dataclass(frozen=True, slots=True)
class PairedRatio:
    """1.25 means that the first setting took 1.25 times as long as the second."""

    ratio: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half the interval's length on the log scale: 0.02 is about 2 %."""
        return float(np.log(self.high / self.low)) / 2.0

    @property
    def excludes_one(self) -> bool:
        return self.low > 1.0 or self.high < 1.0


def paired_ratios(
    log_ratios: NDArray[np.float64], seed: int, resamples: int = RESAMPLES, confidence: float = CONFIDENCE
) -> list[PairedRatio]:
    """One `PairedRatio` a column of `log_ratios`, float64 (replicates, columns): log first - log second, same units.

    The same seed gives the same intervals. Raises ValueError on fewer than 6 replicates or on values that are not
    finite.
    """
    if log_ratios.ndim != 2 or log_ratios.shape[0] < REPLICATES_MIN:
        raise ValueError(
            f"paired_ratios: want (replicates of {REPLICATES_MIN} or more, columns), has {log_ratios.shape}"
        )
    if not np.isfinite(log_ratios).all():
        raise ValueError("paired_ratios: there are values that are not finite")
    n = log_ratios.shape[0]
    mean = log_ratios.mean(axis=0)
    centred = log_ratios - mean
    error = centred.std(axis=0, ddof=1) / np.sqrt(n)
    low, high = mean.copy(), mean.copy()
    varies = error > _NEGLIGIBLE
    if varies.any():
        # How often each replicate is drawn says all about a resample, so that products of matrices do the work.
        drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1.0 / n), size=resamples).astype(np.float64)
        drawn = drawn[drawn.max(axis=1) < n]
        values = centred[:, varies]
        means = drawn @ values / n
        variances = np.maximum(drawn @ values**2 / n - means**2, _NEGLIGIBLE**2) * n / (n - 1)
        students = means / np.sqrt(variances / n)
        tail = (1.0 - confidence) / 2.0
        below, above = np.quantile(students, (tail, 1.0 - tail), axis=0)
        low[varies] = mean[varies] - above * error[varies]
        high[varies] = mean[varies] - below * error[varies]
    columns = np.exp(np.stack([mean, low, high], axis=1)).tolist()
    return [PairedRatio(*column) for column in columns]
