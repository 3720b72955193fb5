"""The endpoint: one UDP socket per process that dials and accepts, and one proven link per peer.

Our own asyncio shell over aioquic's sans-I/O connection: events are handled where they arise, each connection transmits
once per turn of the loop however much was written, timers are re-armed only to come earlier.

Who dials: a monitor dials whom it likes; between all others the lower id dials, so a node dials the gateway. The side
that does not dial waits; `dial` then only says that the peer is wanted.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Final

from aioquic import tls

from net import framing
from net.admission import Admission, Admitted
from net.http import Answerer, Http3Server
from net.identity import MONITOR_ROLES, Identity, Roster, RosterEntry
from net.link import EARLY_MESSAGE_BYTES_MAX, Link, LinkState, Refusal, stream_kind
from net.link_model import PLAIN
from net.messages import FetchEntries, GossipDigest, Message, ReadIndex
from net.peer import Peer
from net.quic_configuration import CONNECTION_ID_BYTES, Configurations
from net.quic_connection import LinkConnection, initial_header
from net.tickets import TicketStore
from net.transport import Instrument, LinkStatus, PeerEvent, PeerEventKind, TransportSettings
from net.udp import Address, DatagramSocket, EmulatedSender, UdpSocket, numeric_address
from net.wire.codec import CodecKind, WireError, decode, encode

__all__ = ["Endpoint", "Instrument", "LinkStatus", "PeerEvent", "PeerEventKind", "TransportSettings"]

DATAGRAMS_PER_TURN: Final = 64
"""Read from the socket before the loop gets another turn."""
IDEMPOTENT: Final = (GossipDigest, FetchEntries, ReadIndex)
"""Questions: hearing one twice does no harm, so they may ride in early data."""
_READ_BYTES_MIN: Final = 8_192
_TIMER_SLACK_S: Final = 5e-5

# aioquic warns about every malformed packet of a stranger. Refusals are counted and told by name instead.
logging.getLogger("quic").addHandler(logging.NullHandler())


class Endpoint:
    """Dials, accepts, sends and delivers. Belongs to one event loop; nothing here is thread-safe.

    `on_message(peer_id, message)` and `on_peer(event)` run inside the loop and must not block. What they raise goes to
    the loop's exception handler; the link lives on.
    """

    def __init__(
        self,
        identity: Identity,
        roster: Roster,
        listen: tuple[str, int],
        settings: TransportSettings,
        on_message: Callable[[int, Message], None],
        on_peer: Callable[[PeerEvent], None],
        instrument: Instrument | None = None,
        *,
        tickets: Path | None = None,
        open_socket: Callable[[str, int, int, int], DatagramSocket] = UdpSocket,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`listen` is host and port, port 0 for any; `tickets` the folder that keeps session tickets over a restart.

        Raises ValueError when the identity is not the roster's, OSError where the folder cannot be used.
        """
        own = roster.get(identity.id)
        if own is None or own.public_key != identity.public_key:
            raise ValueError(f"identity {identity.id} with this key is not in the roster; add its public key")
        self.identity = identity
        self.roster = roster
        self.settings = settings
        self.clock = clock
        self.datagrams_dropped = 0
        """Received but of no connection: strangers, or a connection that is gone."""
        self.messages_sent = 0
        self.messages_received = 0
        self.messages_malformed = 0
        self.refusals: Counter[str] = Counter()
        """Refused handshakes by reason, both those refused here and those of our dials."""
        self.http_answer: Answerer | None = None
        """Answers requests over HTTP/3 on the same port; None: HTTP/3 is refused."""
        self.early_message: Callable[[int], Message | None] = lambda peer: None
        """An idempotent message to `peer` that may ride in early data, where a dial resumes."""
        self.instrument = instrument
        self._own = own
        self._listen = listen
        self._on_message = on_message
        self._on_peer = on_peer
        self._peers = {entry.id: Peer(entry) for entry in roster if entry.id != identity.id}
        self._routes: dict[bytes, Link] = {}
        self._links: set[Link] = set()
        self._dirty: list[Link] = []
        self._flush_due = False
        self._unproven = 0
        self._tickets = TicketStore(tickets)
        self._admission = Admission(settings.unproven_max)
        self._random = Random()
        self._emulated: dict[int, EmulatedSender] = {}
        self._configurations = Configurations(identity, settings)
        self._open_socket = open_socket
        self._udp: DatagramSocket | None = None
        self._open = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._sweep_due_at = 0.0
        self._resolving: set[asyncio.Task[None]] = set()
        self._codec = settings.codec
        self._emulates = bool(settings.links)

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

    # Peers

    def dial(self, peer_id: int, address: Address | None = None) -> None:
        """Keep connected to `peer_id` from now on, at `address` or the roster's.

        Where the other side is the one that dials, this only remembers the address. Raises ValueError for a peer that
        is not in the roster, or has no address.
        """
        peer = self._peer(peer_id)
        if address is not None:
            peer.address = address
        if not self._dials(peer.entry):
            return
        if peer.address is None:
            raise ValueError(f"peer {peer_id} has no address in the roster; give one")
        peer.dials = True
        peer.backoff_s = 0.0
        if self._loop is not None and peer.link is None and peer.attempt is None:
            self._schedule_dial(peer, 0.0)

    def _dials(self, entry: RosterEntry) -> bool:
        if self._own.role in MONITOR_ROLES:
            return True
        return entry.role not in MONITOR_ROLES and self.identity.id < entry.id

    def reconnect(self, peer_id: int) -> None:
        """Drop the link to `peer_id` and dial again at once (where this side dials)."""
        peer = self._peer(peer_id)
        if peer.link is not None:
            peer.link.close("reconnecting", refused=False)

    def links(self) -> tuple[LinkStatus, ...]:
        """Every peer of the roster, by id, connected or not."""
        return tuple(self._peers[peer_id].status() for peer_id in sorted(self._peers))

    def connected(self, peer_id: int) -> bool:
        """Whether a proven link to `peer_id` is up."""
        return self._peer(peer_id).link is not None

    def _peer(self, peer_id: int) -> Peer:
        try:
            return self._peers[peer_id]
        except KeyError:
            raise ValueError(f"peer {peer_id} is not in the roster") from None

    @property
    def retries_sent(self) -> int:
        """First datagrams of strangers that were answered with a Retry, before any TLS work."""
        return self._admission.retries_sent

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
            link.transmit(self._udp.send if not self._emulates else self._sender(link))
            if link.state is LinkState.CLOSED:
                self._forget(link)
            else:
                self._arm_timer(link)
        if self.instrument is not None:
            self.instrument.sent(start, time.perf_counter_ns())

    # Receiving

    def _readable(self) -> None:
        assert self._udp is not None
        now = self.clock()
        touched: list[Link] = []
        for data, address in self._udp.receive(DATAGRAMS_PER_TURN):
            link = self._route(data, address)
            if link is None:
                self.datagrams_dropped += 1
                continue
            link.datagrams_received += 1
            link.bytes_received += len(data)
            try:
                link.quic.receive_datagram(data, address, now)
            except Exception as error:
                # A stranger's bytes run through a whole TLS and QUIC stack: whatever breaks there ends that link only.
                self._report(error, "a received datagram broke its connection")
                link.close("internal error", refused=link.state is not LinkState.UP)
            touched.append(link)
        # What the messages set off in this turn of the loop leaves together with what is due anyway.
        for link in dict.fromkeys(touched):
            link.handle_events()
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
            held = self._tickets.redeem(ticket) if self.settings.zero_rtt else None
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

    def _tell(self, event: PeerEvent) -> None:
        try:
            self._on_peer(event)
        except Exception as error:
            self._report(error, f"on_peer raised on {event}")

    def _report(self, error: Exception, text: str) -> None:
        assert self._loop is not None
        self._loop.call_exception_handler({"message": text, "exception": error})

    # Links coming and going

    def _schedule_dial(self, peer: Peer, delay_s: float) -> None:
        assert self._loop is not None
        if peer.redial is not None:
            peer.redial.cancel()
        peer.redial = self._loop.call_later(delay_s, self._dial_now, peer)

    def _dial_now(self, peer: Peer) -> None:
        assert self._loop is not None
        assert peer.address is not None
        peer.redial = None
        numeric = numeric_address(peer.address)
        if numeric is not None:
            self._connect(peer, numeric)
            return
        task = self._loop.create_task(self._resolve_and_connect(peer, peer.address))
        self._resolving.add(task)
        task.add_done_callback(self._resolving.discard)

    async def _resolve_and_connect(self, peer: Peer, address: Address) -> None:
        assert self._loop is not None
        try:
            found = await self._loop.getaddrinfo(*address, type=socket.SOCK_DGRAM)
        except OSError as error:
            peer.refused = f"{address[0]}: {error.strerror}"
            self._schedule_dial(peer, peer.next_backoff_s(self.settings))
            return
        self._connect(peer, found[0][4])

    def _connect(self, peer: Peer, address: Address) -> None:
        if not self._open or not peer.dials or peer.link is not None or peer.attempt is not None:
            return
        ticket = self._tickets.take(peer.entry.id) if self.settings.zero_rtt else None
        tickets: list[tls.SessionTicket] = []

        def received(fresh: tls.SessionTicket) -> None:
            tickets.append(fresh)
            if link.state is LinkState.UP:
                self._tickets.hold(peer.entry.id, fresh)

        quic = LinkConnection(
            configuration=self._configurations.dialler(address, peer.entry.id, ticket),
            ack_delay_s=self.settings.ack_delay_s,
            session_ticket_handler=received,
        )
        link = peer.attempt = Link(self, quic, address, dials=True, peer=peer.entry.id, tickets=tickets)
        quic.connect(address, now=self.clock())
        self._links.add(link)
        self._routes[quic.host_cid] = link
        if ticket is not None:
            early = self.early_message(peer.entry.id)
            data = b"" if early is None else encode(early, self._codec)
            link.send_hello(data if len(data) <= EARLY_MESSAGE_BYTES_MAX else b"")
            link.unanswered_ticket = ticket
        self.mark_dirty(link)

    def add_route(self, connection_id: bytes, link: Link) -> None:
        """The connection made up another id for itself."""
        self._routes[connection_id] = link

    def remove_route(self, connection_id: bytes) -> None:
        """The peer no longer uses this id."""
        self._routes.pop(connection_id, None)

    def link_up(self, link: Link, peer_id: int) -> None:
        """`link` is proven. It replaces an older one: a peer that was killed and is back proves itself anew."""
        peer = self._peers[peer_id]
        if not link.dials:
            self._unproven -= 1
            self._tickets.keep(link.tickets, peer_id)
        elif link.tickets:
            # Not before: an impostor can slip in a ticket before its certificate is looked at, and a resumed handshake
            # shows none.
            self._tickets.hold(peer_id, link.tickets[-1])
        old, peer.link = peer.link, link
        if peer.attempt is link:
            peer.attempt = None
        if old is not None:
            reason = "replaced by a newer connection"
            old.close(reason, refused=False)
            self._tell(PeerEvent(PeerEventKind.DISCONNECTED, peer_id, reason))
        peer.up(link)
        if link.dials and not link.resumed:
            self._repeat_early_message(peer_id)
        self._tell(PeerEvent(PeerEventKind.CONNECTED, peer_id, "", link.resumed, link.address[:2]))

    def link_closed(self, link: Link, reason: str, refused: bool) -> None:
        """`link` is over, for `reason`."""
        if not link.dials and link.peer is None:
            self._unproven -= 1
        peer = None if link.peer is None else self._peers[link.peer]
        if refused:
            self.refusals[reason] += 1
            if peer is not None:
                peer.refused = reason
            self._tell(PeerEvent(PeerEventKind.REFUSED, link.peer, reason, False, link.address[:2]))
        if peer is None:
            return
        if peer.attempt is link:
            peer.attempt = None
            if link.unanswered_ticket is not None and not link.datagrams_received:
                # Nobody was there: the ticket is as good as before.
                self._tickets.hold(peer.entry.id, link.unanswered_ticket)
        if peer.link is link:
            peer.link = None
            self._tell(PeerEvent(PeerEventKind.DISCONNECTED, link.peer, reason))
        if peer.dials and peer.link is None and peer.attempt is None:
            self._schedule_dial(peer, peer.next_backoff_s(self.settings))

    def _repeat_early_message(self, peer_id: int) -> None:
        """What early data would have carried, over the connection that did not take any."""
        early = self.early_message(peer_id) if self.settings.zero_rtt else None
        if early is not None:
            self.send(peer_id, early)

    def _forget(self, link: Link) -> None:
        """The last datagram of a closed link has left."""
        if link.timer is not None:
            link.timer.cancel()
            link.timer = None
        self._links.discard(link)
        for connection_id in [known for known, owner in self._routes.items() if owner is link]:
            del self._routes[connection_id]
        if link.peer is not None:
            self._peers[link.peer].absorb(link)

    # Time

    def _arm_timer(self, link: Link) -> None:
        """Lazy: a timer is moved only to come earlier; one that fires too early arms itself again."""
        assert self._loop is not None
        due = link.quic.get_timer()
        if due is None or (link.timer is not None and due >= link.timer_at - 1e-6):
            return
        if link.timer is not None:
            link.timer.cancel()
        link.timer_at = due
        link.timer = self._loop.call_later(max(0.0, due - self.clock()), self._timer_fired, link)

    def _timer_fired(self, link: Link) -> None:
        link.timer = None
        due = link.quic.get_timer()
        if due is None:
            return
        now = self.clock()
        if due > now + _TIMER_SLACK_S:
            self._arm_timer(link)
            return
        link.quic.handle_timer(now=max(due, now))
        link.handle_events()
        self.mark_dirty(link)
        self.flush()

    def _arm_sweep(self) -> None:
        assert self._loop is not None
        period_s = self.settings.heartbeat_s / 2
        self._sweep_due_at = self.clock() + period_s
        self._sweep_timer = self._loop.call_later(period_s, self._sweep)

    def _sweep(self) -> None:
        """Heartbeats, dead peers, and handshakes that lead nowhere."""
        now = self.clock()
        late_s = now - self._sweep_due_at
        settings = self.settings
        for link in list(self._links):
            if late_s > settings.heartbeat_s / 2:
                # This process stalled: what the peers said meanwhile is still in the socket. The stall is not theirs.
                link.last_heard_at += late_s
                link.started_at += late_s
            if link.state is LinkState.UP:
                if now - link.last_heard_at > settings.dead_after_s:
                    link.close(f"no heartbeat for {settings.dead_after_s:g} s", refused=False)
                else:
                    link.ping_if_idle(now)
            elif link.dials:
                answered = link.datagrams_received > 0
                if now - link.started_at > (settings.handshake_s if answered else settings.unanswered_dial_s):
                    link.close(Refusal.NO_ANSWER, refused=False)
            elif now - link.started_at > settings.proof_s:
                link.close(Refusal.NO_PROOF if link.http is None else "served", refused=link.http is None)
        self.flush()
        self._arm_sweep()
