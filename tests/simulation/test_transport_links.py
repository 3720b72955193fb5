"""The transport over emulated links in virtual time: the seed decides everything, and streams pay on a bad link."""

from __future__ import annotations

import asyncio
import functools
from dataclasses import replace

import pytest

from net.identity import Identity, Roster, RosterEntry
from net.link_model import parse_links
from net.messages import AppendEntries, AppendEntriesReply, Entry, EntryKind, Message
from net.quic import Endpoint
from net.transport import TransportSettings
from net.wire.kinds import CodecKind
from tests.simulation.virtual_network import VirtualNetwork, run_virtually

NODES = 4
PATIENT = TransportSettings(codec=CodecKind.MSGPACK_COLUMNS, dead_after_s=30.0, unanswered_dial_s=5.0)


async def rounds(settings: TransportSettings, count: int, per_s: float, seed: int) -> list[float]:
    """Latency in ms of each of `count` rounds at an even rate: node 0 asks all, a majority (itself counted) answers."""
    loop = asyncio.get_running_loop()
    network = VirtualNetwork()
    identities = [Identity.generate(number) for number in range(NODES)]
    roster = Roster(
        RosterEntry(one.id, f"node-{one.id}", "node", one.public_key, ("127.0.0.1", 7_000 + one.id))
        for one in identities
    )
    answers: dict[int, int] = {}
    began: dict[int, float] = {}
    latencies_ms: list[float] = []
    endpoints: list[Endpoint] = []

    def heard(node: int, peer: int, message: Message) -> None:
        if isinstance(message, AppendEntries):
            reply = AppendEntriesReply(1, 1, node, True, message.round, 0, message.round)
            endpoints[node].send(peer, reply, round_id=message.round)
        elif isinstance(message, AppendEntriesReply):
            answers[message.round] = answers.get(message.round, 0) + 1
            if answers[message.round] == NODES // 2:
                latencies_ms.append((loop.time() - began[message.round]) * 1e3)

    for one in identities:
        listen = functools.partial(heard, one.id)
        endpoints += [network.endpoint(one, roster, settings, listen, seed + one.id)]
    for endpoint in endpoints:
        await endpoint.start()
        for peer in range(NODES):
            if peer != endpoint.identity.id:
                endpoint.dial(peer)
    while sum(link.connected for endpoint in endpoints for link in endpoint.links()) < NODES * (NODES - 1):
        await asyncio.sleep(0.01)
    for number in range(1, count + 1):
        began[number] = loop.time()
        message = AppendEntries(1, 1, 0, number, 1, 0, number, (Entry(number, 1, EntryKind.DATA, bytes(200)),))
        endpoints[0].broadcast(range(1, NODES), message, round_id=number)
        await asyncio.sleep(1 / per_s)
    while len(latencies_ms) < count:
        await asyncio.sleep(0.05)
    for endpoint in endpoints:
        await endpoint.close()
    return sorted(latencies_ms)


def percentile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def test_a_delay_is_what_a_round_takes() -> None:
    plain = run_virtually(rounds(PATIENT, 100, 100.0, 1))
    assert max(plain) < 1.0, "nothing takes time but the links"
    delayed = replace(PATIENT, links=parse_links("delay=4ms"))
    assert run_virtually(rounds(delayed, 100, 100.0, 1))[50] == pytest.approx(8.0, abs=0.5)
    one_pair = replace(PATIENT, links=parse_links("0-1:delay=40ms"))
    assert percentile(run_virtually(rounds(one_pair, 100, 100.0, 1)), 0.5) < 1.0, "two others make the majority"


@pytest.mark.parametrize("link", ["delay=20ms,loss=1%"])
def test_a_lost_packet_holds_up_its_own_round_alone(link: str) -> None:
    figures = {}
    for multiplexing in (False, True):
        settings = replace(PATIENT, links=parse_links(link), multiplexing=multiplexing)
        latencies = run_virtually(rounds(settings, 600, 200.0, 10))
        figures[multiplexing] = (percentile(latencies, 0.5), percentile(latencies, 0.99))
    print(
        f"{link}: one stream p50 {figures[False][0]:.1f} p99 {figures[False][1]:.1f} ms; "
        f"a stream a round p50 {figures[True][0]:.1f} p99 {figures[True][1]:.1f} ms"
    )
    assert figures[True][1] < figures[False][1]
