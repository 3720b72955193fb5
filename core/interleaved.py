"""The interleaved experiment: blocks of cycles under each setting in turn, until the interval is tight.

A comparison before/after cannot tell a toggle from a drift of the machine. Here the settings alternate in blocks of a
few cycles, A B B A or B A A B as drawn; each replicate gives one log ratio in which a linear drift cancels. It stops by
itself when the interval is tight: the rule looks at the interval's width only, never at what side of 1 it lies on,
so that looking often does not favour a verdict (a fixed-width sequential interval, Chow and Robbins 1965).

Sans-I/O: records go in, the settings to have next come out. `core.experiment_run` gives it a swarm.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from math import ceil

import numpy as np
from numpy.typing import NDArray

from core.factorial import Contrast, Design
from core.paired_ratio import REPLICATES_MIN as ANALYSED_MIN
from core.paired_ratio import PairedRatio, paired_ratios
from core.records import CycleRecord
from core.spans import NAMES
from core.toggles import Toggles
from core.what_if import family

BLOCK_CYCLES = 8
"""Of recorded noise, blocks of 8 to 10 gave the narrowest interval for the cycles that they cost, switches included."""
WARM_UP_CYCLES = 2
"""The first cycles of a block pay for the switch itself; they are counted, and enter nothing."""
REPLICATES_MIN = 12
REPLICATES_MAX = 300
HALF_WIDTH_MAX = 0.025
"""The interval is tight when it is at most about ±2.5 %, ..."""
HALF_WIDTH_OF_EFFECT = 0.15
"""... or ± this part of the (log) effect: a factor of three need not be known to 2 %."""
LOOKS_APART = 1.04
"""The next look comes after so many times the replicates: a look at each would cost more and tell no more."""
UNCOMPILED_CYCLES_MAX = 5_000
"""Cycles on numpy, in a row, until the experiment gives up: compiling takes a minute, unless it failed."""
STRAY_CYCLES_MAX = 400
"""Cycles under other settings than asked for, in a row, until the experiment gives up."""


_NESTED = np.array([[float(name in family(outer)) for outer in NAMES] for name in NAMES])
"""1 where the row's span is the column's or nested in it."""


class Verdict(StrEnum):
    FASTER = "faster"
    SLOWER = "slower"
    NO_DIFFERENCE = "no difference"
    """The interval is tight and holds 1."""
    CANNOT_TELL = "cannot tell"
    """The replicates ran out before the interval was tight, and it holds 1."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured. `half_width_max` is on the log scale."""

    block_cycles: int = BLOCK_CYCLES
    warm_up_cycles: int = WARM_UP_CYCLES
    replicates_min: int = REPLICATES_MIN
    replicates_max: int = REPLICATES_MAX
    half_width_max: float = HALF_WIDTH_MAX

    def __post_init__(self) -> None:
        if (
            self.block_cycles < 1
            or self.warm_up_cycles < 0
            or not ANALYSED_MIN <= self.replicates_min <= self.replicates_max
        ):
            raise ValueError(f"plan: {self} measures nothing; want blocks of 1 cycle, 6 replicates or more")


@dataclass(frozen=True, slots=True)
class ContrastResult:
    """A main effect or an interaction; `ratio` above 1: with the toggle changed a cycle takes less time."""

    contrast: Contrast
    ratio: PairedRatio
    tight: bool

    @property
    def verdict(self) -> Verdict:
        if self.ratio.excludes_one:
            return Verdict.FASTER if self.ratio.low > 1.0 else Verdict.SLOWER
        return Verdict.NO_DIFFERENCE if self.tight else Verdict.CANNOT_TELL


@dataclass(frozen=True, slots=True)
class SpanResult:
    """One span in the comparison of two settings: inclusive ms a cycle, and the ratio where both ran it.

    Times are geometric means over the replicates of their blocks' medians, so that first / second is the ratio; where
    there is none, and of own times, medians over the replicates. Own times are exclusive. `whole` is the span's own
    time with that of all nested in it: its part of the cycle's critical path, which inclusive time is not where calls
    overlap.
    """

    name: str
    first_ms: float
    second_ms: float
    first_own_ms: float
    second_own_ms: float
    ratio: PairedRatio | None
    first_whole_ms: float
    second_whole_ms: float
    whole_ratio: PairedRatio | None


