"""The peers of an endpoint: who dials whom, how links come and go, and the timers that say when.

`net.quic.Endpoint` is this with a socket to send and receive on.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final

from aioquic import tls

from net.admission import Admission
from net.http import Answerer, Http3Server
from net.identity import MONITOR_ROLES, Identity, Roster, RosterEntry
from net.link import EARLY_MESSAGE_BYTES_MAX, UP, Link, Refusal
from net.messages import Message
from net.peer import Peer
from net.quic_configuration import Configurations
from net.quic_connection import LinkConnection
from net.tickets import TicketStore
from net.transport import Instrument, LinkStatus, PeerEvent, PeerEventKind, TransportSettings
from net.udp import Address, DatagramSocket, EmulatedSender, UdpSocket, numeric_address
from net.wire.codec import encode

_TIMER_SLACK_S: Final = 5e-5


class PeerLinks:
    """One proven link per peer, made, replaced, watched and closed."""

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

    def mark_dirty(self, link: Link) -> None:
        raise NotImplementedError

    def flush(self) -> None:
        raise NotImplementedError

    def send(self, peer_id: int, message: Message, *, round_id: int = 0) -> bool:
        raise NotImplementedError

    def deliver(self, peer: int, body: bytes) -> None:
        raise NotImplementedError

    def deliver_early(self, link: Link, peer_id: int, body: bytes) -> bool:
        raise NotImplementedError

    def serve_http(self, quic: LinkConnection) -> Http3Server | None:
        raise NotImplementedError

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
            if link.state is UP:
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

    def _handle_events(self, link: Link) -> None:
        """What breaks while a link acts on what it heard ends that link only: others wait behind it."""
        try:
            link.handle_events()
        except Exception as error:
            self._report(error, "an event of a connection broke it")
            link.close("internal error", refused=link.state is not UP)

    def _redeem(self, ticket: bytes) -> tuple[tls.SessionTicket, int] | None:
        """The ticket and whose it is, once, where that is a member still: tickets outlive a restart, with whose roster
        a member may be gone. Whose entry has run out proves nothing any more, so nothing is read under its ticket."""
        held = self._tickets.redeem(ticket)
        peer = None if held is None else self._peers.get(held[1])
        return None if peer is None or peer.entry.expired() else held

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
        if link.timer is not None and link.quic.rests_until(link.timer_at):
            return
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
        self._handle_events(link)
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
            if link.state is UP:
                heartbeat_s, dead_after_s = self._patience(link)
                if now - link.last_heard_at > dead_after_s:
                    link.close(f"no heartbeat for {dead_after_s:g} s", refused=False)
                else:
                    link.ping_if_idle(now, heartbeat_s)
            elif link.dials:
                answered = link.datagrams_received > 0
                if now - link.started_at > (settings.handshake_s if answered else settings.unanswered_dial_s):
                    link.close(Refusal.NO_ANSWER, refused=False)
            elif now - link.started_at > settings.proof_s:
                link.close(Refusal.NO_PROOF if link.http is None else "served", refused=link.http is None)
        self.flush()
        self._arm_sweep()

    def _patience(self, link: Link) -> tuple[float, float]:
        """Seconds from one heartbeat to the next, and of silence until the peer counts as gone."""
        settings = self.settings
        if link.peer is not None and self._peers[link.peer].entry.role in MONITOR_ROLES:
            return settings.monitor_heartbeat_s, settings.monitor_dead_after_s
        return settings.heartbeat_s, settings.dead_after_s
