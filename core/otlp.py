"""Cycles as OpenTelemetry traces and metrics, for any collector that takes OTLP over HTTP.

One trace is one cycle. Its root is the leader's `trading_cycle_total`; the leader's other spans are nested in it, what
the peers did for the cycle hangs below `quic_coordination` under each peer's own resource, and its orders go on at the
gateway, below the `order_placement` that brought them there, and at the session's own venue, below the gateway's span
of the same order. Another's venue makes no spans: the gateway's covers the way there and back.

The context travels in what every message carries, so that none grows when somebody traces: session and cycle make the
identity of a trace; proposals, PREPARE and EXECUTE name the market step, which is the cycle's; an order's span has its
identity of the client order id, which the venue is given as newClientOrderId or ClOrdID (11).

Source: opentelemetry-proto 1.x, trace/v1 and metrics/v1; names by the semantic conventions for services, RPC (a span is
named SERVICE/METHOD), messaging and errors, units by UCUM.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from core.cycle_trace import WORK_NAMES, CycleTrace, OrderInterval, Stage, Work
from core.records import CycleRecord, SwarmSnapshot
from core.spans import INDEX, NAMES, PARENT, ROOT
from core.trace_backlog import PlacedInterval, TracedCycle

SERVICE = "tradetui"
GATEWAY, VENUE = "gateway", "venue"
DURATION_BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_COORDINATION = INDEX["quic_coordination"]


class OtlpError(RuntimeError):
    """The protobufs are not installed; the text says how to get them."""


class SpanKind(IntEnum):
    """`Span.SpanKind` of trace/v1."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3
    PRODUCER = 4
    CONSUMER = 5


_CLIENTS = {"quic_coordination", "order_placement"}
"""The leader's spans that ask another process and wait for its answer."""
_WORK_KINDS = {Work.JUDGING: SpanKind.SERVER, Work.CONSENSUS: SpanKind.CONSUMER}
"""A proposal is answered with an opinion; a message of consensus is one way."""
_CALLS = {
    # stage: process, span kind, service and method that were asked
    Stage.PREPARE: (GATEWAY, SpanKind.CONSUMER, "gateway", "prepare"),
    Stage.EXECUTE: (GATEWAY, SpanKind.SERVER, "gateway", "execute"),
    Stage.PLACE: (GATEWAY, SpanKind.CLIENT, "venue", "order.place"),
    Stage.MATCH: (VENUE, SpanKind.SERVER, "venue", "order.place"),
}
_WAITED_IN = {
    Stage.PREPARE: ("quic_consensus", "quic_coordination"),
    Stage.EXECUTE: ("order_placement", "order_execution"),
    Stage.PLACE: ("order_placement", "order_execution"),
}
"""The leader's span below which each stage hangs; the first that had begun."""


@dataclass(frozen=True, slots=True)
class SpanValues:
    """One span, before it is a protobuf; times in Unix ns."""

    process: int | str
    """A node's number, or GATEWAY or VENUE."""
    trace: bytes
    id: bytes
    parent: bytes
    name: str
    kind: SpanKind
    times: tuple[int, int]
    attributes: dict[str, str | int] = field(default_factory=dict)
    problem: str = ""
    """What went wrong, where the attribute error.type says that something did."""


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


def _order_id(trace: bytes, stage: Stage, interval: OrderInterval) -> bytes:
    """Of one order: made of its client order id, which gateway and venue both know."""
    if stage in (Stage.PLACE, Stage.MATCH):
        return _span_id(trace, stage.name, interval.orders[0])
    return _span_id(trace, stage.name, interval.start_ns)


def trace_request(session: str, cycles: Sequence[TracedCycle]) -> bytes:
    """An ExportTraceServiceRequest of these cycles, a resource a process. Raises OtlpError."""
    service, _, spans_pb, _, common = _protobufs()
    request = service.ExportTraceServiceRequest()
    scopes: dict[int | str, Any] = {}
    for cycle in cycles:
        for values in _spans(trace_id(session, cycle.trace.cycle), cycle):
            if values.process not in scopes:
                resource = request.resource_spans.add()
                _attributes(common, resource.resource.attributes, _resource(session, values.process))
                scopes[values.process] = resource.scope_spans.add()
                scopes[values.process].scope.name = SERVICE
            _fill(scopes[values.process].spans.add(), spans_pb, common, values)
    return bytes(request.SerializeToString())


def _spans(identity: bytes, cycle: TracedCycle) -> Iterator[SpanValues]:
    if cycle.is_new:
        yield from _leader_spans(identity, cycle)
    yield from _peer_spans(identity, cycle)
    for placed in cycle.orders:
        yield _order_span(identity, cycle, placed)


