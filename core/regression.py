"""Whether spans became slower between two profiles: ratios of medians with intervals that hold for all spans at once.
A span that did not run in most cycles of a side has no ratio; it is judged by the difference of its means.

Each side's cycles are drawn in blocks, all spans of a cycle together (the circular block bootstrap), and the largest
studentised deviation over spans sets the width: the single-step max-T adjustment (Westfall and Young 1993), which
heeds how spans move together. So with 30 spans a false alarm in any of them has 5 %, not in each.

Two sessions are not interleaved: a machine that changed between them has changed them. The interval knows the noise
within each; a threshold stands beside it for what lies between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

import numpy as np
from numpy.typing import NDArray

from core.block_bootstrap import drawn_indices
from core.profile_series import ROWS

RESAMPLES = 1_000
FAMILY_ERROR = 0.05
"""Chance of a false alarm in any span of two profiles that do not differ."""
THRESHOLD = 0.05
"""A slowdown of less is shown and does not count."""
MATERIAL_SHARE = 0.01
"""Of the mean cycle before: what a span that had hardly run must take now to count."""
CYCLES_MIN = 30
_CHUNK = 25


@dataclass(frozen=True, slots=True)
class SpanChange:
    """One span's own time, ms a cycle, with an interval that is one of the simultaneous 95 % intervals.

    Where it ran in most cycles of both sides the times are medians, and `ratio` is after / before with `low` and
    `high`: above 1 is slower. Else, as a ratio to nothing says nothing, the times are means and `difference_ms` is
    after - before; all of it is None where the span ran in no cycle of either side.
    """

    name: str
    before_ms: float
    after_ms: float
    ratio: float | None
    low: float | None
    high: float | None
    significant: bool
    slowdown: bool
    """Significant, and by the threshold or more; a difference of means by 1 % of the cycle or more besides."""
    difference_ms: float | None = None
    difference_low_ms: float | None = None
    difference_high_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Regression:
    """`changes` has the whole cycle first, then the spans and `untimed`."""

    changes: tuple[SpanChange, ...]
    before_cycles: int
    after_cycles: int
    threshold: float

    @property
    def slowdowns(self) -> tuple[SpanChange, ...]:
        return tuple(change for change in self.changes if change.slowdown)


def compare(
    before_ms: NDArray[np.float64],
    after_ms: NDArray[np.float64],
    seed: int,
    threshold: float = THRESHOLD,
    resamples: int = RESAMPLES,
) -> Regression:
    """Compare two tables of own times, float64 (cycles, 30), ms, in the order of `core.profile_series.ROWS`.

    The same seed gives the same answer. Raises ValueError for fewer than 30 cycles on a side or other columns.
    """
    for side, table in (("before", before_ms), ("after", after_ms)):
        if table.ndim != 2 or table.shape[1] != len(ROWS) or table.shape[0] < CYCLES_MIN:
            raise ValueError(f"{side}: want ({CYCLES_MIN} cycles or more, {len(ROWS)} spans), has {table.shape}")
    random = np.random.default_rng(seed)
    after_medians, after_means = _resampled(after_ms, resamples, random)
    before_medians, before_means = _resampled(before_ms, resamples, random)
    middle = np.array([np.median(before_ms, axis=0), np.median(after_ms, axis=0)])
    mean = np.array([before_ms.mean(axis=0), after_ms.mean(axis=0)])
    # A median that is 0 in some resample has no logarithm: that span ran in too few cycles for a ratio.
    has_ratio = np.vstack([middle, before_medians, after_medians]).min(axis=0) > 0.0
    estimate = mean[1] - mean[0]
    drawn = after_means - before_means
    estimate[has_ratio] = np.log(middle[1, has_ratio] / middle[0, has_ratio])
    drawn[:, has_ratio] = np.log(after_medians[:, has_ratio]) - np.log(before_medians[:, has_ratio])
    error = np.maximum(drawn.std(axis=0, ddof=1), 1e-12)
    largest = np.abs((drawn - estimate) / error).max(axis=1)
    reach = float(np.quantile(largest, 1.0 - FAMILY_ERROR)) * error
    material_ms = MATERIAL_SHARE * float(mean[0, 0])
    changes = []
    for k, name in enumerate(ROWS):
        at, low, high = (float(value) for value in (estimate[k], estimate[k] - reach[k], estimate[k] + reach[k]))
        significant = low > 0.0 or high < 0.0
        if has_ratio[k]:
            ratio = exp(at)
            slowdown = low > 0.0 and ratio >= 1.0 + threshold
            before, after = middle[:, k].tolist()
            changes.append(SpanChange(name, before, after, ratio, exp(low), exp(high), significant, slowdown))
            continue
        before, after = mean[:, k].tolist()
        slowdown = low > 0.0 and at >= material_ms and after >= before * (1.0 + threshold)
        ran = before > 0.0 or after > 0.0
        difference = (at, low, high) if ran else (None, None, None)
        changes.append(SpanChange(name, before, after, None, None, None, ran and significant, slowdown, *difference))
    return Regression(tuple(changes), len(before_ms), len(after_ms), threshold)


def _resampled(
    table: NDArray[np.float64], resamples: int, random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Medians and means of each resample, float64 (resamples, spans) each."""
    n = table.shape[0]
    medians, means = [], []
    for first in range(0, resamples, _CHUNK):
        drawn = table[drawn_indices(n, min(_CHUNK, resamples - first), random)]
        medians.append(np.median(drawn, axis=1))
        means.append(drawn.mean(axis=1))
    return np.concatenate(medians), np.concatenate(means)
