"""Cycles as OpenTelemetry traces and metrics, for any collector that takes OTLP over HTTP.

One trace is one cycle. Its root is the leader's `trading_cycle_total`; the leader's other spans are nested in it, and
what the peers did for the cycle hangs below `quic_coordination` under each peer's own resource. The identity of a trace
is made of the session and the cycle's number. A peer's judgement belongs to it by the market step that the proposal's
message named; handling of consensus messages, which name no step, belongs to the cycle that it ran in.

Source: opentelemetry-proto 1.x, trace/v1 and metrics/v1; names by the semantic conventions for services, units by UCUM.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from core.cycle_trace import WORK_NAMES, CycleTrace, SwarmTrace, Work, WorkInterval
from core.records import CycleRecord, SwarmSnapshot
from core.spans import INDEX, NAMES, PARENT, ROOT

SERVICE = "tradetui"
DURATION_BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_COORDINATION = INDEX["quic_coordination"]


class OtlpError(RuntimeError):
    """The protobufs are not installed; the text says how to get them."""


@dataclass(frozen=True, slots=True)
class TracedCycle:
    """A cycle with its record, from which the moment in Unix time is known, and the peers' work for it."""

    trace: CycleTrace
    record: CycleRecord
    work: tuple[WorkInterval, ...]

    @property
    def offset_ns(self) -> int:
        """Unix time less the clock of the trace."""
        return self.record.started_ns - self.trace.start_ns


def _protobufs() -> tuple[Any, Any, Any, Any, Any]:
    names = (
        "collector.trace.v1.trace_service",
        "collector.metrics.v1.metrics_service",
        "trace.v1.trace",
        "metrics.v1.metrics",
        "common.v1.common",
    )
    try:
        found = [importlib.import_module(f"opentelemetry.proto.{name}_pb2") for name in names]
    except ImportError:
        raise OtlpError("OTLP needs its protobufs: pip install 'tradetui[otel]'") from None
    return found[0], found[1], found[2], found[3], found[4]


def trace_id(session: str, cycle: int) -> bytes:
    """16 bytes: the same for everybody who knows the session's name and the cycle's number."""
    return hashlib.sha256(f"{session}/{cycle}".encode()).digest()[:16]


def _span_id(trace: bytes, *parts: object) -> bytes:
    return hashlib.sha256(trace + repr(parts).encode()).digest()[:8]


def traced_cycles(trace: SwarmTrace, records: Sequence[CycleRecord], after: int) -> list[TracedCycle]:
    """The cycles above number `after` of which trace and record are known, oldest first."""
    by_cycle = {record.cycle: record for record in records}
    found = []
    for cycle in trace.cycles:
        record = by_cycle.get(cycle.cycle)
        if cycle.cycle > after and record is not None:
            work = tuple(each for each in trace.work if each.node != cycle.leader and _belongs(each, cycle))
            found.append(TracedCycle(cycle, record, work))
    return found


def _belongs(work: WorkInterval, cycle: CycleTrace) -> bool:
    if work.work is Work.JUDGING and work.step >= 0 and cycle.step >= 0:
        return work.step == cycle.step
    return cycle.start_ns <= work.start_ns and work.end_ns <= cycle.end_ns


def trace_request(session: str, cycles: Sequence[TracedCycle]) -> bytes:
    """An ExportTraceServiceRequest of these cycles, a resource a node. Raises OtlpError."""
    service, _, spans_pb, _, common = _protobufs()
    request = service.ExportTraceServiceRequest()
    scopes: dict[int, Any] = {}

    def scope(node: int) -> Any:
        if node not in scopes:
            resource = request.resource_spans.add()
            _attributes(common, resource.resource.attributes, _resource(session, node))
            scopes[node] = resource.scope_spans.add()
            scopes[node].scope.name = SERVICE
        return scopes[node]

    for cycle in cycles:
        identity = trace_id(session, cycle.trace.cycle)
        for values in _leader_spans(identity, cycle):
            _fill(scope(cycle.trace.leader).spans.add(), spans_pb.Span.SPAN_KIND_INTERNAL, common, values)
        for values in _peer_spans(identity, cycle):
            _fill(scope(values["node"]).spans.add(), spans_pb.Span.SPAN_KIND_SERVER, common, values)
    return bytes(request.SerializeToString())


