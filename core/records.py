"""What a running swarm tells its monitors: frozen records, one vocabulary for recorder, screens and reports."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from core.toggles import Toggles
from net.consensus import ReplicaStatus


@dataclass(frozen=True, slots=True)
class CycleRecord:
    """One trading cycle as its leader measured it.

    The four arrays have one float64 or int64 per span in the order of `core.spans.NAMES`. `exclusive_ms` sums, with
    `untimed_ms`, to `wall_ms`; the root's own exclusive time is 0. `background_ms` was spent after the cycle ended.
    """

    cycle: int
    """Counts up from 1 over the whole session, whichever node leads."""
    step: int
    lap: int
    leader: int
    epoch: int
    term: int
    started_ns: int
    """Unix time."""
    wall_ms: float
    untimed_ms: float
    toggles: Toggles
    count: NDArray[np.int64]
    inclusive_ms: NDArray[np.float64]
    exclusive_ms: NDArray[np.float64]
    background_ms: NDArray[np.float64]
    rounds: int
    """Consensus rounds (batches put to the vote)."""
    messages: int
    """Messages that the leader sent and received."""
    datagrams: int
    """UDP datagrams that the leader sent and received."""
    bytes_on_wire: int
    """UDP payload bytes that the leader sent and received."""
    decisions_committed: int
    decisions_denied: int
    orders_sent: int
    orders_filled: int
    orders_rejected: int
    numpy_kernels: int = 0
    """Kernels that were not compiled yet and ran in numpy; such a cycle enters no experiment."""


class OrderState(StrEnum):
    """The life cycle of an order."""

    INITIALISED = "initialised"
    SUBMITTED = "submitted"
    ACCEPTED = "accepted"
    PARTIALLY_FILLED = "partially filled"
    FILLED = "filled"
    PENDING_CANCEL = "pending cancel"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    EXPIRED = "expired"
    UNKNOWN = "unknown"
    DENIED = "denied"
    """Refused by the swarm or the gateway; never sent."""


@dataclass(frozen=True, slots=True)
class OrderRow:
    """One order as the monitor shows it; prices in quote currency, quantities in units (not ticks and lots)."""

    client_order_id: str
    step: int
    instrument: str
    side: str
    quantity: float
    limit_price: float
    state: OrderState
    filled_quantity: float
    average_price: float
    fee: float
    reason: str


@dataclass(frozen=True, slots=True)
class PositionRow:
    instrument: str
    quantity: float
    average_price: float
    mark_price: float
    realised: float
    """Profit of closed quantity after fees, quote currency, this session."""
    unrealised: float


@dataclass(frozen=True, slots=True)
class ResultsRow:
    """What all trading came to so far, quote currency; equity at the prices of the decisions."""

    fees: float
    turnover: float
    drawdown: float
    """Largest fall of equity from an earlier high."""
    drawdown_fraction: float
    """Of that high."""
    closed_trades: int
    winning_trades: int
    """After fees."""


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class EventRow:
    """A line of the event log. `source` is `node 2`, `gateway`, `venue`, `supervisor` or `monitor`."""

    time_ns: int
    severity: Severity
    source: str
    text: str


class VenueState(StrEnum):
    UNKNOWN = "unknown"
    CONNECTED = "connected"
    RECONCILING = "reconciling"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class PeerLink:
    """One QUIC link as its node sees it."""

    peer: int
    connected: bool
    round_trip_ms: float
    resumed: bool
    """The connection came back by 0-RTT resumption."""
    shed: int
    """Messages dropped because the peer was too slow or unreachable."""
    refused: str
    """Why the last handshake was refused, empty if it was not."""


@dataclass(frozen=True, slots=True)
class Accusation:
    """What one node holds against another."""

    culprit: int
    reason: str
    """Of the first proof, or of the first suspicion while there is no proof."""
    proven: bool
    """Two signed statements that no honest node signs both; else it is what the accuser alone saw."""
    count: int


@dataclass(frozen=True, slots=True)
class InControl:
    """The operator who may change the swarm; prints as `operator-0 (ann@desk)`."""

    operator: int
    name: str
    """In the roster."""
    label: str
    """In its own words."""
    claimed_ns: int
    """Unix time on the operator's clock; the latest claim counts."""

    def __str__(self) -> str:
        return f"{self.name} ({self.label})" if self.label else self.name


