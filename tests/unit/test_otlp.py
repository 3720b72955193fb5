"""Cycles as OTLP: one trace each, nested as the spans are, the peers' work in it; and metrics."""

from __future__ import annotations

import asyncio
import io
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from rich.console import Console

import core.attach
import core.commands.otlp
from core.commands.otlp import export, post
from core.cycle_trace import CycleTrace, OrderInterval, Stage, SwarmTrace, Work, WorkInterval
from core.otlp import DURATION_BOUNDS_S, SpanKind, metrics_request, trace_id, trace_request
from core.records import CycleRecord, SwarmSnapshot
from core.session import SessionError
from core.spans import INDEX, PARENT, ROOT
from core.trace_backlog import UNSENT_MAX, TraceBacklog, TracedCycle
from tests.otlp_receiver import KINDS, otlp_receiver
from tests.running_session import session_that_runs
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
                interval("order_placement", 121, 123),
                interval("order_placement", 124, 128),
                interval("order_execution", 121, 129),
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
    (
        OrderInterval(Stage.PREPARE, 108 * MS, 109 * MS, RECORD.step, ()),
        OrderInterval(Stage.EXECUTE, 122 * MS, 123 * MS, RECORD.step, ("a",)),
        OrderInterval(Stage.EXECUTE, 125 * MS, 127 * MS, RECORD.step, ("b", "c")),
        OrderInterval(Stage.MATCH, 126 * MS, 127 * MS, -1, ("b",)),
        OrderInterval(Stage.PLACE, 126 * MS, 135 * MS, RECORD.step, ("b",)),
        OrderInterval(Stage.MATCH, 126 * MS, 127 * MS, -1, ("of nobody",)),
        OrderInterval(Stage.PLACE, 126 * MS, 127 * MS, RECORD.step + 1, ("of another cycle",)),
    ),
)
REFUSED = OrderInterval(Stage.PLACE, 127 * MS, 140 * MS, RECORD.step, ("c",), "-2010", "Insufficient balance.")


def ready(trace: SwarmTrace, records: Sequence[CycleRecord] = (RECORD,)) -> list[TracedCycle]:
    backlog = TraceBacklog()
    backlog.hear(trace, records)
    return backlog.ready()


def spans(received) -> dict[str, list]:
    found: dict[str, list] = {}
    for resource, span in received.spans():
        found.setdefault(span.name, []).append((resource, span))
    return found


@pytest.fixture
def received():
    with otlp_receiver() as found:
        post(f"{found.url}/v1/traces", trace_request("s", ready(TRACE)))
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


def parent_of(received, span):
    ((resource, parent),) = [each for each in received.spans() if each[1].span_id == span.parent_span_id]
    assert parent.trace_id == span.trace_id
    return resource["service.instance.id"], parent


def test_an_order_goes_on_at_gateway_and_venue_in_the_trace_of_its_cycle(received):
    found = spans(received)
    by_process = {(resource["service.name"], span.kind): span for resource, span in found["venue/order.place"]}
    assert by_process.keys() == {("tradetui-gateway", SpanKind.CLIENT), ("tradetui-venue", SpanKind.SERVER)}
    at_venue = by_process["tradetui-venue", SpanKind.SERVER]
    name, sent = parent_of(received, at_venue)
    assert (name, sent.name, sent.kind) == ("gateway", "venue/order.place", SpanKind.CLIENT)
    assert sent.end_time_unix_nano == RECORD.started_ns + 35 * MS, "answered after the cycle was done"
    name, released = parent_of(received, sent)
    assert (name, released.name, released.kind) == ("gateway", "gateway/execute", SpanKind.SERVER)
    assert {each.key: each.value.int_value for each in released.attributes}["tradetui.orders"] == 2
    name, placement = parent_of(received, released)
    assert (name, placement.name, placement.kind) == (f"node-{RECORD.leader}", "order_placement", SpanKind.CLIENT)
    assert placement.start_time_unix_nano == RECORD.started_ns + 24 * MS, "of the two, the one that was running"
    attributes = {each.key: each.value.string_value for each in at_venue.attributes}
    assert attributes["tradetui.client_order_id"] == "b"
    assert (attributes["rpc.service"], attributes["rpc.method"]) == ("venue", "order.place")
    assert len(found["gateway/execute"]) == 2, "and nothing of other cycles, or of orders of nobody"


def test_orders_prepared_during_the_vote_hang_below_it(received):
    ((resource, prepared),) = spans(received)["gateway/prepare"]
    assert (resource["service.instance.id"], prepared.kind) == ("gateway", SpanKind.CONSUMER)
    assert parent_of(received, prepared)[1].name == "quic_consensus"