def _leader_spans(identity: bytes, cycle: TracedCycle) -> Iterator[SpanValues]:
    record, leader, offset_ns = cycle.record, cycle.trace.leader, cycle.offset_ns
    attributes: dict[str, str | int] = {
        "tradetui.cycle": record.cycle,
        "tradetui.step": record.step,
        "tradetui.toggles": record.toggles.label(),
        "tradetui.epoch": record.epoch,
        "tradetui.term": record.term,
        "tradetui.decisions": record.decisions_committed,
        "tradetui.orders": record.orders_sent,
    }
    root = _span_id(identity, ROOT)
    times = (cycle.trace.start_ns + offset_ns, cycle.trace.end_ns + offset_ns)
    yield SpanValues(leader, identity, root, b"", ROOT, SpanKind.INTERNAL, times, attributes)
    places = _places(cycle.trace)
    for number, (span, start_ns, end_ns) in enumerate(cycle.trace.intervals):
        parent = _parent(places, span, start_ns, end_ns)
        above = root if parent is None else _span_id(identity, parent)
        kind = SpanKind.CLIENT if NAMES[span] in _CLIENTS else SpanKind.INTERNAL
        times = (start_ns + offset_ns, end_ns + offset_ns)
        yield SpanValues(leader, identity, _span_id(identity, number), above, NAMES[span], kind, times)


def _places(trace: CycleTrace) -> dict[str, list[tuple[int, int, int]]]:
    """By span, (start, end, place) of each of its intervals."""
    found: dict[str, list[tuple[int, int, int]]] = {}
    for place, (span, start_ns, end_ns) in enumerate(trace.intervals):
        found.setdefault(NAMES[span], []).append((start_ns, end_ns, place))
    return found


def _parent(places: dict[str, list[tuple[int, int, int]]], span: int, start_ns: int, end_ns: int) -> int | None:
    """The place of the interval that this one is nested in: the shortest of the nearest outer span that holds it."""
    name = NAMES[span]
    while name != ROOT and (name := PARENT[name]) != ROOT:
        outer = [(b - a, place) for a, b, place in places.get(name, ()) if a <= start_ns and end_ns <= b]
        if outer:
            return min(outer)[1]
    return None


def _peer_spans(identity: bytes, cycle: TracedCycle) -> Iterator[SpanValues]:
    coordination = [place for place, (span, _, _) in enumerate(cycle.trace.intervals) if span == _COORDINATION]
    parent = _span_id(identity, coordination[0]) if coordination else _span_id(identity, ROOT)
    for work in cycle.work:
        yield SpanValues(
            work.node,
            identity,
            _span_id(identity, work.node, int(work.work), work.start_ns),
            parent,
            WORK_NAMES[work.work],
            _WORK_KINDS[work.work],
            (work.start_ns + cycle.offset_ns, work.end_ns + cycle.offset_ns),
            {"tradetui.step": work.step} if work.step >= 0 else {},
        )


def _order_span(identity: bytes, cycle: TracedCycle, placed: PlacedInterval) -> SpanValues:
    """What gateway or venue did with orders of this cycle; it may end after the cycle did."""
    each = placed.interval
    process, kind, service, method = _CALLS[each.stage]
    if kind is SpanKind.CONSUMER:
        attributes: dict[str, str | int] = {"messaging.operation.type": "process", "messaging.operation.name": method}
    else:
        attributes = {"rpc.service": service, "rpc.method": method}
    attributes["tradetui.step"] = cycle.trace.step
    if each.stage is Stage.EXECUTE:
        attributes["tradetui.orders"] = len(each.orders)
    elif each.orders:
        attributes["tradetui.client_order_id"] = each.orders[0]
    if each.error_type:
        attributes["error.type"] = each.error_type
    return SpanValues(
        process,
        identity,
        _order_id(identity, each.stage, each),
        _order_parent(identity, cycle.trace, placed),
        f"{service}/{method}",
        kind,
        (each.start_ns + cycle.offset_ns, each.end_ns + cycle.offset_ns),
        attributes,
        each.problem,
    )


def _order_parent(identity: bytes, trace: CycleTrace, placed: PlacedInterval) -> bytes:
    each = placed.interval
    if each.stage is Stage.MATCH:
        return _order_id(identity, Stage.PLACE, each)
    if placed.release is not None:
        return _order_id(identity, Stage.EXECUTE, placed.release)
    for name in _WAITED_IN[each.stage]:
        begun = [
            (start_ns, place)
            for place, (span, start_ns, _) in enumerate(trace.intervals)
            if span == INDEX[name] and start_ns <= each.start_ns
        ]
        if begun:
            return _span_id(identity, max(begun)[1])
    return _span_id(identity, ROOT)


def _fill(span: Any, spans_pb: Any, common: Any, values: SpanValues) -> None:
    span.trace_id, span.span_id, span.parent_span_id = values.trace, values.id, values.parent
    span.name, span.kind = values.name, int(values.kind)
    span.start_time_unix_nano, span.end_time_unix_nano = values.times
    _attributes(common, span.attributes, values.attributes)
    if "error.type" in values.attributes:
        span.status.code, span.status.message = spans_pb.Status.STATUS_CODE_ERROR, values.problem


def _resource(session: str, process: int | str) -> dict[str, str | int]:
    """A service a kind of process: nodes are instances of one."""
    if isinstance(process, int):
        return {"service.name": SERVICE, "service.namespace": session, "service.instance.id": f"node-{process}"}
    return {"service.name": f"{SERVICE}-{process}", "service.namespace": session, "service.instance.id": process}


def _attributes(common: Any, target: Any, values: dict[str, str | int]) -> None:
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
