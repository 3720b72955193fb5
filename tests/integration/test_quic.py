"""Endpoints over real UDP on loopback: delivery, reconnects, heartbeats, shedding, streams, resumption."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
import uvloop

from net.identity import Identity
from net.link import Link
from net.messages import Application, Channel, Message, Phase, Vote
from net.quic import Endpoint, PeerEventKind, TransportSettings
from net.udp import Address
from net.wire.codec import CodecKind
from tests.integration.endpoints import Member, pair, roster_of, started, until

Runner = Callable[[Coroutine[Any, Any, None]], None]


def vote(number: int) -> Vote:
    return Vote(1, Phase.NOTARIZE, 1, number, b"d" * 32, 0, b"s" * 64)


def telemetry(size: int) -> Application:
    return Application(Channel.TELEMETRY, 1, 0, 0, 0, b"", bytes(range(256)) * (size // 256))


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("multiplexing", [False, True], ids=["one stream", "multiplexed"])
def test_messages_arrive_whole_and_once_both_ways(run: Runner, multiplexing: bool) -> None:
    async def scenario() -> None:
        async with pair(TransportSettings(multiplexing=multiplexing)) as (a, b):
            sent: list[Message] = [vote(number) for number in range(300)]
            for number, message in enumerate(sent):
                assert a.endpoint.send(1, message, round_id=number % 7)
                assert b.endpoint.send(0, message, round_id=number % 7)
                if number % 50 == 0:
                    await asyncio.sleep(0)
            await until(lambda: len(a.messages) == len(b.messages) == 300, "300 messages each way")
            for member, peer in ((a, 1), (b, 0)):
                got = [message for sender, message in member.messages if sender == peer]
                assert sorted(got, key=lambda m: m.height) == sent  # type: ignore[union-attr]
                if not multiplexing:
                    assert got == sent
            assert a.endpoint.messages_sent == b.endpoint.messages_received == 300

    run(scenario())


@pytest.mark.parametrize("multiplexing", [False, True])
def test_eight_mebibytes_pass_flow_control(multiplexing: bool) -> None:
    async def scenario() -> None:
        async with pair(TransportSettings(multiplexing=multiplexing)) as (a, b):
            large = telemetry(8 << 20)
            assert b.endpoint.send(0, large)
            assert b.endpoint.send(0, vote(1))
            await until(lambda: len(a.messages) == 2, "both messages", 60)
            assert {type(message) for _, message in a.messages} == {Application, Vote}
            assert (1, large) in a.messages

    asyncio.run(scenario())


def test_what_was_delivered_is_heard_although_the_link_is_closed_at_once() -> None:
    large = Application(Channel.ORDER, 0, 0, 0, 0, b"", bytes(2_000_000))

    async def scenario() -> None:
        async with pair() as (a, b):
            assert a.endpoint.send(1, large)
            assert await a.endpoint.delivered(60)
            await a.endpoint.close()
            await until(lambda: b.reasons(PeerEventKind.DISCONNECTED), "the link's end")
            assert b.messages == [(0, large)]
        async with pair() as (a, b):
            b.vanish()
            assert a.endpoint.send(1, large)
            assert not await a.endpoint.delivered(0.05)

    asyncio.run(scenario())


def test_streams_of_finished_rounds_are_gone_on_both_sides() -> None:
    async def scenario() -> None:
        async with pair(TransportSettings(multiplexing=True)) as (a, b):
            for number in range(1_000):
                assert a.endpoint.send(1, vote(number), round_id=number + 1)
                if number % 20 == 0:
                    await asyncio.sleep(0.002)
            await until(lambda: len(b.messages) == 1_000, "all rounds")
            # One control stream, plus the last ones whose acknowledgement may still be under way.
            await until(lambda: a.endpoint.links()[0].open_streams <= 2, "the dialler's streams end")
            await until(lambda: b.endpoint.links()[0].open_streams <= 2, "the acceptor's streams end")

    asyncio.run(scenario())


def test_every_switch_takes_effect_between_two_messages() -> None:
    async def scenario() -> None:
        async with pair() as (a, b):
            number = 0
            for codec in CodecKind:
                for multiplexing in (False, True):
                    a.endpoint.set_codec(codec)
                    a.endpoint.set_multiplexing(multiplexing)
                    for _ in range(20):
                        assert a.endpoint.send(1, vote(number), round_id=number)
                        number += 1
            await until(lambda: len(b.messages) == number, "all messages")
            assert {message.height for _, message in b.messages} == set(range(number))  # type: ignore[union-attr]
            assert b.endpoint.messages_malformed == 0

    asyncio.run(scenario())


def test_broadcast_encodes_once_and_reaches_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        identities = [Identity.generate(number) for number in range(4)]
        members = [Member(identity, roster_of(identities), TransportSettings()) for identity in identities]
        async with started(*members):
            for member in members[1:]:
                members[0].endpoint.dial(member.endpoint.identity.id, member.address)
            await until(lambda: all(members[0].endpoint.connected(peer) for peer in (1, 2, 3)), "three links")
            encoded: list[Message] = []
            encode = members[0].endpoint._encode
            monkeypatch.setattr(members[0].endpoint, "_encode", lambda m: (encoded.append(m), encode(m))[1])
            members[0].endpoint.broadcast((1, 2, 3), vote(5))
            await until(lambda: all(len(member.messages) == 1 for member in members[1:]), "three deliveries")
            assert encoded == [vote(5)]

    asyncio.run(scenario())


def test_the_lower_id_dials_and_an_operator_always_does() -> None:
    async def scenario() -> None:
        identities = [Identity.generate(number) for number in (0, 1, 100, 200)]
        roster = roster_of(identities, {100: "gateway", 200: "operator"})
        members = {one.id: Member(one, roster, TransportSettings()) for one in identities}
        async with started(*members.values()):
            for one in members.values():
                for other in members.values():
                    if one is not other:
                        one.endpoint.dial(other.endpoint.identity.id, other.address)
            await until(
                lambda: all(link.connected for one in members.values() for link in one.endpoint.links()), "all links"
            )
            dialled = {
                (number, peer)
                for number, one in members.items()
                for peer, state in one.endpoint._peers.items()
                if state.link is not None and state.link.dials
            }
            assert dialled == {(0, 1), (0, 100), (1, 100), (200, 0), (200, 1), (200, 100)}

    asyncio.run(scenario())


def test_a_peer_that_vanishes_is_noticed_and_its_successor_is_dialled() -> None:
    async def scenario() -> None:
        async with pair() as (a, b):
            b.vanish()
            assert a.endpoint.send(1, vote(1))
            await until(lambda: a.reasons(PeerEventKind.DISCONNECTED), "the dialler notices")
            assert a.reasons(PeerEventKind.DISCONNECTED) == ["no heartbeat for 0.5 s"]
            assert not a.endpoint.send(1, vote(2))
            assert a.endpoint.links()[0].shed == 1
            successor = Member(b.endpoint.identity, b.endpoint.roster, TransportSettings())
            successor.endpoint._listen = b.address
            async with started(successor):
                await until(lambda: a.endpoint.connected(1), "the successor is dialled")
                assert a.endpoint.send(1, vote(3))
                await until(lambda: successor.messages, "its first message")
                assert successor.messages == [(0, vote(3))]
                assert a.endpoint.links()[0].reconnects == 1

    asyncio.run(scenario())


def test_a_restarted_dialler_replaces_its_stale_connection() -> None:
    async def scenario() -> None:
        patient = TransportSettings(dead_after_s=60.0)
        async with pair(patient) as (a, b):
            a.vanish()
            again = Member(a.endpoint.identity, a.endpoint.roster, patient)
            async with started(again):
                again.endpoint.dial(1, b.address)
                await until(lambda: again.endpoint.connected(1), "the newer connection")
                await until(lambda: b.reasons(PeerEventKind.DISCONNECTED), "the older one ends")
                assert b.reasons(PeerEventKind.DISCONNECTED) == ["replaced by a newer connection"]
                assert b.endpoint.connected(0)
                assert b.endpoint.send(0, vote(1))
                await until(lambda: again.messages, "a message over the newer one")

    asyncio.run(scenario())


def test_a_peer_that_stalls_for_300_ms_keeps_its_link() -> None:
    async def scenario() -> None:
        async with pair() as (a, b):
            endpoint = b.endpoint
            assert endpoint._loop is not None
            assert endpoint._udp is not None
            assert endpoint._sweep_timer is not None
            endpoint._loop.remove_reader(endpoint._udp.fileno())
            endpoint._sweep_timer.cancel()
            await asyncio.sleep(0.3)
            endpoint._loop.add_reader(endpoint._udp.fileno(), endpoint._readable)
            endpoint._sweep()
            assert a.endpoint.send(1, vote(1))
            await until(lambda: b.messages, "the message after the stall")
            assert not a.reasons(PeerEventKind.DISCONNECTED)
            assert not b.reasons(PeerEventKind.DISCONNECTED)

    asyncio.run(scenario())


def test_an_own_stall_is_not_held_against_the_peers() -> None:
    async def scenario() -> None:
        async with pair() as (a, b):
            for link in a.endpoint._links:
                link.last_heard_at -= 3.0
            a.endpoint._sweep_due_at = a.endpoint.clock() - 3.0
            a.endpoint._sweep()
            assert a.endpoint.connected(1)
            await until(lambda: a.endpoint.links()[0].round_trip_ms > 0, "the peer answers")
            assert b.endpoint.connected(0)

    asyncio.run(scenario())


def test_a_slow_peer_sheds_beyond_its_bounds_and_gets_what_was_taken() -> None:
    async def scenario() -> None:
        tight = TransportSettings(window_bytes=64 << 10, queue_messages_max=8, queue_bytes_max=1 << 20)
        async with pair(tight) as (a, b):
            taken = [a.endpoint.send(1, telemetry(32 << 10)) for _ in range(40)]
            status = a.endpoint.links()[0]
            assert status.queued_messages <= 8
            assert status.queued_bytes <= 1 << 20
            assert status.shed == taken.count(False) > 0
            await until(lambda: len(b.messages) == taken.count(True), "everything taken arrives")
            assert a.endpoint.send(1, telemetry(32 << 10))

    asyncio.run(scenario())


def test_an_absent_or_unknown_peer() -> None:
    async def scenario() -> None:
        identities = [Identity.generate(0), Identity.generate(1)]
        member = Member(identities[0], roster_of(identities), TransportSettings())
        async with started(member):
            assert not member.endpoint.send(1, vote(1))
            member.endpoint.broadcast((1,), vote(1))
            assert member.endpoint.links()[0].shed == 2
            with pytest.raises(ValueError, match="peer 9 is not in the roster"):
                member.endpoint.send(9, vote(1))
            with pytest.raises(ValueError, match="has no address"):
                member.endpoint.dial(1)

    asyncio.run(scenario())


def test_an_endpoint_needs_its_own_key_in_the_roster() -> None:
    one, other = Identity.generate(0), Identity.generate(0)
    with pytest.raises(ValueError, match="not in the roster"):
        Endpoint(one, roster_of([other]), ("127.0.0.1", 0), TransportSettings(), lambda *_: None, lambda _: None)


def test_a_handler_that_raises_is_reported_and_the_link_lives_on() -> None:
    async def scenario() -> None:
        reported: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["message"]))
        async with pair() as (a, b):
            b.endpoint._on_message = lambda peer, message: 1 / 0  # type: ignore[assignment,return-value]
            a.endpoint.send(1, vote(1))
            await until(lambda: reported, "the report")
            assert reported == ["on_message raised on a Vote of peer 0"]
            b.endpoint._on_message = lambda peer, message: b.messages.append((peer, message))
            a.endpoint.send(1, vote(2))
            await until(lambda: b.messages, "the next message")

    asyncio.run(scenario())


def three_members() -> tuple[list[Member], list[str]]:
    """Members 0 to 2, not started, and what the loop is told of errors from now on."""
    reported: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["message"]))
    identities = [Identity.generate(number) for number in (0, 1, 2)]
    return [Member(identity, roster_of(identities), TransportSettings()) for identity in identities], reported


def test_a_link_that_breaks_as_it_is_to_send_takes_none_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        (speaker, first, second), reported = three_members()
        async with started(speaker, first, second):
            for number, member in ((1, first), (2, second)):
                speaker.endpoint.dial(number, member.address)
            await until(lambda: all(speaker.endpoint.connected(each) for each in (1, 2)), "both connect")
            broken = speaker.endpoint._peers[1].link
            whole = Link.transmit

            def breaks(link: Link, send: Callable[[bytes, Address], object]) -> None:
                if link is broken:
                    raise KeyError("broken")
                whole(link, send)

            monkeypatch.setattr(Link, "transmit", breaks)
            speaker.endpoint.broadcast((1, 2), vote(1))
            await until(lambda: [message for _, message in second.messages] == [vote(1)], "the other hears")
            assert broken not in speaker.endpoint._links
            assert speaker.endpoint.connected(2)
            assert set(reported) == {"a connection broke as it was to send"}

    asyncio.run(scenario())


def test_a_link_that_breaks_on_an_event_takes_none_with_it_that_was_heard_in_the_same_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        (first, second, acceptor), reported = three_members()
        async with started(first, second, acceptor):
            for member in (first, second):
                member.endpoint.dial(2, acceptor.address)
            await until(lambda: all(each.endpoint.connected(2) for each in (first, second)), "both connect")
            await until(lambda: all(acceptor.endpoint.connected(each) for each in (0, 1)), "and are heard")
            broken = acceptor.endpoint._peers[0].link
            whole = Link._on_stream_data

            def breaks(link: Link, stream_id: int, data: bytes, end_stream: bool) -> None:
                if link is broken:
                    raise KeyError(stream_id)
                whole(link, stream_id, data, end_stream)

            monkeypatch.setattr(Link, "_on_stream_data", breaks)
            # Both datagrams wait in the socket when it is read.
            for member, number in ((first, 1), (second, 2)):
                member.endpoint.send(2, vote(number))
                member.endpoint.flush()
            acceptor.endpoint._readable()
            assert [message for _, message in acceptor.messages] == [vote(2)]
            assert not acceptor.endpoint.connected(0)
            assert acceptor.endpoint.connected(1)
            assert reported == ["an event of a connection broke it"]

    asyncio.run(scenario())


def test_the_instrument_is_told_of_both_halves() -> None:
    class Recorder:
        def __init__(self) -> None:
            self.spans: dict[str, list[int]] = {"serialized": [], "sent": []}

        def serialized(self, start_ns: int, end_ns: int) -> None:
            self.spans["serialized"].append(end_ns - start_ns)

        def sent(self, start_ns: int, end_ns: int) -> None:
            self.spans["sent"].append(end_ns - start_ns)

    async def scenario() -> None:
        async with pair() as (a, b):
            a.endpoint.instrument, b.endpoint.instrument = sender, receiver = Recorder(), Recorder()
            a.endpoint.send(1, vote(1))
            await until(lambda: b.messages, "the message")
            assert len(sender.spans["serialized"]) == len(receiver.spans["serialized"]) == 1
            assert len(sender.spans["sent"]) >= 2
            assert all(span >= 0 for spans in sender.spans.values() for span in spans)

    asyncio.run(scenario())


def test_a_reconnect_resumes_with_early_data_when_asked_to() -> None:
    async def scenario() -> None:
        async with pair(TransportSettings(zero_rtt=True)) as (a, b):
            assert not a.endpoint.links()[0].resumed
            for round_number in (1, 2):
                await reconnected(a, b, round_number)
                assert a.endpoint.links()[0].resumed
                assert b.endpoint.links()[0].resumed
                assert a.endpoint.links()[0].reconnect_ms > 0
            a.endpoint.set_zero_rtt(False)
            await reconnected(a, b, 3)
            assert not a.endpoint.links()[0].resumed

    async def reconnected(a: Member, b: Member, number: int) -> None:
        # The ticket follows the handshake; a heartbeat's answer says that it has come.
        await until(lambda: a.endpoint.links()[0].round_trip_ms > 0, "a heartbeat")
        a.endpoint.reconnect(1)
        await until(lambda: b.endpoint.links()[0].reconnects == number and a.endpoint.connected(1), "the reconnect")

    asyncio.run(scenario())


def test_an_acceptor_without_resumption_gives_a_full_handshake() -> None:
    async def scenario() -> None:
        settings = TransportSettings(zero_rtt=True)
        async with pair(settings, replace(settings, zero_rtt=False)) as (a, b):
            await until(lambda: a.endpoint.links()[0].round_trip_ms > 0, "a heartbeat")
            a.endpoint.reconnect(1)
            await until(lambda: b.endpoint.links()[0].reconnects == 1 and a.endpoint.connected(1), "the reconnect")
            assert not a.endpoint.links()[0].resumed
            assert a.endpoint.send(1, vote(1))
            await until(lambda: b.messages, "a message")

    asyncio.run(scenario())


def test_the_acknowledgement_rides_with_the_reply() -> None:
    """With a delay of minutes, only an acknowledgement inside the reply's datagram can have come when the reply has."""

    async def scenario() -> None:
        async with pair(TransportSettings(ack_delay_s=120.0, heartbeat_s=60.0, dead_after_s=600.0)) as (a, b):
            link = a.endpoint._peers[1].link
            assert link is not None
            unacknowledged: list[int] = []
            b.endpoint._on_message = lambda peer, message: b.endpoint.send(peer, message)  # type: ignore[assignment,return-value]
            a.endpoint._on_message = lambda peer, message: unacknowledged.append(link.quic.unacknowledged_bytes())
            for number in range(1, 6):
                assert a.endpoint.send(1, vote(number))
                await until(lambda want=number: len(unacknowledged) == want, "the reply")
            assert unacknowledged == [0] * 5

    asyncio.run(scenario())


