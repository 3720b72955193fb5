"""Traces of cycles: merged over nodes, on one axis, as Chrome's trace events, as a waterfall."""

from __future__ import annotations

import json

from core.cycle_trace import (
    CYCLES_KEPT,
    GATEWAY_PID,
    VENUE_PID,
    WORK_KEPT,
    CycleTrace,
    OrderInterval,
    Stage,
    SwarmTrace,
    TraceBuffer,
    Work,
    chrome_trace,
    clock_now,
    gathered,
    merged,
)
from core.spans import INDEX
from core.telemetry import CycleTracer
from core.telemetry_messages import pack, unpack
from tui.widgets.waterfall import _orders, covered_ns, lane


def buffer(node: int, cycles: int, first: int = 1) -> TraceBuffer:
    found = TraceBuffer(node)
    for n in range(first, first + cycles):
        start = n * 1_000_000
        span = (INDEX["quic_consensus"], start + 100_000, start + 400_000)
        found.cycles.append(CycleTrace(n, node, start, start + 900_000, (span,)))
    return found


def test_a_tracer_gives_the_intervals_of_its_last_cycle():
    tracer = CycleTracer()
    began = tracer.begin()
    with tracer.span("risk_calculations"), tracer.span("risk_var_calculation"):
        pass
    end, _ = tracer.finish()
    start_ns, end_ns, intervals = tracer.last_intervals
    assert (start_ns, end_ns) == (began, end)
    assert [span for span, _, _ in intervals] == [INDEX["risk_var_calculation"], INDEX["risk_calculations"]]
    assert all(began <= a <= b <= end for _, a, b in intervals)


def test_what_a_node_does_for_others_is_timed_and_bounded():
    found = TraceBuffer(1)
    act = found.timed(Work.JUDGING, lambda x: x + 1, names_step=True)
    assert [act(n) for n in range(WORK_KEPT + 10)][-1] == WORK_KEPT + 10
    assert len(found.work) == WORK_KEPT
    assert all(a <= b for _, a, b, _ in found.work)
    assert [step for *_, step in found.work] == list(range(10, WORK_KEPT + 10)), "the step that each was asked for"


def test_nodes_are_merged_by_cycle_and_old_work_is_left_out():
    first, second = buffer(0, 30), buffer(1, 5, first=31)
    second.work.extend([(int(Work.CONSENSUS), 10, 20, -1), (int(Work.CONSENSUS), 34_100_000, 34_200_000, -1)])
    trace = merged([unpack(pack(each.to_dict())) for each in (second, first)])
    assert [cycle.cycle for cycle in trace.cycles] == list(range(36 - CYCLES_KEPT, 36))
    assert {cycle.leader for cycle in trace.cycles} == {0, 1}
    (work,) = trace.work
    assert (work.node, work.start_ns) == (1, 34_100_000)
    assert merged([]).cycles == ()


def test_a_node_tells_only_what_ended_after_what_it_told_before():
    found = buffer(2, 3)
    found.work.extend([(int(Work.JUDGING), 10, 20, 1), (int(Work.CONSENSUS), 30, 2_950_000, -1)])
    told = found.to_dict(after_ns=1_900_000)
    assert [cycle[0] for cycle in told["cycles"]] == [2, 3]
    assert told["work"] == [[int(Work.CONSENSUS), 30, 2_950_000, -1]]
    assert found.to_dict(after_ns=told["until_ns"])["cycles"] == []


def test_clocks_of_other_machines_are_brought_to_ours():
    """Booted an hour earlier, its clock is an hour further; both agree on Unix time."""
    hour_ns = 3_600_000_000_000
    ahead = {**clock_now(), "node": 1, "cycles": [[7, 1, hour_ns + 5, hour_ns + 9, [[3, hour_ns + 6, hour_ns + 7]], 6]]}
    ahead["behind_unix_ns"] -= hour_ns
    ahead |= {"work": [[0, hour_ns + 5, hour_ns + 8, 6]], "orders": [[3, hour_ns + 5, hour_ns + 8, -1, ["a"], "", ""]]}
    trace = gathered([ahead])
    (cycle,), (work,), (order,) = trace.cycles, trace.work, trace.orders
    error_ns = cycle.start_ns - 5
    assert abs(error_ns) < 100_000_000, "as near as two readings of the clocks"
    times = (cycle.end_ns, *cycle.intervals[0][1:], work.start_ns, work.end_ns, order.start_ns, order.end_ns)
    assert [each - error_ns for each in times] == [9, 6, 7, 5, 8, 5, 8]


def orders_of_cycle_7() -> SwarmTrace:
    cycle = CycleTrace(7, 0, 0, 100, (), step=6)
    orders = (
        OrderInterval(Stage.EXECUTE, 10, 20, 6, ("a", "b")),
        OrderInterval(Stage.PLACE, 20, 40, 6, ("a",)),
        OrderInterval(Stage.MATCH, 25, 30, -1, ("a",)),
        OrderInterval(Stage.MATCH, 25, 30, -1, ("other",)),
        OrderInterval(Stage.PREPARE, 1, 2, 7, ()),
    )
    return SwarmTrace((cycle,), (), orders)


def test_a_cycles_orders_are_found_by_step_and_the_venues_by_their_order():
    trace = orders_of_cycle_7()
    assert trace.orders_of(trace.cycles[0]) == list(trace.orders[:3])
    lanes = {label: intervals for label, intervals, _ in _orders(trace, trace.cycles[0])}
    assert lanes == {
        "gateway releases orders": [(10, 20)], "gateway awaits venue": [(20, 40)], "venue handles orders": [(25, 30)],
    }  # fmt: skip


def test_gateway_and_venue_are_processes_of_the_chrome_trace():
    events = json.loads(chrome_trace(orders_of_cycle_7()))["traceEvents"]
    names = {event["pid"]: event["args"]["name"] for event in events if event["ph"] == "M"}
    assert names == {0: "node 0", GATEWAY_PID: "gateway", VENUE_PID: "venue"}
    at_venue = [event for event in events if event["ph"] == "X" and event["pid"] == VENUE_PID]
    assert [event["args"]["orders"] for event in at_venue] == [["a"], ["other"]]


def test_the_chrome_trace_is_what_perfetto_reads():
    first = buffer(0, 2)
    first.work.append((int(Work.JUDGING), 1_200_000, 1_300_000, 7))
    document = json.loads(chrome_trace(merged([first.to_dict()])))
    events = document["traceEvents"]
    complete = [event for event in events if event["ph"] == "X"]
    assert all(event["dur"] >= 0 and event["ts"] >= 0 and event["pid"] == 0 for event in complete)
    consensus = [event for event in complete if event["name"] == "quic_consensus"]
    assert [(event["ts"], event["dur"]) for event in consensus] == [(100.0, 300.0), (1100.0, 300.0)]
    assert [event["args"]["name"] for event in events if event["ph"] == "M"] == ["node 0"]
    assert json.loads(chrome_trace(merged([])))["traceEvents"] == []


def test_a_lane_shows_busy_partly_and_idle():
    assert lane([(0, 50)], 0, 100, 10) == "█████·····"
    assert lane([(10, 12), (90, 100)], 0, 100, 10) == "·▌·······█"
    assert lane([(-50, 5)], 0, 100, 10)[0] == "█"
    assert covered_ns([(0, 10), (5, 20), (30, 31)]) == 21
