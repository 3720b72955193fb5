"""Switches of the mode: whose word counts, for what, and for which epoch; in every mode, whoever orders it."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from net.certificate import GENESIS_DIGEST, entry_digest, signed_bytes
from net.consensus import Commit, Effect, Evidence, Send
from net.durable import AppendRecord, HardState, RecordError, encode_record
from net.epoch import Epoch, first_epoch, make_epoch, with_fast_path
from net.membership import Membership, all_voters
from net.messages import AppendEntries, Entry, EntryKind, Forward, Mode, Phase, Propose, Vote
from net.mode_switch import (
    PAYLOAD_BYTES,
    SwitchError,
    SwitchOrder,
    decode_switch,
    encode_switch,
    sign_switch,
    switched_epoch,
)
from net.replica import Replica
from net.settings import ConsensusSettings
from net.simulation.cluster import Cluster, Faults
from net.simulation.keys import AUTHORITIES, OPERATOR, OPERATOR_KEY, roster_of, signer
from net.simulation.malformed import false_switches

MEMBERS = all_voters(roster_of(4))
EPOCH = first_epoch(Mode.BFT, 0, MEMBERS)
OTHER = {Mode.BFT: Mode.RAFT, Mode.RAFT: Mode.AUTO, Mode.AUTO: Mode.BFT}


def order(mode: Mode = Mode.RAFT, epoch: Epoch = EPOCH, author: int = OPERATOR, key: int = OPERATOR_KEY) -> SwitchOrder:
    return sign_switch(epoch, mode, author, signer(key))


def after(payload: bytes, epoch: Epoch = EPOCH) -> Epoch:
    return switched_epoch(epoch, payload, 7, b"d" * 32, AUTHORITIES)


def false_orders(epoch: Epoch, mode: Mode) -> dict[str, SwitchOrder]:
    """Orders to make `mode` of `epoch` that its operator did not sign so, each by what is wrong."""
    good = order(mode, epoch)
    third = next(each for each in Mode if each not in (mode, epoch.mode))
    earlier = make_epoch(epoch.number + 1, epoch.mode, 9, bytes(32), 0, epoch.membership)
    return {
        "no signature": replace(good, signature=bytes(64)),
        "a changed mode": replace(order(third, epoch), mode=mode),
        "another epoch": order(mode, earlier),
        "another author": replace(good, author=OPERATOR + 1),
        "a node's own word": order(mode, epoch, author=2, key=2),
        "a node in the operator's name": order(mode, epoch, key=2),
    }


FALSE = tuple(false_orders(EPOCH, Mode.RAFT))


def test_an_operator_switches_and_the_next_epoch_begins_behind_the_entry() -> None:
    payload = encode_switch(order(Mode.AUTO), 3)
    assert len(payload) == PAYLOAD_BYTES
    assert decode_switch(payload) == (order(Mode.AUTO), 3)
    epoch = after(payload)
    assert (epoch.number, epoch.mode, epoch.base_index, epoch.base_digest) == (2, Mode.AUTO, 7, b"d" * 32)
    assert (epoch.leader_hint, epoch.membership) == (3, MEMBERS)
    assert after(encode_switch(order(), None)).leader_hint is None


@pytest.mark.parametrize("wrong", FALSE)
def test_what_the_operator_did_not_sign_begins_no_epoch(wrong: str) -> None:
    with pytest.raises(SwitchError, match="not signed by operator"):
        after(encode_switch(false_orders(EPOCH, Mode.RAFT)[wrong], 0))


def test_an_order_counts_in_its_own_epoch_only() -> None:
    payload = encode_switch(order(), 0)
    back = after(encode_switch(order(Mode.BFT, after(payload)), 0), after(payload))
    assert back.mode is EPOCH.mode
    for other in (back, with_fast_path(EPOCH), replace(EPOCH, context=EPOCH.witness_context)):
        with pytest.raises(SwitchError, match="not signed"):
            after(payload, other)
    fast = with_fast_path(EPOCH)
    assert after(encode_switch(order(epoch=fast), 0), fast).mode is Mode.RAFT


def test_a_mode_that_runs_or_cannot_is_refused_before_and_after_signing() -> None:
    three = first_epoch(Mode.RAFT, 0, Membership(MEMBERS.members[:3]))
    for epoch, mode, reason in ((EPOCH, Mode.BFT, "BFT already"), (three, Mode.AUTO, "needs at least 4 nodes")):
        with pytest.raises(SwitchError, match=reason):
            order(mode, epoch)
        # Signed by an operator whose program does not check.
        unchecked = signer(OPERATOR_KEY)(b"tradetui.switch.1" + epoch.context + bytes([mode]))
        with pytest.raises(SwitchError, match=reason):
            after(encode_switch(SwitchOrder(mode, OPERATOR, unchecked), 0), epoch)


@pytest.mark.parametrize("payload", false_switches(4))
def test_other_bytes_and_forgeries_are_refused(payload: bytes) -> None:
    with pytest.raises(SwitchError):
        after(payload)


def test_what_fits_in_no_payload_is_refused() -> None:
    for odd in (replace(order(), author=1 << 16), replace(order(), signature=b"short")):
        with pytest.raises(SwitchError, match="no order to switch"):
            encode_switch(odd, 0)


# In a replica


def is_critical(payload: bytes, applied: int) -> bool:
    """By its name, and every order to switch."""
    return payload.startswith(b"critical") or len(payload) == PAYLOAD_BYTES


def settled(mode: Mode, n: int = 4, *, critical_switches: bool = True) -> Cluster:
    critical = is_critical if critical_switches else lambda payload, applied: False
    cluster = Cluster(n, 5, mode, Faults(delay_min_s=0.001, delay_max_s=0.001), critical=critical)
    cluster.propose(0, [b"before"])
    assert cluster.run(2.0, lambda: cluster.all_decided([b"before"]))
    return cluster


def leading(cluster: Cluster) -> Replica:
    found = cluster.nodes[cluster.leader or 0].replica
    assert found is not None
    return found


def modes(cluster: Cluster) -> set[tuple[int, Mode]]:
    return {(node.replica.epoch, node.replica.mode) for node in cluster.nodes if node.replica is not None}


@pytest.mark.parametrize("wrong", FALSE)
@pytest.mark.parametrize("mode", list(Mode))
def test_a_replica_hands_in_no_switch_that_is_not_signed_for_its_epoch(mode: Mode, wrong: str) -> None:
    cluster = settled(mode)
    replica = leading(cluster)
    with pytest.raises(SwitchError, match="not signed"):
        replica.switch_mode(false_orders(replica.running_epoch, OTHER[mode])[wrong], cluster.now)
    assert replica.pending == 0


@pytest.mark.parametrize("wrong", FALSE)
@pytest.mark.parametrize("mode", list(Mode))
def test_a_switch_that_a_node_forwards_without_right_is_ordered_by_nobody(mode: Mode, wrong: str) -> None:
    cluster = settled(mode)
    leader = leading(cluster).node
    payload = encode_switch(false_orders(leading(cluster).running_epoch, OTHER[mode])[wrong], 1)
    before = len(cluster.truth)
    for to in range(4):
        cluster._deliver((leader + 1) % 4, to, Forward(1, EntryKind.SWITCH, (payload,)))
    cluster.propose(leader, [b"after"])
    assert cluster.run(cluster.now + 5.0, lambda: cluster.all_decided([b"after"]))
    assert EntryKind.SWITCH not in {each.entry.kind for each in cluster.truth[before:]}
    assert modes(cluster) == {(1, mode)}
    assert leading(cluster).node == leader, "nobody waits for it, and holds its absence against the leader"


@pytest.mark.parametrize("wrong", FALSE)
def test_a_byzantine_leader_that_proposes_one_loses_its_view(wrong: str) -> None:
    for payload, votes in (
        (encode_switch(false_orders(EPOCH, Mode.RAFT)[wrong], 0), {Phase.NULLIFY}),
        (encode_switch(order(), 0), {Phase.NOTARIZE}),
    ):
        replica = Replica(1, roster_of(4), signer(1), Random(1), mode=Mode.BFT, leader_hint=0, authorities=AUTHORITIES)
        replica.start(0.0)
        effects = replica.step(0, proposed(payload), 0.1)
        sent = [each.message for each in effects if isinstance(each, Send)]
        assert {each.phase for each in sent if isinstance(each, Vote)} == votes
        assert [each.culprit for each in effects if isinstance(each, Evidence)] == [0] * (Phase.NULLIFY in votes)


def proposed(payload: bytes) -> Propose:
    """Node 0's first proposal in its first view."""
    digest = entry_digest(GENESIS_DIGEST, Entry(1, 4, EntryKind.SWITCH, payload))
    signature = signer(0)(signed_bytes(EPOCH.context, Phase.NOTARIZE, 4, 1, digest))
    return Propose(1, 4, 1, GENESIS_DIGEST, EntryKind.SWITCH, payload, 0, signature)


