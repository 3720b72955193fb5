"""Who takes part in an epoch: voters, learners, and the bytes of a MEMBERSHIP entry.

A membership change is an entry that ends its epoch, committed by the members of that epoch; the next epoch belongs to
the members it names (as in stoppable state machines: Lamport, Malkhi and Zhou, "Reconfiguring a State Machine", 2010).
Votes never cross epochs, so no quorum ever mixes two memberships. That takes the place of Raft's joint consensus (§6).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import msgpack

INCARNATION_BYTES = 16
MEMBERS_MAX = 64


class MembershipError(ValueError):
    """A membership that cannot be; the text says why."""


@dataclass(frozen=True, slots=True)
class Member:
    """One node. A learner (`voter` False) receives everything and counts in no quorum.

    `incarnation` names the disk that this member votes from: empty for one that was there from the start, 16 random
    bytes for one that (re)joined. A node whose disk was wiped has another and votes nowhere until an epoch names it:
    it may have voted before, and forgotten.
    """

    node: int
    public_key: bytes
    voter: bool = True
    incarnation: bytes = b""


@dataclass(frozen=True)
class Membership:
    """Members by ascending node id."""

    members: tuple[Member, ...]

    @cached_property
    def voters(self) -> tuple[int, ...]:
        return tuple(member.node for member in self.members if member.voter)

    @cached_property
    def learners(self) -> tuple[int, ...]:
        return tuple(member.node for member in self.members if not member.voter)

    @cached_property
    def nodes(self) -> tuple[int, ...]:
        return tuple(member.node for member in self.members)

    @cached_property
    def keys(self) -> dict[int, bytes]:
        """Every member's 32-byte Ed25519 public key."""
        return {member.node: member.public_key for member in self.members}

    @cached_property
    def voter_keys(self) -> dict[int, bytes]:
        """The roster that certificates of the epoch are checked against."""
        return {member.node: member.public_key for member in self.members if member.voter}

    def member(self, node: int) -> Member | None:
        return next((member for member in self.members if member.node == node), None)

    def entitles(self, node: int, incarnation: bytes) -> bool:
        """Whether `node` with this disk may vote."""
        member = self.member(node)
        return member is not None and member.voter and member.incarnation == incarnation


def all_voters(roster: Mapping[int, bytes]) -> Membership:
    """The membership that a log starts with: everybody in `roster` votes."""
    return Membership(tuple(Member(node, roster[node]) for node in sorted(roster)))


def encode_membership(membership: Membership) -> bytes:
    """The payload of a MEMBERSHIP entry."""
    rows = [(each.node, each.public_key, each.voter, each.incarnation) for each in membership.members]
    packed: bytes = msgpack.packb((1, rows))
    return packed


def decode_membership(payload: bytes) -> Membership:
    """Undo `encode_membership`; raises `MembershipError` for anything that is not sorted, unique and with a voter."""
    try:
        version, rows = msgpack.unpackb(payload, use_list=False)
        members = tuple(Member(*row) for row in rows)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise MembershipError(f"{len(payload)} bytes are no membership: {error}") from error
    for member in members:
        if type(member.node) is not int or not 0 <= member.node < 1 << 16 or type(member.voter) is not bool:
            raise MembershipError(f"member {member.node!r:.20}: not a node id and a vote")
        if type(member.public_key) is not bytes or len(member.public_key) != 32:
            raise MembershipError(f"member {member.node}: not a 32-byte public key")
        if type(member.incarnation) is not bytes or len(member.incarnation) not in (0, INCARNATION_BYTES):
            raise MembershipError(f"member {member.node}: not an incarnation")
    nodes = [member.node for member in members]
    if type(version) is not int or version != 1 or not 0 < len(members) <= MEMBERS_MAX or nodes != sorted(set(nodes)):
        raise MembershipError(f"members {nodes!r:.80} are not 1 to {MEMBERS_MAX} ids in ascending order")
    if not any(member.voter for member in members):
        raise MembershipError("nobody votes")
    return Membership(members)
