"""Certified checkpoints: who must have signed, what travels, and what a false one comes to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from net.certificate import Verifier
from net.checkpoint import (
    Checkpoint,
    CheckpointError,
    CheckpointVotes,
    UnknownSigners,
    check_certificate,
    decode_checkpoint,
    sign_checkpoint,
)
from net.epoch import first_epoch
from net.membership import all_voters
from net.messages import CheckpointCertificate, CheckpointVote, Mode, SnapshotChunk
from net.simulation.keys import roster_of, signer
from net.snapshot_transfer import CertifiedCheckpoint, SnapshotReceiver, assemble

MEMBERS = all_voters(roster_of(4))
VERIFIER = Verifier(roster_of(4))
CHECKPOINT = Checkpoint(first_epoch(Mode.AUTO, 0, MEMBERS), 12, b"d" * 32, 3, 2, (5, 7), b"state" * 100)


def vote(node: int, checkpoint: Checkpoint = CHECKPOINT) -> CheckpointVote:
    return sign_checkpoint(checkpoint, node, signer(node))


def certificate_of(*nodes: int, checkpoint: Checkpoint = CHECKPOINT) -> CheckpointCertificate:
    signatures = tuple(vote(node, checkpoint).signature for node in nodes)
    return CheckpointCertificate(checkpoint.index, checkpoint.statement, nodes, signatures)


def chunks(data: bytes, certificate: CheckpointCertificate, size: int) -> list[SnapshotChunk]:
    certified = CertifiedCheckpoint(CHECKPOINT, certificate, data)
    found = [certified.chunk(1, offset, size) for offset in range(0, len(data), size)]
    return [chunk for chunk in found if chunk is not None]


def test_a_checkpoint_comes_back_from_its_bytes() -> None:
    assert decode_checkpoint(CHECKPOINT.encode()) == CHECKPOINT


@pytest.mark.parametrize(
    "other",
    [
        replace(CHECKPOINT, index=13),
        replace(CHECKPOINT, digest=b"e" * 32),
        replace(CHECKPOINT, last_term=4),
        replace(CHECKPOINT, used_floor=3),
        replace(CHECKPOINT, used_witnesses=(5,)),
        replace(CHECKPOINT, state=b"another"),
        replace(CHECKPOINT, epoch=first_epoch(Mode.RAFT, 0, MEMBERS)),
        replace(CHECKPOINT, epoch=first_epoch(Mode.AUTO, 0, all_voters(roster_of(5)))),
    ],
)
def test_what_is_signed_covers_every_field(other: Checkpoint) -> None:
    assert other.statement != CHECKPOINT.statement


@pytest.mark.parametrize("data", [b"", b"\x93\x01\x02\x03", b"\x92\xc4\x01\x90\xc4\x00", CHECKPOINT.encode()[:-1]])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(CheckpointError):
        decode_checkpoint(data)


def test_a_majority_of_equal_signatures_makes_it_stable() -> None:
    votes = CheckpointVotes()
    for node in (0, 1):
        votes.add(vote(node))
    assert votes.certify(CHECKPOINT, VERIFIER.verifies) == (None, ())
    votes.add(vote(0))
    assert votes.certify(CHECKPOINT, VERIFIER.verifies) == (None, ()), "one node counts once"
    votes.add(vote(2, replace(CHECKPOINT, state=b"another")))
    assert votes.certify(CHECKPOINT, VERIFIER.verifies) == (None, (2,))
    votes.add(replace(vote(3), signature=bytes(64)))
    assert votes.certify(CHECKPOINT, VERIFIER.verifies)[0] is None, "a false signature counts for nothing"
    votes.add(vote(3))
    certificate, disagree = votes.certify(CHECKPOINT, VERIFIER.verifies)
    assert certificate is not None
    assert (certificate.signers, disagree) == ((0, 1, 3), (2,))
    check_certificate(certificate, MEMBERS, VERIFIER)


def test_votes_are_bounded_for_each_voter() -> None:
    votes = CheckpointVotes()
    for index in range(1000):
        votes.add(replace(vote(1), index=index))
    assert sum(len(each) for each in votes._votes.values()) == 4


def test_one_honest_signer_among_those_known_is_needed() -> None:
    check_certificate(certificate_of(1, 3), MEMBERS, VERIFIER)
    with pytest.raises(CheckpointError, match="1 signers known to this node, 2 are needed"):
        check_certificate(certificate_of(1), MEMBERS, VERIFIER)
    with pytest.raises(UnknownSigners, match="1 signers known"):
        check_certificate(certificate_of(1, 9), MEMBERS, VERIFIER)
    twice = certificate_of(1, 1)
    with pytest.raises(CheckpointError, match="named twice"):
        check_certificate(twice, MEMBERS, VERIFIER)
    for lie in (replace(certificate_of(1, 3), index=13), replace(certificate_of(1, 9), index=13), certificate_of(1)):
        with pytest.raises(CheckpointError, match="signers known") as raised:
            check_certificate(lie, MEMBERS, VERIFIER)
        assert not isinstance(raised.value, UnknownSigners), "what a known node did not sign is a lie"


def test_chunks_make_a_whole_in_order_and_only_so() -> None:
    certificate, receiver = certificate_of(0, 1, 2), SnapshotReceiver(0.5, 8.0, 100)
    pieces = chunks(CHECKPOINT.encode(), certificate, 100)
    assert len(pieces) > 4
    assert receiver.take(1, pieces[1], 0.0) is None
    assert receiver.offset == 0, "the first was lost: it is asked for again"
    for piece in pieces[:-1]:
        assert receiver.take(1, piece, 0.0) is None
        assert receiver.take(1, piece, 0.0) is None, "twice is once"
    whole = receiver.take(1, pieces[-1], 0.0)
    assert whole is not None
    assert whole.checkpoint == CHECKPOINT
    assert receiver.index == 0


def test_a_newer_checkpoint_takes_the_place_of_one_under_way() -> None:
    receiver = SnapshotReceiver(0.5, 8.0, 100)
    receiver.take(1, chunks(CHECKPOINT.encode(), certificate_of(0, 1, 2), 100)[0], 0.0)
    newer = replace(CHECKPOINT, index=24)
    data, certificate = newer.encode(), certificate_of(0, 1, 2, checkpoint=newer)
    whole = receiver.take(1, SnapshotChunk(1, 0, len(data), certificate, data), 0.0)
    assert whole is not None
    assert whole.index == 24


def test_bytes_that_were_not_signed_are_refused() -> None:
    certificate = certificate_of(0, 1, 2)
    data = replace(CHECKPOINT, state=b"a lie").encode()
    with pytest.raises(CheckpointError, match="are not the checkpoint of entry 12 that was signed"):
        assemble(certificate, data)
    receiver = SnapshotReceiver(0.5, 8.0, 100)
    with pytest.raises(CheckpointError):
        receiver.take(1, SnapshotChunk(1, 0, len(data), certificate, data), 0.0)
    assert receiver.offset == 0
    with pytest.raises(CheckpointError, match="limit"):
        receiver.take(1, SnapshotChunk(1, 0, 1 << 40, certificate, b"x"), 0.0)


def test_a_peer_that_is_too_slow_loses_its_turn_and_what_it_sent() -> None:
    receiver = SnapshotReceiver(0.5, 8.0, 100)
    pieces = chunks(CHECKPOINT.encode(), certificate_of(0, 1, 2), 100)
    receiver.take(1, pieces[0], 0.0)
    assert not receiver.admits(2, 0.4), "one at a time"
    assert receiver.admits(2, 0.5)
    assert receiver.admits(1, 0.5), "nobody has taken over yet"
    receiver.take(2, pieces[1], 0.5)
    assert receiver.offset == 0, "pieces of two peers are not put together"
    assert not receiver.admits(1, 8.4), "others first"
    assert receiver.admits(1, 8.5)
    assert not receiver.admits(3, 1.4), "the next has twice the time"


def test_one_checkpoint_has_one_length() -> None:
    receiver = SnapshotReceiver(0.5, 8.0, 100)
    first, second, *_ = chunks(CHECKPOINT.encode(), certificate_of(0, 1, 2), 100)
    receiver.take(1, first, 0.0)
    with pytest.raises(CheckpointError, match="one checkpoint of"):
        receiver.take(1, replace(second, total_bytes=second.total_bytes + 1), 0.0)
