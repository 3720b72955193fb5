"""Session tickets on both sides: bound to a proven identity, used once, kept over a restart.

aioquic accepts a ticket as often as it is shown (RFC 8446 §8 leaves replay to the server), so a copied first flight
would be read twice. Here redeeming takes the ticket out, on disk before anything is read under it; whoever shows it
again gets a full handshake. A file holds one ticket, mode 0600, because it holds a resumption secret.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import secrets
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgpack
from aioquic import tls

TICKETS_MAX: Final = 256
_GIVEN: Final = "given-"
_HELD: Final = "held-"
_TICKET_BYTES_MAX: Final = 65_536


class TicketStore:
    """Tickets given to diallers, at most `TICKETS_MAX` (the oldest go first), and one received from each acceptor."""

    __slots__ = ("_folder", "_given", "_held")

    def __init__(self, folder: Path | None = None) -> None:
        """`folder` keeps them over a restart, None: memory only. Raises OSError where the folder cannot be used.

        A file that is no ticket any more (cut short, expired) is removed: its owner gets a full handshake.
        """
        self._folder = folder
        self._given: dict[bytes, tuple[tls.SessionTicket, int]] = {}
        self._held: dict[int, tls.SessionTicket] = {}
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns):
            self._load(path)

    def _load(self, path: Path) -> None:
        try:
            identity, ticket = _from_bytes(path.read_bytes())
        except ValueError:
            path.unlink()
            return
        if not ticket.is_valid:
            path.unlink()
        elif path.name.startswith(_GIVEN):
            self._given[ticket.ticket] = (ticket, identity)
        elif path.name.startswith(_HELD):
            self._held[identity] = ticket

    # The accepting side

    def keep(self, tickets: Iterable[tls.SessionTicket], identity: int) -> None:
        """Remember tickets that were given to a dialler which has proven to be `identity`."""
        for ticket in tickets:
            self._given[ticket.ticket] = (ticket, identity)
            self._write(_given_name(ticket.ticket), identity, ticket)
        while len(self._given) > TICKETS_MAX:
            oldest = next(iter(self._given))
            del self._given[oldest]
            self._remove(_given_name(oldest))

    def redeem(self, ticket: bytes) -> tuple[tls.SessionTicket, int] | None:
        """The ticket and whose it is, once; None for an unknown or spent one."""
        found = self._given.pop(ticket, None)
        if found is None or not self._remove(_given_name(ticket)):
            return None
        return found

    # The dialling side

    def hold(self, acceptor: int, ticket: tls.SessionTicket) -> None:
        """Keep the newest ticket of an acceptor whose certificate was the pinned one."""
        self._held[acceptor] = ticket
        self._write(f"{_HELD}{acceptor}", acceptor, ticket)

    def take(self, acceptor: int) -> tls.SessionTicket | None:
        """The ticket for the next dial; it is used once."""
        ticket = self._held.pop(acceptor, None)
        if ticket is not None:
            self._remove(f"{_HELD}{acceptor}")
        return ticket

    def holds(self, acceptor: int) -> bool:
        """Whether the next dial can resume."""
        return acceptor in self._held

    # Files

    def _write(self, name: str, identity: int, ticket: tls.SessionTicket) -> None:
        if self._folder is None:
            return
        temporary = self._folder / f".{secrets.token_hex(8)}"
        # A ticket that is not written is only a full handshake later, so a full disk must not end the link.
        with contextlib.suppress(OSError):
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(_to_bytes(identity, ticket))
            temporary.replace(self._folder / name)

    def _remove(self, name: str) -> bool:
        """False where the file is there and cannot be removed for good: then the ticket must not count."""
        if self._folder is None:
            return True
        try:
            (self._folder / name).unlink(missing_ok=True)
            descriptor = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError:
            return False
        return True


def _given_name(ticket: bytes) -> str:
    return _GIVEN + sha256(ticket).hexdigest()


def _to_bytes(identity: int, ticket: tls.SessionTicket) -> bytes:
    data: bytes = msgpack.packb(
        (
            identity,
            ticket.age_add,
            int(ticket.cipher_suite),
            ticket.not_valid_after.timestamp(),
            ticket.not_valid_before.timestamp(),
            ticket.resumption_secret,
            ticket.server_name,
            ticket.ticket,
            ticket.max_early_data_size,
            ticket.other_extensions,
        )
    )
    return data


def _from_bytes(data: bytes) -> tuple[int, tls.SessionTicket]:
    """Raises ValueError for anything but `_to_bytes` of a ticket."""
    if len(data) > _TICKET_BYTES_MAX:
        raise ValueError("no ticket")
    try:
        identity, age_add, suite, after, before, secret, name, ticket, early, extensions = msgpack.unpackb(data)
        found = tls.SessionTicket(
            age_add=int(age_add),
            cipher_suite=tls.CipherSuite(suite),
            not_valid_after=datetime.datetime.fromtimestamp(after, datetime.UTC),
            not_valid_before=datetime.datetime.fromtimestamp(before, datetime.UTC),
            resumption_secret=bytes(secret),
            server_name=str(name),
            ticket=bytes(ticket),
            max_early_data_size=early,
            other_extensions=[(int(kind), bytes(value)) for kind, value in extensions],
        )
    except (TypeError, OverflowError, OSError, msgpack.UnpackException) as error:
        raise ValueError("no ticket") from error
    return int(identity), found
