"""Certified checkpoints: a stretch of the log that a state stands for, and the signatures that say so.

One mechanism for both protocols (Castro and Liskov 1999, §4.3; Raft §7): at every decided index that is a multiple of
the interval each voter signs a digest over everything that a joiner must know to go on from there. A majority of equal
signatures makes the checkpoint stable. Any majority holds f + 1 voters, so one of them is honest, and what it signed
is true: a node that lags needs to trust nobody whom it asks.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Final

import msgpack

from net.certificate import Verifier
from net.epoch import Epoch, make_epoch
from net.membership import Membership, MembershipError, decode_membership, encode_membership
from net.messages import CheckpointCertificate, CheckpointVote, Mode
from net.quorum import byzantine_faults, majority

_LABEL: Final = b"tradetui.checkpoint.1"
_SIGNED: Final = struct.Struct("<Q")
_VOTES_KEPT_PER_VOTER: Final = 4
CHECKPOINT_BYTES_MAX: Final = 48 * 1024 * 1024
"""Below the limit of one record of the durable log."""


class CheckpointError(ValueError):
    """The bytes are no checkpoint, or its certificate proves nothing; the text says why."""


class UnknownSigners(CheckpointError):
    """Too few of the signers are known here; nobody need have lied."""


@dataclass(frozen=True)
class Checkpoint:
    """The log up to `index`, in place of its entries.

    `epoch` is the one that orders `index + 1`, `digest` the hash chain of the log, `last_term` the term or view of the
    entry at `index`. `used_witnesses` are the heights above `used_floor` whose witness AUTO has counted in this epoch.
    """

    epoch: Epoch
    index: int
    digest: bytes
    last_term: int
    used_floor: int
    used_witnesses: tuple[int, ...]
    state: bytes

    @cached_property
    def _facts(self) -> bytes:
        epoch = self.epoch
        packed: bytes = msgpack.packb(
            (
                1,
                epoch.number,
                int(epoch.mode),
                epoch.base_index,
                epoch.base_digest,
                epoch.leader_hint,
                encode_membership(epoch.membership),
                self.index,
                self.digest,
                self.last_term,
                self.used_floor,
                self.used_witnesses,
            )
        )
        return packed

    @cached_property
    def statement(self) -> bytes:
        """The digest that voters sign (32 bytes); it covers every field."""
        return sha256(_LABEL + sha256(self._facts).digest() + sha256(self.state).digest()).digest()

    def encode(self) -> bytes:
        """The bytes that travel to a peer and stand in the durable log."""
        packed: bytes = msgpack.packb((self._facts, self.state))
        return packed


def decode_checkpoint(data: bytes) -> Checkpoint:
    """Undo `Checkpoint.encode`; raises `CheckpointError`."""
    try:
        facts, state = msgpack.unpackb(data, use_list=False)
        version, number, mode, base_index, base_digest, hint, members, *rest = msgpack.unpackb(facts, use_list=False)
        index, digest, last_term, used_floor, used = rest
        membership = decode_membership(members)
        numbers = (number, base_index, index, last_term, used_floor, *used, *(() if hint is None else (hint,)))
        if version != 1 or not all(type(each) is int and 0 <= each < 1 << 64 for each in numbers):
            raise CheckpointError("a checkpoint of another version, or a number out of range")
        if not all(type(each) is bytes and len(each) == 32 for each in (base_digest, digest)):
            raise CheckpointError("a checkpoint whose digests are not 32 bytes")
        if type(state) is not bytes or index < base_index:
            raise CheckpointError(f"a checkpoint at {index} of an epoch from {base_index} on, or no state")
        epoch = make_epoch(number, Mode(mode), base_index, base_digest, hint, membership)
        return Checkpoint(epoch, index, digest, last_term, used_floor, tuple(used), state)
    except CheckpointError:
        raise
    except (ValueError, TypeError, MembershipError, msgpack.UnpackException, struct.error) as error:
        raise CheckpointError(f"{len(data)} bytes are no checkpoint: {error}") from error


def checkpoint_bytes(index: int, statement: bytes) -> bytes:
    """What a checkpoint vote signs."""
    return _LABEL + _SIGNED.pack(index) + statement


def sign_checkpoint(checkpoint: Checkpoint, node: int, sign: Callable[[bytes], bytes]) -> CheckpointVote:
    """The vote of `node` for `checkpoint`."""
    statement = checkpoint.statement
    signature = sign(checkpoint_bytes(checkpoint.index, statement))
    return CheckpointVote(checkpoint.epoch.number, checkpoint.index, statement, node, signature)


def check_certificate(certificate: CheckpointCertificate, membership: Membership, verifier: Verifier) -> None:
    """Raise `CheckpointError` unless f + 1 voters of `membership` signed: then one of them is honest, and it is true.

    `membership` is one that the receiver trusts; `verifier` holds its keys. Signers that it does not know (they joined
    later) count for nothing: where they make the difference, `UnknownSigners`.
    """
    if len(certificate.signers) != len(certificate.signatures) or len(set(certificate.signers)) != len(
        certificate.signers
    ):
        raise CheckpointError("signers and signatures do not pair up, or a signer is named twice")
    said = checkpoint_bytes(certificate.index, certificate.digest)
    voters = set(membership.voters)
    signed = [
        verifier.verifies(node, said, signature)
        for node, signature in zip(certificate.signers, certificate.signatures, strict=True)
        if node in voters
    ]
    wanted = byzantine_faults(len(voters)) + 1
    if (known := sum(signed)) < wanted:
        kind = UnknownSigners if all(signed) and len(certificate.signers) >= wanted else CheckpointError
        raise kind(f"checkpoint of entry {certificate.index}: {known} signers known to this node, {wanted} are needed")


class CheckpointVotes:
    """The votes of all nodes for checkpoints near this node's log, bounded: the newest few of each voter."""

    __slots__ = ("_votes",)

    def __init__(self) -> None:
        self._votes: dict[int, dict[int, CheckpointVote]] = {}

    def add(self, vote: CheckpointVote) -> None:
        """Keep `vote`, unverified: what it is worth shows when this node has a checkpoint at that index."""
        votes = self._votes.setdefault(vote.voter, {})
        votes[vote.index] = vote
        while len(votes) > _VOTES_KEPT_PER_VOTER:
            del votes[min(votes)]

    def certify(
        self, checkpoint: Checkpoint, verifies: Callable[[int, bytes, bytes], bool]
    ) -> tuple[CheckpointCertificate | None, tuple[int, ...]]:
        """A certificate where a majority of the epoch's voters signed `checkpoint`; and who signed another state.

        `verifies(node, message, signature)` checks one signature; a vote that fails it is forgotten.
        """
        index, statement = checkpoint.index, checkpoint.statement
        voters = checkpoint.epoch.membership.voters
        agreed: dict[int, bytes] = {}
        disagree: list[int] = []
        for voter in voters:
            vote = self._votes.get(voter, {}).get(index)
            if vote is None:
                continue
            if not verifies(voter, checkpoint_bytes(index, vote.digest), vote.signature):
                del self._votes[voter][index]
            elif vote.digest == statement:
                agreed[voter] = vote.signature
            else:
                disagree.append(voter)
        if len(agreed) < majority(len(voters)):
            return None, tuple(disagree)
        signers = tuple(sorted(agreed))
        certificate = CheckpointCertificate(index, statement, signers, tuple(agreed[node] for node in signers))
        return certificate, tuple(disagree)

    def forget_up_to(self, index: int, members: Mapping[int, bytes]) -> None:
        """`index` is stable: votes for it and before are of no use, nor those of nodes that are no members."""
        self._votes = {
            voter: {at: vote for at, vote in votes.items() if at > index}
            for voter, votes in self._votes.items()
            if voter in members
        }
