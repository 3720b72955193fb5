"""Proof that a node lied: what counts as one, for anybody, and how everybody comes to hold it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from net.bft import BftCore
from net.certificate import GENESIS_DIGEST, Verifier, signed_bytes
from net.consensus import Evidence, Send
from net.epoch import first_epoch
from net.evidence import Contradiction, EvidenceError, decode_contradiction
from net.membership import all_voters
from net.messages import EvidenceNotice, Mode, Phase, Vote
from net.settings import ConsensusSettings
from net.simulation.keys import roster_of, signer

EPOCH = first_epoch(Mode.BFT, 0, all_voters(roster_of(4)))
VERIFIER = Verifier(roster_of(4))
CULPRIT = 2


def vote(phase: Phase, height: int, digest: bytes, view: int = 4, voter: int = CULPRIT) -> Vote:
    said = signed_bytes(EPOCH.context, phase, view, height, digest)
    return Vote(1, phase, view, height, digest, voter, signer(voter)(said))


FIRST = vote(Phase.NOTARIZE, 1, b"a" * 32)
SECOND = vote(Phase.NOTARIZE, 1, b"b" * 32)
GIVES_UP = vote(Phase.NULLIFY, 3, bytes(32))


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (FIRST, SECOND, "signed two NOTARIZE votes in view 4 at height 1"),
        (vote(Phase.FINALIZE, 1, b"a" * 32), vote(Phase.FINALIZE, 1, b"b" * 32), "signed two FINALIZE votes"),
        (GIVES_UP, vote(Phase.NULLIFY, 5, bytes(32)), "signed two NULLIFY votes in view 4"),
    ],
)
def test_what_no_honest_node_signs_both_of(first: Vote, second: Vote, reason: str) -> None:
    proof = Contradiction(EPOCH.context, first, second)
    proof.check(VERIFIER)
    assert reason in proof.reason
    assert decode_contradiction(proof.encode()) == proof


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (FIRST, FIRST),
        (FIRST, vote(Phase.NOTARIZE, 2, b"b" * 32)),
        (FIRST, vote(Phase.NOTARIZE, 1, b"b" * 32, view=5)),
        (FIRST, vote(Phase.NOTARIZE, 1, b"b" * 32, voter=1)),
        (FIRST, vote(Phase.FINALIZE, 1, b"b" * 32)),
        (FIRST, GIVES_UP),
        (vote(Phase.FINALIZE, 2, b"a" * 32), GIVES_UP),
        # R6: an ancestor of a finalized block is decided, and confirmed in whatever view it stands.
        (vote(Phase.FINALIZE, 3, b"a" * 32), GIVES_UP),
        (FIRST, replace(SECOND, signature=bytes(64))),
        (replace(FIRST, voter=9), replace(SECOND, voter=9)),
    ],
)
def test_what_proves_nothing(first: Vote, second: Vote) -> None:
    with pytest.raises(EvidenceError):
        Contradiction(EPOCH.context, first, second).check(VERIFIER)


def test_evidence_of_another_epoch_proves_nothing_in_this_one() -> None:
    with pytest.raises(EvidenceError, match="not signed"):
        Contradiction(GENESIS_DIGEST, FIRST, SECOND).check(VERIFIER)


@pytest.mark.parametrize("data", [b"", b"\x94\x01\x02\x03\x04", Contradiction(b"", FIRST, SECOND).encode()[:-1]])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(EvidenceError):
        decode_contradiction(data)


def core(node: int) -> BftCore:
    made = BftCore(node, EPOCH, False, signer(node), VERIFIER, ConsensusSettings(), lambda *_: True)
    made.start(0.0)
    return made


def test_who_saw_one_vote_learns_of_the_other_and_keeps_the_proof() -> None:
    saw_both, saw_one = core(0), core(1)
    assert not [each for each in saw_one.step(CULPRIT, FIRST, 0.0) if isinstance(each, Evidence)]
    saw_both.step(CULPRIT, FIRST, 0.0)
    effects = saw_both.step(CULPRIT, SECOND, 0.0)
    (notice,) = {
        each.message for each in effects if isinstance(each, Send) and isinstance(each.message, EvidenceNotice)
    }
    assert isinstance(notice, EvidenceNotice)
    passed_on = saw_one.step(0, notice, 0.0)
    (held,) = [each for each in passed_on if isinstance(each, Evidence)]
    assert held.culprit == CULPRIT
    decode_contradiction(held.proof).check(VERIFIER)
    assert {each.to for each in passed_on if isinstance(each, Send)} == {0, 2, 3}, "passed on, once"
    assert saw_one.step(3, notice, 0.0) == []


def test_false_evidence_speaks_against_who_passes_it_on() -> None:
    notice = EvidenceNotice(1, False, FIRST, replace(SECOND, signature=bytes(64)))
    (suspicion,) = [each for each in core(1).step(3, notice, 0.0) if isinstance(each, Evidence)]
    assert (suspicion.culprit, suspicion.proof) == (3, b"")
