"""A node that lags among peers of whom one lies: whom it asks, and whose checkpoint it takes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from net.consensus import Send
from net.fetching import Fetches, is_full
from net.messages import (
    AppendEntries,
    CommittedEntries,
    ConsensusMessage,
    FetchEntries,
    FetchSnapshot,
    Mode,
    SnapshotChunk,
)
from net.settings import ConsensusSettings
from net.simulation.cluster import Cluster
from net.simulation.invariants import SimulatedNode

LAGGARD = 2
LIAR = 3


class LyingCluster(Cluster):
    """Node 2 was away for 40 entries; to it, node 3 says only what the test lets it say."""

    asked: Counter[int]

    def _send(self, node: SimulatedNode, to: int, message: ConsensusMessage, waits_s: float) -> None:
        if node.id == LAGGARD and isinstance(message, FetchEntries):
            self.asked[to] += 1
        if {node.id, to} != {LAGGARD, LIAR}:
            super()._send(node, to, message, waits_s)


def behind(mode: Mode) -> LyingCluster:
    cluster = LyingCluster(4, 1, mode)
    cluster.asked = Counter()
    cluster.run(0.5)
    cluster.cut([LAGGARD], [0, 1, 3])
    for number in range(40):
        cluster.propose(0, [b"payload %d" % number])
        cluster.run(cluster.now + 0.05)
    cluster.rejoin()
    return cluster


@pytest.mark.parametrize(
    "lie",
    [CommittedEntries(1, 10**9, ()), AppendEntries(9, 1, LIAR, 0, 0, 0, 0, ())],
    ids=["claims to be far ahead", "speaks in a later epoch"],
)
def test_a_liar_that_speaks_all_the_time_does_not_get_every_question(lie: ConsensusMessage) -> None:
    cluster = behind(Mode.BFT)
    until = cluster.now + 2.0
    while cluster.now < until:
        cluster._deliver(LIAR, LAGGARD, lie)
        cluster.run(cluster.now + 0.002)
    node, other = cluster.nodes[LAGGARD].replica, cluster.nodes[0].replica
    assert node is not None
    assert other is not None
    assert node.commit_index == other.commit_index >= 40
    assert cluster.asked[LIAR] <= 2.0 / cluster.settings.resend_interval_s + 1


def test_questions_go_round_among_those_that_say_they_are_ahead() -> None:
    fetches = Fetches(0.25)
    members = (0, 1, 2, 3)
    assert fetches.says_it_is_ahead(3, members, 0.0) == 3
    for peer in (3, 1, 3, 2, 3, 3):
        assert fetches.says_it_is_ahead(peer, members, 0.1) is None, "one question at a time"
    assert fetches.says_it_is_ahead(3, members, 0.3) == 1
    assert fetches.says_it_is_ahead(3, members, 0.6) == 2
    assert fetches.says_it_is_ahead(3, members, 0.9) == 3
    assert fetches.says_it_is_ahead(1, members, 1.2) == 1, "3 was asked and has not spoken since"
    fetches.says_it_is_ahead(2, members, 1.3)
    assert fetches.says_it_is_ahead(3, (0, 1, 3), 1.5) == 3, "2 is no member any more"


def test_entries_given_one_by_one_are_no_full_answer() -> None:
    cluster = behind(Mode.BFT)
    other = cluster.nodes[0].replica
    assert other is not None
    entries = other.history.slice(1, 8, 1 << 20)
    answer = CommittedEntries(1, other.commit_index, entries)
    assert is_full(answer, limit=8)
    assert not is_full(replace(answer, entries=entries[:1]), limit=8)
    assert not is_full(replace(answer, entries=()), limit=8)
    everything = other.history.slice(1, 1 << 20, 1 << 30)
    assert is_full(replace(answer, entries=everything), limit=1 << 20), "there is no more"


def waiting_for_a_checkpoint() -> tuple[LyingCluster, SnapshotChunk]:
    """Node 2 comes back behind where the others cut their logs; and the first chunk that it needs."""
    settings = ConsensusSettings(checkpoint_interval_entries=6, snapshot_chunk_bytes=64, retained_entries=8)
    cluster = LyingCluster(4, 1, Mode.BFT, settings=settings)
    cluster.asked = Counter()
    cluster.run(0.5)
    cluster.crash(LAGGARD)
    for number in range(40):
        cluster.propose(0, [b"payload %d" % number])
        cluster.run(cluster.now + 0.05)
    cluster.run(cluster.now + 1.0)
    source = cluster.nodes[0].replica
    assert source is not None
    assert source._stable is not None
    cluster.boot(LAGGARD)
    first = source._stable.chunk(1, 0, 64)
    assert first is not None
    assert first.total_bytes > 2 * len(first.data)
    return cluster, first


def has_caught_up(cluster: Cluster) -> bool:
    node, other = cluster.nodes[LAGGARD].replica, cluster.nodes[0].replica
    return node is not None and other is not None and node.commit_index == other.commit_index


@pytest.mark.parametrize("extra", [0, 1], ids=["garbage", "another length"])
def test_a_first_chunk_from_a_liar_neither_stops_a_checkpoint_nor_puts_the_blame_on_others(extra: int) -> None:
    cluster, first = waiting_for_a_checkpoint()
    cluster._deliver(LIAR, LAGGARD, replace(first, total_bytes=first.total_bytes + extra, data=bytes(64)))
    before = cluster.message_counts.get("FetchSnapshot", 0)
    assert cluster.run(cluster.now + 5.0, lambda: has_caught_up(cluster))
    assert [each.culprit for each in cluster.nodes[LAGGARD].evidence] == []
    assert cluster.message_counts["FetchSnapshot"] - before < 2 * first.total_bytes / 64 + 10


def test_a_drip_of_bytes_does_not_keep_the_turn() -> None:
    cluster, first = waiting_for_a_checkpoint()
    for number in range(20):
        drop = replace(first, offset=number, data=first.data[number : number + 1])
        cluster._deliver(LIAR, LAGGARD, drop)
        cluster.run(cluster.now + 0.4, lambda: has_caught_up(cluster))
        if has_caught_up(cluster):
            return
    pytest.fail("one byte every 0.4 s kept the others away")


def test_who_sends_all_of_a_false_checkpoint_is_named_and_may_not_try_again_at_once() -> None:
    cluster, first = waiting_for_a_checkpoint()
    whole = replace(first, data=bytes(first.total_bytes))
    for _ in range(5):
        cluster._deliver(LIAR, LAGGARD, whole)
    assert [each.culprit for each in cluster.nodes[LAGGARD].evidence] == [LIAR]
    assert cluster.run(cluster.now + 5.0, lambda: has_caught_up(cluster))


def test_a_chunk_that_was_lost_is_asked_for_again_and_no_more_often() -> None:
    cluster, first = waiting_for_a_checkpoint()
    node = cluster.nodes[LAGGARD].replica
    assert node is not None
    asked = []
    for number in range(100):
        effects = node.step(1, first, cluster.now + number * 0.005)
        asked += [each for each in effects if isinstance(each, Send) and isinstance(each.message, FetchSnapshot)]
    assert len(asked) == 2, "at once, and after the resend interval"
    assert {each.message for each in asked} == {FetchSnapshot(1, first.certificate.index, 64)}