@dataclass(frozen=True, slots=True)
class Result:
    """What is known so far, or at the end. `cell_ms` is the cycle time under each setting of the design: the geometric
    mean over the replicates of the blocks' medians, which the ratios are quotients of."""

    design: Design
    contrasts: tuple[ContrastResult, ...]
    spans: tuple[SpanResult, ...]
    """Of a comparison of two settings; empty for a factorial design. The root first, `untimed` last."""
    cell_ms: tuple[float, ...]
    replicates: int
    cycles: int
    """Those that entered."""

    @property
    def main(self) -> ContrastResult:
        return self.contrasts[0]

    @property
    def main_effects(self) -> tuple[ContrastResult, ...]:
        """One a key; a comparison of two settings has one in all."""
        return self.contrasts[:1] if len(self.design.cells) == 2 else self.contrasts[: len(self.design.keys)]


@dataclass(slots=True)
class _Block:
    cell: int
    leader: int = -1
    warm_up: int = 0
    records: list[CycleRecord] = field(default_factory=list)


class InterleavedExperiment:
    """Follows the cycles of one experiment. After each `observe` the swarm should have the toggles of `wanted`."""

    def __init__(self, design: Design, plan: Plan = Plan(), seed: int = 0) -> None:
        self.design = design
        self.plan = plan
        self._seed = seed
        self._random = np.random.default_rng(seed)
        self._visits = design.visits(self._random)
        self._block = _Block(self._visits[0])
        self._done: list[_Block] = []
        self._last_cycle = -1
        self._stray = 0
        self._answer = ""
        self._leader: int | None = None
        self._log_ms: list[NDArray[np.float64]] = []
        """A replicate each, (cells, 60): logs of medians, as `_medians` gives them."""
        self._own_ms: list[NDArray[np.float64]] = []
        self.started_again = 0
        """Replicates that were thrown away, because the lead changed hands or somebody else changed the toggles."""
        self.discarded = 0
        """Cycles that enter nothing: warm-up, between two blocks, of replicates thrown away."""
        self._uncompiled = 0
        self._next_look = ANALYSED_MIN
        self._contrasts: tuple[ContrastResult, ...] = ()
        self._result: Result | None = None
        self.finished = False
        self.failure = ""

    @property
    def wanted(self) -> Toggles:
        """The settings that the swarm should run under now."""
        return self.design.cells[self._block.cell]

    @property
    def replicates(self) -> int:
        return len(self._log_ms)

    @property
    def progress(self) -> float:
        """Blocks done of the most that there can be, 0 to 1."""
        blocks = self.replicates * len(self._visits) + len(self._done)
        return blocks / (self.plan.replicates_max * len(self._visits))

    @property
    def result(self) -> Result | None:
        """What the last look found; None before the sixth replicate."""
        if self._contrasts and (self._result is None or self._result.contrasts is not self._contrasts):
            self._result = self._analyse()
        return self._result

    def observe(self, record: CycleRecord) -> None:
        """Take the next cycle; records that were seen before are passed over."""
        if self.finished or record.cycle <= self._last_cycle:
            return
        self._last_cycle = record.cycle
        if record.numpy_kernels:
            # another machine, as it were: the leader has just started, and its kernels are not compiled yet
            self.discarded += 1
            self._uncompiled += 1
            if self._block.records or self._done:
                self._start_replicate_again()
            if self._uncompiled > UNCOMPILED_CYCLES_MAX:
                self.give_up(f"{self._uncompiled:,} cycles ran on numpy: the kernels are not compiled, see the events")
            return
        self._uncompiled = 0
        if record.toggles != self.wanted:
            self._strayed()
            return
        self._stray = 0
        block = self._block
        if self._leader is not None and record.leader != self._leader:
            # Another machine or another place of the quorum: nothing of before is paired with what comes.
            self._leader = record.leader
            self._start_replicate_again()
            return
        self._leader = record.leader
        if block.warm_up < self.plan.warm_up_cycles:
            block.warm_up += 1
            self.discarded += 1
            return
        block.records.append(record)
        if len(block.records) == self.plan.block_cycles:
            self._finish_block()

    def answered(self, answer: str) -> None:
        """Take what the swarm said to the last switch: it may be why cycles run under other toggles."""
        self._answer = answer

    def give_up(self, reason: str) -> None:
        """End without a verdict."""
        self.finished, self.failure = True, reason

    def _strayed(self) -> None:
        self.discarded += 1
        self._stray += 1
        if self._block.records or self._block.warm_up:
            self._start_replicate_again()
        if self._stray > STRAY_CYCLES_MAX:
            reason = f"{self._stray} cycles ran under other toggles than the experiment's: is somebody pressing keys?"
            answer = f" The swarm's answer to the last switch: {self._answer}" if self._answer else ""
            self.give_up(reason + answer)

    def _start_replicate_again(self) -> None:
        self.started_again += 1
        self.discarded += sum(len(block.records) for block in [*self._done, self._block])
        self._done.clear()
        self._block = _Block(self._visits[0])
        if self.started_again > self.plan.replicates_max:
            self.give_up(f"{self.started_again} replicates were disturbed: the lead or the toggles keep changing")

    def _finish_block(self) -> None:
        self._done.append(self._block)
        before = self._block.cell
        if len(self._done) == len(self._visits):
            self._finish_replicate()
        cell = self._visits[len(self._done)]
        # The same setting once more needs no switch, so there is nothing to warm up.
        self._block = _Block(cell, warm_up=self.plan.warm_up_cycles if cell == before else 0)

    def _finish_replicate(self) -> None:
        cells = len(self.design.cells)
        medians = [_medians(block.records) for block in self._done]
        wall = np.empty((cells, medians[0][0].size))
        own = np.empty((cells, medians[0][1].size))
        for cell in range(cells):
            visits = [medians[k] for k, block in enumerate(self._done) if block.cell == cell]
            wall[cell] = np.mean([visit[0] for visit in visits], axis=0)
            own[cell] = np.mean([visit[1] for visit in visits], axis=0)
        self._log_ms.append(wall)
        self._own_ms.append(own)
        self._done.clear()
        self._visits = self.design.visits(self._random)
        if self.replicates >= min(self._next_look, self.plan.replicates_max):
            self._next_look = ceil(self.replicates * LOOKS_APART)
            self._judge()

    def _judge(self) -> None:
        walls = np.array([replicate[:, 0] for replicate in self._log_ms])
        weights = np.array([contrast.weights for contrast in self.design.contrasts])
        ratios = paired_ratios(walls @ weights.T, self._seed)
        self._contrasts = tuple(
            ContrastResult(contrast, ratio, self._is_tight(ratio))
            for contrast, ratio in zip(self.design.contrasts, ratios, strict=True)
        )
        self.finished = self.replicates >= self.plan.replicates_max or (
            self.replicates >= self.plan.replicates_min and all(each.tight for each in self._contrasts)
        )

    def _analyse(self) -> Result:
        table = np.array(self._log_ms)
        return Result(
            self.design,
            self._contrasts,
            self._spans(table[:, :, 1:]) if len(self.design.cells) == 2 else (),
            tuple(np.exp(table[:, :, 0].mean(axis=0)).tolist()),
            self.replicates,
            self.replicates * len(self._visits) * self.plan.block_cycles,
        )

    def _is_tight(self, ratio: PairedRatio) -> bool:
        effect = abs(float(np.log(ratio.ratio)))
        return ratio.half_width <= max(self.plan.half_width_max, HALF_WIDTH_OF_EFFECT * effect)

    def _spans(self, table: NDArray[np.float64]) -> tuple[SpanResult, ...]:
        """`table` (replicates, 2, 59), log ms; -inf where a span took no time."""
        measured = np.asarray(np.isfinite(table).all(axis=(0, 1)))
        found = iter(paired_ratios(table[:, 0, measured] - table[:, 1, measured], self._seed))
        ratios = [next(found) if each else None for each in measured]
        # the estimator of the ratio, so that the two times divide to it; a time of 0 in some replicate has no logarithm
        first, second = np.exp(np.where(measured, table.mean(axis=0), np.median(table, axis=0))).tolist()
        first_own, second_own = np.median(np.array(self._own_ms), axis=0).tolist()
        names = (*NAMES, "untimed")
        # untimed has nothing nested in it
        whole = [*range(len(names), table.shape[2]), names.index("untimed")]
        return tuple(
            SpanResult(
                name=name,
                first_ms=first[k],
                second_ms=second[k],
                first_own_ms=first_own[k],
                second_own_ms=second_own[k],
                ratio=ratios[k],
                first_whole_ms=first[whole[k]],
                second_whole_ms=second[whole[k]],
                whole_ratio=ratios[whole[k]],
            )
            for k, name in enumerate(names)
        )


def _medians(records: list[CycleRecord]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of one block: logs of the medians of wall, inclusive, untimed and whole ms (60); medians of own ms (30)."""
    own = np.array([[*r.exclusive_ms, r.untimed_ms] for r in records])
    times = np.array([[r.wall_ms, *r.inclusive_ms, r.untimed_ms] for r in records])
    times = np.column_stack([times, own[:, : len(NAMES)] @ _NESTED])
    with np.errstate(divide="ignore"):
        logs = np.log(np.maximum(np.median(times, axis=0), 0.0))
    return logs, np.median(own, axis=0)
