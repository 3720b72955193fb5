"""Drift of a running swarm: has the cycle time moved away from what it was, under the same toggles and leader?

The reference is the first 150 cycles after the warm-up; each further 150 are compared with it as a whole, by the ratio
of medians with a block bootstrap interval at 99 %. It is called a drift when two windows in a row say so on the same
side, by 10 % or more. Windows do not overlap, so that one slow spell counts once and is no drift.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.experiment import WARM_UP_CYCLES, Effect, effect
from core.records import CycleRecord
from core.spans import NAMES, ROOT
from core.statistics import newer_than
from core.toggles import Toggles

WINDOW_CYCLES = 150
SHIFT_MIN = 0.10
CONFIDENCE = 0.99
IN_A_ROW = 2


@dataclass(frozen=True, slots=True)
class Look:
    """One window against the reference. `shift` is the ratio of medians now / then: 1.2 is 20 % slower."""

    cycle: int
    """The last of the window."""
    shift: Effect
    drifting: bool
    moved: tuple[tuple[str, float], ...]
    """Up to three spans whose median own time moved most in the shift's direction, with ms a cycle."""
    toggles: Toggles
    leader: int

    @property
    def text(self) -> str:
        """One sentence for a person."""
        effect = self.shift
        percent = (effect.ratio - 1.0) * 100.0
        interval = f"{(effect.low - 1.0) * 100.0:+.0f} to {(effect.high - 1.0) * 100.0:+.0f} %"
        times = f"{effect.after_p50_ms:.2f} → {effect.before_p50_ms:.2f} ms"
        spans = ", ".join(f"{name} {ms:+.2f}" for name, ms in self.moved)
        return f"cycle time {percent:+.0f} % ({interval}, {times}){f': {spans} ms' if spans else ''}"


class DriftTracker:
    """Follows the cycles of a swarm. A change of toggles or leader starts it again: that is no drift."""

    def __init__(self, window_cycles: int = WINDOW_CYCLES, seed: int = 0, since_ns: int = 0) -> None:
        """Cycles that began before `since_ns`, Unix time, are passed over."""
        self._window_cycles = window_cycles
        self._since_ns = since_ns
        self._seed = seed
        self._last_cycle = 0
        self._place: tuple[Toggles, int] | None = None
        self._seen = 0
        self._reference: list[CycleRecord] = []
        self._window: list[CycleRecord] = []
        self._sides: list[int] = []
        self.look: Look | None = None
        """The latest; None until there are a reference and a window."""
        self.looks = 0
        """Since the reference was taken."""

    def update(self, cycles: Sequence[CycleRecord]) -> Look | None:
        """Take the records newer than those seen before (oldest first) and return the latest look."""
        for record in newer_than(cycles, self._last_cycle):
            self._last_cycle = record.cycle
            self._take(record)
        return self.look

    def _take(self, record: CycleRecord) -> None:
        if record.started_ns < self._since_ns:
            return
        if record.numpy_kernels:
            # Before the kernels are compiled a cycle is another machine's, as it were: their end is no drift.
            return
        place = (record.toggles, record.leader)
        if place != self._place:
            self._place, self._seen = place, 0
            self._reference, self._window, self._sides = [], [], []
            self.look, self.looks = None, 0
        self._seen += 1
        if self._seen <= WARM_UP_CYCLES:
            return
        if len(self._reference) < self._window_cycles:
            self._reference.append(record)
            return
        self._window.append(record)
        if len(self._window) == self._window_cycles:
            self._judge()
            self._window = []

    def _judge(self) -> None:
        now, then = (np.array([r.wall_ms for r in records]) for records in (self._window, self._reference))
        self.looks += 1
        shift = effect(now, then, seed=self._seed + self._last_cycle, confidence=CONFIDENCE)
        side = 0
        if shift.low > 1.0 and shift.ratio >= 1.0 + SHIFT_MIN:
            side = 1
        elif shift.high < 1.0 and shift.ratio <= 1.0 / (1.0 + SHIFT_MIN):
            side = -1
        self._sides = [*self._sides, side][-IN_A_ROW:]
        drifting = len(self._sides) == IN_A_ROW and side != 0 and len(set(self._sides)) == 1
        assert self._place is not None
        self.look = Look(self._last_cycle, shift, drifting, self._moved(side) if side else (), *self._place)

    def _moved(self, side: int) -> tuple[tuple[str, float], ...]:
        now, then = (
            np.median([[*r.exclusive_ms, r.untimed_ms] for r in records], axis=0)
            for records in (self._window, self._reference)
        )
        moved = dict(zip((*NAMES, "untimed"), (now - then).tolist(), strict=True))
        moved.pop(ROOT)
        most = sorted(moved.items(), key=lambda item: -item[1] * side)[:3]
        return tuple(
            (name, ms) for name, ms in most if ms * side > 0.01 * float(np.median([r.wall_ms for r in self._reference]))
        )
