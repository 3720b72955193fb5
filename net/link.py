"""One QUIC connection between two members: handshake, proof, streams, heartbeat, bounded sending.

The dialler pins the acceptor's certificate. The acceptor learns who dials from a signed proof, the first thing it
reads; until then nothing else of the connection is looked at. Then both are equal. The host (`net.quic.Endpoint`) owns
socket, routing and peers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum, IntEnum
from typing import Final, Protocol

from aioquic import tls
from aioquic.quic import events

from net import framing
from net.framing import FrameError, Framer, LinkFrame
from net.http import HTTP3_ALPN, Http3Server
from net.identity import Identity, Roster, verify_signature
from net.messages import Application, Channel, GossipDelta, GossipDigest, Message
from net.quic_connection import LinkConnection
from net.transport import TransportSettings
from net.udp import Address

CONTROL_STREAM: Final = 0
"""The dialler's first bidirectional stream: proof, welcome and heartbeats, and everything where multiplexing is off."""
UNPROVEN_FRAME_BYTES_MAX: Final = 2_048
"""A proof is far shorter; the rest is for what a HELLO carries."""
EARLY_MESSAGE_BYTES_MAX: Final = UNPROVEN_FRAME_BYTES_MAX - 16
APPLICATION_ERROR: Final = 1
_LINK_FRAME_MAX: Final = 15
_ROUTING_EVENTS: Final = (events.ConnectionIdIssued, events.ConnectionIdRetired)


class StreamKind(IntEnum):
    """What shares an ordered stream when multiplexing is on."""

    CONSENSUS = 0
    OPINION = 1
    ORDER = 2
    TELEMETRY = 3
    CONTROL = 4
    GOSSIP = 5
    DIGEST = 6
    """Unreliable datagrams; shares the stream of GOSSIP where a digest does not fit one."""


_KIND_OF_CHANNEL: Final = {
    Channel.OPINION: StreamKind.OPINION,
    Channel.ORDER: StreamKind.ORDER,
    Channel.TELEMETRY: StreamKind.TELEMETRY,
    Channel.CONTROL: StreamKind.CONTROL,
}

_KIND_OF_MESSAGE: Final[dict[type, StreamKind]] = {GossipDigest: StreamKind.DIGEST, GossipDelta: StreamKind.GOSSIP}
_CONSENSUS: Final = StreamKind.CONSENSUS


def stream_kind(message: Message) -> StreamKind:
    """Which stream a message belongs to."""
    if type(message) is Application:
        return _KIND_OF_CHANNEL[message.channel]
    return _KIND_OF_MESSAGE.get(type(message), _CONSENSUS)


class LinkState(Enum):
    HANDSHAKE = "handshake"
    PROVING = "proving"
    UP = "up"
    CLOSED = "closed"


# A member of an enumeration is slow to look up, and these are looked up for every packet.
UP: Final = LinkState.UP
CLOSED: Final = LinkState.CLOSED
_DIGEST: Final = StreamKind.DIGEST
_OPINION: Final = StreamKind.OPINION


class Refusal:
    """Why a handshake is refused, in the words that both sides show."""

    UNKNOWN_IDENTITY: Final = "unknown identity"
    EXPIRED: Final = "expired roster entry"
    WRONG_ROLE: Final = "role differs from the roster"
    NOT_ADDRESSED: Final = "proof is addressed to another member"
    WRONG_SIGNATURE: Final = "wrong signature"
    TICKET_MISMATCH: Final = "identity differs from the resumed session's"
    NO_HTTP: Final = "serves no HTTP"
    SPOKE_BEFORE_PROOF: Final = "spoke before the proof"
    MALFORMED_PROOF: Final = "malformed proof"
    NO_PROOF: Final = "no proof in time"
    WRONG_CERTIFICATE: Final = "certificate is not the pinned one"
    NO_ANSWER: Final = "no answer"


