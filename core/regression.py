"""Whether spans became slower between two profiles: ratios of medians with intervals that hold for all spans at once.

Each side's cycles are drawn in blocks, all spans of a cycle together (the circular block bootstrap), and the largest
studentised deviation over spans sets the width: the single-step max-T adjustment (Westfall and Young 1993), which
heeds how spans move together. So with 30 spans a false alarm in any of them has 5 %, not in each.

Two sessions are not interleaved: a machine that changed between them has changed them. The interval knows the noise
within each; a threshold stands beside it for what lies between them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.block_bootstrap import drawn_indices
from core.profile_series import ROWS

RESAMPLES = 1_000
FAMILY_ERROR = 0.05
"""Chance of a false alarm in any span of two profiles that do not differ."""
THRESHOLD = 0.05
"""A slowdown of less is shown and does not count."""
CYCLES_MIN = 30
_CHUNK = 25


@dataclass(frozen=True, slots=True)
class SpanChange:
    """One span: medians of own time, ms a cycle, and after / before with its simultaneous 95 % interval.

    `ratio` above 1 is slower; None where the span took no time in most cycles of either side.
    """

    name: str
    before_ms: float
    after_ms: float
    ratio: float | None
    low: float | None
    high: float | None
    significant: bool
    slowdown: bool
    """Significant, and by the threshold or more."""


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
    middle = np.array([np.median(before_ms, axis=0), np.median(after_ms, axis=0)])
    ran = np.asarray((middle > 0).all(axis=0), np.bool_)
    log_ratio = np.log(middle[1, ran] / middle[0, ran])
    random = np.random.default_rng(seed)
    drawn = _log_medians(after_ms[:, ran], resamples, random) - _log_medians(before_ms[:, ran], resamples, random)
    error = np.maximum(drawn.std(axis=0, ddof=1), 1e-12)
    largest = np.abs((drawn - log_ratio) / error).max(axis=1)
    reach = float(np.quantile(largest, 1.0 - FAMILY_ERROR)) * error
    found = iter(zip(np.exp(log_ratio), np.exp(log_ratio - reach), np.exp(log_ratio + reach), strict=True))
    changes = []
    for k, name in enumerate(ROWS):
        before, after = float(middle[0, k]), float(middle[1, k])
        if not ran[k]:
            changes.append(SpanChange(name, before, after, None, None, None, significant=False, slowdown=False))
            continue
        ratio, low, high = (float(value) for value in next(found))
        significant = low > 1.0 or high < 1.0
        changes.append(
            SpanChange(name, before, after, ratio, low, high, significant, low > 1.0 and ratio >= 1.0 + threshold)
        )
    return Regression(tuple(changes), len(before_ms), len(after_ms), threshold)


def _log_medians(table: NDArray[np.float64], resamples: int, random: np.random.Generator) -> NDArray[np.float64]:
    """float64 (resamples, spans): logs of the medians of each resample; a median of 0 counts as tiny."""
    n = table.shape[0]
    found = []
    for first in range(0, resamples, _CHUNK):
        index = drawn_indices(n, min(_CHUNK, resamples - first), random)
        medians = np.median(table[index], axis=1)
        found.append(np.log(np.maximum(medians, np.finfo(np.float64).tiny)))
    return np.concatenate(found)