@pytest.mark.parametrize("wrong", FALSE)
@pytest.mark.parametrize("mode", [Mode.RAFT, Mode.AUTO])
def test_a_raft_leader_that_orders_one_has_it_denied_by_every_node_again_after_a_restart(
    mode: Mode, wrong: str
) -> None:
    cluster = settled(mode, critical_switches=False)
    leader = cluster.nodes[leading(cluster).node]
    payload = encode_switch(false_orders(leading(cluster).running_epoch, OTHER[mode])[wrong], 1)
    leading(cluster)._order([(EntryKind.SWITCH, payload)], cluster.clock(leader))
    cluster.propose(leader.id, [b"after"])
    assert cluster.run(cluster.now + 5.0, lambda: cluster.all_decided([b"after"]))
    (index,) = (each.entry.index for each in cluster.truth if each.entry.kind is EntryKind.SWITCH)
    for node in cluster.nodes:
        assert index in node.denied
        cluster.crash(node.id)
        cluster.boot(node.id)
        assert index in node.denied
    cluster.propose(0, [b"again"])
    assert cluster.run(cluster.now + 5.0, lambda: cluster.all_decided([b"again"]))
    assert modes(cluster) == {(1, mode)}


@pytest.mark.parametrize("wrong", FALSE)
def test_in_auto_a_switch_that_gets_no_witness_holds_nothing_back(wrong: str) -> None:
    cluster = settled(Mode.AUTO)
    leader = cluster.nodes[leading(cluster).node]
    payload = encode_switch(false_orders(leading(cluster).running_epoch, Mode.RAFT)[wrong], 1)
    assert is_critical(payload, 0)
    leading(cluster)._order([(EntryKind.SWITCH, payload)], cluster.clock(leader))
    cluster.propose(leader.id, [b"critical", b"plain"])
    assert cluster.run(cluster.now + 1.0, lambda: cluster.all_decided([b"critical", b"plain"]))
    cluster.switch((leader.id + 1) % 4, Mode.RAFT)
    assert cluster.run(cluster.now + 1.0, lambda: modes(cluster) == {(2, Mode.RAFT)})


