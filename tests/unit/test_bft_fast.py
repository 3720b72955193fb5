"""The rules F1 to F6 of the fast path one by one, on cores that are fed by hand."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from net.bft_fast import FastBftCore, extendable
from net.certificate import (
    GENESIS_DIGEST,
    CertificateError,
    Verifier,
    WrongMode,
    entry_digest,
    signed_bytes,
    verify_certificate,
)
from net.consensus import Commit, Effect, Evidence, Persist, Send, Sync
from net.durable import BlockRecord, InstallRecord, decode_record, encode_record
from net.epoch import first_epoch, with_fast_path
from net.evidence import decode_contradiction
from net.membership import all_voters
from net.messages import (
    Certificate,
    CertificateNotice,
    Committed,
    Entry,
    EntryKind,
    EvidenceNotice,
    Mode,
    Phase,
    Propose,
    Vote,
)
from net.quorum import fast_path_possible
from net.replica import Replica
from net.settings import ConsensusSettings
from net.simulation.keys import roster_of, signer

N = 4
SLOW_EPOCH = first_epoch(Mode.BFT, 0, all_voters(roster_of(N)))
EPOCH = with_fast_path(SLOW_EPOCH)
VERIFIER = Verifier(roster_of(N))
FIRST_VIEW = 4
"""Leader 0; view 5 is led by node 1."""
NO_DIGEST = bytes(32)
ALL_TO_ALL = ConsensusSettings(relay_votes=False)


def core(node: int, settings: ConsensusSettings = ALL_TO_ALL, records: list[bytes] | None = None) -> FastBftCore:
    made = FastBftCore(
        node, EPOCH, False, signer(node), VERIFIER, settings, lambda kind, payload, index: payload != b"too much"
    )
    for record in records or []:
        made.restore(decode_record(record))
    made.start(0.0)
    return made


def proposal(
    height: int, parent: bytes, payload: bytes = b"x", view: int = FIRST_VIEW, leader: int | None = None
) -> tuple[Propose, bytes]:
    signed_by = view % N if leader is None else leader
    digest = entry_digest(parent, Entry(height, view, EntryKind.DATA, payload))
    signature = signer(signed_by)(signed_bytes(EPOCH.context, Phase.NOTARIZE, view, height, digest))
    return Propose(1, view, height, parent, EntryKind.DATA, payload, view % N, signature), digest


def vote(voter: int, phase: Phase, height: int, digest: bytes = NO_DIGEST, view: int = FIRST_VIEW) -> Vote:
    signature = signer(voter)(signed_bytes(EPOCH.context, phase, view, height, digest))
    return Vote(1, phase, view, height, digest, voter, signature)


def certificate(phase: Phase, height: int, parent: bytes, digest: bytes, view: int = FIRST_VIEW) -> Certificate:
    votes = tuple(vote(voter, phase, height, digest, view).signature for voter in (1, 2, 3))
    return Certificate(Mode.BFT, 1, EPOCH.context, phase, view, height, parent, digest, (1, 2, 3), votes)


def votes_in(effects: list[Effect], phase: Phase) -> set[tuple[int, int, bytes]]:
    messages = [effect.message for effect in effects if isinstance(effect, Send)]
    return {
        (each.view, each.height, each.digest) for each in messages if isinstance(each, Vote) and each.phase is phase
    }


def proposals_in(effects: list[Effect]) -> set[tuple[int, int, bytes]]:
    messages = [effect.message for effect in effects if isinstance(effect, Send)]
    return {(each.view, each.height, each.parent) for each in messages if isinstance(each, Propose)}


def decided_in(effects: list[Effect]) -> list[int]:
    return [each.entry.index for effect in effects if isinstance(effect, Commit) for each in effect.entries]


def records_in(effects: list[Effect]) -> list[bytes]:
    return [effect.record for effect in effects if isinstance(effect, Persist)]


def test_two_delays_decide_a_block_with_a_certificate_that_others_accept() -> None:
    cores = [core(node) for node in range(N)]
    effects = cores[0].propose_contents([(EntryKind.DATA, b"buy")], 0.0)
    inbox = [(0, effect) for effect in effects]
    for _ in range(2):
        sends = [(sender, effect) for sender, effect in inbox if isinstance(effect, Send)]
        inbox = [(s.to, each) for sender, s in sends for each in cores[s.to].step(sender, s.message, 0.0)]
    commits = {node: effect for node, effect in inbox if isinstance(effect, Commit)}
    assert set(commits) == set(range(N))
    for commit in commits.values():
        (decided,) = commit.entries
        assert decided.certificate.phase is Phase.FAST
        verify_certificate(decided.certificate, decided.entry, VERIFIER)
        with pytest.raises(WrongMode):
            verify_certificate(replace(decided.certificate, phase=Phase.NOTARIZE), decided.entry, VERIFIER)
        with pytest.raises(CertificateError):
            verify_certificate(replace(decided.certificate, context=SLOW_EPOCH.context), decided.entry, VERIFIER)


def test_relayed_votes_cost_half_the_messages_of_the_slow_path() -> None:
    cores = [core(node, ConsensusSettings()) for node in range(N)]
    inbox = [(0, effect) for effect in cores[0].propose_contents([(EntryKind.DATA, b"buy")], 0.0)]
    messages = 0
    for _ in range(2):
        sends = [(sender, effect) for sender, effect in inbox if isinstance(effect, Send)]
        messages += len(sends)
        inbox = [(s.to, each) for sender, s in sends for each in cores[s.to].step(sender, s.message, 0.0)]
    assert [node for node, effect in inbox if isinstance(effect, Commit)] == [0]
    assert messages == 6, "to everybody and back, once"


@pytest.mark.parametrize(("n", "possible"), [(3, False), (4, True), (5, True), (6, False), (7, False), (9, False)])
def test_the_setting_is_refused_where_the_membership_does_not_allow_it(n: int, possible: bool) -> None:
    assert fast_path_possible(n) is possible
    settings = ConsensusSettings(fast_path=True)
    if possible:
        assert Replica(0, roster_of(n), signer(0), Random(0), mode=Mode.BFT, settings=settings)
    else:
        with pytest.raises(ValueError, match="the fast path needs 4 or 5 nodes"):
            Replica(0, roster_of(n), signer(0), Random(0), settings=settings)


def test_nodes_that_disagree_on_the_setting_reject_each_others_signatures() -> None:
    def epoch_of(fast_path: bool) -> bytes:
        settings = ConsensusSettings(fast_path=fast_path)
        return Replica(0, roster_of(N), signer(0), Random(0), mode=Mode.BFT, settings=settings).byzantine_context

    assert epoch_of(False) == SLOW_EPOCH.context
    assert epoch_of(True) == EPOCH.context != SLOW_EPOCH.context


def test_f1_the_leaders_vote_follows_its_sync_and_its_proposal_does_not_wait() -> None:
    effects = core(0).propose_contents([(EntryKind.DATA, b"x")], 0.0)
    sent = [at for at, each in enumerate(effects) if isinstance(each, Send) and isinstance(each.message, Propose)]
    voted = [at for at, each in enumerate(effects) if isinstance(each, Send) and isinstance(each.message, Vote)]
    assert any(isinstance(each, Sync) for each in effects[sent[-1] : voted[0]])


def test_f1_no_vote_without_the_leaders_signature_nor_for_refused_content() -> None:
    forged, _ = proposal(1, GENESIS_DIGEST, leader=2)
    effects = core(1).step(0, forged, 0.0)
    assert votes_in(effects, Phase.FAST) == set()
    assert [effect.culprit for effect in effects if isinstance(effect, Evidence)] == [0]
    refused, _ = proposal(1, GENESIS_DIGEST, b"too much")
    effects = core(1).step(0, refused, 0.0)
    assert votes_in(effects, Phase.FAST) == set()
    assert votes_in(effects, Phase.NULLIFY) == {(FIRST_VIEW, 0, NO_DIGEST)}


def test_f1_one_vote_a_slot_and_the_equivocator_is_named() -> None:
    replica = core(2)
    one, first = proposal(1, GENESIS_DIGEST, b"one")
    two, _ = proposal(1, GENESIS_DIGEST, b"two")
    assert votes_in(replica.step(0, one, 0.0), Phase.FAST) == {(FIRST_VIEW, 1, first)}
    effects = replica.step(0, two, 0.0)
    assert votes_in(effects, Phase.FAST) == set()
    assert [effect.culprit for effect in effects if isinstance(effect, Evidence)] == [0]
    assert votes_in(effects, Phase.NULLIFY) == {(FIRST_VIEW, 1, first)}, "it reports what it voted for (F4)"


@pytest.mark.parametrize("heights_later", [0, 1])
def test_who_votes_last_and_for_two_blocks_is_named(heights_later: int) -> None:
    """Its vote is not needed any more, and the height is decided: that must not let it sign what it likes."""
    replica = core(0)
    replica.propose_contents([(EntryKind.DATA, b"x")], 0.0)
    _, digest = proposal(1, GENESIS_DIGEST)
    for voter in (1, 2):
        effects = replica.step(voter, vote(voter, Phase.FAST, 1, digest), 0.0)
    assert decided_in(effects) == [1]
    if heights_later:
        replica.propose_contents([(EntryKind.DATA, b"y")], 0.0)
    late, other = vote(3, Phase.FAST, 1, digest), vote(3, Phase.FAST, 1, b"o" * 32)
    assert replica.step(3, late, 0.0) == replica.step(3, late, 0.0) == []
    assert replica.step(1, other, 0.0) == [], "of what others pass on as its vote nothing is kept"
    (evidence,) = [each for each in replica.step(3, other, 0.0) if isinstance(each, Evidence)]
    assert evidence.culprit == 3
    decode_contradiction(evidence.proof).check(VERIFIER)


def test_a_late_vote_that_nobody_signed_proves_nothing() -> None:
    replica = core(0)
    replica.propose_contents([(EntryKind.DATA, b"x")], 0.0)
    _, digest = proposal(1, GENESIS_DIGEST)
    for voter in (1, 2):
        replica.step(voter, vote(voter, Phase.FAST, 1, digest), 0.0)
    replica.step(3, vote(3, Phase.FAST, 1, digest), 0.0)
    forged = replace(vote(3, Phase.FAST, 1, b"o" * 32), signature=bytes(64))
    (evidence,) = replica.step(3, forged, 0.0)
    assert (evidence.culprit, evidence.proof) == (3, b"")


def test_f2_behind_a_tip_of_the_same_view_only_with_its_fast_certificate() -> None:
    message, digest = proposal(1, GENESIS_DIGEST)
    following, second = proposal(2, digest, b"y")
    for phase, expected in ((Phase.FAST, {(FIRST_VIEW, 2, second)}), (Phase.FINALIZE, set())):
        replica = core(2)
        replica.voted_in_view = True
        replica.step(1, CertificateNotice(1, certificate(phase, 1, GENESIS_DIGEST, digest)), 0.0)
        replica.blocks.clear()
        replica.voting = False
        replica.step(0, message, 0.0)
        replica.voting = True
        assert replica.committed_height == 1
        assert votes_in(replica.step(0, following, 0.0), Phase.FAST) == expected


def test_f3_an_ancestor_is_confirmed_with_a_certificate_of_its_own() -> None:
    replica = core(3)
    one, first = proposal(1, GENESIS_DIGEST)
    two, second = proposal(2, first, b"y")
    replica.step(0, one, 0.0)
    replica.step(0, two, 0.0)
    effects = replica.step(1, CertificateNotice(1, certificate(Phase.FAST, 2, first, second)), 0.0)
    assert decided_in(effects) == []
    assert votes_in(effects, Phase.FINALIZE) == {(FIRST_VIEW, 1, first)}
    for voter in (0, 1):
        effects = replica.step(voter, vote(voter, Phase.FINALIZE, 1, first), 0.0)
    assert decided_in(effects) == [1, 2]


def test_f4_a_restarted_node_reports_what_it_voted_for() -> None:
    replica = core(2)
    message, digest = proposal(1, GENESIS_DIGEST)
    records = records_in(replica.step(0, message, 0.0))
    again = core(2, records=records)
    effects = again.tick(0.9)
    assert votes_in(effects, Phase.NULLIFY) == {(FIRST_VIEW, 1, digest)}
    sent = [effect.message for effect in effects if isinstance(effect, Send) and isinstance(effect.message, Propose)]
    assert message in sent, "with the leader's signature, for others to check"


def test_f4_what_is_decided_is_reported_by_its_height() -> None:
    replica = core(2)
    message, digest = proposal(1, GENESIS_DIGEST)
    replica.step(0, message, 0.0)
    assert decided_in(replica.step(1, CertificateNotice(1, certificate(Phase.FAST, 1, GENESIS_DIGEST, digest)), 0.0))
    assert votes_in(replica._take(0.0) + give_up(replica), Phase.NULLIFY) == {(FIRST_VIEW, 1, NO_DIGEST)}


def give_up(replica: FastBftCore) -> list[Effect]:
    replica._nullify(0.0)
    return replica._take(0.0)


def hear(replica: FastBftCore, reports: dict[int, tuple[int, bytes]], *blocks: Propose) -> list[Effect]:
    effects: list[Effect] = []
    for voter, (height, digest) in reports.items():
        effects += replica.step(voter, vote(voter, Phase.NULLIFY, height, digest), 0.0)
    for block in blocks:
        effects += replica.step(3, block, 0.0)
    return effects


def test_f5_one_report_is_enough_to_have_to_be_extended() -> None:
    message, digest = proposal(1, GENESIS_DIGEST)
    leader = core(1)
    effects = hear(leader, {3: (1, digest), 2: (0, NO_DIGEST)}, message)
    assert proposals_in(effects) == {(FIRST_VIEW + 1, 2, digest)}
    follower = core(2)
    hear(follower, {3: (1, digest), 1: (0, NO_DIGEST)}, message)
    dropped, _ = proposal(1, GENESIS_DIGEST, b"other", FIRST_VIEW + 1)
    assert votes_in(follower.step(1, dropped, 0.0), Phase.FAST) == set()
    rightly, after = proposal(2, digest, b"other", FIRST_VIEW + 1)
    # Its first proposal counts as the leader's word; another replica hears the right one only.
    follower = core(2)
    hear(follower, {3: (1, digest), 1: (0, NO_DIGEST)}, message)
    assert votes_in(follower.step(1, rightly, 0.0), Phase.FAST) == {(FIRST_VIEW + 1, 2, after)}


def test_f5_a_report_waits_for_its_block_and_for_a_lower_one_that_is_decided_elsewhere() -> None:
    message, digest = proposal(1, GENESIS_DIGEST)
    leader = core(1)
    assert proposals_in(hear(leader, {3: (1, digest), 2: (0, NO_DIGEST)})) == set()
    assert proposals_in(leader.step(3, message, 0.0)) == {(FIRST_VIEW + 1, 2, digest)}
    leader = core(1)
    assert proposals_in(hear(leader, {3: (1, NO_DIGEST), 2: (0, NO_DIGEST)})) == set(), "3 has decided height 1"
    notice = CertificateNotice(1, certificate(Phase.FAST, 1, GENESIS_DIGEST, digest))
    leader.step(3, notice, 0.0)
    assert proposals_in(leader.step(3, message, 0.0)) == {(FIRST_VIEW + 1, 2, digest)}


def test_f5_a_false_start_reported_by_a_liar_counts_for_nothing() -> None:
    """View 5 is started behind the root, past what view 4 may have decided: nobody takes over what stands on that."""
    message, digest = proposal(1, GENESIS_DIGEST)
    false, wrong = proposal(1, GENESIS_DIGEST, b"false start", FIRST_VIEW + 1)
    leader = core(2)
    hear(leader, {3: (1, digest), 0: (1, digest)}, message)
    for voter, (height, told) in {1: (1, wrong), 3: (0, NO_DIGEST)}.items():
        leader.step(voter, vote(voter, Phase.NULLIFY, height, told, FIRST_VIEW + 1), 0.0)
    assert leader.view == FIRST_VIEW + 2
    assert proposals_in(leader.step(1, false, 0.0)) == set()
    effects = leader.step(0, vote(0, Phase.NULLIFY, 0, NO_DIGEST, FIRST_VIEW + 1), 0.0)
    assert proposals_in(effects) == {(FIRST_VIEW + 2, 2, digest)}


A, B, C, Z = (bytes([number]) * 32 for number in range(4))


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        ({0: (), 1: ()}, set()),
        ({0: (), 1: (), 2: ()}, {None}),
        ({0: (), 1: (A,), 2: (A, B)}, {B}),
        ({1: (), 2: (A,), 3: ()}, {A}),
        ({0: (Z,), 1: (A,), 3: (Z,)}, set()),  # the equivocator's own word does not count
        ({1: (A,), 2: (A, B), 3: (Z,)}, {A, B}),  # two of the others say A
        ({1: (A,), 2: (Z,), 3: ()}, {A, Z, None}),  # nothing can have been decided
        ({0: (Z,), 1: (A,), 2: (A, B), 3: (Z,)}, {A, B}),
        ({0: (), 1: (), 2: (), 3: (A,)}, {A, None}),
    ],
)
def test_f5_what_may_be_extended(reports: dict[int, tuple[bytes, ...]], expected: set[bytes | None]) -> None:
    assert extendable({node: [chain] for node, chain in reports.items()}, 0, 3, 2) == expected


def test_f5_any_of_the_votes_of_a_liar_may_be_what_others_stand_on() -> None:
    assert extendable({0: [(A,), ()], 1: [()], 2: [()]}, 0, 3, 2) == {A, None}


def test_f6_what_a_vote_stands_on_survives_a_restart() -> None:
    message, digest = proposal(1, GENESIS_DIGEST)
    replica = core(2)
    start, after = proposal(2, digest, b"other", FIRST_VIEW + 1)
    effects = hear(replica, {3: (1, digest), 1: (0, NO_DIGEST)}, message) + replica.step(1, start, 0.0)
    assert votes_in(effects, Phase.FAST) == {(FIRST_VIEW + 1, 2, after)}
    for records in (records_in(effects), list(replica.live_records())):
        again = core(2, records=records)
        assert set(again.nullifications.every(FIRST_VIEW)) == set(replica.nullifications.every(FIRST_VIEW))
        assert set(again.blocks) == {digest, after}
        assert again._report() == (2, after)
        assert all(block.proposal.signature for block in again.blocks.values())


def test_f6_a_liars_second_vote_is_kept_from_others_and_not_from_itself() -> None:
    replica = core(2)
    first, second = vote(1, Phase.NULLIFY, 0), vote(1, Phase.NULLIFY, 1, A)
    replica.step(1, first, 0.0)
    replica.step(1, second, 0.0)
    assert replica.nullifications.every(FIRST_VIEW) == [first]
    replica.step(3, second, 0.0)
    assert replica.nullifications.every(FIRST_VIEW) == [first, second]
    for height in range(2, 50):
        replica.step(3, vote(1, Phase.NULLIFY, height, A), 0.0)
    assert len(replica.nullifications.every(FIRST_VIEW)) <= 1 + 2 * N


def test_a_confirmation_in_a_view_that_was_given_up_is_no_evidence() -> None:
    replica = core(2)
    confirmed, gave_up = vote(1, Phase.FINALIZE, 3, A), vote(1, Phase.NULLIFY, 0)
    assert replica.step(3, EvidenceNotice(1, False, confirmed, gave_up), 0.0) == []


def test_a_slow_vote_or_certificate_counts_for_nothing() -> None:
    replica = core(2)
    message, digest = proposal(1, GENESIS_DIGEST)
    replica.step(0, message, 0.0)
    for voter in (0, 1, 3):
        assert decided_in(replica.step(voter, vote(voter, Phase.NOTARIZE, 1, digest), 0.0)) == []
    notice = CertificateNotice(1, certificate(Phase.NOTARIZE, 1, GENESIS_DIGEST, digest))
    assert decided_in(replica.step(1, notice, 0.0)) == []
    assert replica.committed_height == 0


def test_a_block_record_without_a_signature_has_the_bytes_that_it_always_had() -> None:
    record = BlockRecord(1, False, GENESIS_DIGEST, Entry(1, 4, EntryKind.DATA, b"x"))
    signed = replace(record, signature=b"s" * 64)
    assert encode_record(record)[0] == 0x95, "an array of five, as before the fast path"
    assert decode_record(encode_record(record)) == record
    assert decode_record(encode_record(signed)) == signed


def test_f4_a_view_is_given_up_once_even_when_its_votes_are_forgotten() -> None:
    """Found by seed 295 of five nodes with a liar: the second vote said less than the first, since more was decided."""
    replica = core(2)
    message, digest = proposal(1, GENESIS_DIGEST)
    replica.step(0, message, 0.0)
    assert votes_in(give_up(replica), Phase.NULLIFY) == {(FIRST_VIEW, 1, digest)}
    later, second = proposal(2, digest, b"y", FIRST_VIEW + 2)
    effects: list[Effect] = []
    for block, parent, name in ((message, GENESIS_DIGEST, digest), (later, digest, second)):
        entry = Entry(block.height, block.view, block.kind, block.payload)
        proof = certificate(Phase.FAST, block.height, parent, name, block.view)
        effects += replica.install(Committed(1, entry, proof), 0.0)
    assert decided_in(effects) == [1, 2]
    assert replica.view == FIRST_VIEW + 2
    assert not any(view == FIRST_VIEW for view, *_ in votes_in(effects, Phase.NULLIFY))


def test_a_restarted_node_is_in_the_view_that_it_fetched_a_decision_of() -> None:
    """Found by seed 1841 of four nodes with a liar: it gave up an older view again and again, and could not."""
    replica = core(2)
    message, digest = proposal(1, GENESIS_DIGEST, view=FIRST_VIEW + 1)
    entry = Entry(1, message.view, message.kind, message.payload)
    proof = certificate(Phase.FAST, 1, GENESIS_DIGEST, digest, message.view)
    installed = records_in(replica.install(Committed(1, entry, proof), 0.0))
    again = core(2, records=[record for record in installed if isinstance(decode_record(record), InstallRecord)])
    assert again.view == again.committed_view == FIRST_VIEW + 1
    again.tick(100.0)
    deadline = again.next_deadline()
    assert deadline is None or deadline > 100.0
