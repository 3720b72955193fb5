"""Payloads that are made for certain members, as a batch of decisions with its signed opinions is, across epochs."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from net.membership import Membership
from net.messages import EntryKind, Mode
from net.settings import ConsensusSettings
from net.simulation.cluster import Cluster, Faults

WITHOUT_THE_LAST = (0, 1, 2, 3)
ALL = (0, 1, 2, 3, 4)


def made_for(voters: tuple[int, ...], name: str) -> bytes:
    return f"critical for {voters}: {name}".encode()


def is_made_for(kind: EntryKind, payload: bytes, members: Membership, index: int | None) -> bool:
    """The stand-in for `SwarmState.judge_entry`, which wants the opinions of a quorum of the voters."""
    return not payload.startswith(b"critical for") or payload.startswith(made_for(members.voters, ""))


def cluster_of(mode: Mode, seed: int, *, fast_path: bool = False) -> Cluster:
    return Cluster(
        5,
        seed,
        mode,
        Faults(delay_min_s=0.0005, delay_max_s=0.006),
        ConsensusSettings(fast_path=fast_path),
        validate=is_made_for,
        critical=lambda payload, applied: payload.startswith(b"critical"),
    )


def change_to(cluster: Cluster, voters: tuple[int, ...], *, asked: int = 0) -> None:
    def change(before: Membership) -> Membership:
        return Membership(tuple(replace(each, voter=each.node in voters) for each in before.members))

    cluster.change_members(asked, change)


def voters_applied(cluster: Cluster, node: int) -> tuple[int, ...]:
    """Who votes, as the state above `node` knows it."""
    return cluster._verifiers[cluster.nodes[node].epochs[-1][0]].nodes


@pytest.mark.parametrize("fast_path", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_no_honest_leader_is_accused_over_whom_a_batch_was_made_for(seed: int, fast_path: bool) -> None:
    """Who heard of the change and of a batch behind it in one turn judged that batch by the members before."""
    cluster = cluster_of(Mode.BFT, seed, fast_path=fast_path)
    random = Random(seed)
    made: list[bytes] = []
    for number in range(240):
        if number % 20 == 10:
            change_to(cluster, random.choice((WITHOUT_THE_LAST, ALL)))
        leader = cluster.leader
        if leader is not None:
            made.append(made_for(voters_applied(cluster, leader), str(number)))
            cluster.propose(leader, [made[-1]])
        cluster.run(cluster.now + 0.002)
    cluster.run(cluster.now + 2.0)
    last = made_for(voters_applied(cluster, 0), "the last")
    cluster.propose(0, [last])
    assert cluster.run(cluster.now + 3.0, lambda: cluster.all_decided([last]))
    assert [found for node in cluster.nodes for found in node.evidence] == []
    assert len(cluster.nodes[0].epochs) > 3, "the members changed"
    given_back = {payload for node in cluster.nodes for payload in node.refused}
    assert set(made) | {last} == set(cluster.payloads()) | given_back
    assert not given_back & set(cluster.payloads()), "what is given back is not decided as well"
    assert all(node.replica is not None and node.replica.pending == 0 for node in cluster.nodes)


def test_what_becomes_critical_as_it_waits_and_gets_no_witness_holds_nothing_back() -> None:
    """The leader of AUTO took it as it needed no witness, and behind it everything waited for as long as it led."""
    exposed = False
    cluster = Cluster(
        4,
        5,
        Mode.AUTO,
        validate=lambda kind, payload, members, index: payload != b"refused",
        critical=lambda payload, applied: payload.startswith(b"critical") or (exposed and payload == b"refused"),
    )
    cluster.propose(0, [b"hello"])
    assert cluster.run(2.0, lambda: cluster.all_decided([b"hello"]))
    leader = cluster.leader
    assert leader is not None
    cluster.propose(leader, [b"critical", b"refused", b"plain"])
    exposed = True
    assert cluster.run(cluster.now + 3.0, lambda: cluster.all_decided([b"critical", b"plain"]))
    assert cluster.nodes[leader].refused == [b"refused"]
    assert b"refused" not in cluster.payloads()


@pytest.mark.parametrize("mode", [Mode.BFT, Mode.AUTO])
@pytest.mark.parametrize("by_leader", [True, False])
@pytest.mark.parametrize("before_the_change", [True, False])
def test_a_batch_for_members_of_before_comes_back(mode: Mode, by_leader: bool, before_the_change: bool) -> None:
    """It was dropped without a word, and who had submitted it waited for as long as the same node led."""
    cluster = cluster_of(mode, 5)
    cluster.propose(0, [b"hello"])
    assert cluster.run(2.0, lambda: cluster.all_decided([b"hello"]))
    leader = cluster.leader
    assert leader is not None
    submitter = leader if by_leader else (leader + 1) % 4
    late = made_for(ALL, "late")
    change_to(cluster, WITHOUT_THE_LAST, asked=leader)
    if before_the_change:
        # Proposed behind the change: the old epoch's order of it is void.
        cluster.propose(submitter, [late])
    assert cluster.run(cluster.now + 2.0, lambda: len(voters_applied(cluster, submitter)) == 4)
    if not before_the_change:
        cluster.propose(submitter, [late])
    cluster.propose(submitter, [b"plain"])
    cluster.run(cluster.now + 2.5)
    assert cluster.nodes[submitter].refused == [late]
    assert all(node.replica is not None and node.replica.pending == 0 for node in cluster.nodes)
    assert late not in cluster.payloads()
    assert b"plain" in cluster.payloads()
    anew = made_for(WITHOUT_THE_LAST, "anew")
    cluster.propose(submitter, [anew])
    assert cluster.run(cluster.now + 3.0, lambda: anew in cluster.payloads())
