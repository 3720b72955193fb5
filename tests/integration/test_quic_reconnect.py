"""Coming back: tickets over a restart, idempotent messages in early data, what a stranger's flood changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from net.identity import Identity, Roster
from net.messages import GossipDelta, GossipDigest, GossipVersion, Message, Phase, Vote
from net.quic import Endpoint, TransportSettings
from net.tickets import TICKETS_MAX, TicketStore
from tests.integration.endpoints import Member, pair, roster_of, started, until

QUESTION = GossipDigest((GossipVersion(0, 1, 2),))
ANSWER = GossipDelta((), (GossipVersion(0, 1, 2),))
RESUMING = TransportSettings(zero_rtt=True)


class Kept:
    """Two members whose tickets are on disk, so that either can be started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.identities = [Identity.generate(0), Identity.generate(1)]
        self.roster = roster_of(self.identities)

    def member(self, number: int, listen: tuple[str, int] = ("127.0.0.1", 0)) -> Member:
        member = Member(self.identities[number], self.roster, RESUMING)
        member.endpoint = Endpoint(
            self.identities[number],
            self.roster,
            listen,
            RESUMING,
            lambda peer, message: self.heard(member, peer, message),
            member.events.append,
            tickets=self.folder / str(number),
        )
        member.endpoint.early_message = lambda peer: QUESTION
        return member

    @staticmethod
    def heard(member: Member, peer: int, message: Message) -> None:
        member.messages.append((peer, message))
        if isinstance(message, GossipDigest):
            member.endpoint.send(peer, ANSWER)


async def connected(dialler: Member, acceptor: Member) -> None:
    # The acceptor knows where the dialler is, as in a roster: no Retry.
    acceptor.endpoint.dial(0, dialler.address)
    dialler.endpoint.dial(1, acceptor.address)
    await until(lambda: dialler.endpoint.connected(1) and acceptor.endpoint.connected(0), "the pair connects")
    await until(lambda: dialler.endpoint.links()[0].round_trip_ms > 0, "a heartbeat, and the ticket with it")


def test_a_restarted_dialler_resumes_and_is_answered_before_its_proof(tmp_path: Path) -> None:
    async def scenario() -> None:
        kept = Kept(tmp_path)
        acceptor, dialler = kept.member(1), kept.member(0)
        async with started(acceptor):
            async with started(dialler):
                await connected(dialler, acceptor)
                assert not dialler.endpoint.links()[0].resumed
                assert acceptor.messages == [(0, QUESTION)], "said again over the full handshake"
            (ticket,) = [path for path in (tmp_path / "0").iterdir() if path.name.startswith("held-")]
            assert ticket.stat().st_mode & 0o777 == 0o600
            again = kept.member(0)
            async with started(again):
                await connected(again, acceptor)
                assert again.endpoint.links()[0].resumed
                assert again.messages == [(1, ANSWER)]
                assert acceptor.messages == [(0, QUESTION)] * 2
                status = again.endpoint.links()[0]
                assert status.first_message_ms > 0

    asyncio.run(scenario())


def test_a_restarted_acceptor_still_takes_its_ticket_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        kept = Kept(tmp_path)
        acceptor, dialler = kept.member(1), kept.member(0)
        async with started(dialler):
            async with started(acceptor):
                await connected(dialler, acceptor)
            again = kept.member(1, acceptor.address)
            async with started(again):
                await connected(dialler, again)
                assert dialler.endpoint.links()[0].resumed
                assert again.messages == [(0, QUESTION)]

    asyncio.run(scenario())


def test_early_data_that_is_rejected_is_said_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        kept = Kept(tmp_path)
        acceptor, dialler = kept.member(1), kept.member(0)
        async with started(acceptor):
            async with started(dialler):
                await connected(dialler, acceptor)
            acceptor.endpoint._tickets._given.clear()
            again = kept.member(0)
            async with started(again):
                await connected(again, acceptor)
                assert not again.endpoint.links()[0].resumed
                await until(lambda: again.messages == [(1, ANSWER)], "the answer")
                assert acceptor.messages == [(0, QUESTION)] * 2

    asyncio.run(scenario())


