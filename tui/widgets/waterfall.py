"""One cycle as a waterfall: what each node did when, on a common axis."""

from __future__ import annotations

from collections.abc import Iterable

from core.cycle_trace import STAGE_NAMES, WORK_NAMES, CycleTrace, Stage, SwarmTrace
from core.spans import DEPTH, NAMES, ROOT
from tui.figures import milliseconds, shortened
from tui.view import View
from tui.widgets.panel import Panel, Part, Row

Intervals = list[tuple[int, int]]


def covered_ns(intervals: Iterable[tuple[int, int]]) -> int:
    """Time in which at least one interval runs."""
    total, reached = 0, -1
    for start, end in sorted(intervals):
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total


def lane(intervals: Iterable[tuple[int, int]], start_ns: int, end_ns: int, width: int) -> str:
    """`width` cells from `start_ns` to `end_ns`: `█` mostly busy, `▌` partly, `·` idle."""
    scale = width / max(1, end_ns - start_ns)
    filled = [0.0] * width
    for a, b in intervals:
        low, high = max(0.0, (a - start_ns) * scale), min(float(width), (b - start_ns) * scale)
        for x in range(int(low), min(width, int(high) + 1)):
            filled[x] += max(0.0, min(high, x + 1.0) - max(low, float(x)))
    return "".join("█" if part >= 0.5 else "▌" if part > 0.0 else "·" for part in filled)


class WaterfallPanel(Panel):
    """The last cycle that was traced: the leader's spans in the order in which they begin, then the other nodes, then
    its orders at the gateway and the session's own venue."""

    def heading(self, view: View) -> str:
        trace = view.trace
        if trace is None or not trace.cycles:
            return "One cycle"
        cycle = trace.cycles[-1]
        took = milliseconds((cycle.end_ns - cycle.start_ns) / 1e6)
        return f"Cycle {cycle.cycle:,} on node {cycle.leader}, {took} ms: █ busy ▌ partly"

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        trace = view.trace
        if trace is None or not trace.cycles:
            return [(Part(view.trace_note or "asking the nodes what they did when …", "muted"),)]
        cycle = trace.cycles[-1]
        name = 30 if width >= 100 else 26
        room = max(8, width - name - 9)
        spans, work = _spans(cycle), [*_work(trace, cycle), *_orders(trace, cycle)]
        spans = _largest(spans, max(1, height - 1 - len(work)))
        end = f"{milliseconds((cycle.end_ns - cycle.start_ns) / 1e6)} ms"
        axis = "0 " + "─" * max(0, room - len(end) - 3) + " " + end
        out: list[Row] = [(Part(f"{'what':<{name}}{'busy ms':>8} ", "muted"), Part(axis, "muted"))]
        for label, intervals, style in [*spans, *work]:
            busy = milliseconds(covered_ns(intervals) / 1e6)
            cells = lane(intervals, cycle.start_ns, cycle.end_ns, room)
            out.append((Part(f"{shortened(label, name - 1)} ", "plain"), Part(f"{busy:>8} "), Part(cells, style)))
        return out


Lane = tuple[str, Intervals, str]


def _spans(cycle: CycleTrace) -> list[Lane]:
    by_span: dict[int, Intervals] = {}
    for span, start, end in cycle.intervals:
        if NAMES[span] != ROOT:
            by_span.setdefault(span, []).append((start, end))
    order = sorted(by_span, key=lambda span: (min(by_span[span])[0], DEPTH[span]))
    return [
        (" " * (DEPTH[span] - 1) + NAMES[span], by_span[span], "own" if DEPTH[span] == 1 else "inside")
        for span in order
    ]


def _work(trace: SwarmTrace, cycle: CycleTrace) -> list[Lane]:
    found: dict[tuple[int, int], Intervals] = {}
    for each in trace.work:
        if each.end_ns >= cycle.start_ns and each.start_ns <= cycle.end_ns and each.node != cycle.leader:
            found.setdefault((each.node, each.work), []).append((each.start_ns, each.end_ns))
    return [(f"node {node} {WORK_NAMES[work]}", intervals, "rate") for (node, work), intervals in sorted(found.items())]


def _orders(trace: SwarmTrace, cycle: CycleTrace) -> list[Lane]:
    found: dict[int, Intervals] = {}
    for each in trace.orders_of(cycle):
        found.setdefault(each.stage, []).append((each.start_ns, min(each.end_ns, cycle.end_ns)))
    return [(STAGE_NAMES[Stage(stage)], intervals, "rate") for stage, intervals in sorted(found.items())]


def _largest(lanes: list[Lane], count: int) -> list[Lane]:
    """The `count` longest, in their order."""
    kept = sorted(range(len(lanes)), key=lambda k: -covered_ns(lanes[k][1]))[:count]
    return [lanes[k] for k in sorted(kept)]
