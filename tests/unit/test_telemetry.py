"""Spans: exclusive time sums to wall time, overlaps follow the critical path, nothing is counted twice."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from core.spans import INDEX, NAMES, PARENT, ROOT
from core.telemetry import CycleTracer, timer_cost_ns
from kernels.timeline import exclusive_time


def _finish(intervals: list[tuple[str, int, int]], wall_ns: int) -> dict[str, float]:
    tracer = CycleTracer()
    base = tracer.begin()
    for name, start, end in intervals:
        tracer.add(INDEX[name], base + start, base + end)
    _, times = tracer.finish(base + wall_ns)
    result = {name: times.exclusive_ms[i] * 1e6 for name, i in INDEX.items()}
    result["untimed"] = times.untimed_ms * 1e6
    result["inclusive"] = {name: times.inclusive_ms[i] * 1e6 for name, i in INDEX.items()}  # type: ignore[assignment]
    return result


def test_names_are_a_tree_of_29() -> None:
    assert len(NAMES) == 29
    assert all(parent in INDEX for parent in PARENT.values())


def test_nested_span_takes_its_time_from_the_parent() -> None:
    times = _finish([("risk_calculations", 10, 60), ("risk_var_calculation", 20, 50)], 100)
    assert times["risk_calculations"] == 20
    assert times["risk_var_calculation"] == 30
    assert times["untimed"] == 50
    assert times[ROOT] == 0


def test_parallel_orders_follow_the_one_that_ends_last() -> None:
    times = _finish(
        [
            ("order_execution", 0, 100),
            ("order_placement", 0, 30),
            ("order_confirmation", 30, 90),
            ("order_placement", 0, 70),
        ],
        100,
    )
    assert times["order_placement"] == 30
    assert times["order_confirmation"] == 60
    assert times["order_execution"] == 10
    assert times["inclusive"]["order_placement"] == 100  # type: ignore[index]


def test_sending_inside_a_wait_for_votes_is_sending() -> None:
    times = _finish([("quic_coordination", 0, 100), ("quic_consensus", 0, 100), ("quic_network_send", 10, 25)], 100)
    assert times["quic_network_send"] == 15
    assert times["quic_consensus"] == 85
    assert times["quic_coordination"] == 0


def test_sends_outside_coordination_are_not_coordination() -> None:
    tracer = CycleTracer()
    base = tracer.begin()
    tracer.sent(base, base + 5)
    with tracer.coordination():
        tracer.sent(base + 5, base + 9)
    _, times = tracer.finish()
    assert times.count[INDEX["quic_network_send"]] == 1


def test_background_is_no_part_of_the_cycle() -> None:
    tracer = CycleTracer()
    base = tracer.begin()
    tracer.background("order_confirmation", 5_000_000)
    _, times = tracer.finish(base + 1_000)
    assert times.background_ms[INDEX["order_confirmation"]] == 5.0
    assert times.inclusive_ms[INDEX["order_confirmation"]] == 0.0
    tracer.begin()
    assert tracer.finish()[1].background_ms.sum() == 0.0


@given(
    st.lists(
        st.tuples(st.sampled_from(NAMES), st.integers(0, 1000), st.integers(0, 1000)).map(
            lambda t: (t[0], min(t[1:]), max(t[1:]))
        ),
        max_size=40,
    )
)
def test_exclusive_times_sum_to_the_union(intervals: list[tuple[str, int, int]]) -> None:
    covered = np.zeros(1000, bool)
    for _, start, end in intervals:
        covered[start:end] = True
    arrays = [np.array([row[i] for row in intervals], np.int64) for i in (1, 2)]
    spans = np.array([INDEX[row[0]] for row in intervals], np.int64)
    depths = np.arange(len(NAMES), dtype=np.int64)
    exclusive = exclusive_time(arrays[0], arrays[1], spans, depths)
    assert exclusive.sum() == covered.sum()
    assert (exclusive >= 0).all()


def test_timer_cost_is_measured() -> None:
    assert 0 < timer_cost_ns(200) < 1e6
