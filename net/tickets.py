"""Session tickets on the accepting side: bound to a proven identity, used once.

aioquic accepts a ticket as often as it is shown (RFC 8446 §8 leaves replay to the server), so a copied first flight
would be read twice. Here redeeming takes the ticket out; whoever shows it again gets a full handshake.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from aioquic import tls

TICKETS_MAX: Final = 256


class TicketStore:
    """At most `TICKETS_MAX` tickets, in memory; the oldest go first."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: dict[bytes, tuple[tls.SessionTicket, int]] = {}

    def keep(self, tickets: Iterable[tls.SessionTicket], identity: int) -> None:
        """Remember tickets that were given to a dialler which has proven to be `identity`."""
        for ticket in tickets:
            self._held[ticket.ticket] = (ticket, identity)
        while len(self._held) > TICKETS_MAX:
            del self._held[next(iter(self._held))]

    def redeem(self, ticket: bytes) -> tuple[tls.SessionTicket, int] | None:
        """The ticket and whose it is, once; None for an unknown or spent one."""
        return self._held.pop(ticket, None)
