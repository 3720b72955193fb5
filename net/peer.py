"""What an endpoint keeps of a peer while connections come and go."""

from __future__ import annotations

import asyncio

from aioquic import tls

from net.identity import RosterEntry
from net.link import Link
from net.transport import LinkStatus, TransportSettings


class Peer:
    """One member of the roster, its present link or attempt, and the counters of all its connections."""

    __slots__ = (
        "address",
        "attempt",
        "backoff_s",
        "bytes_received",
        "bytes_sent",
        "connections",
        "datagrams_received",
        "datagrams_sent",
        "dials",
        "entry",
        "link",
        "reconnect_ms",
        "redial",
        "refused",
        "shed",
        "ticket",
    )

    def __init__(self, entry: RosterEntry) -> None:
        self.entry = entry
        self.address = entry.address
        self.dials = False
        self.link: Link | None = None
        self.attempt: Link | None = None
        self.redial: asyncio.TimerHandle | None = None
        self.backoff_s = 0.0
        self.ticket: tls.SessionTicket | None = None
        self.connections = 0
        self.reconnect_ms = 0.0
        self.shed = 0
        self.refused = ""
        self.datagrams_sent = self.datagrams_received = self.bytes_sent = self.bytes_received = 0

    def absorb(self, link: Link) -> None:
        """Keep the counters of a connection that is over."""
        self.datagrams_sent += link.datagrams_sent
        self.datagrams_received += link.datagrams_received
        self.bytes_sent += link.bytes_sent
        self.bytes_received += link.bytes_received

    def up(self, link: Link) -> None:
        """`link` is proven and is this peer's link from now on."""
        self.refused = ""
        self.backoff_s = 0.0
        self.connections += 1
        self.reconnect_ms = (link.first_word_at - link.started_at) * 1e3 if link.dials else 0.0

    def keep_ticket_of(self, link: Link) -> None:
        """Remember the newest ticket of a link that was up.

        Only of such a one: an impostor can slip in a ticket before its certificate is looked at, and a resumed
        handshake shows no certificate.
        """
        if link.dials and link.tickets:
            self.ticket = link.tickets[-1]

    def take_ticket(self) -> tls.SessionTicket | None:
        """The ticket for the next dial; it is used once."""
        ticket, self.ticket = self.ticket, None
        return ticket

    def status(self) -> LinkStatus:
        """What the screens see."""
        link = self.link
        return LinkStatus(
            peer=self.entry.id,
            connected=link is not None,
            round_trip_ms=link.round_trip_s * 1e3 if link else 0.0,
            resumed=link.resumed if link else False,
            shed=self.shed,
            refused=self.refused,
            reconnects=max(0, self.connections - 1),
            reconnect_ms=self.reconnect_ms,
            queued_messages=len(link.queue) if link else 0,
            queued_bytes=link.queued_bytes if link else 0,
            open_streams=link.quic.open_streams() if link else 0,
            datagrams_sent=self.datagrams_sent + (link.datagrams_sent if link else 0),
            datagrams_received=self.datagrams_received + (link.datagrams_received if link else 0),
            bytes_sent=self.bytes_sent + (link.bytes_sent if link else 0),
            bytes_received=self.bytes_received + (link.bytes_received if link else 0),
        )

    def next_backoff_s(self, settings: TransportSettings) -> float:
        """How long to wait before the next dial; the first one after a good link is immediate."""
        wait_s = self.backoff_s
        self.backoff_s = min(max(settings.redial_min_s, 2 * wait_s), settings.redial_max_s)
        return wait_s
