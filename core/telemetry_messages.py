"""What nodes and gateway tell monitors, and monitors ask of them: bodies of `Application` messages, in MessagePack.

Telemetry is no part of any measured cycle and always travels as MessagePack, whatever the serialization toggle says.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import IntEnum, unique
from typing import Any, TypeVar

import msgpack
import msgspec
import numpy as np

from core.records import CycleRecord, EventRow, InControl, NodeStatus, OrderRow, PositionRow, ResultsRow
from core.toggles import Toggles, from_dict
from net.epoch import Epoch, make_epoch, with_fast_path
from net.membership import decode_membership, encode_membership
from net.messages import Application, Channel, Mode

_ARRAYS = ("count", "inclusive_ms", "exclusive_ms", "background_ms")


@unique
class Telemetry(IntEnum):
    """Kinds on `Channel.TELEMETRY`."""

    SUBSCRIBE = 1
    """Operator to node or gateway: push from now on; body {"from_cycle": int, "events_after_ns": int,
    "interval_s": float}."""
    CYCLES = 2
    STATUS = 3
    GATEWAY = 4


@unique
class Control(IntEnum):
    """Kinds on `Channel.CONTROL`; each is answered by REPLY with the same request id."""

    REPLY = 0
    PROFILE = 2
    """Body {"seconds": float}: sample the node's event loop; the reply's files map names to bytes, and its
    decisions count those committed meanwhile."""
    PROOFS_WANTED = 3
    """Node to node: send the certificates of open decisions (after a restore from a peer's snapshot). No body."""
    PROOFS = 4
    """The answer; the body is that of `core.swarm_snapshot.proofs_of`."""
    EPOCH = 5
    """Which epoch runs, and who is in it: what a change of membership or of the mode must be signed over. Beside it the
    toggles that hold: {"toggles"}."""
    CHANGE_MEMBERS = 6
    """Body {"change": bytes}: a change of membership that an operator signed (`net.membership_change`)."""
    TRADING = 7
    """Body {"change": bytes}: a signed change of the trading state (`core.trading_state`); to the gateway, which obeys
    a stricter state at once and answers {"text", "orders_sent", "cancels_sent"}, and to the leader, which commits it.
    """
    SET_TOGGLES = 8
    """Body {"change": bytes}: toggles that an operator signed (`core.toggle_change`); answered {"text", "stale"} once
    they hold."""
    TRACE = 9
    """Body {"after_ns": int}: what this node did when, lately, of which the end lies after that of its own clock
    (`core.cycle_trace.TraceBuffer.to_dict`); to the gateway, what it and the session's own venue did."""
    FAULT = 10
    """Body {"fault": str}: do wrong on purpose from now on (`core.faults.Fault`), or do right again."""
    SESSION = 11
    """What a monitor without the session's directory must know: {"name", "settings"}. No body."""
    LADDER = 13
    """To the gateway, body {"instrument": str, "levels": int}: the venue's book (`core.book_ladder`)."""
    CLAIM = 12
    """Take or give up control (`core.control_claims.Claim`)."""
    TIMERS = 15
    """Body {"on": bool}: time the spans of a cycle, or only the cycle; this node alone, until it is asked again."""
    LIMITS = 14
    """Body {"change": bytes}: new limits that an operator signed (`core.limits_change`)."""


@unique
class OrderKind(IntEnum):
    """Kinds on `Channel.ORDER`, between the leading node and the gateway."""

    PREPARE = 1
    """An uncommitted payload: build its orders, send nothing."""
    EXECUTE = 2
    """A committed entry with its certificate and the positions in it to send now."""
    JOURNALED = 3
    PLACED = 4
    """The venue acknowledged the order."""
    CLOSED = 5
    """The order ended; the body names ids and, in the same order, states."""
    REPORTS_SINCE = 6
    REPORTS = 7
    REFUSED = 8
    VENUE = 9
    """The gateway's word on the venue; body {"state": str}."""
    MEMBERS = 10
    """A node's word on who votes, and how; body {"epoch": int, "mode": int, "membership": bytes} (`net.membership`)."""
    TRADING = 11
    """Node to gateway: the committed entry of a change of the trading state or of the limits; body {"proof": bytes}.
    Or the last such change that holds at the node, as a payload of the log; body {"applied": bytes}.
    Gateway to node: a change that the gateway signed, to be committed; body {"change": bytes}.
    """


@dataclass(frozen=True, slots=True)
class NodeReport:
    """One node's status push."""

    status: NodeStatus
    toggles: Toggles
    cycles_total: int
    decisions_total: int
    denied_total: int
    positions: tuple[PositionRow, ...]
    cash: float
    equity: float
    events: tuple[EventRow, ...]
    """Events since the last push."""
    captions: tuple[str, ...]
    market: str
    trading: str = "active"
    """`core.trading_state.TradingState` of the log as this node has applied it."""
    trading_reason: str = ""
    fault: str = "none"
    """What the node does wrong on purpose (`core.faults.Fault`)."""
    in_control: InControl | None = None
    limits: dict[str, float] = field(default_factory=dict)
    """`core.limits.Limits` as this node has applied them: quote currency, the price band in basis points."""
    results: ResultsRow | None = None
    denials: tuple[tuple[str, int], ...] = ()
    """Why decisions were denied, since this process started; the most frequent first."""
    told_ns: int = 0
    """When this was so, by the node's clock (Unix)."""


@dataclass(frozen=True, slots=True)
class GatewayReport:
    """The gateway's status push; `orders` are those that changed since the last one."""

    pid: int
    venue: str
    orders_sent: int
    orders_filled: int
    orders_rejected: int
    orders: tuple[OrderRow, ...]
    events: tuple[EventRow, ...] = field(default=())
    trading: str = "active"
    """What the gateway lets through: as strict as the log's state, or stricter."""
    trading_reason: str = ""


def epoch_to_dict(epoch: Epoch) -> dict[str, Any]:
    """What an operator must know of the running epoch; the answer to `Control.EPOCH`."""
    return {
        "number": epoch.number,
        "mode": int(epoch.mode),
        "base_index": epoch.base_index,
        "base_digest": epoch.base_digest,
        "leader_hint": epoch.leader_hint,
        "membership": encode_membership(epoch.membership),
        "fast_path": epoch.fast_path,
    }


def epoch_from_dict(values: dict[str, Any]) -> Epoch:
    """Undo `epoch_to_dict`; raises KeyError, ValueError for other values."""
    epoch = make_epoch(
        values["number"],
        Mode(values["mode"]),
        values["base_index"],
        values["base_digest"],
        values["leader_hint"],
        decode_membership(values["membership"]),
    )
    return with_fast_path(epoch) if values["fast_path"] else epoch


def pack(values: Any) -> bytes:
    """MessagePack of plain values."""
    return bytes(msgpack.packb(values))


def unpack(body: bytes) -> Any:
    """Plain values back; raises ValueError on anything malformed."""
    try:
        return msgpack.unpackb(body, strict_map_key=False)
    except Exception as error:
        raise ValueError(f"malformed telemetry body: {error}") from error


def application(channel: Channel, kind: int, values: Any = None, *, request_id: int = 0) -> Application:
    """An application message with a MessagePack body and no records."""
    return Application(channel, kind, request_id, 0, 0, b"", b"" if values is None else pack(values))


def cycle_to_dict(record: CycleRecord) -> dict[str, Any]:
    values = {f.name: getattr(record, f.name) for f in fields(record)}
    values["toggles"] = record.toggles.as_dict()
    for name in _ARRAYS:
        values[name] = values[name].tobytes()
    return values


def cycle_from_dict(values: dict[str, Any]) -> CycleRecord:
    values = dict(values)
    values["toggles"] = from_dict(values["toggles"])
    for name in _ARRAYS:
        values[name] = np.frombuffer(values[name], np.int64 if name == "count" else np.float64)
    return CycleRecord(**values)


def report_message(report: NodeReport | GatewayReport) -> Application:
    """The push of a status: read straight from the records, up to ten times a second for each monitor."""
    kind = Telemetry.STATUS if isinstance(report, NodeReport) else Telemetry.GATEWAY
    return Application(Channel.TELEMETRY, kind, 0, 0, 0, b"", _REPORTS.encode(report))


def node_report(body: bytes) -> NodeReport:
    """The body of a node's `report_message`; raises ValueError on anything else."""
    return _report(_NODE_REPORT, body)


def gateway_report(body: bytes) -> GatewayReport:
    """The body of the gateway's `report_message`; raises ValueError on anything else."""
    return _report(_GATEWAY_REPORT, body)


_Report = TypeVar("_Report", NodeReport, GatewayReport)


def _report(decoder: msgspec.msgpack.Decoder[_Report], body: bytes) -> _Report:
    try:
        return decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise ValueError(f"malformed telemetry body: {error}") from error


def plain_number(value: object) -> float | int:
    """A NumPy scalar as a number of Python's: for encoders that know only these."""
    if isinstance(value, np.generic):
        number: float | int = value.item()
        return number
    raise NotImplementedError(f"{type(value).__name__} does not travel")


_REPORTS = msgspec.msgpack.Encoder(enc_hook=plain_number)
_NODE_REPORT = msgspec.msgpack.Decoder(NodeReport)
_GATEWAY_REPORT = msgspec.msgpack.Decoder(GatewayReport)