def test_a_link_to_whoever_looks_on_is_quieter_and_its_end_is_noticed_later() -> None:
    async def scenario() -> None:
        settings = TransportSettings(monitor_dead_after_s=1.5)
        identities = [Identity.generate(number) for number in (0, 1, 200)]
        roster = roster_of(identities, {200: "operator"})
        node, peer = (Member(one, roster, settings) for one in identities[:2])
        monitor = Member(identities[2], roster, TransportSettings(heartbeat_s=1.0, dead_after_s=1.0))
        async with started(node, peer, monitor):
            node.endpoint.dial(1, peer.address)
            monitor.endpoint.dial(0, node.address)
            await until(lambda: all(link.connected for link in node.endpoint.links()), "both links")
            sent = {link.peer: link.datagrams_sent for link in node.endpoint.links()}

            def since(peer_id: int) -> int:
                return next(x for x in node.endpoint.links() if x.peer == peer_id).datagrams_sent - sent[peer_id]

            await until(lambda: since(1) >= 16, "eight heartbeats, or four of both sides")
            assert since(200) <= since(1) / 2
            peer.vanish()
            monitor.vanish()
            await until(lambda: len(node.reasons(PeerEventKind.DISCONNECTED)) == 2, "both are gone")
            assert node.reasons(PeerEventKind.DISCONNECTED) == ["no heartbeat for 0.5 s", "no heartbeat for 1.5 s"]

    asyncio.run(scenario())


def test_one_way_load_does_not_pass_for_silence() -> None:
    """The receiver says nothing but acknowledgements, and its pings are rarer than the patience of the sender."""

    async def scenario() -> None:
        async with pair(TransportSettings(dead_after_s=0.15, heartbeat_s=0.1)) as (a, b):
            ends_at = a.endpoint.clock() + 1.0
            number = 0
            while a.endpoint.clock() < ends_at:
                number += 1
                assert a.endpoint.send(1, vote(number))
                await asyncio.sleep(0.001)
            await until(lambda: len(b.messages) == number, "every message")
            assert not a.reasons(PeerEventKind.DISCONNECTED)
            assert not b.reasons(PeerEventKind.DISCONNECTED)

    asyncio.run(scenario())
