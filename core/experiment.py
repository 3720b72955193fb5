"""What a change of toggles did to the cycle time: a ratio of medians with a bootstrap interval.

A before/after comparison cannot tell the toggle from a drift of the machine; it is the quick answer beside the key
that was pressed. It never compares fewer than `CYCLES_NEEDED` cycles on either side and drops the first cycles of a
run, which pay for the switch itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from core.records import CycleRecord
from core.statistics import newer_than
from core.toggles import FIELD_OF_KEY, Toggles

CYCLES_NEEDED = 30
CYCLES_KEPT = 240
"""At most this many of the latest cycles of each side enter the comparison."""
WARM_UP_CYCLES = 3
_RUNS_KEPT = 16


@dataclass(frozen=True, slots=True)
class Effect:
    """Median cycle time before / after: 1.25 means that a cycle before took 1.25 times as long, so it is faster now."""

    ratio: float
    low: float
    high: float
    before_p50_ms: float
    after_p50_ms: float
    before_cycles: int
    after_cycles: int
    confidence: float

    @property
    def verdict(self) -> str:
        """`faster` or `slower` when the interval leaves out 1, else `no clear difference`."""
        if self.low > 1.0:
            return "faster"
        return "slower" if self.high < 1.0 else "no clear difference"


def effect(
    before_ms: Sequence[float] | NDArray[np.float64],
    after_ms: Sequence[float] | NDArray[np.float64],
    seed: int,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Effect:
    """Ratio of medians before / after with a percentile bootstrap interval; inputs are 1-D, ms, in time order.

    Consecutive cycles are not independent, so whole blocks of about n^(1/3) cycles are drawn, with wrap-around: the
    circular block bootstrap (Politis and Romano 1992). The same seed gives the same interval.
    Raises ValueError on fewer than 2 values, or values that are not finite and positive, on either side.
    """
    before, after = _checked(before_ms, "before"), _checked(after_ms, "after")
    random = np.random.default_rng(seed)
    ratios = _resampled_medians(before, resamples, random) / _resampled_medians(after, resamples, random)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(ratios, (tail, 1.0 - tail))
    before_p50, after_p50 = float(np.median(before)), float(np.median(after))
    return Effect(
        ratio=before_p50 / after_p50,
        low=float(low),
        high=float(high),
        before_p50_ms=before_p50,
        after_p50_ms=after_p50,
        before_cycles=len(before),
        after_cycles=len(after),
        confidence=confidence,
    )


def _checked(values: Sequence[float] | NDArray[np.float64], side: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) < 2:
        raise ValueError(f"effect: {side} needs at least 2 cycle times in one dimension, has shape {array.shape}")
    if not np.all(np.isfinite(array) & (array > 0.0)):
        raise ValueError(f"effect: {side} has cycle times that are not finite and positive")
    return array


def _resampled_medians(values: NDArray[np.float64], resamples: int, random: np.random.Generator) -> NDArray[np.float64]:
    n = len(values)
    block = max(1, round(n ** (1.0 / 3.0)))
    starts = random.integers(0, n, size=(resamples, -(-n // block)))
    # A median is known by its rank: ranks are drawn block by block and parted four times as fast as values.
    order = np.argsort(values)
    ranks = np.empty(n, np.int32)
    ranks[order] = np.arange(n)
    blocks = sliding_window_view(np.concatenate([ranks, ranks[: block - 1]]), block)
    middle = n // 2
    parted = np.partition(blocks[starts].reshape(resamples, -1)[:, :n], middle, axis=1)
    upper = parted[:, middle]
    lower = upper if n % 2 else parted[:, :middle].max(axis=1)
    ordered = values[order]
    return np.asarray((ordered[lower] + ordered[upper]) / 2.0)


@dataclass(frozen=True, slots=True)
class Change:
    """The last change of toggles and what is known of its effect.

    `effect` is None while cycles are still counted, and for good where fewer than `CYCLES_NEEDED` ran before it.
    """

    before: Toggles
    after: Toggles
    keys: tuple[str, ...]
    before_cycles: int
    """Cycles kept of the run before, at most `CYCLES_KEPT`."""
    measured_cycles: int
    effect: Effect | None

    @property
    def label(self) -> str:
        """`b batching off→on, m consensus raft→bft`."""
        parts = []
        for key in self.keys:
            name = FIELD_OF_KEY[key]
            old, new = getattr(self.before, name), getattr(self.after, name)
            parts.append(f"{key} {name.replace('_', ' ')} {_word(old)}→{_word(new)}")
        return ", ".join(parts)


def _word(value: object) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def changed_keys(before: Toggles, after: Toggles) -> tuple[str, ...]:
    """The toggle keys whose values differ, in the order of the keys."""
    return tuple(key for key, name in FIELD_OF_KEY.items() if getattr(before, name) != getattr(after, name))


@dataclass(slots=True)
class _Run:
    """Consecutive cycles under one value of the toggles."""

    toggles: Toggles
    first_cycle: int
    cycles: int = 0
    wall_ms: deque[float] = field(default_factory=lambda: deque(maxlen=CYCLES_KEPT))


class EffectTracker:
    """Follows the stream of cycle records and keeps the measured effect of the last change of toggles.

    `before` is the latest earlier run that is long enough: when several keys are pressed in quick succession their
    joint effect is reported. The interval is computed at 30 cycles and again at 60, 120 and 240, then stays.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._runs: deque[_Run] = deque(maxlen=_RUNS_KEPT)
        self._last_cycle = 0
        self._change: Change | None = None
        self._milestone = 0

    def update(self, cycles: Sequence[CycleRecord]) -> Change | None:
        """Take the records newer than those seen before (oldest first) and return the last change, if there is one."""
        for record in newer_than(cycles, self._last_cycle):
            self._last_cycle = record.cycle
            self._append(record)
        return self._judge()

    def _append(self, record: CycleRecord) -> None:
        if record.numpy_kernels:
            # what the compiler brings is no effect of a toggle
            return
        if not self._runs or self._runs[-1].toggles != record.toggles:
            self._runs.append(_Run(record.toggles, record.cycle))
            self._change, self._milestone = None, 0
        run = self._runs[-1]
        run.cycles += 1
        if run.cycles > WARM_UP_CYCLES:
            run.wall_ms.append(record.wall_ms)

    def _judge(self) -> Change | None:
        if len(self._runs) < 2:
            return None
        now = self._runs[-1]
        earlier = [run for run in list(self._runs)[:-1] if len(run.wall_ms) >= CYCLES_NEEDED]
        before = earlier[-1] if earlier else self._runs[-2]
        if before.toggles == now.toggles:
            return None
        measured = len(now.wall_ms)
        if self._change is not None and self._change.effect is not None and measured < 2 * self._milestone:
            return self._change
        keys = changed_keys(before.toggles, now.toggles)
        if measured < CYCLES_NEEDED or not earlier:
            return Change(before.toggles, now.toggles, keys, len(before.wall_ms), measured, None)
        if measured >= 2 * self._milestone and self._milestone < CYCLES_KEPT:
            self._milestone = measured
            found = effect(np.array(before.wall_ms), np.array(now.wall_ms), seed=self._seed + now.first_cycle)
            self._change = Change(before.toggles, now.toggles, keys, len(before.wall_ms), measured, found)
        return self._change
