"""What is forwarded late, in a circle, or once more on purpose; and what a leader itself has lost."""

from __future__ import annotations

import pytest

from net.consensus import Send
from net.decided import ASKED_KEPT, DECIDED_KEPT, Decided
from net.messages import EntryKind, Forward, Mode
from net.settings import ConsensusSettings
from net.simulation.cluster import Cluster
from net.submissions import Content

X = (EntryKind.DATA, b"x")
LATE = Forward(1, EntryKind.DATA, (b"x",))


def decided_once() -> Cluster:
    cluster = Cluster(4, 1, Mode.BFT, keep_unsynced=True)
    cluster.propose(1, [b"x"])
    assert cluster.run(2.0, lambda: cluster.all_decided([b"x"]))
    cluster.run(cluster.now + 0.5)
    return cluster


def forwards_of(cluster: Cluster, node: int, sender: int) -> int:
    """How many messages a late forward from `sender` makes `node` pass on."""
    replica = cluster.nodes[node].replica
    assert replica is not None
    effects = replica.step(sender, LATE, cluster.now)
    return sum(isinstance(each, Send) and isinstance(each.message, Forward) for each in effects)


@pytest.mark.parametrize("to", [0, 1], ids=["to the leader", "to a follower"])
def test_a_forward_that_comes_late_is_not_ordered_once_more(to: int) -> None:
    cluster = decided_once()
    assert cluster.leader == 0
    for sender in (2, 3, 2, 3):
        cluster._deliver(sender, to, LATE)
        cluster.run(cluster.now + 0.2)
    assert cluster.payloads().count(b"x") == 1


def test_nodes_that_take_each_other_for_the_leader_do_not_pass_a_decided_forward_round() -> None:
    cluster = decided_once()
    for node in (0, 1):
        replica = cluster.nodes[node].replica
        assert replica is not None
        replica._byzantine.view = 4 + (1 - node)
        assert replica.leader == 1 - node
        assert forwards_of(cluster, node, sender=1 - node) == 0


def test_a_node_knows_what_was_decided_before_its_restart() -> None:
    cluster = decided_once()
    cluster.crash(1)
    cluster.boot(1)
    assert forwards_of(cluster, 1, sender=2) == 0


def test_equal_bytes_that_are_submitted_once_more_are_ordered_once_more() -> None:
    """Toggles that come back to what they were have the same bytes."""
    cluster = decided_once()
    cluster.propose(1, [b"x"])
    assert cluster.run(cluster.now + 3.0, lambda: cluster.payloads().count(b"x") == 2)
    cluster.run(cluster.now + 5.0)
    assert cluster.payloads().count(b"x") == 2
    assert all(node.replica is not None and node.replica.pending == 0 for node in cluster.nodes)


def test_who_asks_again_after_a_while_means_it() -> None:
    decided = Decided(again_after_s=0.75)
    assert not decided.is_late(2, X, 0.0), "it is not decided"
    decided.add([X])
    assert decided.is_late(2, X, 1.0)
    assert decided.is_late(2, X, 1.5), "a copy"
    assert decided.is_late(3, X, 2.0), "of another node"
    assert not decided.is_late(2, X, 2.0)
    assert decided.is_late(2, X, 2.1), "each time anew"
    assert decided.is_late(2, X, 9.0), "that long after it is late again"


def test_what_is_known_of_the_decided_is_bounded() -> None:
    decided = Decided(0.75)
    many: list[Content] = [(EntryKind.DATA, b"%d" % number) for number in range(DECIDED_KEPT + 10)]
    decided.add(many)
    assert many[9] not in decided
    assert all(decided.is_late(2, content, 0.0) for content in many[10:])
    assert len(decided._digests) == DECIDED_KEPT
    assert len(decided._asked[2]) == ASKED_KEPT


@pytest.mark.parametrize("mode", list(Mode))
def test_a_leader_whose_full_queue_dropped_its_own_submission_orders_it_later(mode: Mode) -> None:
    settings = ConsensusSettings(pending_limit=4, bft_window=1)
    cluster = Cluster(4, 1, mode, settings=settings, critical=lambda payload, applied: payload.startswith(b"critical"))
    cluster.run(1.5)
    leader = cluster.leader
    assert leader is not None
    node = cluster.nodes[leader]
    assert node.replica is not None
    if mode is Mode.RAFT:
        # A transfer that comes to nothing: proposals wait, and there is no room for all of them.
        away = (leader + 1) % 4
        cluster.crash(away)
        cluster.apply(node, node.replica.transfer_leadership(away, cluster.clock(node)))
    for number in range(5):
        forward = Forward(1, EntryKind.DATA, tuple(b"critical %d.%d" % (number, part) for part in range(2)))
        cluster.apply(node, node.replica.step((leader + 2) % 4, forward, cluster.clock(node)))
    cluster.propose(leader, [b"mine"])
    assert cluster.run(cluster.now + 4.0, lambda: node.replica is not None and node.replica.pending == 0)
    cluster.run(cluster.now + 3.0)
    assert cluster.payloads().count(b"mine") == 1


def test_a_leader_knows_its_own_critical_submission_again_where_it_is_under_way_with_its_witness() -> None:
    cluster = Cluster(4, 1, Mode.AUTO, critical=lambda payload, applied: payload.startswith(b"critical"))
    cluster.run(1.0)
    leader = cluster.leader
    assert leader is not None
    node = cluster.nodes[leader]
    assert node.replica is not None
    cluster.propose(leader, [b"critical"])
    raft = node.replica._raft
    assert raft is not None
    assert cluster.run(cluster.now + 1.0, lambda: any(kind is EntryKind.WITNESSED for kind, _ in raft.undecided))
    again: list[Content] = [(EntryKind.DATA, b"critical"), X]
    assert node.replica._not_in_flight(raft, again) == [X]


@pytest.mark.parametrize("node_id", [0, 1], ids=["at the leader", "at a follower"])
def test_what_was_lost_is_handed_over_again_however_much_is_decided_behind_it(node_id: int) -> None:
    cluster = decided_once()
    node = cluster.nodes[node_id]
    assert node.replica is not None
    # As if it had been handed over, and lost.
    node.replica._submissions.add([(EntryKind.DATA, b"lost")])
    for number in range(20):
        cluster.propose(node_id, [b"behind it %d" % number])
        cluster.run(cluster.now + 0.2)
    assert cluster.payloads().count(b"lost") == 1