def test_an_order_that_waits_ends_with_its_epoch() -> None:
    """A node that is cut off holds one; the others go on to another mode and back: it must not count there."""
    cluster = settled(Mode.BFT)
    away = (leading(cluster).node + 1) % 4
    others = [node for node in range(4) if node != away]
    cluster.cut([away], others)
    cluster.switch(away, Mode.RAFT)
    for mode in (Mode.AUTO, Mode.BFT):
        cluster.switch(others[0], mode)
        cluster.run(cluster.now + 2.0)
    cluster.rejoin()
    cluster.propose(away, [b"back"])
    assert cluster.run(cluster.now + 10.0, lambda: cluster.all_decided([b"back"]))
    cluster.run(cluster.now + 5.0)
    assert modes(cluster) == {(3, Mode.BFT)}
    assert cluster.nodes[away].replica is not None
    assert cluster.nodes[away].replica.pending == 0


def test_the_fast_path_has_signatures_of_its_own() -> None:
    cluster = Cluster(4, 5, Mode.BFT, settings=ConsensusSettings(fast_path=True))
    cluster.propose(0, [b"before"])
    assert cluster.run(2.0, lambda: cluster.all_decided([b"before"]))
    with pytest.raises(SwitchError, match="not signed"):
        leading(cluster).switch_mode(order(), cluster.now)
    cluster.switch(0, Mode.RAFT)
    assert cluster.run(cluster.now + 2.0, lambda: modes(cluster) == {(2, Mode.RAFT)})


def test_a_log_of_a_build_that_asked_for_no_signature_is_refused_and_says_why() -> None:
    unsigned = Entry(1, 1, EntryKind.SWITCH, b"\1\0\0\3")
    records = [
        encode_record(HardState(1, 1, None)),
        encode_record(AppendRecord(1, 1, (unsigned,), 1)),
        encode_record(HardState(2, 1, None)),
    ]
    with pytest.raises(RecordError, match=r"no operator signed the SWITCH of entry 1.*start a new session"):
        Replica.recover(records, 0, roster_of(4), signer(0), Random(0), leader_hint=0, authorities=AUTHORITIES)


def commits(effects: list[Effect]) -> list[Commit]:
    return [each for each in effects if isinstance(each, Commit)]


def test_a_follower_denies_what_a_raft_leader_claims_to_be_committed() -> None:
    epoch = first_epoch(Mode.RAFT, 0, MEMBERS)
    follower = Replica(1, roster_of(4), signer(1), Random(1), leader_hint=0, authorities=AUTHORITIES)
    follower.start(0.0)
    false = encode_switch(order(Mode.AUTO, epoch, author=0, key=0), 0)
    good = encode_switch(order(Mode.AUTO, epoch), 0)
    entries = (Entry(1, 1, EntryKind.SWITCH, false), Entry(2, 1, EntryKind.SWITCH, good))
    (commit,) = commits(follower.step(0, AppendEntries(1, 1, 0, 0, 0, 2, 0, entries), 0.1))
    assert commit.denied == (1,)
    assert (follower.epoch, follower.mode) == (2, Mode.AUTO)
