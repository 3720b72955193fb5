"""Strangers, impostors and vandals: each is refused by name, counted, and gets nothing."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable
from dataclasses import replace

import aioquic
import pytest

from net import framing
from net.framing import FrameError, Framer, frame
from net.identity import Identity, Roster, RosterEntry
from net.link import Link, LinkState, Refusal
from net.messages import Phase, Vote
from net.quic import PeerEventKind, TransportSettings
from net.quic_connection import SUPPORTED_AIOQUIC, LinkConnection
from net.wire.codec import CodecKind, encode
from tests.integration.endpoints import Member, pair, roster_of, started, until

MESSAGE = Vote(1, Phase.NOTARIZE, 1, 1, b"d" * 32, 0, b"s" * 64)
DIALLER, ACCEPTOR, OTHER = 1, 2, 3


def with_entry(roster: Roster, changed: RosterEntry) -> Roster:
    return Roster([changed if entry.id == changed.id else entry for entry in roster])


class Scene:
    """What the honest acceptor believes, and what the attacker does. Each attack changes one thing."""

    def __init__(self) -> None:
        self.identities = {number: Identity.generate(number) for number in (DIALLER, ACCEPTOR, OTHER)}
        self.attacker = self.identities[DIALLER]
        self.acceptor_roster = roster_of(list(self.identities.values()))
        self.attacker_roster = self.acceptor_roster
        self.target = ACCEPTOR

    def own_entry(self, **changes: object) -> RosterEntry:
        entry = self.attacker_roster.get(DIALLER)
        assert entry is not None
        return replace(entry, **changes)


def unknown_key(scene: Scene) -> None:
    scene.acceptor_roster = roster_of([scene.identities[ACCEPTOR], scene.identities[OTHER]])


def swapped_identity(scene: Scene) -> None:
    """Claims to be member 1 with a key of its own."""
    scene.attacker = Identity.generate(DIALLER)
    scene.attacker_roster = with_entry(scene.attacker_roster, scene.own_entry(public_key=scene.attacker.public_key))


def other_role(scene: Scene) -> None:
    scene.attacker_roster = with_entry(scene.attacker_roster, scene.own_entry(role="operator"))


def expired_entry(scene: Scene) -> None:
    scene.acceptor_roster = with_entry(scene.acceptor_roster, scene.own_entry(expires_s=1.0))


def addressed_to_another(scene: Scene) -> None:
    """Takes the acceptor for member 3: its key is pinned under that id."""
    swapped = [scene.identities[DIALLER], Identity(OTHER, scene.identities[ACCEPTOR].signing_key)]
    scene.attacker_roster = roster_of(swapped)
    scene.target = OTHER


@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        (unknown_key, Refusal.UNKNOWN_IDENTITY),
        (swapped_identity, Refusal.WRONG_SIGNATURE),
        (other_role, Refusal.WRONG_ROLE),
        (expired_entry, Refusal.EXPIRED),
        (addressed_to_another, Refusal.NOT_ADDRESSED),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_false_proof_is_refused_by_name(attack: Callable[[Scene], None], reason: str) -> None:
    async def scenario() -> None:
        scene = Scene()
        attack(scene)
        acceptor = Member(scene.identities[ACCEPTOR], scene.acceptor_roster, TransportSettings())
        attacker = Member(scene.attacker, scene.attacker_roster, TransportSettings())
        async with started(acceptor, attacker):
            attacker.endpoint.dial(scene.target, acceptor.address)
            await until(lambda: attacker.endpoint.refusals[reason], "the attacker is told")
            assert set(acceptor.endpoint.refusals) == {reason}
            assert acceptor.reasons(PeerEventKind.REFUSED)[0] == reason
            assert not acceptor.reasons(PeerEventKind.CONNECTED)
            assert not any(link.connected for link in acceptor.endpoint.links())
            assert attacker.endpoint._peers[scene.target].status().refused == reason

    asyncio.run(scenario())


async def attempt(
    monkeypatch: pytest.MonkeyPatch,
    instead_of_proof: Callable[[Link], None],
    settings: TransportSettings | None = None,
) -> Member:
    """Member 1 dials member 2 and does something else where its proof was due; gives the acceptor that refused it."""
    identities = [Identity.generate(1), Identity.generate(2)]
    acceptor = Member(identities[1], roster_of(identities), settings or TransportSettings())
    dialler = Member(identities[0], roster_of(identities), TransportSettings())
    monkeypatch.setattr(Link, "_send_proof", lambda link, acceptor: instead_of_proof(link))
    async with started(acceptor, dialler):
        dialler.endpoint.dial(2, acceptor.address)
        await until(lambda: acceptor.endpoint.refusals, "the refusal")
        assert not acceptor.messages
        assert not acceptor.reasons(PeerEventKind.CONNECTED)
    return acceptor


def test_nothing_but_the_proof_is_read_on_the_control_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    message = frame(encode(MESSAGE, CodecKind.MSGPACK_COLUMNS))
    acceptor = asyncio.run(attempt(monkeypatch, lambda link: link.write_control(message)))
    assert set(acceptor.endpoint.refusals) == {Refusal.SPOKE_BEFORE_PROOF}
    assert acceptor.endpoint.messages_received == acceptor.endpoint.messages_malformed == 0


def test_nothing_is_read_on_another_stream_before_the_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    def speak(link: Link) -> None:
        link.quic.send_stream_data(link.quic.get_next_available_stream_id(is_unidirectional=True), b"x" * 100, True)

    acceptor = asyncio.run(attempt(monkeypatch, speak))
    assert set(acceptor.endpoint.refusals) == {Refusal.SPOKE_BEFORE_PROOF}


@pytest.mark.parametrize(
    "data",
    [
        frame(bytes((framing.LinkFrame.PROOF,)) + b"short"),
        frame(bytes((framing.LinkFrame.PROOF, 9)) + bytes(framing.PROOF_BODY_BYTES - 2)),
        framing.LENGTH.pack(2**32 - 1),
        framing.LENGTH.pack(0),
    ],
    ids=["short", "unknown role", "hostile length", "empty"],
)
def test_a_malformed_proof_is_refused(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    acceptor = asyncio.run(attempt(monkeypatch, lambda link: link.write_control(data)))
    assert set(acceptor.endpoint.refusals) == {Refusal.MALFORMED_PROOF}


def test_who_proves_nothing_is_closed_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    acceptor = asyncio.run(attempt(monkeypatch, lambda link: None, TransportSettings(proof_s=0.2)))
    assert set(acceptor.endpoint.refusals) == {Refusal.NO_PROOF}


def test_a_relayed_proof_is_worthless_on_another_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """The very bytes that one connection accepted are refused on the next: they are bound to its TLS exporter."""
    proofs: list[bytes] = []
    make = framing.proof_frame
    monkeypatch.setattr(framing, "proof_frame", lambda proof: (proofs.append(make(proof)), proofs[0])[1])

    async def scenario() -> None:
        async with pair() as (a, b):
            assert len(proofs) == 1
            a.endpoint.reconnect(1)
            await until(lambda: b.endpoint.refusals, "the refusal")
            assert proofs[1] != proofs[0]
            assert set(b.endpoint.refusals) == {Refusal.WRONG_SIGNATURE}

    asyncio.run(scenario())


def test_an_impostor_acceptor_is_refused_before_the_dialler_says_a_word() -> None:
    async def scenario() -> None:
        honest = [Identity.generate(0), Identity.generate(1)]
        impostor = Identity.generate(1)
        dialler = Member(honest[0], roster_of(honest), TransportSettings())
        false = Member(impostor, roster_of([honest[0], impostor]), TransportSettings())
        async with started(dialler, false):
            dialler.endpoint.dial(1, false.address)
            await until(lambda: dialler.endpoint.refusals, "the refusal")
            assert set(dialler.endpoint.refusals) == {Refusal.WRONG_CERTIFICATE}
            assert not false.reasons(PeerEventKind.CONNECTED)
            assert not dialler.endpoint._tickets.holds(1)

    asyncio.run(scenario())


def test_a_ticket_counts_only_from_a_link_that_was_up() -> None:
    """An impostor can hand out a ticket before its certificate is looked at; resuming would then skip the pin."""

    async def scenario() -> None:
        async with pair(TransportSettings(zero_rtt=True)) as (a, _):
            await until(lambda: a.endpoint.links()[0].round_trip_ms > 0, "a heartbeat")
            good = a.endpoint._peers[1].link
            assert good is not None
            planted = Link(a.endpoint, good.quic, good.address, dials=True, peer=1, tickets=list(good.tickets))
            a.endpoint._peers[1].dials = False
            assert a.endpoint._tickets.take(1) is not None
            planted.close("never proven", refused=True)
            assert planted.tickets
            assert not a.endpoint._tickets.holds(1)

    asyncio.run(scenario())


def test_a_replayed_ticket_gets_nothing() -> None:
    """The first flight of a resumed dial, copied and sent again: no early data is read, no identity vouched for."""

    async def scenario() -> None:
        async with pair(TransportSettings(zero_rtt=True)) as (a, b):
            await until(lambda: a.endpoint.links()[0].round_trip_ms > 0, "a heartbeat")
            assert a.endpoint._udp is not None
            send, flight = a.endpoint._udp.send, []

            class Tap:
                def __getattr__(self, name: str) -> object:
                    return getattr(udp, name)

                def send(self, data: bytes, address: object) -> None:
                    if data[0] & 0x80:
                        flight.append(data)
                    send(data, address)

            udp = a.endpoint._udp
            a.endpoint._udp = Tap()  # type: ignore[assignment]
            a.endpoint.reconnect(1)
            await until(lambda: b.endpoint.links()[0].resumed, "the resumed connection")
            a.endpoint._udp = udp
            used = [link for link in b.endpoint._links if link.redeemed_from]
            assert len(used) == 1
            # The copy carries the connection id of the original; forget that route, as after the original has ended.
            destination = flight[0][6 : 6 + flight[0][5]]
            first = [data for data in flight if data[6 : 6 + data[5]] == destination]
            before = set(b.endpoint._links)
            del b.endpoint._routes[destination]
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as replayer:
                replayer.bind(("127.0.0.1", 0))
                retries = b.endpoint.retries_sent
                for data in first:
                    replayer.sendto(data, b.address)
                await until(lambda: b.endpoint.retries_sent > retries, "a stranger's copy gets a Retry")
                assert dict(b.endpoint.turned_away())["answered with Retry"] == b.endpoint.retries_sent
                assert set(b.endpoint._links) == before
                # Even from the member's own address:
                b.endpoint._peers[0].proven_address = replayer.getsockname()
                for data in first:
                    replayer.sendto(data, b.address)
                await until(lambda: set(b.endpoint._links) - before, "the copy opens a connection")
                (copy,) = set(b.endpoint._links) - before
                assert list(copy.redeemed_from) == []
                assert copy.state is not LinkState.UP

    asyncio.run(scenario())


def test_a_ticket_of_another_identity_is_refused() -> None:
    async def scenario() -> None:
        identities = [Identity.generate(number) for number in (0, 1, 2)]
        settings = TransportSettings(zero_rtt=True)
        members = [Member(identity, roster_of(identities), settings) for identity in identities]
        owner, thief, acceptor = members
        async with started(*members):
            owner.endpoint.dial(2, acceptor.address)
            await until(lambda: owner.endpoint.links()[1].round_trip_ms > 0, "a heartbeat")
            link = owner.endpoint._peers[2].link
            assert link is not None
            thief.endpoint._tickets.hold(2, link.tickets[-1])
            thief.endpoint.dial(2, acceptor.address)
            await until(lambda: acceptor.endpoint.refusals, "the refusal")
            assert set(acceptor.endpoint.refusals) == {Refusal.TICKET_MISMATCH}
            # Its next dial may have been let in by now: with its own identity and no ticket, as any member's.
            first, *later = [event for event in acceptor.events if event.peer != 0]
            assert (first.kind, first.reason) == (PeerEventKind.REFUSED, Refusal.TICKET_MISMATCH)
            assert not any(event.resumed for event in later)

    asyncio.run(scenario())


def test_a_dialler_that_gives_up_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Link, "_send_proof", lambda link, acceptor: None)

    async def scenario() -> None:
        identities = [Identity.generate(0), Identity.generate(1)]
        acceptor = Member(identities[1], roster_of(identities), TransportSettings())
        dialler = Member(identities[0], roster_of(identities), TransportSettings())
        async with started(acceptor, dialler):
            dialler.endpoint.dial(1, acceptor.address)
            await until(lambda: dialler.endpoint._peers[1].attempt, "the dial")
            link = dialler.endpoint._peers[1].attempt
            assert link is not None
            await until(lambda: acceptor.endpoint._links, "the acceptor hears of it")
            dialler.endpoint._peers[1].dials = False
            link.close(Refusal.NO_ANSWER, refused=False)
            await until(lambda: not acceptor.endpoint._links, "the acceptor lets go")
            assert not acceptor.endpoint.refusals
            assert not acceptor.events

    asyncio.run(scenario())


def test_a_hostile_length_from_a_proven_peer_ends_its_link_and_a_bad_message_does_not() -> None:
    async def scenario() -> None:
        async with pair() as (a, b):
            link = a.endpoint._peers[1].link
            assert link is not None
            link.write_control(frame(b"\xd1\x63 no message"))
            assert a.endpoint.send(1, MESSAGE)
            await until(lambda: b.messages, "the message after the bad one")
            assert b.endpoint.messages_malformed == 1
            assert not b.reasons(PeerEventKind.DISCONNECTED)
            link.write_control(framing.LENGTH.pack((16 << 20) + 1))
            await until(lambda: b.reasons(PeerEventKind.DISCONNECTED), "the link ends")
            assert "16777217 bytes" in b.reasons(PeerEventKind.DISCONNECTED)[0]
            await until(lambda: a.endpoint.connected(1) and b.endpoint.connected(0), "and is dialled again")

    asyncio.run(scenario())


def test_noise_on_the_socket_is_counted_and_disturbs_nobody() -> None:
    async def scenario() -> None:
        source = random.Random(7)
        async with pair() as (a, b):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as vandal:
                for _ in range(300):
                    # Long headers, short headers, and first datagrams of the right length.
                    size = source.choice((1, 5, 30, 1_200))
                    vandal.sendto(source.randbytes(size), b.address)
                    vandal.sendto(b"\xc0\x00\x00\x00\x01\x08" + source.randbytes(1_194), b.address)
                    await asyncio.sleep(0)
            assert a.endpoint.send(1, MESSAGE)
            await until(lambda: b.messages, "a message in spite of it")
            assert b.endpoint.datagrams_dropped > 300
            assert not b.reasons(PeerEventKind.DISCONNECTED)
            assert b.endpoint._unproven <= b.endpoint.settings.unproven_max

    asyncio.run(scenario())


def test_the_framer_cuts_any_stream_anywhere_and_bounds_it() -> None:
    source = random.Random(3)
    bodies = [source.randbytes(source.randrange(1, 400)) for _ in range(60)]
    stream = b"".join(frame(body) for body in bodies)
    for _ in range(40):
        framer, out, at = Framer(400), [], 0
        while at < len(stream):
            step = source.randrange(1, 700)
            out += framer.feed(stream[at : at + step])
            at += step
        assert out == bodies
        assert framer.pending_bytes == 0
    for length in (0, 401, 2**32 - 1):
        with pytest.raises(FrameError, match=str(length)):
            Framer(400).feed(framing.LENGTH.pack(length))


def test_the_pinned_aioquic_has_the_private_fields_that_one_file_touches() -> None:
    assert aioquic.__version__ == SUPPORTED_AIOQUIC

    async def scenario() -> None:
        async with pair() as (a, b):
            for member, peer in ((a, 1), (b, 0)):
                link = member.endpoint._peers[peer].link
                assert link is not None
                quic: LinkConnection = link.quic
                assert quic._ack_delay == member.endpoint.settings.ack_delay_s
                assert quic.open_streams() >= 1
                assert quic.closing_reason() is None
                assert quic.newest_packet_received() == quic._loss.spaces[2].largest_received_packet > 0
                assert quic.takes_datagram(1_000)
                assert not quic.takes_datagram(1 << 16)
                for packet in quic._loss.spaces[2].sent_packets.values():
                    assert isinstance(packet.delivery_handlers, list)
                before = quic.unacknowledged_bytes()
                quic.send_stream_data(0, frame(b"\x04" + bytes(8)))
                assert quic.unacknowledged_bytes() == before + 13
            dialler, acceptor = (m.endpoint._peers[p].link for m, p in ((a, 1), (b, 0)))
            assert dialler is not None
            assert acceptor is not None
            assert dialler.quic.peer_public_key() == b.endpoint.identity.public_key
            assert acceptor.quic.peer_public_key() is None
            exported = [link.quic.export_keying_material(b"label", b"context", 32) for link in (dialler, acceptor)]
            assert exported[0] == exported[1] != dialler.quic.export_keying_material(b"label", b"other", 32)

    asyncio.run(scenario())
