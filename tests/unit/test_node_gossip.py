"""A node's news by gossip: peers are heard of, a state that differs is told once, nonsense of a peer harms nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgpack

from core.node_gossip import HASH_EVERY_ENTRIES, NodeGossip, Topic
from core.swarm_state import SwarmState
from net.gossip import gossip_bytes
from net.messages import EntryKind, GossipDelta, GossipEntry, GossipMessage
from tests.unit.test_swarm_state import KEYS, committed, make_state

MEMBERS = {node: KEYS[node].verify_key.encode() for node in (0, 1)}


class Pair:
    """Two nodes whose messages arrive at once."""

    def __init__(self) -> None:
        self.states = [make_state(), make_state()]
        self.told: list[tuple[int, int, int]] = []
        self.nodes = [self._make(node, state) for node, state in enumerate(self.states)]

    def _make(self, node: int, state: SwarmState) -> NodeGossip:
        def sign(data: bytes) -> bytes:
            return KEYS[node].sign(data).signature

        return NodeGossip(
            node,
            MEMBERS,
            sign,
            self._wire(node),
            state,
            lambda: (5, b"m" * 16),
            lambda: 77,
            lambda peer, index: self.told.append((node, peer, index)),
        )

    def _wire(self, node: int) -> Wire:
        return Wire(lambda to, message: self.nodes[to].deliver(node, message))

    def apply(self, node: int, kind: EntryKind, payload: bytes, entries: int) -> None:
        state = self.states[node]
        for _ in range(entries):
            state.apply(committed(state.applied_index + 1, payload, kind))
            self.nodes[node].applied()


class Wire:
    def __init__(self, deliver: Callable[[int, GossipMessage], None]) -> None:
        self._deliver = deliver

    def send(self, peer_id: int, message: GossipMessage) -> bool:
        self._deliver(peer_id, message)
        return True


async def exchange(pair: Pair) -> None:
    """Let both begin one exchange."""
    for _ in range(2):
        tasks = [asyncio.create_task(node.run()) for node in pair.nodes]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def test_peers_are_heard_of_and_equal_states_are_no_news() -> None:
    pair = Pair()
    for node in (0, 1):
        pair.apply(node, EntryKind.NOOP, b"", 2 * HASH_EVERY_ENTRIES + node)
    asyncio.run(exchange(pair))
    (news,) = pair.nodes[0].news()
    assert (news.node, news.step, news.applied_index, news.lessons) == (1, 77, 2 * HASH_EVERY_ENTRIES + 1, 5)
    assert pair.told == []


def test_another_state_behind_the_same_entry_is_told_once_by_both() -> None:
    pair = Pair()
    pair.apply(0, EntryKind.NOOP, b"", HASH_EVERY_ENTRIES)
    pair.apply(1, EntryKind.NOOP, b"other", HASH_EVERY_ENTRIES)
    for _ in range(2):
        for node in pair.nodes:
            node._gossip._due = 0.0
        asyncio.run(exchange(pair))
        for node in pair.nodes:
            node._compare()
    assert sorted(pair.told) == [(0, 1, HASH_EVERY_ENTRIES), (1, 0, HASH_EVERY_ENTRIES)]
    assert pair.nodes[0].disagreements == {1: HASH_EVERY_ENTRIES}


def test_nonsense_that_a_peer_signed_is_left_out() -> None:
    pair = Pair()
    pair.apply(0, EntryKind.NOOP, b"", HASH_EVERY_ENTRIES)
    for version, value in enumerate(
        (b"", b"\xc1", msgpack.packb(7), msgpack.packb(("x", 1, [(64, 2**40)], 0)), msgpack.packb((1, 2, [[1]], 0))), 1
    ):
        signature = KEYS[1].sign(gossip_bytes(1, Topic.LIVENESS, version, value)).signature
        entry = GossipEntry(1, Topic.LIVENESS, version, value, signature)
        pair.nodes[0].deliver(1, GossipDelta((entry,), ()))
        pair.nodes[0]._compare()
        assert pair.nodes[0].news() == ()
    assert pair.told == []