def test_only_questions_ride_in_early_data(tmp_path: Path) -> None:
    async def scenario() -> None:
        kept = Kept(tmp_path)
        acceptor, dialler = kept.member(1), kept.member(0)
        async with started(acceptor):
            async with started(dialler):
                await connected(dialler, acceptor)
            again = kept.member(0)
            again.endpoint.early_message = lambda peer: Vote(1, Phase.NOTARIZE, 1, 1, b"d" * 32, 0, b"s" * 64)
            async with started(again):
                again.endpoint.dial(1, acceptor.address)
                await until(lambda: acceptor.endpoint.refusals, "the refusal")
                assert set(acceptor.endpoint.refusals) == {"spoke before the proof"}
                assert acceptor.messages == [(0, QUESTION)]

    asyncio.run(scenario())


def gone(roster: Roster) -> Roster:
    return Roster([entry for entry in roster if entry.id != 0])


def expired(roster: Roster) -> Roster:
    return Roster([replace(entry, expires_s=1.0) if entry.id == 0 else entry for entry in roster])


@pytest.mark.parametrize(
    ("change", "refusal"), [(gone, "unknown identity"), (expired, "expired roster entry")], ids=["gone", "expired"]
)
def test_a_ticket_of_one_that_is_no_member_any_more_vouches_for_nothing(
    tmp_path: Path, change: Callable[[Roster], Roster], refusal: str
) -> None:
    async def scenario() -> None:
        reported: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["message"]))
        kept = Kept(tmp_path)
        acceptor, dialler = kept.member(1), kept.member(0)
        async with started(dialler):
            async with started(acceptor):
                await connected(dialler, acceptor)
            kept.roster = change(kept.roster)
            again = kept.member(1, acceptor.address)
            async with started(again):
                await until(lambda: again.endpoint.refusals[refusal], "the refusal")
                assert again.messages == [], "nothing was read under the ticket"
        assert reported == []

    asyncio.run(scenario())


def test_a_dial_that_nobody_answers_keeps_its_ticket(tmp_path: Path) -> None:
    async def scenario() -> None:
        kept = Kept(tmp_path)
        acceptor, dialler = kept.member(1), kept.member(0)
        async with started(dialler):
            async with started(acceptor):
                await connected(dialler, acceptor)
            await until(lambda: not dialler.endpoint._tickets.holds(1), "a dial shows the ticket")
            await until(lambda: dialler.endpoint._tickets.holds(1), "it comes back")

    asyncio.run(scenario())


def test_the_store_redeems_once_bounds_itself_and_survives_damage(tmp_path: Path) -> None:
    async def tickets() -> list:
        async with pair(RESUMING) as (a, _):
            await until(lambda: a.endpoint.links()[0].round_trip_ms > 0, "a heartbeat")
            link = a.endpoint._peers[1].link
            assert link is not None
            return list(link.tickets)

    (ticket,) = asyncio.run(tickets())
    store = TicketStore(tmp_path / "tickets")
    store.keep([ticket], 7)
    again = TicketStore(tmp_path / "tickets")
    assert again.redeem(ticket.ticket) == (ticket, 7)
    assert again.redeem(ticket.ticket) is None
    assert TicketStore(tmp_path / "tickets").redeem(ticket.ticket) is None
    for number in range(TICKETS_MAX + 3):
        ticket.ticket = number.to_bytes(4, "big")
        store.keep([ticket], 7)
    assert len(list((tmp_path / "tickets").iterdir())) == TICKETS_MAX
    for damage in (b"", b"\xc1", b"\x90", b"x" * 100_000):
        (tmp_path / "tickets" / "held-1").write_bytes(damage)
        assert not TicketStore(tmp_path / "tickets").holds(1)
        assert not (tmp_path / "tickets" / "held-1").exists()


def test_gossip_digests_ride_in_datagrams_when_multiplexed() -> None:
    async def scenario() -> None:
        async with pair(TransportSettings(multiplexing=True)) as (a, b):
            assert a.endpoint.send(1, QUESTION)
            await until(lambda: b.messages == [(0, QUESTION)], "the digest")
            assert b.endpoint.links()[0].open_streams == 1, "the control stream alone"
            assert b.endpoint.send(0, ANSWER)
            await until(lambda: a.messages == [(1, ANSWER)], "the answer, on a stream")
            large = GossipDigest(tuple(GossipVersion(k, 1, 2) for k in range(2_000)))
            assert a.endpoint.send(1, large)
            await until(lambda: b.messages[-1] == (0, large), "a digest that fits no datagram")

    asyncio.run(scenario())
