"""The Byzantine rules R1 to R7 one by one, on cores that are fed by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from net.bft import BftCore
from net.bft_state import PROPOSED_BYTES_MAX
from net.certificate import GENESIS_DIGEST, Verifier, entry_digest, signed_bytes, verify_certificate
from net.consensus import Commit, Effect, Evidence, Persist, Send, Sync
from net.durable import CertificateRecord, decode_record
from net.epoch import first_epoch
from net.membership import all_voters
from net.messages import (
    Certificate,
    CertificateNotice,
    Committed,
    ConsensusMessage,
    Entry,
    EntryKind,
    FetchBlock,
    Mode,
    Phase,
    Propose,
    Vote,
)
from net.payload_batch import decode_payloads
from net.settings import ConsensusSettings
from net.simulation.keys import roster_of, signer

N = 4
EPOCH = first_epoch(Mode.BFT, 0, all_voters(roster_of(4)))
FIRST_VIEW = 4
"""Leader 0; view 5 is led by node 1."""
NO_DIGEST = bytes(32)


def core(
    node: int,
    validate: Callable[[EntryKind, bytes, int | None], bool] = lambda kind, payload, index: True,
    settings: ConsensusSettings | None = None,
) -> BftCore:
    verifier = Verifier(roster_of(N))
    made = BftCore(node, EPOCH, False, signer(node), verifier, settings or ConsensusSettings(), validate)
    made.start(0.0)
    return made


def proposal(
    height: int, parent: bytes, payload: bytes = b"x", view: int = FIRST_VIEW, kind: EntryKind = EntryKind.DATA
) -> tuple[Propose, bytes]:
    leader = view % N
    digest = entry_digest(parent, Entry(height, view, kind, payload))
    signature = signer(leader)(signed_bytes(EPOCH.context, Phase.NOTARIZE, view, height, digest))
    return Propose(1, view, height, parent, kind, payload, leader, signature), digest


def vote(voter: int, phase: Phase, height: int, digest: bytes = NO_DIGEST, view: int = FIRST_VIEW) -> Vote:
    signature = signer(voter)(signed_bytes(EPOCH.context, phase, view, height, digest))
    return Vote(1, phase, view, height, digest, voter, signature)


def notarization(view: int, height: int, digest: bytes, voters: tuple[int, ...] = (0, 1, 2)) -> CertificateNotice:
    votes = tuple(vote(voter, Phase.NOTARIZE, height, digest, view).signature for voter in voters)
    return CertificateNotice(
        1, Certificate(Mode.BFT, 1, EPOCH.context, Phase.NOTARIZE, view, height, NO_DIGEST, digest, voters, votes)
    )


def votes_in(effects: list[Effect], phase: Phase | None = None) -> set[tuple[Phase, int, int, bytes]]:
    messages = [effect.message for effect in effects if isinstance(effect, Send)]
    return {
        (each.phase, each.view, each.height, each.digest)
        for each in messages
        if isinstance(each, Vote) and phase in (None, each.phase)
    }


def evidence_in(effects: list[Effect]) -> list[Evidence]:
    return [effect for effect in effects if isinstance(effect, Evidence)]


def decided_in(effects: list[Effect]) -> list[int]:
    return [each.entry.index for effect in effects if isinstance(effect, Commit) for each in effect.entries]


def test_three_delays_decide_a_block_with_a_certificate_that_others_accept() -> None:
    cores = [core(node, settings=ConsensusSettings(relay_votes=False)) for node in range(N)]
    inbox = [(0, effect) for effect in cores[0].propose_contents([(EntryKind.DATA, b"buy")], 0.0)]
    delays = 0
    commits: list[Commit] = []
    while inbox:
        delays += 1
        sends = [(sender, effect) for sender, effect in inbox if isinstance(effect, Send)]
        inbox = [(s.to, each) for sender, s in sends for each in cores[s.to].step(sender, s.message, 0.0)]
        commits += [effect for _, effect in inbox if isinstance(effect, Commit)]
        if len(commits) == N:
            break
    assert delays == 3
    for commit in commits:
        verify_certificate(commit.entries[0].certificate, commit.entries[0].entry, Verifier(roster_of(N)))


def test_relayed_votes_decide_at_the_leader_in_four_delays_and_elsewhere_with_the_next_proposal() -> None:
    cores = [core(node) for node in range(N)]
    inbox = [(0, effect) for effect in cores[0].propose_contents([(EntryKind.DATA, b"buy")], 0.0)]
    messages = 0
    for _ in range(4):
        sends = [(sender, effect) for sender, effect in inbox if isinstance(effect, Send)]
        messages += len(sends)
        inbox = [(s.to, each) for sender, s in sends for each in cores[s.to].step(sender, s.message, 0.0)]
    assert [node for node, effect in inbox if isinstance(effect, Commit)] == [0]
    assert messages == 12, "to everybody and back, twice"
    following = cores[0].propose_contents([(EntryKind.DATA, b"sell")], 0.0)
    first, second = [effect.message for effect in following if isinstance(effect, Send) and effect.to == 2]
    assert isinstance(first, CertificateNotice)
    assert isinstance(second, Propose)
    assert cores[2].step(0, first, 0.0) == [], "its checking does not hold up the vote for what follows"
    assert any(isinstance(effect, Send) for effect in cores[2].step(0, second, 0.0))
    assert cores[2].next_deadline() == 0.0
    assert [type(effect) for effect in cores[2].tick(0.0)].count(Commit) == 1
    # Where no proposal comes, the certificate goes alone.
    assert cores[0].next_deadline() is not None


def test_what_a_leader_keeps_to_itself_is_said_to_all() -> None:
    replica = core(1)
    message, digest = proposal(1, GENESIS_DIGEST)
    assert {effect.to for effect in replica.step(0, message, 0.0) if isinstance(effect, Send)} == {0}
    again = replica.tick(ConsensusSettings().resend_interval_s)
    votes = [effect for effect in again if isinstance(effect, Send) and isinstance(effect.message, Vote)]
    assert {effect.to for effect in votes} == {0, 2, 3}
    assert {effect.message.digest for effect in votes if isinstance(effect.message, Vote)} == {digest}


def test_a_leader_that_restarts_gives_up_the_view_that_it_proposed_in() -> None:
    leader = core(0)
    effects = leader.propose_contents([(EntryKind.DATA, b"x")], 0.0)
    kinds = [type(effect) for effect in effects]
    sent = kinds.index(Send)
    assert Sync in kinds[:sent], "its view is on disk before the proposal leaves"
    synced = [effect.record for effect in effects[:sent] if isinstance(effect, Persist)]
    # The machine dies before the vote in the proposal reached the disk.
    again = BftCore(0, EPOCH, False, signer(0), Verifier(roster_of(N)), ConsensusSettings(), lambda *_: True)
    for record in synced:
        again.restore(decode_record(record))
    started = again.start(1.0)
    assert {phase for phase, *_ in votes_in(started)} == {Phase.NULLIFY}
    assert not [each for each in again.propose_contents([(EntryKind.DATA, b"y")], 1.0) if isinstance(each, Send)]


def test_a_vote_is_on_disk_before_it_leaves() -> None:
    replica = core(1)
    message, digest = proposal(1, GENESIS_DIGEST)
    effects = replica.step(0, message, 0.0)
    kinds = [type(effect) for effect in effects]
    assert kinds.index(Sync) > kinds.index(Persist)
    assert kinds.index(Send) > kinds.index(Sync)
    assert votes_in(effects) == {(Phase.NOTARIZE, FIRST_VIEW, 1, digest)}


def test_r1_one_vote_a_height_and_the_liar_is_named_with_proof() -> None:
    replica = core(2)
    first, _ = proposal(1, GENESIS_DIGEST, b"one")
    second, digest = proposal(1, GENESIS_DIGEST, b"two")
    replica.step(0, first, 0.0)
    effects = replica.step(0, second, 0.0)
    assert votes_in(effects, Phase.NOTARIZE) == set()
    (found,) = evidence_in(effects)
    assert found.culprit == 0
    assert first.signature in found.proof
    assert second.signature in found.proof
    assert digest in found.proof
    assert votes_in(effects) == {(Phase.NULLIFY, FIRST_VIEW, 0, NO_DIGEST)}, "its view is given up"


def test_r2_a_view_starts_once() -> None:
    replica = core(2)
    message, digest = proposal(1, GENESIS_DIGEST)
    assert votes_in(replica.step(0, message, 0.0))
    unknown_parent, _ = proposal(2, b"p" * 32)
    assert votes_in(replica.step(0, unknown_parent, 0.0)) == set()
    child, child_digest = proposal(3, digest)
    assert votes_in(replica.step(0, child, 0.0)) == set(), "the parent is not at the height below"
    following, following_digest = proposal(2, digest, b"y")
    # The leader's other signature at height 2 is proof of a lie, so use a replica that has not seen it.
    fresh = core(3)
    fresh.step(0, message, 0.0)
    assert votes_in(fresh.step(0, following, 0.0)) == {(Phase.NOTARIZE, FIRST_VIEW, 2, following_digest)}
    assert child_digest != following_digest


def give_up(replica: BftCore, heights: dict[int, int], view: int = FIRST_VIEW) -> list[Effect]:
    effects: list[Effect] = []
    for voter, height in heights.items():
        effects += replica.step(voter, vote(voter, Phase.NULLIFY, height, view=view), 0.0)
    return effects


def test_r3_a_new_view_may_not_drop_what_may_be_finalized() -> None:
    """The attack: 0, 1 and 2 finalized height 1; 3 saw nothing; the next leader, 1, lies about its own vote."""
    replica = core(3)
    message, digest = proposal(1, GENESIS_DIGEST)
    give_up(replica, {2: 2, 1: 0})
    assert replica.view == FIRST_VIEW + 1, "its own vote, with height 0, makes the quorum"
    replaced, _ = proposal(1, GENESIS_DIGEST, b"", FIRST_VIEW + 1, EntryKind.NOOP)
    assert votes_in(replica.step(1, replaced, 0.0)) == set()
    honest = core(3)
    give_up(honest, {2: 2, 1: 0})
    following, following_digest = proposal(2, digest, b"", FIRST_VIEW + 1, EntryKind.NOOP)
    assert votes_in(honest.step(1, following, 0.0)) == set(), "not before the parent is proven notarized"
    effects = honest.step(1, notarization(FIRST_VIEW, 1, digest), 0.0)
    assert votes_in(effects, Phase.NOTARIZE) == {(Phase.NOTARIZE, FIRST_VIEW + 1, 2, following_digest)}
    assert message.height == 1


def test_r3_a_view_that_a_quorum_gave_up_whole_may_be_skipped() -> None:
    replica = core(3)
    give_up(replica, {2: 0, 1: 0})
    message, digest = proposal(1, GENESIS_DIGEST, b"", FIRST_VIEW + 1, EntryKind.NOOP)
    assert votes_in(replica.step(1, message, 0.0)) == {(Phase.NOTARIZE, FIRST_VIEW + 1, 1, digest)}


def test_the_next_leader_extends_what_is_notarized() -> None:
    leader = core(1)
    message, digest = proposal(1, GENESIS_DIGEST)
    leader.step(0, message, 0.0)
    for voter in (2, 3):
        leader.step(voter, vote(voter, Phase.NOTARIZE, 1, digest), 0.0)
    effects = give_up(leader, {2: 2, 3: 0})
    proposals = [each.message for each in effects if isinstance(each, Send) and isinstance(each.message, Propose)]
    assert {(each.view, each.height, each.parent, each.kind) for each in proposals} == {
        (FIRST_VIEW + 1, 2, digest, EntryKind.NOOP)
    }


def test_r4_no_finalize_vote_after_giving_up() -> None:
    replica = core(3)
    message, digest = proposal(1, GENESIS_DIGEST)
    replica.step(0, message, 0.0)
    replica.tick(0.9)
    assert replica.nullified
    assert votes_in(replica.step(1, notarization(FIRST_VIEW, 1, digest), 0.9), Phase.FINALIZE) == set()
    later, _ = proposal(2, digest)
    assert votes_in(replica.step(0, later, 0.9), Phase.NOTARIZE) == set()


def test_r5_a_view_is_given_up_from_above_the_last_finalize_vote() -> None:
    replica = core(3)
    message, digest = proposal(1, GENESIS_DIGEST)
    replica.step(0, message, 0.0)
    assert votes_in(replica.step(1, notarization(FIRST_VIEW, 1, digest), 0.0), Phase.FINALIZE)
    effects = replica.tick(0.9)
    assert votes_in(effects, Phase.NULLIFY) == {(Phase.NULLIFY, FIRST_VIEW, 2, NO_DIGEST)}
    notices = [
        each.message for each in effects if isinstance(each, Send) and isinstance(each.message, CertificateNotice)
    ]
    assert {each.certificate.digest for each in notices} == {digest}, "and its ground comes along"


def test_r6_an_ancestor_of_a_finalized_block_gets_a_certificate_of_its_own() -> None:
    replica = core(3)
    one, first = proposal(1, GENESIS_DIGEST)
    two, second = proposal(2, first)
    replica.step(0, one, 0.0)
    replica.step(0, two, 0.0)
    effects: list[Effect] = []
    for voter in (0, 1, 2):
        effects += replica.step(voter, vote(voter, Phase.FINALIZE, 2, second), 0.0)
    assert decided_in(effects) == []
    assert (Phase.FINALIZE, FIRST_VIEW, 1, first) in votes_in(effects)
    for voter in (0, 1):
        effects = replica.step(voter, vote(voter, Phase.FINALIZE, 1, first), 0.0)
    assert decided_in(effects) == [1, 2]


def test_r7_a_restarted_node_does_not_contradict_itself() -> None:
    replica = core(2)
    message, digest = proposal(1, GENESIS_DIGEST, b"one")
    effects = replica.step(0, message, 0.0)
    effects += replica.step(1, notarization(FIRST_VIEW, 1, digest), 0.0)
    effects += replica.tick(0.9)
    again = core(2)
    for effect in effects:
        if isinstance(effect, Persist):
            again.restore(decode_record(effect.record))
    again.start(5.0)
    assert again.nullified
    other, _ = proposal(1, GENESIS_DIGEST, b"two")
    assert votes_in(again.step(0, other, 5.0)) == set()
    assert votes_in(again.tick(6.0)) <= {
        (Phase.NOTARIZE, FIRST_VIEW, 1, digest),
        (Phase.FINALIZE, FIRST_VIEW, 1, digest),
        (Phase.NULLIFY, FIRST_VIEW, 2, NO_DIGEST),
    }


def test_refused_content_costs_the_leader_its_view() -> None:
    replica = core(1, validate=lambda kind, payload, index: payload != b"too much")
    message, digest = proposal(1, GENESIS_DIGEST, b"too much")
    effects = replica.step(0, message, 0.0)
    assert votes_in(effects) == {(Phase.NULLIFY, FIRST_VIEW, 0, NO_DIGEST)}
    assert [found.culprit for found in evidence_in(effects)] == [0]
    assert digest != NO_DIGEST


def below(kind: EntryKind, payload: bytes, index: int | None) -> bool:
    """Content that names an index which must come before its own."""
    return index is None or int(payload) < index


def test_content_is_judged_as_the_entry_of_its_height_and_no_leader_proposes_what_others_refuse() -> None:
    replica = core(1, validate=below)
    first, digest = proposal(1, GENESIS_DIGEST, b"0")
    assert (Phase.NOTARIZE, FIRST_VIEW, 1, digest) in votes_in(replica.step(0, first, 0.0))
    second, digest = proposal(2, digest, b"1")
    assert (Phase.NOTARIZE, FIRST_VIEW, 2, digest) in votes_in(replica.step(0, second, 0.0))
    third, _ = proposal(3, digest, b"3")
    effects = replica.step(0, third, 0.0)
    assert {phase for phase, *_ in votes_in(effects)} == {Phase.NULLIFY}
    assert [found.culprit for found in evidence_in(effects)] == [0]
    leader = core(0, validate=below)
    contents = [(EntryKind.DATA, payload) for payload in (b"9", b"0", b"1")]
    sent = [each.message for each in leader.on_forward(2, contents, 0.0) if isinstance(each, Send)]
    assert {each.payload for each in sent if isinstance(each, Propose)} == {b"0"}


def test_votes_past_the_quorum_stay_unverified(monkeypatch: pytest.MonkeyPatch) -> None:
    replica = core(1)
    message, digest = proposal(1, GENESIS_DIGEST)
    replica.step(0, message, 0.0)
    asked: list[int] = []
    original = Verifier.verifies

    def verifies(self: Verifier, node: int, said: bytes, signature: bytes) -> bool:
        asked.append(node)
        return original(self, node, said, signature)

    monkeypatch.setattr(Verifier, "verifies", verifies)
    for voter in (2, 3):
        replica.step(voter, vote(voter, Phase.NOTARIZE, 1, digest), 0.0)
    assert asked == [2]


@pytest.mark.parametrize("phase", [Phase.NOTARIZE, Phase.FINALIZE, Phase.NULLIFY])
def test_a_forged_vote_counts_for_nothing(phase: Phase) -> None:
    replica = core(1)
    message, digest = proposal(1, GENESIS_DIGEST)
    replica.step(0, message, 0.0)
    genuine = vote(
        2, phase, 1 if phase is not Phase.NULLIFY else 0, digest if phase is not Phase.NULLIFY else NO_DIGEST
    )
    forged = Vote(1, phase, genuine.view, genuine.height, genuine.digest, 3, genuine.signature)
    assert [found.culprit for found in evidence_in(replica.step(3, forged, 0.0))] == [3]
    relayed = replica.step(2, forged, 0.0)
    assert evidence_in(relayed) == [], "who passes it on is not the culprit"
    assert votes_in(relayed) == set()


@pytest.mark.parametrize("phase", [Phase.NOTARIZE, Phase.FINALIZE])
def test_two_votes_of_one_node_are_evidence(phase: Phase) -> None:
    replica = core(1)
    replica.step(3, vote(3, phase, 1, b"a" * 32), 0.0)
    (found,) = evidence_in(replica.step(2, vote(3, phase, 1, b"b" * 32), 0.0))
    assert found.culprit == 3
    assert phase.name in found.reason
    assert evidence_in(replica.step(2, vote(3, phase, 1, b"c" * 32), 0.0)) == [], "once is enough"


def test_two_nullify_votes_of_one_node_are_evidence() -> None:
    replica = core(1)
    replica.step(3, vote(3, Phase.NULLIFY, 0), 0.0)
    (found,) = evidence_in(replica.step(3, vote(3, Phase.NULLIFY, 5), 0.0))
    assert found.culprit == 3


def test_f_plus_one_make_the_others_join_and_a_leader_may_resign() -> None:
    replica = core(3)
    assert votes_in(give_up(replica, {1: 0})) == set()
    assert votes_in(give_up(replica, {2: 0})) == {(Phase.NULLIFY, FIRST_VIEW, 0, NO_DIGEST)}
    assert votes_in(give_up(core(3), {0: 0})) == {(Phase.NULLIFY, FIRST_VIEW, 0, NO_DIGEST)}


def test_a_certificate_of_a_later_view_takes_a_laggard_along_and_its_skipped_views_are_given_up() -> None:
    replica = core(3)
    effects = replica.step(1, notarization(FIRST_VIEW + 2, 5, b"d" * 32), 0.0)
    assert replica.view == FIRST_VIEW + 2
    assert votes_in(effects, Phase.NULLIFY) == {
        (Phase.NULLIFY, FIRST_VIEW, 0, NO_DIGEST),
        (Phase.NULLIFY, FIRST_VIEW + 1, 0, NO_DIGEST),
    }


def test_a_false_certificate_is_refused() -> None:
    replica = core(3)
    notice = notarization(FIRST_VIEW + 2, 5, b"d" * 32, voters=(0, 1))
    assert [found.culprit for found in evidence_in(replica.step(1, notice, 0.0))] == [1]
    assert replica.view == FIRST_VIEW


@pytest.mark.parametrize("false", [{"epoch": 99}, {"epoch": 0}, {"mode": Mode.RAFT}])
def test_a_certificate_under_another_epoch_or_mode_is_refused_though_a_quorum_signed_it(false: dict[str, Any]) -> None:
    """Neither is among what is signed, and a record of another epoch keeps a node from starting again."""
    replica = core(3)
    message, digest = proposal(1, GENESIS_DIGEST)
    replica.step(0, message, 0.0)
    genuine = finalization(message, digest)
    effects = replica.step(0, CertificateNotice(1, replace(genuine, **false)), 0.0) + replica.tick(0.0)
    assert [found.culprit for found in evidence_in(effects)] == [0]
    assert decided_in(effects) == []
    assert not any(isinstance(effect, Persist) for effect in effects)
    assert decided_in(replica.step(1, CertificateNotice(1, genuine), 0.0)) == [1]


def test_of_a_certificate_only_what_is_signed_goes_on_disk_and_to_others() -> None:
    """Nobody signs the parent, and nobody checks a signature past the quorum."""
    message, digest = proposal(1, GENESIS_DIGEST)
    genuine = notarization(FIRST_VIEW, 1, digest).certificate
    padded = replace(genuine, signers=(0, 1, 2, 3), signatures=(*genuine.signatures, b"not 64 bytes" * 1000))
    for known in (False, True):
        replica = core(3)
        if known:
            replica.step(0, message, 0.0)
        effects = replica.step(0, CertificateNotice(1, replace(padded, parent=b"false" * 1000)), 0.0)
        records = [decode_record(effect.record) for effect in effects if isinstance(effect, Persist)]
        kept = [each.certificate for each in records if isinstance(each, CertificateRecord)]
        assert kept == [replace(genuine, parent=GENESIS_DIGEST)]
        assert replica.notarized == {digest: kept[0]}


def finalization(message: Propose, digest: bytes) -> Certificate:
    votes = tuple(vote(voter, Phase.FINALIZE, message.height, digest).signature for voter in (0, 1, 2))
    return replace(certificate_for(message), signers=(0, 1, 2), signatures=votes)


def test_the_pipeline_keeps_its_window() -> None:
    leader = core(0, settings=ConsensusSettings(bft_window=3))
    effects = leader.propose_contents([(EntryKind.DATA, b"%d" % number) for number in range(10)], 0.0)
    proposals = [each.message for each in effects if isinstance(each, Send) and each.to == 1]
    assert [each.height for each in proposals if isinstance(each, Propose)] == [1, 2, 3]


def test_nothing_is_proposed_behind_a_switch() -> None:
    leader = core(0)
    contents = [(EntryKind.SWITCH, b"a switch"), (EntryKind.DATA, b"void")]
    effects = leader.propose_contents(contents, 0.0)
    proposals = [each.message for each in effects if isinstance(each, Send) and each.to == 1]
    assert [each.kind for each in proposals if isinstance(each, Propose)] == [EntryKind.SWITCH]


def test_a_block_that_never_came_is_fetched() -> None:
    replica = core(3)
    message, digest = proposal(1, GENESIS_DIGEST)
    for voter in (0, 1, 2):
        replica.step(voter, vote(voter, Phase.FINALIZE, 1, digest), 0.0)
    effects = replica.tick(0.3)
    requests = [each.message for each in effects if isinstance(each, Send) and isinstance(each.message, FetchBlock)]
    assert {(each.height, each.digest) for each in requests} == {(1, digest)}
    holder = core(1)
    holder.step(0, message, 0.0)
    (answer,) = [each.message for each in holder.step(3, requests[0], 0.3) if isinstance(each, Send)]
    assert decided_in(replica.step(1, answer, 0.3)) == [1]


def test_memory_is_bounded_against_a_liar() -> None:
    replica = core(3)
    messages: list[ConsensusMessage] = [vote(1, Phase.NOTARIZE, height, b"a" * 32) for height in range(1, 2000, 20)]
    messages += [vote(1, Phase.NOTARIZE, 1, b"a" * 32, view) for view in range(FIRST_VIEW, 3000, 30)]
    messages += [vote(1, Phase.NULLIFY, 0, NO_DIGEST, view) for view in range(FIRST_VIEW, 3000, 30)]
    messages += [proposal(1, GENESIS_DIGEST, b"%d" % number)[0] for number in range(50)]
    for message in messages:
        replica.step(1, message, 0.0)
    assert len(replica.slots) < 20
    assert len(replica.blocks) == 1


def test_what_waits_at_a_leader_travels_as_one_block_and_is_wanted_no_more_once_decided() -> None:
    settings = ConsensusSettings(batch_payloads=3, bft_window=1)
    leader, follower = core(0, settings=settings), core(1, settings=settings)
    contents = [(EntryKind.DATA, b"%d" % number) for number in range(6)]
    follower.want(contents, 0.0)
    (first,) = {effect.message for effect in leader.propose_contents(contents, 0.0) if isinstance(effect, Send)}
    assert isinstance(first, Propose)
    assert (first.kind, decode_payloads(first.payload)) == (EntryKind.BATCH, (b"0", b"1", b"2"))
    follower._decide(Committed(1, Entry(1, FIRST_VIEW, first.kind, first.payload), certificate_for(first)), None)
    assert list(follower._wanted) == contents[3:]


def certificate_for(block: Propose) -> Certificate:
    digest = entry_digest(block.parent, Entry(block.height, block.view, block.kind, block.payload))
    return Certificate(
        Mode.BFT, 1, EPOCH.context, Phase.FINALIZE, block.view, block.height, block.parent, digest, (), ()
    )


@pytest.mark.parametrize("signed", [True, False])
def test_a_lone_vote_costs_an_idle_leader_nothing(signed: bool) -> None:
    """A liar's word, or one in another's name, sets no clock running: the leader has proposed nothing."""
    replica = core(2)
    ballot = vote(3, Phase.NOTARIZE, 5, b"d" * 32)
    ballot = ballot if signed else replace(ballot, voter=1, signature=bytes(64))
    for now in range(20):
        replica.heard_from(0, 0, float(now))
        assert not votes_in(replica.step(3, ballot, float(now)) + replica.tick(float(now)), Phase.NULLIFY)
    assert bool(replica.slots) is signed
    # Of two one is honest.
    replica.step(1, vote(1, Phase.NOTARIZE, 5, b"d" * 32), 20.0)
    replica.heard_from(0, 0, 25.0)
    assert bool(votes_in(replica.tick(25.0), Phase.NULLIFY)) is signed


def test_a_liar_fills_its_own_share_of_the_memory_with_proposals() -> None:
    replica = core(2)
    large = bytes(PROPOSED_BYTES_MAX // 4)
    for height in range(1, 8):
        replica.step(1, proposal(height, b"p" * 32, large, view=FIRST_VIEW + 1)[0], 0.0)
    assert sum(len(block.entry.payload) for block in replica.blocks.values()) <= PROPOSED_BYTES_MAX
    message, digest = proposal(1, GENESIS_DIGEST, large)
    assert votes_in(replica.step(0, message, 0.0), Phase.NOTARIZE) == {(Phase.NOTARIZE, FIRST_VIEW, 1, digest)}
    replica.step(1, proposal(1, b"p" * 32, view=FIRST_VIEW + 1 + 2 * N)[0], 0.0)
    assert max(block.entry.term for block in replica.blocks.values()) == FIRST_VIEW + 1