def _leader_spans(identity: bytes, cycle: TracedCycle) -> Iterator[dict[str, Any]]:
    record = cycle.record
    attributes = {
        "tradetui.cycle": record.cycle,
        "tradetui.step": record.step,
        "tradetui.toggles": record.toggles.label(),
        "tradetui.epoch": record.epoch,
        "tradetui.term": record.term,
        "tradetui.decisions": record.decisions_committed,
        "tradetui.orders": record.orders_sent,
    }
    root = _span_id(identity, ROOT)
    times = (cycle.trace.start_ns + cycle.offset_ns, cycle.trace.end_ns + cycle.offset_ns)
    yield {"trace": identity, "id": root, "parent": b"", "name": ROOT, "times": times, "attributes": attributes}
    for number, (span, start_ns, end_ns) in enumerate(cycle.trace.intervals):
        parent = _parent(cycle.trace, span, start_ns, end_ns)
        yield {
            "trace": identity,
            "id": _span_id(identity, number),
            "parent": root if parent is None else _span_id(identity, parent),
            "name": NAMES[span],
            "times": (start_ns + cycle.offset_ns, end_ns + cycle.offset_ns),
            "attributes": {},
        }


def _parent(trace: CycleTrace, span: int, start_ns: int, end_ns: int) -> int | None:
    """The place of the interval that this one is nested in: the shortest of the nearest outer span that holds it."""
    name = NAMES[span]
    while name != ROOT and (name := PARENT[name]) != ROOT:
        outer = [
            (b - a, place)
            for place, (each, a, b) in enumerate(trace.intervals)
            if each == INDEX[name] and a <= start_ns and end_ns <= b
        ]
        if outer:
            return min(outer)[1]
    return None


def _peer_spans(identity: bytes, cycle: TracedCycle) -> Iterator[dict[str, Any]]:
    coordination = [place for place, (span, _, _) in enumerate(cycle.trace.intervals) if span == _COORDINATION]
    parent = _span_id(identity, coordination[0]) if coordination else _span_id(identity, ROOT)
    for work in cycle.work:
        yield {
            "node": work.node,
            "trace": identity,
            "id": _span_id(identity, work.node, int(work.work), work.start_ns),
            "parent": parent,
            "name": WORK_NAMES[work.work],
            "times": (work.start_ns + cycle.offset_ns, work.end_ns + cycle.offset_ns),
            "attributes": {"tradetui.step": work.step} if work.step >= 0 else {},
        }


def _fill(span: Any, kind: Any, common: Any, values: dict[str, Any]) -> None:
    span.trace_id, span.span_id, span.parent_span_id = values["trace"], values["id"], values["parent"]
    span.name, span.kind = values["name"], kind
    span.start_time_unix_nano, span.end_time_unix_nano = values["times"]
    _attributes(common, span.attributes, values["attributes"])


def _resource(session: str, node: int) -> dict[str, str | int]:
    return {"service.name": SERVICE, "service.namespace": session, "service.instance.id": f"node-{node}"}


def _attributes(common: Any, target: Any, values: dict[str, Any]) -> None:
    for key, value in values.items():
        kind = {"int_value": value} if isinstance(value, int) else {"string_value": str(value)}
        target.add(key=key, value=common.AnyValue(**kind))


def metrics_request(session: str, snapshot: SwarmSnapshot, cycles: Sequence[CycleRecord], since_ns: int) -> bytes:
    """An ExportMetricsServiceRequest: durations of `cycles` (those since the last one) and totals. Raises OtlpError."""
    _, service, _, metrics_pb, common = _protobufs()
    request = service.ExportMetricsServiceRequest()
    resource = request.resource_metrics.add()
    _attributes(common, resource.resource.attributes, {"service.name": SERVICE, "service.namespace": session})
    scope = resource.scope_metrics.add()
    scope.scope.name = SERVICE
    now_ns = snapshot.taken_ns
    seconds = [record.wall_ms / 1e3 for record in cycles]
    duration = scope.metrics.add(name="tradetui.cycle.duration", unit="s", description="Wall time of a trading cycle.")
    duration.histogram.aggregation_temporality = metrics_pb.AGGREGATION_TEMPORALITY_DELTA
    duration.histogram.data_points.add(
        start_time_unix_nano=since_ns,
        time_unix_nano=now_ns,
        count=len(seconds),
        sum=sum(seconds),
        explicit_bounds=DURATION_BOUNDS_S,
        bucket_counts=_buckets(seconds),
    )
    totals = {
        "tradetui.cycles": ("{cycle}", snapshot.cycles_total),
        "tradetui.decisions": ("{decision}", snapshot.decisions_total),
        "tradetui.orders": ("{order}", snapshot.orders_sent_total),
    }
    for name, (unit, value) in totals.items():
        total = scope.metrics.add(name=name, unit=unit)
        total.sum.is_monotonic = True
        total.sum.aggregation_temporality = metrics_pb.AGGREGATION_TEMPORALITY_CUMULATIVE
        total.sum.data_points.add(time_unix_nano=now_ns, as_int=value)
    return bytes(request.SerializeToString())


def _buckets(seconds: Sequence[float]) -> list[int]:
    """Counts up to each bound, it included, and above the last."""
    counts = [0] * (len(DURATION_BOUNDS_S) + 1)
    for value in seconds:
        counts[sum(value > bound for bound in DURATION_BOUNDS_S)] += 1
    return counts
