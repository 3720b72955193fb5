"""What was told of cycles and is not sent yet. A cycle is done before its orders are, so its trace is sent in parts:
the leader's spans with whatever else is known, and what comes later by itself.

Every row finds its cycle by what its message carried: the market step of proposals and decisions, the client order id
at the venue. Handling of consensus messages, which name no step, belongs to the cycle that it ran in.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from core.cycle_trace import CycleTrace, OrderInterval, Stage, SwarmTrace, Work, WorkInterval
from core.records import CycleRecord

CYCLES_KNOWN: Final = 512
"""Of so many cycles late parts are still taken."""
UNSENT_MAX: Final = 40
"""Cycles that wait for a collector which is away; older ones are lost, trading is not held up."""
ROWS_WAITING_MAX: Final = 16_384
NAMES_KNOWN: Final = 16_384
LATE_NS: Final = 2_000_000_000
"""So long the venue's word on an order waits for the gateway's, which says of what step it is."""

Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class PlacedInterval:
    """Something that gateway or venue did, and below which of the gateway's releases, where that is known."""

    interval: OrderInterval
    release: OrderInterval | None = None


@dataclass(frozen=True, slots=True)
class TracedCycle:
    """A cycle with its record, from which the moment in Unix time is known, and others' work for it."""

    trace: CycleTrace
    record: CycleRecord
    work: tuple[WorkInterval, ...] = ()
    orders: tuple[PlacedInterval, ...] = ()
    is_new: bool = True
    """Its leader's spans were not sent before."""

    @property
    def offset_ns(self) -> int:
        """Unix time less the clock of the trace."""
        return self.record.started_ns - self.trace.start_ns


class TraceBacklog:
    """`hear` what there is, send what is `ready`, and say so by `sent`: what was not sent is ready again."""

    def __init__(self) -> None:
        self._unrecorded: dict[int, CycleTrace] = {}
        self._cycles: dict[int, tuple[CycleTrace, CycleRecord]] = {}
        self._sent: set[int] = set()
        self._work: list[WorkInterval] = []
        self._orders: list[OrderInterval] = []
        self._releases: dict[str, OrderInterval] = {}
        self._step_of: dict[str, int] = {}
        self._left: tuple[list[WorkInterval], list[OrderInterval]] = ([], [])
        self._offered: list[int] = []

    def hear(self, trace: SwarmTrace, records: Sequence[CycleRecord]) -> None:
        """Take what nodes, gateway and venue told since the last time, and the cycles' records as far as known."""
        self._unrecorded |= {cycle.cycle: cycle for cycle in trace.cycles}
        for record in records:
            cycle = self._unrecorded.pop(record.cycle, None)
            if cycle is not None:
                self._cycles[record.cycle] = (cycle, record)
        self._work = [*self._work, *trace.work][-ROWS_WAITING_MAX:]
        self._orders = [*self._orders, *trace.orders][-ROWS_WAITING_MAX:]
        for each in trace.orders:
            if each.step < 0:
                continue
            self._step_of |= dict.fromkeys(each.orders, each.step)
            if each.stage is Stage.EXECUTE:
                for name in each.orders:
                    # A later one, after a takeover, sends nothing a second time.
                    self._releases.setdefault(name, each)
        for number in sorted(self._cycles.keys() - self._sent)[:-UNSENT_MAX]:
            del self._cycles[number]
        _forget_oldest(self._unrecorded, CYCLES_KNOWN)
        _forget_oldest(self._cycles, CYCLES_KNOWN)
        _forget_oldest(self._releases, NAMES_KNOWN)
        _forget_oldest(self._step_of, NAMES_KNOWN)
        self._sent &= self._cycles.keys()

    def ready(self) -> list[TracedCycle]:
        """Cycles not sent yet, and parts of others that came since; oldest first."""
        work_of, work_left = self._assign_work()
        orders_of, orders_left = self._assign_orders()
        self._left = (work_left, orders_left)
        wanted = (self._cycles.keys() - self._sent) | work_of.keys() | orders_of.keys()
        self._offered = sorted(wanted)
        return [
            TracedCycle(*self._cycles[n], tuple(work_of[n]), tuple(orders_of[n]), n not in self._sent)
            for n in self._offered
        ]

    def sent(self) -> None:
        """A collector took what was last `ready`."""
        self._work, self._orders = self._left
        self._sent.update(self._offered)

    def _newest_start_ns(self) -> int:
        return max((trace.start_ns for trace, _ in self._cycles.values()), default=0)

    def _assign_work(self) -> tuple[dict[int, list[WorkInterval]], list[WorkInterval]]:
        found: dict[int, list[WorkInterval]] = defaultdict(list)
        left: list[WorkInterval] = []
        newest_ns = self._newest_start_ns()
        by_step = {trace.step: trace for trace, _ in self._cycles.values() if trace.step >= 0}
        by_start = sorted((trace for trace, _ in self._cycles.values()), key=lambda trace: trace.start_ns)
        starts = [trace.start_ns for trace in by_start]
        for each in self._work:
            if each.work is Work.JUDGING and each.step >= 0:
                cycle = by_step.get(each.step)
            else:
                place = bisect_right(starts, each.start_ns) - 1
                cycle = by_start[place] if place >= 0 and each.end_ns <= by_start[place].end_ns else None
            if cycle is not None:
                if each.node != cycle.leader:
                    found[cycle.cycle].append(each)
            elif each.end_ns >= newest_ns:
                left.append(each)
        return found, left

    def _assign_orders(self) -> tuple[dict[int, list[PlacedInterval]], list[OrderInterval]]:
        found: dict[int, list[PlacedInterval]] = defaultdict(list)
        left: list[OrderInterval] = []
        newest_ns = self._newest_start_ns()
        by_step = {trace.step: number for number, (trace, _) in self._cycles.items() if trace.step >= 0}
        newest_step = max(by_step, default=-1)
        for each in self._orders:
            name = each.orders[0] if each.orders else ""
            step = each.step if each.step >= 0 else self._step_of.get(name, -1)
            if step in by_step:
                release = self._releases.get(name) if each.stage is Stage.PLACE else None
                found[by_step[step]].append(PlacedInterval(each, release))
            elif step > newest_step or (step < 0 and each.end_ns >= newest_ns - LATE_NS):
                left.append(each)
        return found, left


def _forget_oldest(known: dict[Key, Value], most: int) -> None:
    while len(known) > most:
        del known[next(iter(known))]
