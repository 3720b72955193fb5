"""What the transport is told and what it tells: settings, statuses, events. No behaviour."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from net.link_model import LinkModels
from net.wire.kinds import CodecKind


@dataclass(frozen=True, slots=True)
class TransportSettings:
    """Every knob of an endpoint; the defaults are for nodes on one machine or in one data centre."""

    codec: CodecKind = CodecKind.MSGPACK
    """What this side writes; it reads all."""
    multiplexing: bool = False
    """Off: one ordered stream a peer. On: one stream per message kind and one per in-flight round."""
    zero_rtt: bool = False
    """Resume reconnects with a session ticket and early data."""
    heartbeat_s: float = 0.1
    """A link that sent nothing for this long sends a ping."""
    dead_after_s: float = 0.5
    """A peer that was not heard for this long is disconnected. Above the longest stall of a busy peer."""
    monitor_heartbeat_s: float = 1.0
    """As `heartbeat_s`, to a peer that only looks on: no order waits for it, and each ping costs both sides."""
    monitor_dead_after_s: float = 3.0
    """As `dead_after_s`, of such a peer."""
    redial_min_s: float = 0.05
    redial_max_s: float = 0.5
    """Back-off between dials, doubled from the one to the other. The first redial is immediate."""
    unanswered_dial_s: float = 1.0
    """A dial that got no answer at all is given up after this long."""
    handshake_s: float = 5.0
    """A dial that got an answer must be through with handshake and proof in this time."""
    proof_s: float = 5.0
    """An accepted connection must prove its identity in this time."""
    unproven_max: int = 64
    """Accepted connections that have not proven who they are; more are not answered."""
    queue_messages_max: int = 4_096
    """Messages that wait for a slow peer; what comes on top is shed."""
    queue_bytes_max: int = 32 << 20
    """Bytes of messages that wait for a slow peer."""
    window_bytes: int = 4 << 20
    """Bytes handed to QUIC and not acknowledged, before messages wait in the queue."""
    frame_bytes_max: int = 16 << 20
    ack_delay_s: float = 0.01
    """How long an acknowledgement waits for a reply to ride with."""
    loopback_datagram_bytes: int = 4_096
    datagram_bytes: int = 1_200
    """UDP payload on any other path."""
    congestion_control: str = "reno"
    """`reno` or `cubic`."""
    socket_buffer_bytes: int = 4 << 20
    links: LinkModels = field(default_factory=LinkModels)
    """Delay, jitter and loss of what this side sends, on purpose; nothing by default."""


class PeerEventKind(StrEnum):
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    REFUSED = "refused"
    """A handshake was refused, by either side; nothing was connected."""


@dataclass(frozen=True, slots=True)
class PeerEvent:
    """A link came, went, or was refused. `peer` is None for a stranger who never proved an identity."""

    kind: PeerEventKind
    peer: int | None
    reason: str = ""
    resumed: bool = False
    address: tuple[str, int] | None = None


def is_refusal(event: PeerEvent) -> bool:
    """Whether a handshake was refused for a named reason. A dialler that gave up and dials again is none: its close
    carries only a bare error code.
    """
    return event.kind is PeerEventKind.REFUSED and not event.reason.startswith("error 0x")


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """One peer's link as this side sees it; counters are since the endpoint started, over all its connections."""

    peer: int
    connected: bool
    round_trip_ms: float
    """Of the last heartbeat, from send to answer in this process; 0 before the first."""
    resumed: bool
    """The present connection came back by 0-RTT resumption."""
    shed: int
    """Messages dropped because the peer was slow or absent."""
    refused: str
    """Why the last handshake was refused, empty once connected."""
    reconnects: int
    reconnect_ms: float
    """From the last dial to the peer's first word on the connection, 0 on the side that does not dial."""
    first_message_ms: float
    """From the start of the last connection to the first message of the peer on it, 0 before."""
    queued_messages: int
    queued_bytes: int
    open_streams: int
    messages_sent: int
    messages_received: int
    datagrams_sent: int
    datagrams_received: int
    bytes_sent: int
    bytes_received: int


class Instrument(Protocol):
    """Who is told where the transport's time goes; times are `time.perf_counter_ns`."""

    def serialized(self, start_ns: int, end_ns: int) -> None:
        """One message was encoded or decoded."""

    def sent(self, start_ns: int, end_ns: int) -> None:
        """Bytes were handed to QUIC, or datagrams built and given to the kernel."""
