"""What nodes, gateway and venue did when, for one cycle or some: on one axis.

Intervals are kept on the monotonic clock that all processes of one machine share. A process of another machine tells
its clock with its answer, and its intervals are brought to ours by way of Unix time.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import takewhile
from typing import Any

from core.spans import NAMES, ROOT

CYCLES_KEPT = 20
WORK_KEPT = 4_096
APART_NS = 1_000_000_000
"""Clocks that differ by less are one: two readings of it are microseconds apart, other machines booted long before."""
GATEWAY_PID, VENUE_PID = 100, 101
"""Of the Chrome trace, where a node's process is its number."""


class Work(IntEnum):
    """What a node does for others' cycles."""

    JUDGING = 0
    CONSENSUS = 1


WORK_NAMES = {Work.JUDGING: "judges proposals", Work.CONSENSUS: "handles messages"}


class Stage(IntEnum):
    """What becomes of a cycle's orders beyond its node."""

    PREPARE = 0
    """The gateway builds the orders of a payload that is being voted on."""
    EXECUTE = 1
    """The gateway checks a decided entry, journals its orders and lets them go."""
    PLACE = 2
    """One order, from the gateway's wire to the venue's answer."""
    MATCH = 3
    """One order, from the venue's wire to its journal."""


STAGE_NAMES = {
    Stage.PREPARE: "gateway prepares orders",
    Stage.EXECUTE: "gateway releases orders",
    Stage.PLACE: "gateway awaits venue",
    Stage.MATCH: "venue handles orders",
}


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
class OrderInterval:
    """Something that gateway or venue did with orders, ns."""

    stage: Stage
    start_ns: int
    end_ns: int
    step: int
    """The market step of the decisions; -1 at the venue, which knows an order by its client order id alone."""
    orders: tuple[str, ...]
    """Client order ids; none of PREPARE, whose orders may yet come to stand elsewhere, or of what was refused."""
    error_type: str = ""
    """What kind of failure, as the venue or the code names it; empty where there was none."""
    problem: str = ""
    """The same in words."""


@dataclass(frozen=True, slots=True)
class SwarmTrace:
    """The latest cycles, oldest first, and what all nodes, the gateway and the session's own venue did meanwhile."""

    cycles: tuple[CycleTrace, ...] = ()
    work: tuple[WorkInterval, ...] = ()
    orders: tuple[OrderInterval, ...] = ()

    def orders_of(self, cycle: CycleTrace) -> list[OrderInterval]:
        """Those of one cycle: by the step that they name, the venue's by their order."""
        named = {name for each in self.orders if each.step == cycle.step for name in each.orders}
        return [each for each in self.orders if each.step == cycle.step or (each.step < 0 and named & {*each.orders})]


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

    def to_dict(self, after_ns: int = 0) -> dict[str, Any]:
        """MessagePack-ready: what ended after `after_ns` of this machine's clock."""
        cycles = [
            [c.cycle, c.leader, c.start_ns, c.end_ns, [list(i) for i in c.intervals], c.step]
            for c in self.cycles
            if c.end_ns > after_ns
        ]
        work = [list(each) for each in takewhile(lambda each: each[2] > after_ns, reversed(self.work))]
        return {"node": self.node, **clock_now(), "cycles": cycles, "work": work[::-1]}


def clock_now() -> dict[str, int]:
    """What an answer says of its clock: until when it tells, and what the clock is behind Unix time."""
    until_ns = time.perf_counter_ns()
    return {"until_ns": until_ns, "behind_unix_ns": time.time_ns() - until_ns}


def _shift_ns(answer: Mapping[str, Any]) -> int:
    """From the answerer's clock to ours."""
    shift_ns = int(answer["behind_unix_ns"]) - clock_now()["behind_unix_ns"]
    return shift_ns if abs(shift_ns) > APART_NS else 0


def gathered(answers: Iterable[Mapping[str, Any]]) -> SwarmTrace:
    """All that nodes (`TraceBuffer.to_dict`) and gateway (the same with `orders`) told, on this machine's clock.

    Raises KeyError, TypeError or ValueError on other values.
    """
    cycles: list[CycleTrace] = []
    work: list[WorkInterval] = []
    orders: list[OrderInterval] = []
    for answer in answers:
        shift, node = _shift_ns(answer), answer["node"]
        for cycle, leader, start, end, spans, step in answer["cycles"]:
            intervals = tuple((span, a + shift, b + shift) for span, a, b in spans)
            cycles.append(CycleTrace(cycle, leader, start + shift, end + shift, intervals, step))
        work += [WorkInterval(node, Work(w), a + shift, b + shift, step) for w, a, b, step in answer["work"]]
        orders += [
            OrderInterval(Stage(stage), a + shift, b + shift, step, tuple(names), error_type, problem)
            for stage, a, b, step, names, error_type, problem in answer.get("orders", ())
        ]
    return SwarmTrace(
        tuple(sorted(cycles, key=lambda each: each.cycle)),
        tuple(sorted(work, key=lambda each: each.start_ns)),
        tuple(sorted(orders, key=lambda each: each.start_ns)),
    )


def merged(answers: Sequence[Mapping[str, Any]]) -> SwarmTrace:
    """The latest cycles of `gathered`, and what was done since the first of them began. Raises as that."""
    trace = gathered(answers)
    newest = trace.cycles[-CYCLES_KEPT:]
    since_ns = newest[0].start_ns if newest else 0
    return SwarmTrace(
        newest,
        tuple(each for each in trace.work if each.end_ns >= since_ns),
        tuple(each for each in trace.orders if each.end_ns >= since_ns),
    )


def chrome_trace(trace: SwarmTrace) -> str:
    """JSON in Chrome's trace event format, which Perfetto opens; a process a node, a thread a depth of spans."""
    events: list[dict[str, Any]] = []
    origin_ns = trace.cycles[0].start_ns if trace.cycles else 0
    nodes = sorted({c.leader for c in trace.cycles} | {w.node for w in trace.work})
    names = {n: f"node {n}" for n in nodes}
    if trace.orders:
        names |= {GATEWAY_PID: "gateway", VENUE_PID: "venue"}
    events += [{"ph": "M", "pid": n, "name": "process_name", "args": {"name": name}} for n, name in names.items()]
    for cycle in trace.cycles:
        root = {"cycle": cycle.cycle}
        events.append(_event(cycle.leader, 0, ROOT, cycle.start_ns, cycle.end_ns, origin_ns) | {"args": root})
        events += [
            _event(cycle.leader, 1 + span, NAMES[span], start, end, origin_ns) for span, start, end in cycle.intervals
        ]
    events += [_event(w.node, 100 + w.work, WORK_NAMES[w.work], w.start_ns, w.end_ns, origin_ns) for w in trace.work]
    events += [_order_event(each, origin_ns) for each in trace.orders]
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms"})


def _order_event(each: OrderInterval, origin_ns: int) -> dict[str, Any]:
    pid = VENUE_PID if each.stage is Stage.MATCH else GATEWAY_PID
    event = _event(pid, 100 + each.stage, STAGE_NAMES[each.stage], each.start_ns, each.end_ns, origin_ns)
    return event | {"args": {"step": each.step, "orders": list(each.orders)}}


def _event(node: int, track: int, name: str, start_ns: int, end_ns: int, origin_ns: int) -> dict[str, Any]:
    times = {"ts": (start_ns - origin_ns) / 1e3, "dur": (end_ns - start_ns) / 1e3}
    return {"ph": "X", "pid": node, "tid": track, "name": name, **times}
