"""Endpoints in one loop for the transport's tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from net.identity import Identity, Roster, RosterEntry
from net.messages import Message
from net.quic import Endpoint, PeerEvent, PeerEventKind, TransportSettings


class Member:
    """An endpoint with what it heard."""

    def __init__(self, identity: Identity, roster: Roster, settings: TransportSettings) -> None:
        self.messages: list[tuple[int, Message]] = []
        self.events: list[PeerEvent] = []
        self.endpoint = Endpoint(
            identity,
            roster,
            ("127.0.0.1", 0),
            settings,
            lambda peer, message: self.messages.append((peer, message)),
            self.events.append,
        )
        self.address = ("127.0.0.1", 0)

    def reasons(self, kind: PeerEventKind) -> list[str]:
        return [event.reason for event in self.events if event.kind is kind]

    def vanish(self) -> None:
        """As after SIGKILL: the socket is gone, no peer hears a word."""
        endpoint = self.endpoint
        assert endpoint._loop is not None
        assert endpoint._udp is not None
        assert endpoint._sweep_timer is not None
        endpoint._loop.remove_reader(endpoint._udp.fileno())
        endpoint._sweep_timer.cancel()
        endpoint._open = False
        endpoint._udp.close()


def roster_of(identities: list[Identity], roles: dict[int, str] | None = None) -> Roster:
    names = roles or {}
    return Roster(
        [RosterEntry(one.id, f"member {one.id}", names.get(one.id, "node"), one.public_key) for one in identities]
    )


async def until(condition: Callable[[], object], what: str, timeout_s: float = 20.0) -> None:
    """Wait for `condition`; the time-out is only there to end a broken test."""
    try:
        async with asyncio.timeout(timeout_s):
            while not condition():
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"never happened: {what}") from None


@asynccontextmanager
async def started(*members: Member) -> AsyncIterator[None]:
    try:
        for member in members:
            member.address = await member.endpoint.start()
        yield
    finally:
        for member in members:
            if member.endpoint._open:
                await member.endpoint.close()


@asynccontextmanager
async def pair(
    settings: TransportSettings | None = None, acceptor_settings: TransportSettings | None = None
) -> AsyncIterator[tuple[Member, Member]]:
    """Members 0, which dials, and 1, connected."""
    identities = [Identity.generate(0), Identity.generate(1)]
    roster = roster_of(identities)
    used = settings or TransportSettings()
    dialler, acceptor = Member(identities[0], roster, used), Member(identities[1], roster, acceptor_settings or used)
    async with started(dialler, acceptor):
        dialler.endpoint.dial(1, acceptor.address)
        await until(lambda: dialler.endpoint.connected(1) and acceptor.endpoint.connected(0), "the pair connects")
        yield dialler, acceptor
