"""Cycles as OTLP: one trace each, nested as the spans are, the peers' work in it; and metrics."""

from __future__ import annotations

import asyncio
import io
import time
from dataclasses import replace
from itertools import pairwise

import pytest
from rich.console import Console

import core.attach
import core.commands.otlp
from core.commands.otlp import export, post
from core.cycle_trace import CycleTrace, SwarmTrace, Work, WorkInterval
from core.otlp import DURATION_BOUNDS_S, metrics_request, trace_id, trace_request, traced_cycles
from core.records import SwarmSnapshot
from core.session import Session
from core.spans import INDEX, PARENT, ROOT
from tests.otlp_receiver import KINDS, otlp_receiver
from tests.tui.fixtures import FakeSession

pytest.importorskip("opentelemetry.proto", reason="pip install 'tradetui[otel]'")

MS = 1_000_000
SESSION = FakeSession(seed=1, cycles=30)
RECORD = SESSION.cycles[-1]


def interval(name: str, start_ms: int, end_ms: int) -> tuple[int, int, int]:
    return INDEX[name], start_ms * MS, end_ms * MS


TRACE = SwarmTrace(
    (
        CycleTrace(
            RECORD.cycle,
            RECORD.leader,
            100 * MS,
            130 * MS,
            (
                interval("risk_var_calculation", 101, 102),
                interval("risk_calculations", 101, 103),
                interval("quic_network_send", 105, 106),
                interval("quic_consensus", 107, 112),
                interval("quic_coordination", 104, 115),
                interval("quic_consensus", 117, 119),
                interval("quic_coordination", 116, 120),
            ),
            step=RECORD.step,
        ),
    ),
    (
        WorkInterval(1, Work.JUDGING, 105 * MS, 107 * MS, RECORD.step),
        WorkInterval(2, Work.JUDGING, 105 * MS, 107 * MS, RECORD.step + 1),
        WorkInterval(3, Work.CONSENSUS, 110 * MS, 111 * MS),
        WorkInterval(3, Work.CONSENSUS, 129 * MS, 131 * MS),
        WorkInterval(RECORD.leader, Work.CONSENSUS, 110 * MS, 111 * MS),
    ),
)


def spans(received) -> dict[str, list]:
    found: dict[str, list] = {}
    for resource, span in received.spans():
        found.setdefault(span.name, []).append((resource, span))
    return found


@pytest.fixture
def received():
    with otlp_receiver() as found:
        post(f"{found.url}/v1/traces", trace_request("s", traced_cycles(TRACE, [RECORD], 0)))
        assert found.refused == 0
        yield found


def test_a_cycle_is_one_trace_with_its_root_and_unix_times(received):
    found = spans(received)
    assert {span.trace_id for _, span in received.spans()} == {trace_id("s", RECORD.cycle)}
    ((resource, root),) = found[ROOT]
    assert root.parent_span_id == b""
    assert root.start_time_unix_nano == RECORD.started_ns
    assert root.end_time_unix_nano - root.start_time_unix_nano == 30 * MS
    assert resource == {
        "service.name": "tradetui", "service.namespace": "s", "service.instance.id": f"node-{RECORD.leader}",
    }  # fmt: skip
    attributes = {each.key: each.value for each in root.attributes}
    assert attributes["tradetui.cycle"].int_value == RECORD.cycle
    assert attributes["tradetui.toggles"].string_value == RECORD.toggles.label()


def test_every_span_hangs_below_the_one_that_holds_it(received):
    by_id = {span.span_id: span for _, span in received.spans()}
    assert len(by_id) == len(received.spans()), "identities are unique"
    for _, span in received.spans():
        if span.name in PARENT:
            parent = by_id[span.parent_span_id]
            assert parent.name == PARENT[span.name]
            assert parent.start_time_unix_nano <= span.start_time_unix_nano
            assert span.end_time_unix_nano <= parent.end_time_unix_nano


def test_the_peers_work_is_in_the_trace_by_the_step_that_was_named(received):
    found = spans(received)
    ((judging, judged),) = found["judges proposals"]
    assert judging["service.instance.id"] == "node-1", "node 2 judged another step"
    coordination = {span.span_id for _, span in found["quic_coordination"]}
    assert judged.parent_span_id in coordination
    ((consensus, _),) = found["handles messages"]
    assert consensus["service.instance.id"] == "node-3", "and not what ran on after the cycle, or the leader's own"


