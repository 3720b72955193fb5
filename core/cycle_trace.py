"""What the nodes did when, for one cycle or some: intervals of the leader's spans and of the other nodes' work.

Times are of the machine's monotonic clock, which all processes of one machine share, so that
nodes stand on one axis. Nodes of other machines do not.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from core.spans import NAMES, ROOT

CYCLES_KEPT = 20
WORK_KEPT = 4_096


class Work(IntEnum):
    """What a node does for others' cycles."""

    JUDGING = 0
    CONSENSUS = 1


WORK_NAMES = {Work.JUDGING: "judges proposals", Work.CONSENSUS: "handles messages"}


@dataclass(frozen=True, slots=True)
class CycleTrace:
    """One cycle as its leader ran it; `intervals` are (span index, start, end), ns, in the order of their ends."""

    cycle: int
    leader: int
    start_ns: int
    end_ns: int
    intervals: tuple[tuple[int, int, int], ...]
    step: int = -1
    """The market step that its proposals name."""


@dataclass(frozen=True, slots=True)
class WorkInterval:
    """Something that node `node` did, ns."""

    node: int
    work: Work
    start_ns: int
    end_ns: int
    step: int = -1
    """The step that the message named which asked for it; -1 where it named none."""


@dataclass(frozen=True, slots=True)
class SwarmTrace:
    """The latest cycles, oldest first, and what all nodes did meanwhile."""

    cycles: tuple[CycleTrace, ...] = ()
    work: tuple[WorkInterval, ...] = ()


@dataclass(slots=True)
class TraceBuffer:
    """One node's memory of its last cycles and of its work for others; bounded."""

    node: int
    cycles: deque[CycleTrace] = field(default_factory=lambda: deque(maxlen=CYCLES_KEPT))
    work: deque[tuple[int, int, int, int]] = field(default_factory=lambda: deque(maxlen=WORK_KEPT))

    def timed(self, work: Work, act: Callable[..., Any], *, names_step: bool = False) -> Callable[..., Any]:
        """`act`, with its time kept as `work`. `names_step`: its first argument is the market step that it is for."""
        append, clock, number = self.work.append, time.perf_counter_ns, int(work)

        def wrapped(*arguments: Any) -> Any:
            start_ns = clock()
            try:
                return act(*arguments)
            finally:
                append((number, start_ns, clock(), int(arguments[0]) if names_step else -1))

        return wrapped

    def to_dict(self) -> dict[str, Any]:
        """MessagePack-ready."""
        cycles = [
            [c.cycle, c.leader, c.start_ns, c.end_ns, [list(i) for i in c.intervals], c.step] for c in self.cycles
        ]
        return {"node": self.node, "cycles": cycles, "work": [list(each) for each in self.work]}


def merged(answers: Sequence[dict[str, Any]]) -> SwarmTrace:
    """One trace of the nodes' `TraceBuffer.to_dict`. Raises KeyError, TypeError or ValueError on other values."""
    cycles = [
        CycleTrace(cycle, leader, start, end, tuple((span, a, b) for span, a, b in intervals), step)
        for answer in answers
        for cycle, leader, start, end, intervals, step in answer["cycles"]
    ]
    work = [WorkInterval(answer["node"], Work(w), a, b, step) for answer in answers for w, a, b, step in answer["work"]]
    newest = sorted(cycles, key=lambda each: each.cycle)[-CYCLES_KEPT:]
    since_ns = newest[0].start_ns if newest else 0
    return SwarmTrace(tuple(newest), tuple(sorted((w for w in work if w.end_ns >= since_ns), key=lambda w: w.start_ns)))


def chrome_trace(trace: SwarmTrace) -> str:
    """JSON in Chrome's trace event format, which Perfetto opens; a process a node, a thread a depth of spans."""
    events: list[dict[str, Any]] = []
    origin_ns = trace.cycles[0].start_ns if trace.cycles else 0
    nodes = sorted({c.leader for c in trace.cycles} | {w.node for w in trace.work})
    events += [{"ph": "M", "pid": n, "name": "process_name", "args": {"name": f"node {n}"}} for n in nodes]
    for cycle in trace.cycles:
        root = {"cycle": cycle.cycle}
        events.append(_event(cycle.leader, 0, ROOT, cycle.start_ns, cycle.end_ns, origin_ns) | {"args": root})
        events += [
            _event(cycle.leader, 1 + span, NAMES[span], start, end, origin_ns) for span, start, end in cycle.intervals
        ]
    events += [_event(w.node, 100 + w.work, WORK_NAMES[w.work], w.start_ns, w.end_ns, origin_ns) for w in trace.work]
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms"})


def _event(node: int, track: int, name: str, start_ns: int, end_ns: int, origin_ns: int) -> dict[str, Any]:
    times = {"ts": (start_ns - origin_ns) / 1e3, "dur": (end_ns - start_ns) / 1e3}
    return {"ph": "X", "pid": node, "tid": track, "name": name, **times}
