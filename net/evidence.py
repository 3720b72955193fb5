"""Proof that a node lied: two votes, both signed by it, that no honest node signs both of.

Anybody who has the node's public key can check it, now or later: a proof carries the context that its votes were signed
in, and needs no trust in who passed it on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgpack

from net.certificate import Verifier, signed_bytes
from net.messages import Phase, Vote

PROOFS_PER_CULPRIT_MAX = 16
"""More of one epoch are worth nobody's time: it is known to lie."""


class EvidenceError(ValueError):
    """The votes prove nothing; the text says why."""


@dataclass(frozen=True, slots=True)
class Contradiction:
    """`first` and `second` are votes of one node, signed in the epoch that `context` names."""

    context: bytes
    first: Vote
    second: Vote

    @property
    def culprit(self) -> int:
        return self.first.voter

    @property
    def reason(self) -> str:
        """In words."""
        first = self.first
        if first.phase is Phase.NULLIFY:
            return f"signed two NULLIFY votes in view {first.view}"
        return f"signed two {first.phase.name} votes in view {first.view} at height {first.height}"

    def check(self, verifier: Verifier) -> None:
        """Raise `EvidenceError` unless both votes are signed and contradict each other (rules R1 and R5 of `net.bft`).

        A FINALIZE vote in a view that its voter gave up proves nothing: what is decided already it may confirm (R6).
        """
        first, second = self.first, self.second
        if first.voter != second.voter or first.view != second.view:
            raise EvidenceError("votes of two nodes, or of two views, contradict nothing")
        if not _contradict(first, second):
            raise EvidenceError("an honest node may sign both")
        for vote in (first, second):
            said = signed_bytes(self.context, vote.phase, vote.view, vote.height, vote.digest)
            if not verifier.verifies(vote.voter, said, vote.signature):
                raise EvidenceError(f"a vote is not signed by node {vote.voter}")

    def encode(self) -> bytes:
        """The bytes to keep."""
        packed: bytes = msgpack.packb((1, self.context, _fields(self.first), _fields(self.second)))
        return packed


def decode_contradiction(data: bytes) -> Contradiction:
    """Undo `Contradiction.encode`; raises `EvidenceError`."""
    try:
        version, context, first, second = msgpack.unpackb(data, use_list=False)
        if version != 1 or type(context) is not bytes:
            raise EvidenceError("evidence of another version")
        return Contradiction(context, _vote(first), _vote(second))
    except EvidenceError:
        raise
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise EvidenceError(f"{len(data)} bytes are no evidence: {error}") from error


def _contradict(first: Vote, second: Vote) -> bool:
    if first.phase is not second.phase:
        return False
    if first.phase is Phase.NULLIFY:
        return (first.height, first.digest) != (second.height, second.digest)
    return first.height == second.height and first.digest != second.digest


def _fields(vote: Vote) -> tuple[Any, ...]:
    return (vote.epoch, int(vote.phase), vote.view, vote.height, vote.digest, vote.voter, vote.signature)


def _vote(fields: Any) -> Vote:
    epoch, phase, view, height, digest, voter, signature = fields
    numbers = (epoch, view, height, voter)
    if any(type(each) is not int or each < 0 for each in numbers) or type(digest) is not bytes:
        raise EvidenceError("a vote out of range")
    return Vote(epoch, Phase(phase), view, height, digest, voter, signature)
