"""Figure 8 of the Raft paper, played out: an old term's entry on a majority is not yet safe."""

from __future__ import annotations

import pytest

from net.messages import Mode
from net.raft import RaftCore
from net.settings import ConsensusSettings
from tests.simulation.cluster import Cluster, Faults, InvariantBroken
from tests.simulation.mutations import commit_old_terms_by_counting

ONE_AT_A_TIME = ConsensusSettings(message_entries=1)


def raft_of(cluster: Cluster, node: int) -> RaftCore:
    replica = cluster.nodes[node].replica
    assert replica is not None
    assert replica._raft is not None
    return replica._raft


def leads(cluster: Cluster, node: int) -> bool:
    return cluster.nodes[node].replica is not None and raft_of(cluster, node).role == "leader"


def play(seed: int) -> int:
    """S1 is node 0. Returns how many nodes held the old entry when its second leader died."""
    steady = Faults(delay_min_s=0.001, delay_max_s=0.001)
    cluster = Cluster(5, seed, Mode.RAFT, steady, ONE_AT_A_TIME)
    cluster.propose(0, [b"settled"])
    assert cluster.run(1.0, lambda: cluster.all_decided([b"settled"]))
    contested = raft_of(cluster, 0).log.last_index + 1
    # (a) S1 leads and gives the entry to S2 only.
    cluster.cut([0, 1], [2, 3, 4])
    cluster.propose(0, [b"old"])
    cluster.run(cluster.now + 0.01)
    assert raft_of(cluster, 1).log.last_index == contested
    # (b) S1 and S2 crash; another is elected by the rest, writes an entry of its own at that index, and crashes.
    cluster.crash(0)
    cluster.crash(1)
    assert cluster.run(cluster.now + 5.0, lambda: any(leads(cluster, node) for node in (2, 3, 4)))
    other = next(node for node in (2, 3, 4) if leads(cluster, node))
    rest = [node for node in (2, 3, 4) if node != other]
    cluster.cut([other], [0, 1, *rest])
    cluster.crash(other)
    cluster.run(cluster.now + 0.01)
    # (c) S1 comes back, is elected, and brings the old entry to a majority; its own term's entry goes no further.
    cluster.rejoin()
    cluster.boot(0)

    def spread() -> bool:
        return leads(cluster, 0) and all(raft_of(cluster, 0).match_index[node] >= contested for node in rest)

    assert cluster.run(cluster.now + 5.0, spread)
    held = 1 + sum(raft_of(cluster, node).log.last_index == contested for node in rest)
    cluster.cut([0], [1, 2, 3, 4])
    cluster.crash(0)
    cluster.run(cluster.now + 0.01)
    # (d) The other comes back and is elected: it may overwrite the old entry.
    cluster.rejoin()
    cluster.boot(other)
    assert cluster.run(cluster.now + 5.0, lambda: leads(cluster, other))
    cluster.run(cluster.now + 0.1)
    cluster.heal()
    cluster.propose(2, [b"after"])
    assert cluster.run(cluster.now + 5.0, lambda: cluster.all_decided([b"after"]))
    assert b"old" not in cluster.payloads()
    return held


@pytest.mark.parametrize("seed", range(5))
def test_an_old_terms_entry_may_be_overwritten_though_a_majority_holds_it(seed: int) -> None:
    assert play(seed) == 3


def test_counting_it_as_committed_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    commit_old_terms_by_counting(monkeypatch)
    with pytest.raises(InvariantBroken, match="decides another entry"):
        play(0)