def test_a_cycle_is_sent_once_and_only_with_its_record():
    assert traced_cycles(TRACE, [RECORD], RECORD.cycle) == []
    assert traced_cycles(TRACE, [], 0) == []
    assert traced_cycles(TRACE, [replace(RECORD, cycle=RECORD.cycle + 1)], 0) == []


def test_metrics_count_each_cycle_in_its_bucket():
    snapshot = SESSION.snapshot()
    cycles = [replace(RECORD, wall_ms=ms) for ms in (0.5, 1.0, 1.1, 40.0, 9_000.0)]
    with otlp_receiver() as found:
        post(f"{found.url}/v1/metrics", metrics_request("s", snapshot, cycles, 5))
        (request,) = found.requests["/v1/metrics"]
    metrics = {each.name: each for each in request.resource_metrics[0].scope_metrics[0].metrics}
    (point,) = metrics["tradetui.cycle.duration"].histogram.data_points
    assert metrics["tradetui.cycle.duration"].unit == "s"
    assert tuple(point.explicit_bounds) == DURATION_BOUNDS_S
    assert len(point.bucket_counts) == len(DURATION_BOUNDS_S) + 1
    assert point.count == sum(point.bucket_counts) == 5
    assert list(point.bucket_counts)[:2] == [2, 1], "a bound belongs to the bucket below it"
    assert point.bucket_counts[-1] == 1
    assert (point.start_time_unix_nano, point.time_unix_nano) == (5, snapshot.taken_ns)
    (total,) = metrics["tradetui.cycles"].sum.data_points
    assert total.as_int == snapshot.cycles_total
    assert metrics["tradetui.cycles"].sum.is_monotonic


class FollowedSwarm:
    """Stands in for a client: 30 cycles from before it attached, and a new one at each look."""

    def __init__(self, *_: object, **__: object) -> None:
        self.session = FakeSession(seed=1, cycles=30)

    async def connect(self) -> None:
        """It is."""

    async def close(self) -> None:
        """Nothing is open."""

    def snapshot(self) -> SwarmSnapshot:
        self.session.now_ns = time.time_ns()
        self.session.advance(1)
        last = replace(self.session.cycles.pop(), started_ns=time.time_ns())
        self.session.cycles.append(last)
        return replace(self.session.snapshot(), taken_ns=time.time_ns())

    async def trace(self) -> SwarmTrace:
        return TRACE


def test_durations_are_of_cycles_since_the_start_and_do_not_wait_for_traces(tmp_path, monkeypatch):
    """What a node still keeps of the time before was counted by whoever sent it then."""
    points = []

    def take(url: str, body: bytes) -> None:
        if url.endswith("/v1/traces"):
            raise OSError("no traces here")
        request = KINDS["/v1/metrics"].FromString(body)
        for metric in request.resource_metrics[0].scope_metrics[0].metrics:
            points.extend(metric.histogram.data_points)

    monkeypatch.setattr(core.attach, "SwarmClient", FollowedSwarm)
    monkeypatch.setattr(core.commands.otlp, "post", take)
    monkeypatch.setattr(core.commands.otlp, "INTERVAL_S", 0.01)
    before_ns = time.time_ns()
    console = Console(record=True, file=io.StringIO(), width=120)
    assert asyncio.run(export(Session(tmp_path), "http://collector", 0.2, console)) == 0
    assert "last failure: http://collector/v1/traces: no traces here" in console.export_text()
    assert len(points) > 1
    assert [point.count for point in points] == [1] * len(points)
    assert before_ns <= points[0].start_time_unix_nano
    for earlier, later in pairwise(points):
        assert later.start_time_unix_nano == earlier.time_unix_nano


def test_a_collector_that_is_away_raises_and_no_more():
    with otlp_receiver() as found:
        url = found.url
    with pytest.raises(OSError, match="refused"):
        asyncio.run(asyncio.to_thread(post, f"{url}/v1/traces", b""))