class LinkHost(Protocol):
    """What a link needs of its endpoint."""

    identity: Identity
    roster: Roster
    settings: TransportSettings

    def clock(self) -> float: ...
    def mark_dirty(self, link: Link) -> None: ...
    def add_route(self, connection_id: bytes, link: Link) -> None: ...
    def remove_route(self, connection_id: bytes) -> None: ...
    def link_up(self, link: Link, peer: int) -> None: ...
    def link_closed(self, link: Link, reason: str, refused: bool) -> None: ...
    def deliver(self, peer: int, body: bytes) -> None: ...
    def serve_http(self, quic: LinkConnection) -> Http3Server | None: ...
    def deliver_early(self, link: Link, peer: int, body: bytes) -> bool: ...


class Link:
    """One connection. `peer` is who the other side is: known to a dialler, proven to an acceptor."""

    __slots__ = (
        "_framers",
        "_hello_heard",
        "_host",
        "_kind_streams",
        "_newest_packet",
        "address",
        "bytes_received",
        "bytes_sent",
        "datagrams_received",
        "datagrams_sent",
        "dials",
        "dirty",
        "first_message_at",
        "first_word_at",
        "http",
        "last_heard_at",
        "last_ping_at",
        "last_sent_at",
        "peer",
        "queue",
        "queued_bytes",
        "quic",
        "redeemed_from",
        "resumed",
        "round_trip_s",
        "started_at",
        "state",
        "tickets",
        "timer",
        "timer_at",
        "unacknowledged_bytes",
        "unanswered_ticket",
    )

    def __init__(
        self,
        host: LinkHost,
        quic: LinkConnection,
        address: Address,
        *,
        dials: bool,
        peer: int | None,
        tickets: list[tls.SessionTicket],
        redeemed_from: Sequence[int] = (),
    ) -> None:
        now = host.clock()
        self._host = host
        self.quic = quic
        self.address = address
        self.dials = dials
        self.peer = peer
        self.state = LinkState.HANDSHAKE
        self.resumed = False
        self.http: Http3Server | None = None
        self.tickets = tickets
        """Given or received on this connection; worth nothing until the other side has proven who it is."""
        self.redeemed_from = redeemed_from
        """Acceptor: whose ticket resumed this connection; empty after a full handshake."""
        self.dirty = False
        self.timer: asyncio.TimerHandle | None = None
        self.timer_at = 0.0
        self.started_at = now
        self.first_word_at = 0.0
        self.first_message_at = 0.0
        self.unanswered_ticket: tls.SessionTicket | None = None
        """Dialler: the ticket that this attempt shows."""
        self.last_heard_at = now
        self.last_sent_at = now
        self.last_ping_at = 0.0
        self.round_trip_s = 0.0
        self.queue: deque[tuple[StreamKind, int, bytes]] = deque()
        self.queued_bytes = 0
        self.unacknowledged_bytes = 0
        self.datagrams_sent = self.datagrams_received = self.bytes_sent = self.bytes_received = 0
        self._hello_heard = False
        self._newest_packet = -1
        self._framers: dict[int, Framer] = {}
        self._kind_streams: dict[StreamKind, int] = {}

    # Events of the connection

    def handle_events(self) -> None:
        """Act on everything that the connection has to tell."""
        newest = self.quic.newest_packet_received()
        if newest != self._newest_packet:
            # An acknowledgement alone says as well that the peer lives: under one-way load there is nothing else.
            self._newest_packet = newest
            self.last_heard_at = self._host.clock()
        next_event = self.quic.next_event
        while self.state is not CLOSED and (event := next_event()) is not None:
            kind = type(event)
            if self.http is not None and kind not in _ROUTING_EVENTS:
                self._on_http(event)
            elif isinstance(event, events.StreamDataReceived):
                self._on_stream_data(event.stream_id, event.data, event.end_stream)
            elif isinstance(event, events.DatagramFrameReceived):
                self._on_datagram(event.data)
            elif isinstance(event, events.HandshakeCompleted):
                self._on_handshake(event)
            elif isinstance(event, events.ConnectionIdIssued):
                self._host.add_route(event.connection_id, self)
            elif isinstance(event, events.ConnectionIdRetired):
                self._host.remove_route(event.connection_id)
            elif kind is events.StreamReset or kind is events.StopSendingReceived:
                self.close("the peer reset a stream", refused=self.state is not UP)
        reason = self.quic.closing_reason()
        if reason is not None and self.state is not CLOSED:
            # An acceptor that closes a handshake refuses it; a dialler that closes one has only given up.
            self._closed(reason, refused=self.dials and self.state is not UP)

    def _on_handshake(self, event: events.HandshakeCompleted) -> None:
        self.state = LinkState.PROVING
        if event.alpn_protocol == HTTP3_ALPN:
            self.http = self._host.serve_http(self.quic)
            if self.http is None:
                self.close(Refusal.NO_HTTP, refused=True)
        if not self.dials:
            return
        assert self.peer is not None
        entry = self._host.roster.get(self.peer)
        if entry is None or entry.expired():
            self.close(Refusal.EXPIRED if entry else Refusal.UNKNOWN_IDENTITY, refused=True)
            return
        # A resumed handshake shows no certificate: the ticket itself came over a pinned connection.
        if not event.session_resumed and self.quic.peer_public_key() != entry.public_key:
            self.close(Refusal.WRONG_CERTIFICATE, refused=True)
            return
        self.resumed = event.early_data_accepted
        self._send_proof(self.peer)

    def _send_proof(self, acceptor: int) -> None:
        identity = self._host.identity
        own = self._host.roster.get(identity.id)
        assert own is not None
        claim = framing.claim_bytes(own.role, identity.id, acceptor)
        exporter = self.quic.export_keying_material(framing.EXPORTER_LABEL, claim, framing.EXPORTER_BYTES)
        signature = identity.sign(framing.signed_bytes(claim, exporter))
        proof = framing.Proof(own.role, identity.id, acceptor, signature)
        self.write_control(framing.proof_frame(proof))

    def _on_stream_data(self, stream_id: int, data: bytes, end_stream: bool) -> None:
        proven = self.dials or self.state is UP
        if not proven and stream_id != CONTROL_STREAM:
            self.close(Refusal.SPOKE_BEFORE_PROOF, refused=True)
            return
        framer = self._framers.get(stream_id)
        if framer is None:
            limit = self._host.settings.frame_bytes_max if proven else UNPROVEN_FRAME_BYTES_MAX
            framer = self._framers[stream_id] = Framer(limit)
        try:
            for body in framer.feed(data):
                if self.state is UP:
                    self._on_frame(body)
                elif self.dials:
                    self._on_frame_of_acceptor(body)
                else:
                    self._on_unproven_frame(body)
                if self.state is CLOSED:
                    return
            if end_stream:
                del self._framers[stream_id]
                if framer.pending_bytes:
                    raise FrameError("a stream ended inside a frame")
        except FrameError as error:
            unproven = not self.dials and self.state is not UP
            self.close(Refusal.MALFORMED_PROOF if unproven else str(error), refused=unproven)

    def _on_http(self, event: events.QuicEvent) -> None:
        """A connection that speaks HTTP/3 proves nothing and never comes up; its requests carry a token."""
        assert self.http is not None
        try:
            self.http.handle(event)
        except Exception:
            self.close("malformed HTTP", refused=True)
        self._host.mark_dirty(self)

    def _on_datagram(self, body: bytes) -> None:
        if self.state is UP and self.peer is not None and body and body[0] > _LINK_FRAME_MAX:
            self._host.deliver(self.peer, body)
        elif not self.dials:
            self.close(Refusal.SPOKE_BEFORE_PROOF, refused=self.state is not UP)
        # A dialler may hear a datagram before the welcome that was sent ahead of it: it is unreliable, so it is gone.

    def _on_frame(self, body: bytes) -> None:
        if body[0] > _LINK_FRAME_MAX:
            assert self.peer is not None
            self._host.deliver(self.peer, body)
        elif body[0] == LinkFrame.PING:
            self.write_control(framing.clock_frame(LinkFrame.PONG, framing.parse_clock(body)))
        elif body[0] == LinkFrame.PONG:
            self.round_trip_s = self._host.clock() - framing.parse_clock(body)
        elif body[0] != LinkFrame.WELCOME:
            raise FrameError(f"link frame {body[0]} is out of place")

    def _on_frame_of_acceptor(self, body: bytes) -> None:
        """The acceptor's certificate is pinned already, so its first message says as much as its welcome."""
        if not self.first_word_at:
            self.first_word_at = self._host.clock()
        if body[0] == LinkFrame.PONG:
            self._on_frame(body)
            return
        assert self.peer is not None
        self.state = UP
        self._host.link_up(self, self.peer)
        if self.state is UP:
            self._on_frame(body)

    def _on_unproven_frame(self, body: bytes) -> None:
        if body[0] == LinkFrame.HELLO:
            self._on_hello(body)
            return
        if body[0] != LinkFrame.PROOF:
            self.close(Refusal.SPOKE_BEFORE_PROOF, refused=True)
            return
        proof = framing.parse_proof(body)
        refusal = self._refusal_of(proof)
        if refusal is not None:
            self.close(refusal, refused=True)
            return
        self.peer = proof.dialler
        self.resumed = bool(self.redeemed_from)
        self.state = UP
        for framer in self._framers.values():
            framer.frame_bytes_max = self._host.settings.frame_bytes_max
        self.write_control(framing.clock_frame(LinkFrame.WELCOME, 0.0))
        self._host.link_up(self, proof.dialler)

    def _on_hello(self, body: bytes) -> None:
        """Early data: read only where a ticket of a proven identity vouches for it; its dialler says it again."""
        if self._hello_heard:
            self.close(Refusal.SPOKE_BEFORE_PROOF, refused=True)
            return
        self._hello_heard = True
        if not self.redeemed_from:
            return
        sent_s, message = framing.parse_hello(body)
        self.write_control(framing.clock_frame(LinkFrame.PONG, sent_s))
        if message and not self._host.deliver_early(self, self.redeemed_from[0], message):
            self.close(Refusal.SPOKE_BEFORE_PROOF, refused=True)

    def _refusal_of(self, proof: framing.Proof) -> str | None:
        entry = self._host.roster.get(proof.dialler)
        if entry is None or proof.dialler == self._host.identity.id:
            return Refusal.UNKNOWN_IDENTITY
        if entry.expired():
            return Refusal.EXPIRED
        if proof.acceptor != self._host.identity.id:
            return Refusal.NOT_ADDRESSED
        if proof.role != entry.role:
            return Refusal.WRONG_ROLE
        claim = framing.claim_bytes(proof.role, proof.dialler, proof.acceptor)
        exporter = self.quic.export_keying_material(framing.EXPORTER_LABEL, claim, framing.EXPORTER_BYTES)
        if not verify_signature(entry.public_key, framing.signed_bytes(claim, exporter), proof.signature):
            return Refusal.WRONG_SIGNATURE
        if any(owner != proof.dialler for owner in self.redeemed_from):
            return Refusal.TICKET_MISMATCH
        return None

    # Sending

    def send_hello(self, message: bytes) -> None:
        """Put the hello, with an idempotent message or none, into early data (only of use with a session ticket)."""
        self.write_control(framing.hello_frame(self._host.clock(), message))

    def write_control(self, data: bytes) -> None:
        """A link frame: it is small, so it passes by the queue."""
        self.quic.send_stream_data(CONTROL_STREAM, data)
        self.unacknowledged_bytes += len(data)
        self._host.mark_dirty(self)

    def post(self, kind: StreamKind, round_id: int, data: bytes) -> bool:
        """Send a framed message, or queue it while the peer is slow; False when the queue is full and it was shed."""
        settings = self._host.settings
        if self.queue or not self._window_takes(len(data)):
            too_many = len(self.queue) >= settings.queue_messages_max
            if too_many or self.queued_bytes + len(data) > settings.queue_bytes_max:
                return False
            self.queue.append((kind, round_id, data))
            self.queued_bytes += len(data)
        else:
            self._write(kind, round_id, data)
        self._host.mark_dirty(self)
        return True

    def _window_takes(self, size: int) -> bool:
        # The count of unacknowledged bytes is an upper bound; it is made exact only when it would matter.
        window = self._host.settings.window_bytes
        if self.unacknowledged_bytes + size > window:
            self.unacknowledged_bytes = self.quic.unacknowledged_bytes()
        # A message larger than the window goes when most of the window is free.
        return self.unacknowledged_bytes + size <= window or self.unacknowledged_bytes <= window // 4

    def _write(self, kind: StreamKind, round_id: int, data: bytes) -> None:
        quic = self.quic
        if kind is _DIGEST and self._host.settings.multiplexing:
            # Unreliable: the next digest says it all again.
            body = data[framing.LENGTH_BYTES :]
            if quic.takes_datagram(len(body)):
                quic.send_datagram_frame(body)
                return
            kind = StreamKind.GOSSIP
        self.unacknowledged_bytes += len(data)
        if not self._host.settings.multiplexing:
            quic.send_stream_data(CONTROL_STREAM, data)
        elif round_id and kind <= _OPINION:
            # Finished at once: the cost of every packet grows with the streams that are open.
            quic.send_stream_data(quic.get_next_available_stream_id(is_unidirectional=True), data, end_stream=True)
        else:
            stream_id = self._kind_streams.get(kind)
            if stream_id is None:
                stream_id = self._kind_streams[kind] = quic.get_next_available_stream_id(is_unidirectional=True)
            quic.send_stream_data(stream_id, data)

    def transmit(self, send: Callable[[bytes, Address], object]) -> None:
        """Build every datagram that may leave now and hand them to `send`."""
        now = self._host.clock()
        while self.queue and self._window_takes(len(self.queue[0][2])):
            kind, round_id, data = self.queue.popleft()
            self.queued_bytes -= len(data)
            self._write(kind, round_id, data)
        datagrams = self.quic.datagrams_to_send(now)
        if not datagrams:
            return
        self.last_sent_at = now
        self.datagrams_sent += len(datagrams)
        for data, address in datagrams:
            self.bytes_sent += len(data)
            send(data, address)

    def rests(self) -> bool:
        """Whether what arrived leaves nothing to send but what is marked already, and no timer to set."""
        if self.state is not UP or self.queue or self.timer is None:
            return False
        return self.quic.rests_until(self.timer_at)

    # Heartbeat and end

    def ping_if_idle(self, now: float, heartbeat_s: float) -> None:
        """Ping when nothing left for a heartbeat, and now and then for the round trip's sake."""
        idle_s = now - max(self.last_ping_at, self.last_sent_at)
        if idle_s >= heartbeat_s or now - self.last_ping_at >= 5 * heartbeat_s:
            self.last_ping_at = now
            self.write_control(framing.clock_frame(LinkFrame.PING, now))

    def close(self, reason: str, *, refused: bool) -> None:
        """Close with a reason that the peer gets to see."""
        if self.state is CLOSED:
            return
        self.quic.close(error_code=APPLICATION_ERROR, reason_phrase=reason)
        self._host.mark_dirty(self)
        self._closed(reason, refused)

    def _closed(self, reason: str, refused: bool) -> None:
        self.state = CLOSED
        self._framers.clear()
        self._host.link_closed(self, reason, refused)
