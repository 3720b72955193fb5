"""The replica: epochs, recovery, catching up, and the witnesses of AUTO."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import msgpack
import pytest

from net.auto_queue import AutoQueue
from net.certificate import GENESIS_DIGEST, Verifier, entry_digest, signed_bytes, verify_committed, with_word
from net.consensus import Commit, Effect, EpochStarted, Evidence, Persist, Send
from net.durable import (
    AppendRecord,
    CommitIndexRecord,
    HardState,
    Record,
    RecordError,
    VoteRecord,
    decode_record,
    encode_record,
    encode_witness,
)
from net.epoch import first_epoch
from net.membership import all_voters, encode_membership
from net.messages import (
    AppendEntries,
    Certificate,
    CertificateNotice,
    CommittedEntries,
    ConsensusMessage,
    Entry,
    EntryKind,
    FetchEntries,
    Forward,
    Mode,
    Phase,
)
from net.mode_switch import sign_switch
from net.replica import Replica
from net.settings import ConsensusSettings
from net.simulation.byzantine import Adversary
from net.simulation.cluster import Cluster
from net.simulation.keys import AUTHORITIES, OPERATOR, OPERATOR_KEY, roster_of, signer
from net.submissions import Submissions, TooManySubmissions


def replica(node: int = 0, n: int = 4, mode: Mode = Mode.RAFT, records: list[bytes] | None = None) -> Replica:
    return Replica.recover(
        records or [],
        node,
        roster_of(n),
        signer(node),
        Random(node),
        mode=mode,
        leader_hint=0,
        authorities=AUTHORITIES,
    )


def is_critical(payload: bytes, applied: int = 0) -> bool:
    return payload.startswith(b"critical")


def run_cluster(mode: Mode, payloads: list[bytes], settings: ConsensusSettings | None = None) -> Cluster:
    cluster = Cluster(4, 3, mode, settings=settings, critical=is_critical)
    cluster.propose(0, payloads)
    assert cluster.run(3.0, lambda: cluster.all_decided(payloads))
    return cluster


def sent(effects: list[Effect], kind: type) -> list[Send]:
    return [effect for effect in effects if isinstance(effect, Send) and isinstance(effect.message, kind)]


def test_bad_construction_is_refused() -> None:
    with pytest.raises(ValueError, match="not in the roster"):
        Replica(9, roster_of(4), signer(0), Random(0))
    with pytest.raises(ValueError, match="at least 4 nodes"):
        Replica(0, roster_of(3), signer(0), Random(0), mode=Mode.BFT)


@pytest.mark.parametrize("mode", list(Mode))
def test_a_restart_replays_what_was_decided(mode: Mode) -> None:
    cluster = run_cluster(mode, [b"critical one", b"two"])
    node = cluster.nodes[1]
    again = replica(1, mode=mode, records=node.disk.records)
    again_critical = Replica.recover(
        node.disk.records, 1, roster_of(4), signer(1), Random(1), mode=mode, leader_hint=0, critical=is_critical
    )
    assert again.commit_index == again_critical.commit_index == len(node.decided)
    commits = [effect for effect in again_critical.start(0.0) if isinstance(effect, Commit)]
    assert all(commit.recovered for commit in commits)
    replayed = [each.entry for commit in commits for each in commit.entries]
    assert replayed == [each.entry for each in node.decided]
    assert {index for commit in commits for index in commit.denied} == set()


def test_a_restart_replays_switches() -> None:
    cluster = run_cluster(Mode.RAFT, [b"one"])
    for mode in (Mode.BFT, Mode.AUTO, Mode.RAFT):
        cluster.switch(0, mode)
        cluster.propose(0, [f"critical in {mode.name}".encode()])
        cluster.run(cluster.now + 0.5)
    node = cluster.nodes[2]
    again = Replica.recover(
        node.disk.records,
        2,
        roster_of(4),
        signer(2),
        Random(2),
        leader_hint=0,
        critical=is_critical,
        authorities=AUTHORITIES,
    )
    assert (again.epoch, again.mode) == (4, Mode.RAFT)
    effects = again.start(0.0)
    replayed = [each for effect in effects if isinstance(effect, Commit) for each in effect.entries]
    assert replayed == node.decided
    (started,) = [effect for effect in effects if isinstance(effect, EpochStarted)]
    assert (started.epoch, started.mode) == (4, Mode.RAFT)


def test_records_that_do_not_fit_are_refused() -> None:
    with pytest.raises(RecordError, match="does not decode"):
        replica(records=[b"\x93\x01\x02"])
    with pytest.raises(RecordError, match="epoch 5"):
        replica(records=[encode_record(HardState(5, 1, None))])
    with pytest.raises(RecordError, match="Byzantine record"):
        replica(records=[encode_record(VoteRecord(1, False, Phase.NOTARIZE, 4, 1, bytes(32), bytes(64)))])


@pytest.mark.parametrize(
    "record",
    [
        HardState(1, 7, None),
        HardState(1, 7, 3),
        AppendRecord(2, 5, (Entry(5, 1, EntryKind.NOOP, b""), Entry(6, 1, EntryKind.DATA, b"\x00\xff"))),
        CommitIndexRecord(3, 1 << 40),
        VoteRecord(1, True, Phase.NULLIFY, 9, 0, bytes(32), b"s" * 64),
    ],
)
def test_records_come_back_as_they_were(record: Record) -> None:
    assert decode_record(encode_record(record)) == record


@pytest.mark.parametrize("mode", [Mode.RAFT, Mode.AUTO])
def test_a_raft_entry_is_proven_by_the_word_of_who_leads(mode: Mode) -> None:
    cluster = run_cluster(mode, [b"critical one", b"two"])
    verifier = Verifier(roster_of(4))
    leader = cluster.leader
    assert leader is not None
    for committed in cluster.nodes[leader].decided:
        assert committed.certificate.signers == (), "nobody has asked for it"
        verify_committed(with_word(committed, leader, signer(leader)), verifier)


def test_a_critical_entry_carries_its_witness_and_others_none() -> None:
    cluster = run_cluster(Mode.AUTO, [b"critical one", b"two"])
    seen = {each.entry.payload: each for each in cluster.nodes[3].decided}
    assert seen[b"critical one"].witness is not None
    assert seen[b"critical one"].entry.kind is EntryKind.DATA
    assert seen[b"two"].witness is None


def test_a_critical_entry_without_a_witness_is_left_to_who_applies_it_and_blocks_nothing() -> None:
    """A Raft leader of AUTO that orders a critical entry as it stands. How many entries a node decides in one go must
    change nothing, so it asks nobody's state then.
    """

    def critical(payload: bytes) -> bool:
        raise AssertionError(f"{payload!r} was judged on a state that is not the one behind the entry before it")

    follower = Replica(1, roster_of(4), signer(1), Random(1), mode=Mode.AUTO, leader_hint=0, critical=critical)
    follower.start(0.0)
    entries = (Entry(1, 1, EntryKind.DATA, b"critical one"), Entry(2, 1, EntryKind.DATA, b"two"))
    effects = follower.step(0, AppendEntries(1, 1, 0, 0, 0, 2, 0, entries), 0.1)
    (commit,) = [effect for effect in effects if isinstance(effect, Commit)]
    assert commit.denied == ()
    assert [(each.entry.payload, each.witness) for each in commit.entries] == [(b"critical one", None), (b"two", None)]


def test_what_never_gets_a_witness_does_not_hold_back_what_does() -> None:
    """Found as `auto, n = 4, one liar`, seed 23: one malformed switch in a forward, and the log stood still."""
    cluster = Cluster(
        4,
        3,
        Mode.AUTO,
        critical=is_critical,
        validate=lambda kind, payload, members, index: payload != b"critical, and refused",
    )
    cluster.run(1.0)
    assert cluster.leader is not None
    follower = (cluster.leader + 1) % 4
    for kind, payload in ((EntryKind.SWITCH, b"\1\0\0\xff"), (EntryKind.DATA, b"critical, and refused")):
        cluster._deliver(follower, cluster.leader, Forward(1, kind, (payload,)))
    cluster.propose(cluster.leader, [b"critical, and refused", b"critical"])
    cluster.propose(follower, [b"plain"])
    assert cluster.run(cluster.now + 5.0, lambda: cluster.all_decided([b"critical", b"plain"]))


def test_a_former_leaders_queue_is_empty_when_it_leads_again() -> None:
    """What it held of others they handed to who led next: ordered twice, or waiting for a witness, it held up all."""
    cluster = Cluster(4, 3, Mode.AUTO, critical=is_critical)
    cluster.run(1.0)
    former = cluster.leader
    assert former is not None
    others = [node for node in range(4) if node != former]
    cluster._deliver(others[0], former, Forward(1, EntryKind.DATA, (b"critical",)))
    cluster.cut([former], others)
    replica = cluster.nodes[former].replica
    assert replica is not None
    assert replica._auto is not None
    assert replica._auto.contents() == {(EntryKind.DATA, b"critical")}
    assert cluster.run(cluster.now + 5.0, lambda: cluster.leader in others)
    cluster.rejoin()
    assert cluster.run(cluster.now + 5.0, lambda: replica.leader == cluster.leader)
    assert replica._auto.contents() == set()


def witness_for(payload: bytes, height: int = 1) -> Certificate:
    context = first_epoch(Mode.AUTO, 0, all_voters(roster_of(4))).witness_context
    digest = entry_digest(GENESIS_DIGEST, Entry(height, 4, EntryKind.DATA, payload))
    said = signed_bytes(context, Phase.FINALIZE, 4, height, digest)
    signers = (0, 1, 2)
    return Certificate(
        Mode.BFT,
        1,
        context,
        Phase.FINALIZE,
        4,
        height,
        GENESIS_DIGEST,
        digest,
        signers,
        tuple(signer(node)(said) for node in signers),
    )


def test_a_witness_counts_once_and_only_for_its_payload_and_epoch() -> None:
    queue = AutoQueue(
        first_epoch(Mode.AUTO, 0, all_voters(roster_of(4))).witness_context, Verifier(roster_of(4)), ConsensusSettings()
    )
    entry = Entry(9, 3, EntryKind.DATA, b"critical one")
    witness = witness_for(b"critical one")
    assert not queue.use_witness(witness, replace(entry, payload=b"critical two"))
    assert not queue.use_witness(replace(witness, context=bytes(32)), entry)
    assert not queue.use_witness(replace(witness, signers=(0, 1), signatures=witness.signatures[:2]), entry)
    assert queue.use_witness(witness, entry)
    assert not queue.use_witness(witness, entry), "a leader may not order a witnessed decision twice"


@pytest.mark.parametrize(("false", "denied"), [({}, ()), ({"epoch": 99}, (1,)), ({"term": 4.0}, (1,))])
def test_a_witness_with_a_false_field_lets_nothing_pass_and_breaks_nobody(
    false: dict[str, Any], denied: tuple[int, ...]
) -> None:
    """A lying Raft leader of AUTO writes what it likes into the wrapping of a critical entry."""
    follower = Replica(1, roster_of(4), signer(1), Random(1), mode=Mode.AUTO, leader_hint=0, critical=is_critical)
    follower.start(0.0)
    payload = encode_witness(replace(witness_for(b"critical one"), **false), EntryKind.DATA, b"critical one")
    entries = (Entry(1, 1, EntryKind.WITNESSED, payload),)
    effects = follower.step(0, AppendEntries(1, 1, 0, 0, 0, 1, 0, entries), 0.1)
    (commit,) = [effect for effect in effects if isinstance(effect, Commit)]
    assert commit.denied == denied


def test_a_byzantine_epoch_takes_no_witness_from_a_peer() -> None:
    """It has none: what a peer gives along with a decided entry would be handed on as a part of its proof."""
    cluster = run_cluster(Mode.BFT, [b"one"])
    source = cluster.nodes[0].replica
    assert source is not None
    committed = source.history.slice(1, 1, 1 << 20)[0]
    laggard = replica(3, mode=Mode.BFT)
    laggard.start(0.0)
    padded = replace(committed, witness=witness_for(b"one"))
    effects = laggard.step(0, CommittedEntries(1, 1, (padded,)), 0.1)
    assert [effect.entries for effect in effects if isinstance(effect, Commit)] == [(committed,)]
    assert laggard.history.slice(1, 1, 1 << 20) == (committed,)


@pytest.mark.parametrize("false", [{"epoch": 99}, {"epoch": 0}, {"parent": b"false"}])
def test_a_leader_that_passes_on_certificates_with_a_false_field_keeps_nobody_from_starting_again(
    false: dict[str, Any],
) -> None:
    class Liar(Adversary):
        def rewrite(self, sender: int, to: int, message: ConsensusMessage, random: Random) -> list[ConsensusMessage]:
            if isinstance(message, CertificateNotice):
                return [replace(message, certificate=replace(message.certificate, **false))]
            return [message]

    cluster = Cluster(4, 1, Mode.BFT, byzantine=(0,), adversary=Liar((0,), 4), keep_unsynced=True)
    for number in range(3):
        cluster.propose(1, [b"%d" % number])
        cluster.run(cluster.now + 1.0)
    cluster.run(cluster.now + 20.0, lambda: cluster.all_decided([b"0", b"1", b"2"]))
    for node in (1, 2, 3):
        before = cluster.nodes[node].replica
        assert before is not None
        assert {each.certificate.epoch for each in before.history.between(1, before.commit_index)} == {1}
        cluster.crash(node)
        cluster.boot(node)
        after = cluster.nodes[node].replica
        assert after is not None
        assert after.commit_index == before.commit_index >= 3


@pytest.mark.parametrize("mode", [Mode.BFT, Mode.RAFT])
def test_a_false_history_is_not_taken(mode: Mode) -> None:
    cluster = run_cluster(mode, [b"one", b"two"])
    source = cluster.nodes[0].replica
    assert source is not None
    (answer,) = sent(source.step(3, FetchEntries(1, 1, 100), 9.0), CommittedEntries)
    genuine = answer.message
    assert isinstance(genuine, CommittedEntries)
    false = tuple(replace(each, entry=replace(each.entry, payload=b"false")) for each in genuine.entries)
    laggard = replica(3, mode=mode)
    laggard.start(0.0)
    laggard.step(0, replace(genuine, entries=false), 0.1)
    assert laggard.commit_index == 0
    laggard.step(0, genuine, 0.1)
    assert laggard.commit_index == source.commit_index


def test_a_byzantine_epoch_takes_no_entry_on_a_peers_word() -> None:
    cluster = run_cluster(Mode.BFT, [b"one"])
    source = cluster.nodes[0].replica
    assert source is not None
    committed = source.history.slice(1, 1, 1 << 20)[0]
    for signers in ((), (0,), (0, 1)):
        weak = replace(
            committed.certificate, signers=signers, signatures=committed.certificate.signatures[: len(signers)]
        )
        laggard = replica(3, mode=Mode.BFT)
        laggard.start(0.0)
        effects = laggard.step(0, CommittedEntries(1, 1, (replace(committed, certificate=weak),)), 0.1)
        assert laggard.commit_index == 0
        assert [effect.culprit for effect in effects if isinstance(effect, Evidence)] == [0]


def test_a_message_of_a_newer_epoch_makes_a_laggard_fetch_and_one_of_an_older_is_answered() -> None:
    node = replica(1)
    node.start(0.0)
    newer = AppendEntries(3, 1, 0, 7, 0, 7, 0, ())
    (fetch,) = sent(node.step(0, newer, 0.1), FetchEntries)
    assert fetch.to == 0
    assert fetch.message == FetchEntries(1, 1, ConsensusSettings().message_entries)
    assert sent(node.step(0, newer, 0.1), FetchEntries) == [], "one fetch at a time"
    (answer,) = sent(node.step(2, AppendEntries(0, 1, 2, 0, 0, 0, 0, ()), 0.2), CommittedEntries)
    assert answer.to == 2


def test_messages_kept_for_the_next_epoch_are_bounded() -> None:
    settings = ConsensusSettings(buffered_messages=20)
    node = Replica(1, roster_of(4), signer(1), Random(1), settings=settings)
    node.start(0.0)
    for number in range(50):
        node.step(0, AppendEntries(2, 1, 0, number, 0, 0, 0, ()), 0.1)
    assert len(node._future) == 5, "one peer's share"
    node.step(2, AppendEntries(2, 1, 2, 1, 0, 0, 0, ()), 0.1)
    assert len(node._future) == 6


def impossible_change() -> bytes:
    return msgpack.packb((1, encode_membership(all_voters(roster_of(4))), 1.0, 2, bytes(64)))


@pytest.mark.parametrize("mode", list(Mode))
def test_a_change_of_membership_that_begins_no_epoch_is_not_ordered(mode: Mode) -> None:
    cluster = run_cluster(mode, [b"before"])
    leader = cluster.leader
    assert leader is not None
    before = len(cluster.truth)
    cluster._deliver((leader + 1) % 4, leader, Forward(1, EntryKind.MEMBERSHIP, (impossible_change(),)))
    cluster._deliver((leader + 1) % 4, (leader + 2) % 4, Forward(1, EntryKind.MEMBERSHIP, (impossible_change(),)))
    cluster.run(cluster.now + 2.0)
    assert [each.entry.kind for each in cluster.truth[before:]] == []
    cluster.propose(0, [b"after"])
    assert cluster.run(cluster.now + 5.0, lambda: cluster.all_decided([b"after"]))
    assert {node.replica.epoch for node in cluster.nodes if node.replica is not None} == {1}


@pytest.mark.parametrize("mode", [Mode.RAFT, Mode.AUTO])
def test_a_change_of_membership_that_begins_no_epoch_is_denied_where_it_is_in_the_log(mode: Mode) -> None:
    """A Raft leader that does not look ordered it: every node denies it, and again when it starts from its log."""
    cluster = run_cluster(mode, [b"before"])
    leader = cluster.nodes[cluster.leader or 0]
    assert leader.replica is not None
    leader.replica._order([(EntryKind.MEMBERSHIP, impossible_change())], cluster.clock(leader))
    cluster.propose(leader.id, [b"after"])
    assert cluster.run(cluster.now + 5.0, lambda: cluster.all_decided([b"after"]))
    (index,) = (each.entry.index for each in cluster.truth if each.entry.kind is EntryKind.MEMBERSHIP)
    assert all(index in node.denied for node in cluster.nodes)
    for node in cluster.nodes:
        cluster.crash(node.id)
        cluster.boot(node.id)
    cluster.propose(0, [b"again"])
    assert cluster.run(cluster.now + 5.0, lambda: cluster.all_decided([b"again"]))
    assert all(index in node.denied for node in cluster.nodes)


def test_strangers_are_ignored() -> None:
    node = replica(1)
    node.start(0.0)
    assert node.step(7, AppendEntries(1, 1, 7, 0, 0, 0, 0, ()), 0.1) == []
    assert node.step(1, AppendEntries(1, 1, 1, 0, 0, 0, 0, ()), 0.1) == []


def test_submissions_are_bounded_all_or_none() -> None:
    waiting = Submissions(3)
    waiting.add([(EntryKind.DATA, b"a"), (EntryKind.DATA, b"b")])
    with pytest.raises(TooManySubmissions, match="limit is 3"):
        waiting.add([(EntryKind.DATA, b"c"), (EntryKind.DATA, b"d")])
    assert [payload for _, payload in waiting.all()] == [b"a", b"b"]
    waiting.add([(EntryKind.DATA, b"a")])
    assert waiting.settle((EntryKind.DATA, b"a"))
    assert [payload for _, payload in waiting.all()] == [b"a", b"b"]
    assert not waiting.settle((EntryKind.DATA, b"z"))
    assert len(waiting) == 2


def test_a_full_queue_puts_off_the_readmission_of_a_lost_disk_and_breaks_nobody() -> None:
    settings = ConsensusSettings(pending_limit=1)
    node = Replica(1, roster_of(4), signer(1), Random(1), settings=settings, incarnation=b"i" * 16)
    node.start(0.0)
    node.propose([b"one"], 0.0)
    known = node.step(0, AppendEntries(1, 1, 0, 0, 0, 1, 0, (Entry(1, 1, EntryKind.NOOP, b""),)), 0.1)
    assert {each.message.kind for each in sent(known, Forward) if isinstance(each.message, Forward)} == {EntryKind.DATA}
    asked = node.step(0, AppendEntries(1, 1, 0, 1, 1, 2, 0, (Entry(2, 1, EntryKind.DATA, b"one"),)), 0.2)
    assert [each.message.kind for each in sent(asked, Forward) if isinstance(each.message, Forward)] == [
        EntryKind.MEMBERSHIP
    ]


def test_what_was_submitted_before_a_leader_was_known_is_forwarded_once_one_is() -> None:
    node = replica(1)
    node.start(0.0)
    assert sent(node.propose([b"early"], 0.0), Forward) == []
    noop = Entry(1, 1, EntryKind.NOOP, b"")
    assert sent(node.step(0, AppendEntries(1, 1, 0, 0, 0, 0, 0, (noop,)), 0.1), Forward) == []
    (forward,) = sent(node.step(0, AppendEntries(1, 1, 0, 1, 1, 1, 0, ()), 0.1), Forward)
    assert forward.to == 0
    assert forward.message == Forward(1, EntryKind.DATA, (b"early",))
    (later,) = sent(node.propose([b"late"], 0.2), Forward)
    assert later.message == Forward(1, EntryKind.DATA, (b"late",))
    assert node.pending == 2


def test_a_switch_to_the_mode_that_holds_is_nothing() -> None:
    node = replica(0)
    node.start(0.0)
    other = first_epoch(Mode.BFT, 0, all_voters(roster_of(4)))
    assert node.switch_mode(sign_switch(other, Mode.RAFT, OPERATOR, signer(OPERATOR_KEY)), 0.0) == []
    assert node.pending == 0


def test_status_tells_what_holds() -> None:
    cluster = run_cluster(Mode.RAFT, [b"one"])
    node = cluster.nodes[0].replica
    assert node is not None
    status = node.status()
    assert (status.mode, status.role, status.leader, status.epoch) == (Mode.RAFT, "leader", 0, 1)
    assert status.commit_index == len(cluster.truth)
    assert [peer for peer, _ in status.peer_match_index] == [1, 2, 3]
    assert status.rounds >= 1
    assert status.messages_sent > 0
    cluster.switch(0, Mode.BFT)
    cluster.run(cluster.now + 1.0)
    assert cluster.nodes[1].replica is not None
    assert cluster.nodes[1].replica.status().role == "replica"
    assert node.is_leader


def test_every_record_of_a_byzantine_run_decodes() -> None:
    cluster = run_cluster(Mode.BFT, [b"one"])
    kinds = {type(decode_record(record)).__name__ for record in cluster.nodes[0].disk.records}
    assert kinds == {"IncarnationRecord", "ViewRecord", "BlockRecord", "VoteRecord", "CertificateRecord"}
    effects = replica(2, mode=Mode.BFT).start(0.0)
    assert [effect for effect in effects if isinstance(effect, Persist)] == []
