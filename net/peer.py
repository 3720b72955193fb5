"""What an endpoint keeps of a peer while connections come and go."""

from __future__ import annotations

import asyncio

from net.identity import RosterEntry
from net.link import Link
from net.transport import LinkStatus, TransportSettings
from net.udp import Address


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
        "early",
        "entry",
        "first_message_ms",
        "link",
        "messages_received",
        "messages_sent",
        "proven_address",
        "reconnect_ms",
        "redial",
        "refused",
        "shed",
    )

    def __init__(self, entry: RosterEntry) -> None:
        self.entry = entry
        self.address = entry.address
        self.dials = False
        self.link: Link | None = None
        self.attempt: Link | None = None
        self.redial: asyncio.TimerHandle | None = None
        self.backoff_s = 0.0
        self.early: Link | None = None
        """A connection whose early data is being answered, before its proof."""
        self.proven_address: Address | None = None
        """Where the last proven connection came from."""
        self.first_message_ms = 0.0
        self.connections = 0
        self.reconnect_ms = 0.0
        self.shed = 0
        self.messages_sent = self.messages_received = 0
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
        self.proven_address = link.address
        self.reconnect_ms = (link.first_word_at - link.started_at) * 1e3 if link.dials else 0.0

    def heard(self) -> None:
        """A message arrived on the present link."""
        self.messages_received += 1
        link = self.link
        if link is not None and not link.first_message_at:
            link.first_message_at = link.last_heard_at
            self.first_message_ms = (link.first_message_at - link.started_at) * 1e3

    def is_at(self, address: Address) -> bool:
        """Whether this peer listens there, or was last proven to be there."""
        place = address[:2]
        if self.proven_address is not None and self.proven_address[:2] == place:
            return True
        return self.address is not None and tuple(self.address[:2]) == place

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
            first_message_ms=self.first_message_ms,
            queued_messages=len(link.queue) if link else 0,
            queued_bytes=link.queued_bytes if link else 0,
            open_streams=link.quic.open_streams() if link else 0,
            messages_sent=self.messages_sent,
            messages_received=self.messages_received,
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
