"""A `SwarmSnapshot` as plain values and back, for recordings. Cycles travel apart (`core.telemetry_messages`)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from core.records import (
    Accusation,
    EventRow,
    InControl,
    LogEnd,
    NodeStatus,
    OrderRow,
    OrderState,
    PeerLink,
    PeerNews,
    PositionRow,
    ResultsRow,
    Severity,
    SwarmSnapshot,
    VenueState,
)
from core.telemetry_messages import plain_number
from core.toggles import from_dict
from net.consensus import ReplicaStatus
from net.messages import Mode

_SNAPSHOTS = msgspec.msgpack.Encoder(enc_hook=plain_number)


def pack_snapshot(snapshot: SwarmSnapshot) -> bytes:
    """Everything but the cycles, as MessagePack of a map."""
    return _SNAPSHOTS.encode(replace(snapshot, cycles=()))


def snapshot_from_dict(values: dict[str, Any]) -> SwarmSnapshot:
    """Undo `pack_snapshot`. Raises KeyError, TypeError or ValueError for other values."""
    values = dict(values)
    values["cycles"] = ()
    values["toggles"] = from_dict(values["toggles"])
    values["venue"] = VenueState(values["venue"])
    values["nodes"] = tuple(_node(row) for row in values["nodes"])
    values["orders"] = tuple(order_from_dict(row) for row in values["orders"])
    values["positions"] = tuple(PositionRow(**row) for row in values["positions"])
    values["events"] = tuple(event_from_dict(row) for row in values["events"])
    values["captions"] = tuple(values["captions"])
    values["instruments"] = tuple(values["instruments"])
    values["denials"] = tuple((reason, count) for reason, count in values.get("denials", ()))
    if values.get("in_control") is not None:
        values["in_control"] = InControl(**values["in_control"])
    if values.get("results") is not None:
        values["results"] = ResultsRow(**values["results"])
    return SwarmSnapshot(**values)


def order_from_dict(row: dict[str, Any]) -> OrderRow:
    """One order as `asdict` wrote it."""
    return OrderRow(**{**row, "state": OrderState(row["state"])})


def event_from_dict(row: dict[str, Any]) -> EventRow:
    """One event as `asdict` wrote it."""
    return EventRow(**{**row, "severity": Severity(row["severity"])})


def _node(row: dict[str, Any]) -> NodeStatus:
    found = dict(row)
    replica = row["replica"]
    if replica is not None:
        values = {**replica, "mode": Mode(replica["mode"])}
        values["peer_match_index"] = tuple((peer, index) for peer, index in replica["peer_match_index"])
        for name in ("evidence", "voters", "learners"):
            values[name] = tuple(values.get(name, ()))
        found["replica"] = ReplicaStatus(**values)
    found["links"] = tuple(PeerLink(**link) for link in row["links"])
    found["accusations"] = tuple(Accusation(**each) for each in row.get("accusations", ()))
    found["news"] = tuple(PeerNews(**each) for each in row.get("news", ()))
    found["disagreements"] = tuple((peer, index) for peer, index in row.get("disagreements", ()))
    found["turned_away"] = tuple((what, count) for what, count in row.get("turned_away", ()))
    if row.get("leader_log") is not None:
        found["leader_log"] = LogEnd(**row["leader_log"])
    return NodeStatus(**found)