@dataclass(frozen=True, slots=True)
class PeerNews:
    """What a node last heard of another by gossip."""

    node: int
    age_s: float
    """Since something new of it arrived."""
    step: int
    applied_index: int
    lessons: int
    """Of its memory."""


@dataclass(frozen=True, slots=True)
class LogEnd:
    """How far a node's log went at one moment."""

    commit_index: int
    last_index: int


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node process. An unreachable node keeps its last status with `reachable` False."""

    node: int
    pid: int
    reachable: bool
    step: int
    lap: int
    activity: str
    """What it does in words: `leading`, `following`, `paused: venue is down`, `catching up`, …"""
    replica: ReplicaStatus | None
    links: tuple[PeerLink, ...]
    durability: str
    """`strict`, or `none` where votes are not synced to disk."""
    accusations: tuple[Accusation, ...] = ()
    news: tuple[PeerNews, ...] = ()
    """Peers heard of by gossip."""
    disagreements: tuple[tuple[int, int], ...] = ()
    """(peer, index): the peer says that it holds another state behind this entry of the log than this node."""
    turned_away: tuple[tuple[str, int], ...] = ()
    """(what, how often): strangers and malformed bytes that the node's socket met with; only what happened at all."""
    leader_log: LogEnd | None = None
    """The leader's as of when this node spoke, set by who hears both; None while nobody leads."""

    @property
    def lag_entries(self) -> int | None:
        """Entries that the leader had committed, and this node had not, when it spoke; None while nobody can tell."""
        if self.replica is None or self.leader_log is None:
            return None
        return max(0, self.leader_log.commit_index - self.replica.commit_index)


@dataclass(frozen=True, slots=True)
class SwarmSnapshot:
    """Everything a screen needs, taken at one instant; immutable, so a frozen view costs nothing.

    `cycles` holds at most the last 2,000 records, oldest first. `captions` are named settings that must stand beside
    every result: `modelled liquidity`, `venue latency 3 ms`, `durability none`, …
    """

    taken_ns: int
    """Unix time of the last word from the swarm."""
    session: str
    market: str
    """For example `us-stocks: 20 instruments, 1 day a step`."""
    nodes: tuple[NodeStatus, ...]
    leader: int | None
    venue: VenueState
    gateway_connected: bool
    toggles: Toggles
    cycles: tuple[CycleRecord, ...]
    cycles_total: int
    decisions_total: int
    denied_total: int
    orders_sent_total: int
    orders_filled_total: int
    orders_rejected_total: int
    orders: tuple[OrderRow, ...]
    """The latest first, at most 200."""
    positions: tuple[PositionRow, ...]
    cash: float
    equity: float
    events: tuple[EventRow, ...]
    """Oldest first, at most 500."""
    captions: tuple[str, ...] = ()
    phase: str = ""
    """The supervisor's word (`core.session.SwarmState`); empty if unknown."""
    trading: str = "active"
    """`core.trading_state.TradingState`: what the gateway lets through, or the log's state where it is away."""
    trading_reason: str = ""
    limits: dict[str, float] = field(default_factory=dict)
    """By name, quote currency; the price band in basis points."""
    instruments: tuple[str, ...] = ()
    settings: dict[str, object] = field(default_factory=dict)
    in_control: InControl | None = None
    """None: nobody, or it is not known."""
    results: ResultsRow | None = None
    """None before a node was heard, and in recordings of older builds."""
    denials: tuple[tuple[str, int], ...] = ()
    """Why decisions were denied and how often, since the node that tells of it started; the most frequent first."""