def test_the_kinds_of_nodes_spans_say_who_waits_for_whom(received):
    kinds = {name: {span.kind for _, span in each} for name, each in spans(received).items()}
    assert kinds[ROOT] == kinds["risk_calculations"] == {SpanKind.INTERNAL}
    assert kinds["quic_coordination"] == {SpanKind.CLIENT}
    assert kinds["judges proposals"] == {SpanKind.SERVER}
    assert kinds["handles messages"] == {SpanKind.CONSUMER}


def test_what_becomes_known_after_a_cycle_was_sent_is_sent_by_itself():
    backlog = TraceBacklog()
    with otlp_receiver() as found:
        for trace in (TRACE, SwarmTrace(orders=(REFUSED,))):
            backlog.hear(trace, [RECORD])
            post(f"{found.url}/v1/traces", trace_request("s", backlog.ready()))
            backlog.sent()
        late = found.requests["/v1/traces"][1]
        (resource,) = late.resource_spans
        (span,) = resource.scope_spans[0].spans
        name, released = parent_of(found, span)
    assert (name, released.name) == ("gateway", "gateway/execute")
    assert {each.key: each.value.string_value for each in span.attributes}["error.type"] == "-2010"
    assert (span.status.code, span.status.message) == (2, "Insufficient balance.")
    backlog.hear(SwarmTrace(), [RECORD])
    assert backlog.ready() == [], "each part once"


def test_the_venue_may_be_heard_before_the_gateway_and_orders_before_their_cycle():
    backlog = TraceBacklog()
    match, *others = sorted(TRACE.orders, key=lambda each: each.stage is not Stage.MATCH)
    for part in (SwarmTrace(orders=(match,)), SwarmTrace(orders=tuple(others)), SwarmTrace(TRACE.cycles, TRACE.work)):
        backlog.hear(part, [])
        assert backlog.ready() == []
    backlog.hear(SwarmTrace(), [RECORD])
    (cycle,) = backlog.ready()
    assert {placed.interval for placed in cycle.orders} == {placed.interval for placed in ready(TRACE)[0].orders}


def test_what_no_collector_took_is_ready_again_and_only_so_much_of_it():
    backlog = TraceBacklog()
    backlog.hear(TRACE, [RECORD])
    first = backlog.ready()
    backlog.hear(SwarmTrace(), [RECORD])
    assert backlog.ready() == first
    numbers = range(RECORD.cycle + 1, RECORD.cycle + 1 + UNSENT_MAX)
    cycles = tuple(replace(TRACE.cycles[0], cycle=number, step=number) for number in numbers)
    backlog.hear(SwarmTrace(cycles), [replace(RECORD, cycle=number) for number in numbers])
    assert [cycle.record.cycle for cycle in backlog.ready()] == list(numbers)


def test_a_cycle_is_sent_only_with_its_record():
    assert ready(TRACE, []) == []
    assert ready(TRACE, [replace(RECORD, cycle=RECORD.cycle + 1)]) == []


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

    async def trace_after(self, marks: dict[int, int]) -> SwarmTrace:
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
    session = session_that_runs(tmp_path, monkeypatch)
    assert asyncio.run(export(session, "http://collector", 0.2, console)) == 0
    assert "last failure: http://collector/v1/traces: no traces here" in console.export_text()
    assert len(points) > 1
    assert [point.count for point in points] == [1] * len(points)
    assert before_ns <= points[0].start_time_unix_nano
    for earlier, later in pairwise(points):
        assert later.start_time_unix_nano == earlier.time_unix_nano


def test_the_export_ends_with_the_swarm_and_does_not_wait_for_one_that_does_not_run(tmp_path, monkeypatch):
    monkeypatch.setattr(core.attach, "SwarmClient", FollowedSwarm)
    monkeypatch.setattr(core.commands.otlp, "post", lambda url, body: None)
    monkeypatch.setattr(core.commands.otlp, "INTERVAL_S", 0.0)
    session = session_that_runs(tmp_path / "session", monkeypatch, looks=3)
    console = Console(record=True, file=io.StringIO(), width=120)
    for said in (r"\d+ cycles sent\n", ""):
        with pytest.raises(SessionError, match=r"^session does not run"):
            asyncio.run(export(session, "http://collector", 0.0, console))
        assert re.fullmatch(said, console.export_text())


def test_a_collector_that_is_away_raises_and_no_more():
    with otlp_receiver() as found:
        url = found.url
    with pytest.raises(OSError, match="refused"):
        asyncio.run(asyncio.to_thread(post, f"{url}/v1/traces", b""))
