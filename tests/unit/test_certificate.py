"""Certificates: every way in which one can prove nothing has a name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from net.certificate import (
    GENESIS_DIGEST,
    DuplicateSigner,
    TooFewSigners,
    UnknownSigner,
    Verifier,
    WrongDigest,
    WrongMode,
    WrongSignature,
    entry_digest,
    leader_word_bytes,
    signed_bytes,
    unwrapped,
    verify_certificate,
    verify_committed,
    wrapped,
)
from net.durable import RecordError, encode_witness
from net.epoch import Epoch, first_epoch
from net.membership import all_voters
from net.messages import Certificate, Committed, Entry, EntryKind, Mode, Phase
from net.quorum import byzantine_faults, byzantine_quorum, majority
from net.simulation.keys import roster_of, signer

N = 4
VERIFIER = Verifier(roster_of(N))
MEMBERS = all_voters(roster_of(N))
EPOCH = first_epoch(Mode.BFT, 0, MEMBERS)
ENTRY = Entry(1, 3, EntryKind.DATA, b"buy 5")


def quorum_certificate(
    entry: Entry = ENTRY,
    signers: tuple[int, ...] = (0, 2, 3),
    phase: Phase = Phase.FINALIZE,
    context: bytes = EPOCH.context,
) -> Certificate:
    digest = entry_digest(GENESIS_DIGEST, entry)
    said = signed_bytes(context, phase, entry.term, entry.index, digest)
    signatures = tuple(signer(node)(said) for node in signers)
    return Certificate(
        Mode.BFT, 1, context, phase, entry.term, entry.index, GENESIS_DIGEST, digest, signers, signatures
    )


def word_certificate(entry: Entry, mode: Mode = Mode.RAFT, term: int = 7, leader: int = 1) -> Certificate:
    epoch: Epoch = first_epoch(mode, 0, MEMBERS)
    digest = entry_digest(GENESIS_DIGEST, entry)
    word = signer(leader)(leader_word_bytes(epoch.context, term, entry.index, GENESIS_DIGEST, digest))
    return Certificate(
        mode, 1, epoch.context, Phase.FINALIZE, term, entry.index, GENESIS_DIGEST, digest, (leader,), (word,)
    )


def test_a_quorum_proves_its_entry() -> None:
    verify_certificate(quorum_certificate(), ENTRY, VERIFIER)
    verify_certificate(quorum_certificate(signers=(3, 1, 0, 2)), ENTRY, VERIFIER)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"signers": (0, 2), "signatures": quorum_certificate().signatures[:2]}, TooFewSigners),
        ({"signers": (0, 2, 9)}, UnknownSigner),
        ({"signers": (0, 2, 2)}, DuplicateSigner),
        ({"signers": (0, 2, 1)}, WrongSignature),
        ({"signatures": quorum_certificate().signatures[:2]}, WrongSignature),
        ({"signatures": (b"short", *quorum_certificate().signatures[1:])}, WrongSignature),
        ({"context": bytes(32)}, WrongSignature),
        ({"term": 4}, WrongDigest),
        ({"index": 2}, WrongDigest),
        ({"parent": b"1" * 32}, WrongDigest),
        ({"digest": b"1" * 32}, WrongDigest),
        ({"phase": Phase.NOTARIZE}, WrongMode),
        ({"mode": Mode.RAFT}, TooFewSigners),
    ],
)
def test_each_defect_has_its_name(change: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        verify_certificate(replace(quorum_certificate(), **change), ENTRY, VERIFIER)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "other",
    [
        replace(ENTRY, payload=b"buy 6"),
        replace(ENTRY, kind=EntryKind.NOOP),
        replace(ENTRY, term=4),
        replace(ENTRY, index=2),
    ],
)
def test_a_certificate_is_of_one_entry_only(other: Entry) -> None:
    with pytest.raises(WrongDigest):
        verify_certificate(quorum_certificate(), other, VERIFIER)


def test_notarize_votes_do_not_pass_for_finalize_votes() -> None:
    with pytest.raises(WrongSignature):
        verify_certificate(replace(quorum_certificate(phase=Phase.NOTARIZE), phase=Phase.FINALIZE), ENTRY, VERIFIER)


def test_a_leaders_word() -> None:
    certificate = word_certificate(ENTRY)
    verify_certificate(certificate, ENTRY, VERIFIER)
    with pytest.raises(WrongSignature):
        verify_certificate(replace(certificate, term=8), ENTRY, VERIFIER)
    with pytest.raises(WrongSignature):
        verify_certificate(replace(certificate, signers=(2,)), ENTRY, VERIFIER)
    with pytest.raises(TooFewSigners):
        verify_certificate(replace(certificate, signers=(), signatures=()), ENTRY, VERIFIER)
    with pytest.raises(TooFewSigners):
        verify_certificate(replace(certificate, mode=Mode.BFT, term=3), ENTRY, VERIFIER)


def test_a_witnessed_entry_survives_wrapping_and_needs_both_proofs() -> None:
    critical = Entry(12, 7, EntryKind.DATA, b"buy 5")
    witness = quorum_certificate(context=first_epoch(Mode.AUTO, 0, MEMBERS).witness_context)
    raw = wrapped(critical, witness)
    assert raw.kind is EntryKind.WITNESSED
    assert unwrapped(raw) == (critical, witness)
    committed = Committed(1, critical, word_certificate(raw, Mode.AUTO), witness)
    verify_committed(committed, VERIFIER)
    with pytest.raises(WrongDigest):
        verify_committed(replace(committed, witness=None), VERIFIER)
    with pytest.raises(WrongMode):
        verify_committed(replace(committed, epoch=2), VERIFIER)
    other = quorum_certificate(Entry(1, 3, EntryKind.DATA, b"sell 5"), context=witness.context)
    swapped = replace(committed, witness=other, certificate=word_certificate(wrapped(critical, other), Mode.AUTO))
    with pytest.raises(WrongDigest):
        verify_committed(swapped, VERIFIER)


def test_a_witness_is_of_the_epoch_of_its_entry() -> None:
    """Its epoch is not signed, and is told to others along with the entry."""
    critical = Entry(12, 7, EntryKind.DATA, b"buy 5")
    witness = replace(quorum_certificate(context=first_epoch(Mode.AUTO, 0, MEMBERS).witness_context), epoch=99)
    proof = word_certificate(wrapped(critical, witness), Mode.AUTO)
    with pytest.raises(WrongMode, match="witness of epoch 99"):
        verify_committed(Committed(1, critical, proof, witness), VERIFIER)


@pytest.mark.parametrize(
    "false",
    [
        {"epoch": 1.0},
        {"term": 3.0},
        {"index": True},
        {"index": -1},
        {"parent": "p" * 32},
        {"parent": b"p"},
        {"digest": b"d" * 33},
        {"context": None},
        {"signers": (0, 1, {})},
        {"signatures": (b"", b"", 7)},
    ],
)
def test_a_witness_of_other_types_is_refused_before_anybody_checks_it(false: dict[str, Any]) -> None:
    payload = encode_witness(replace(quorum_certificate(), **false), EntryKind.DATA, b"buy 5")
    with pytest.raises(RecordError):
        unwrapped(Entry(12, 7, EntryKind.WITNESSED, payload))


@pytest.mark.parametrize("payload", [b"", b"\x93\x01\x02", b"\xc1", b"\x01"])
def test_a_malformed_wrapping_is_refused(payload: bytes) -> None:
    with pytest.raises(RecordError):
        unwrapped(Entry(1, 1, EntryKind.WITNESSED, payload))


def test_contexts_differ_by_everything_they_cover() -> None:
    contexts = {first_epoch(mode, 0, MEMBERS).context for mode in Mode} | {
        first_epoch(mode, 0, MEMBERS).witness_context for mode in Mode
    }
    assert len(contexts) == 6


@pytest.mark.parametrize("n", range(1, 30))
def test_quorums_share_an_honest_node_and_the_honest_make_one(n: int) -> None:
    quorum, faults = byzantine_quorum(n), byzantine_faults(n)
    assert 2 * quorum - n > faults
    assert quorum <= n - faults
    assert 2 * (quorum - 1) - n <= faults, "one vote less would not do"
    assert 2 * majority(n) > n
