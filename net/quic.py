"""The endpoint: one UDP socket per process that dials and accepts, and one proven link per peer.

Our own asyncio shell over aioquic's sans-I/O connection: events are handled where they arise, each connection transmits
once per turn of the loop however much was written, timers are re-armed only to come earlier.

Who dials: a monitor dials whom it likes; between all others the lower id dials, so a node dials the gateway. The side
that does not dial waits; `dial` then only says that the peer is wanted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from aioquic import tls

from net import framing
from net.admission import Admitted
from net.http import Http3Server
from net.identity import MONITOR_ROLES
from net.link import CLOSED, UP, Link, stream_kind
from net.link_model import PLAIN
from net.messages import FetchEntries, GossipDigest, Message, ReadIndex
from net.peer import Peer
from net.quic_configuration import CONNECTION_ID_BYTES
from net.quic_connection import LinkConnection, initial_header
from net.quic_peers import PeerLinks
from net.transport import Instrument, LinkStatus, PeerEvent, PeerEventKind, TransportSettings
from net.udp import Address, EmulatedSender
from net.wire.codec import CodecKind, WireError, decode, encode

__all__ = ["Endpoint", "Instrument", "LinkStatus", "PeerEvent", "PeerEventKind", "TransportSettings"]

REFUSALS_TOLD_MAX: Final = 8
DATAGRAMS_PER_TURN: Final = 64
"""Read from the socket before the loop gets another turn."""
IDEMPOTENT: Final = (GossipDigest, FetchEntries, ReadIndex)
"""Questions: hearing one twice does no harm, so they may ride in early data."""
_READ_BYTES_MIN: Final = 8_192
_ACKNOWLEDGED_POLL_S: Final = 0.005

# aioquic warns about every malformed packet of a stranger. Refusals are counted and told by name instead.
logging.getLogger("quic").addHandler(logging.NullHandler())


class Endpoint(PeerLinks):
    """Dials, accepts, sends and delivers. Belongs to one event loop; nothing here is thread-safe.

    `on_message(peer_id, message)` and `on_peer(event)` run inside the loop and must not block. What they raise goes to
    the loop's exception handler; the link lives on.
    """

    # Life

    async def start(self) -> tuple[str, int]:
        """Bind and listen; gives the bound address. Raises OSError when the address is taken or not ours."""
        read_bytes = max(_READ_BYTES_MIN, self.settings.loopback_datagram_bytes, self.settings.datagram_bytes)
        self._udp = self._open_socket(*self._listen, self.settings.socket_buffer_bytes, read_bytes)
        self._open = True
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._udp.fileno(), self._readable)
        self._arm_sweep()
        for peer in self._peers.values():
            if peer.dials:
                self._schedule_dial(peer, 0.0)
        return self._udp.bound

    async def delivered(self, timeout_s: float) -> bool:
        """Wait until the peers have acknowledged all that was sent to them: what is under way when a link is closed is
        lost. False where one of them has not in time.
        """
        deadline = time.monotonic() + timeout_s
        while any(link.queue or link.quic.unacknowledged_bytes() for link in self._links):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(_ACKNOWLEDGED_POLL_S)
        return True

    async def close(self) -> None:
        """Close every link with a word to its peer, then the socket."""
        if self._loop is None or self._udp is None or not self._open:
            return
        for peer in self._peers.values():
            peer.dials = False
            if peer.redial is not None:
                peer.redial.cancel()
        for task in self._resolving:
            task.cancel()
        for link in list(self._links):
            link.close("the peer is leaving", refused=False)
        self.flush()
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        self._loop.remove_reader(self._udp.fileno())
        self._udp.close()
        self._open = False
        await asyncio.sleep(0)

    def set_codec(self, kind: CodecKind) -> None:
        """What is written from now on."""
        self._codec = kind
        self.settings = replace(self.settings, codec=kind)

    def set_multiplexing(self, on: bool) -> None:
        """How messages are spread over streams from now on; those around the switch may pass each other."""
        self.settings = replace(self.settings, multiplexing=on)

    def set_zero_rtt(self, on: bool) -> None:
        """Whether the next reconnects resume. Tickets are collected all the same."""
        self.settings = replace(self.settings, zero_rtt=on)

    # Counts

    @property
    def retries_sent(self) -> int:
        """First datagrams of strangers that were answered with a Retry, before any TLS work."""
        return self._admission.retries_sent

    def turned_away(self) -> tuple[tuple[str, int], ...]:
        """What strangers and malformed bytes came to, (what, how often); only what happened at all."""
        counts = (
            ("answered with Retry", self.retries_sent),
            ("strangers shed", self.strangers_shed),
            ("malformed messages", self.messages_malformed),
            # a reason may be a peer's own words
            *self.refusals.most_common(REFUSALS_TOLD_MAX),
        )
        return tuple((what, count) for what, count in counts if count)

    @property
    def strangers_shed(self) -> int:
        """Connections of strangers that were not begun, because they were too many."""
        return self._admission.strangers_shed

    @property
    def datagrams_lost(self) -> int:
        """Lost on purpose, on emulated links."""
        return sum(sender.lost for sender in self._emulated.values())

    @property
    def datagrams_sent(self) -> int:
        """UDP datagrams handed to the kernel."""
        return self._udp.datagrams_sent if self._udp else 0

    @property
    def datagrams_received(self) -> int:
        """UDP datagrams read, strangers' included."""
        return self._udp.datagrams_received if self._udp else 0

    @property
    def bytes_sent(self) -> int:
        """UDP payload bytes."""
        return self._udp.bytes_sent if self._udp else 0

    @property
    def bytes_received(self) -> int:
        """UDP payload bytes."""
        return self._udp.bytes_received if self._udp else 0

    # Sending

    def send(self, peer_id: int, message: Message, *, round_id: int = 0) -> bool:
        """Encode and send to one peer; False when it was shed, because the peer is absent or too slow.

        `round_id` names the in-flight round of a consensus message or opinion (0: none); with multiplexing on it gets a
        stream of its own. Raises ValueError for an unknown peer, WireError for a message that does not fit the wire.
        """
        peer = self._peer(peer_id)
        if peer.link is None and peer.early is None:
            peer.shed += 1
            return False
        data = self._encode(message)
        return self._post([peer], message, data, round_id) == 1

    def broadcast(self, peer_ids: Iterable[int], message: Message, *, round_id: int = 0) -> None:
        """Encode once, send to all; a peer that is absent or too slow sheds it, counted in its status."""
        peers = [self._peer(peer_id) for peer_id in peer_ids]
        self._post(peers, message, self._encode(message), round_id)

    def _encode(self, message: Message) -> bytes:
        if self.instrument is None:
            return framing.frame(encode(message, self._codec))
        start = time.perf_counter_ns()
        data = framing.frame(encode(message, self._codec))
        self.instrument.serialized(start, time.perf_counter_ns())
        return data

    def _post(self, peers: list[Peer], message: Message, data: bytes, round_id: int) -> int:
        start = time.perf_counter_ns() if self.instrument is not None else 0
        kind = stream_kind(message)
        taken = 0
        for peer in peers:
            link = peer.early or peer.link
            if link is not None and link.post(kind, round_id, data):
                peer.messages_sent += 1
                taken += 1
            else:
                peer.shed += 1
        self.messages_sent += taken
        if self.instrument is not None:
            self.instrument.sent(start, time.perf_counter_ns())
        return taken

    def _sender(self, link: Link) -> Callable[[bytes, Address], object]:
        """The socket, or the emulated link on the way to the other side where it is known who that is."""
        assert self._udp is not None
        assert self._loop is not None
        peer = self._member_at(link.address) if link.peer is None else self._peers[link.peer]
        if peer is None or peer.entry.role in MONITOR_ROLES:
            return self._udp.send
        model = self.settings.links.between(self.identity.id, peer.entry.id)
        if model == PLAIN:
            return self._udp.send
        sender = self._emulated.get(peer.entry.id)
        if sender is None:
            sender = EmulatedSender(model, self._udp, self._loop, self._random)
            self._emulated[peer.entry.id] = sender
        return sender.send

    def mark_dirty(self, link: Link) -> None:
        """Transmit `link` at the end of this turn of the loop."""
        if link.dirty:
            return
        link.dirty = True
        self._dirty.append(link)
        if not self._flush_due and self._loop is not None:
            self._flush_due = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Transmit now everything that was written in this turn, instead of at its end."""
        self._flush_due = False
        if not self._dirty or self._udp is None or not self._open:
            return
        start = time.perf_counter_ns() if self.instrument is not None else 0
        dirty, self._dirty = self._dirty, []
        for link in dirty:
            link.dirty = False
            try:
                link.transmit(self._udp.send if not self._emulates else self._sender(link))
            except Exception as error:
                # Others wait behind it.
                self._report(error, "a connection broke as it was to send")
                if link.state is not CLOSED:
                    link.close("internal error", refused=link.state is not UP)
                    continue
            if link.state is CLOSED:
                self._forget(link)
            else:
                self._arm_timer(link)
        if self.instrument is not None:
            self.instrument.sent(start, time.perf_counter_ns())

    # Receiving

    def _readable(self) -> None:
        assert self._udp is not None
        # What is set off here leaves at the end, together: the loop need not call for it another time.
        self._flush_due = True
        try:
            self._take_in(self._udp.receive(DATAGRAMS_PER_TURN))
        finally:
            self.flush()

    def _take_in(self, datagrams: Iterable[tuple[bytes, Address]]) -> None:
        for data, address in datagrams:
            link = self._route(data, address)
            if link is None:
                self.datagrams_dropped += 1
                continue
            link.datagrams_received += 1
            link.bytes_received += len(data)
            try:
                link.quic.receive_datagram(data, address, self.clock())
            except Exception as error:
                # A stranger's bytes run through a whole TLS and QUIC stack: whatever breaks there ends that link only.
                self._report(error, "a received datagram broke its connection")
                link.close("internal error", refused=link.state is not UP)
            self._handle_events(link)
            if not link.rests():
                self.mark_dirty(link)

    def _route(self, data: bytes, address: Address) -> Link | None:
        if not data:
            return None
        if not data[0] & 0x80:
            return self._routes.get(data[1 : 1 + CONNECTION_ID_BYTES])
        if len(data) < 6:
            return None
        link = self._routes.get(data[6 : 6 + data[5]])
        return link if link is not None else self._accept(data, address)

    def _accept(self, data: bytes, address: Address) -> Link | None:
        header = initial_header(data, CONNECTION_ID_BYTES)
        if header is None or self._unproven >= self.settings.unproven_max:
            return None
        is_member = self._member_at(address) is not None
        admitted = self._admission.decide(
            header, address, is_member=is_member, unproven=self._unproven, now=self.clock()
        )
        if not isinstance(admitted, Admitted):
            if admitted is not None and self._udp is not None:
                self._udp.send(admitted, address)
            return None
        issued: list[tls.SessionTicket] = []
        redeemed: list[int] = []

        def redeem(ticket: bytes) -> tls.SessionTicket | None:
            held = self._redeem(ticket) if self.settings.zero_rtt else None
            if held is None:
                return None
            redeemed.append(held[1])
            return held[0]

        quic = LinkConnection(
            configuration=self._configurations.acceptor(address),
            ack_delay_s=self.settings.ack_delay_s,
            original_destination_connection_id=admitted.original_destination_id,
            retry_source_connection_id=admitted.retry_source_id,
            session_ticket_fetcher=redeem,
            session_ticket_handler=issued.append,
        )
        link = Link(self, quic, address, dials=False, peer=None, tickets=issued, redeemed_from=redeemed)
        self._unproven += 1
        self._links.add(link)
        self._routes[header.destination_cid] = self._routes[quic.host_cid] = link
        return link

    def _member_at(self, address: Address) -> Peer | None:
        return next((peer for peer in self._peers.values() if peer.is_at(address)), None)

    def deliver(self, peer: int, body: bytes) -> None:
        """A frame of a proven peer: decode it and hand it up."""
        start = time.perf_counter_ns() if self.instrument is not None else 0
        try:
            message = decode(body)
        except WireError:
            self.messages_malformed += 1
            return
        if self.instrument is not None:
            self.instrument.serialized(start, time.perf_counter_ns())
        self.messages_received += 1
        self._peers[peer].heard()
        self._hand_up(peer, message)

    def deliver_early(self, link: Link, peer_id: int, body: bytes) -> bool:
        """A message in early data, under a ticket of `peer_id`; False where it is none that may be heard twice.

        What is answered from within `on_message` leaves at once, before the proof.
        """
        try:
            message = decode(body)
        except WireError:
            self.messages_malformed += 1
            return False
        if not isinstance(message, IDEMPOTENT):
            return False
        peer = self._peers[peer_id]
        self.messages_received += 1
        peer.early = link
        try:
            self._hand_up(peer_id, message)
        finally:
            peer.early = None
        return True

    def serve_http(self, quic: LinkConnection) -> Http3Server | None:
        """For a connection that asked for HTTP/3; None where nothing is served."""
        return None if self.http_answer is None else Http3Server(quic, self.http_answer)

    def _hand_up(self, peer: int, message: Message) -> None:
        try:
            self._on_message(peer, message)
        except Exception as error:
            self._report(error, f"on_message raised on a {type(message).__name__} of peer {peer}")
