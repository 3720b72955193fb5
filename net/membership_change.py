"""Who may change the membership of an epoch, and to what: the payload of a MEMBERSHIP entry.

A change is signed over the context of the epoch that it ends, so it counts once. Its author is an operator (one of the
`authorities` that every node was started with), who may admit, promote, demote and remove; or a voter whose disk was
lost, who may name the disk that it votes from now on, and nothing else.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import msgpack

from net.certificate import Verifier
from net.epoch import Epoch, make_epoch
from net.membership import Membership, MembershipError, decode_membership, encode_membership
from net.messages import Mode
from net.quorum import byzantine_faults

_LABEL: Final = b"tradetui.members.1"


@dataclass(frozen=True, slots=True)
class MembershipChange:
    """`membership` from the next epoch on, by the word of `author`. `leader_hint` names who should lead then."""

    membership: Membership
    leader_hint: int | None
    author: int
    signature: bytes


def _said(context: bytes, membership: Membership, leader_hint: int | None) -> bytes:
    return (
        _LABEL + context + struct.pack("<i", -1 if leader_hint is None else leader_hint) + encode_membership(membership)
    )


def sign_change(
    epoch: Epoch, membership: Membership, leader_hint: int | None, author: int, sign: Callable[[bytes], bytes]
) -> bytes:
    """The payload of a MEMBERSHIP entry that ends `epoch`. Raises `MembershipError` for what the mode cannot be."""
    check_size(epoch.mode, membership)
    signature = sign(_said(epoch.context, membership, leader_hint))
    packed: bytes = msgpack.packb((1, encode_membership(membership), leader_hint, author, signature))
    return packed


def decode_change(payload: bytes) -> MembershipChange:
    """Undo `sign_change`; raises `MembershipError` for other bytes."""
    try:
        version, members, hint, author, signature = msgpack.unpackb(payload, use_list=False)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise MembershipError(f"{len(payload)} bytes are no change of membership: {error}") from error
    fields = ((version, int), (members, bytes), (author, int), (signature, bytes), (0 if hint is None else hint, int))
    # Exact types: 1.0 and True equal 1, would pass for a voter's id, and fail where the signed bytes are packed.
    if any(type(value) is not kind for value, kind in fields) or version != 1:
        raise MembershipError("a change of membership of another version or form")
    membership = decode_membership(members)
    if hint is not None and hint not in membership.voters:
        raise MembershipError(f"node {hint!r:.20} is to lead, and does not vote")
    return MembershipChange(membership, hint, author, signature)


def check_size(mode: Mode, membership: Membership) -> None:
    """Raises `MembershipError` where `mode` needs more voters than these."""
    if mode is not Mode.RAFT and byzantine_faults(len(membership.voters)) < 1:
        raise MembershipError(f"mode {mode.name} needs at least 4 voters, not {len(membership.voters)}")


def next_epoch(epoch: Epoch, payload: bytes, index: int, digest: bytes, authorities: Mapping[int, bytes]) -> Epoch:
    """The epoch that a MEMBERSHIP entry at `index` begins. Raises `MembershipError` where it changes nothing.

    `digest` is the hash chain up to the entry. Pure: every node that holds the same log judges alike.
    """
    change = decode_change(payload)
    check_size(epoch.mode, change.membership)
    keys = {**epoch.membership.keys, **authorities}
    said = _said(epoch.context, change.membership, change.leader_hint)
    if change.author not in keys or not Verifier(keys).verifies(change.author, said, change.signature):
        raise MembershipError(f"the change is not signed by {change.author} for epoch {epoch.number}")
    if change.author not in authorities and not _readmits_only(change.author, epoch.membership, change.membership):
        raise MembershipError(f"node {change.author} may name its own disk and change nothing else")
    return make_epoch(epoch.number + 1, epoch.mode, index, digest, change.leader_hint, change.membership)


def _readmits_only(node: int, before: Membership, after: Membership) -> bool:
    row = after.member(node)
    if row is None or not row.incarnation:
        return False
    expected = tuple(
        replace(each, incarnation=row.incarnation) if each.node == node else each for each in before.members
    )
    return expected == after.members and before != after


def readmission(membership: Membership, node: int, incarnation: bytes) -> Membership:
    """`membership` where `node` votes from the disk `incarnation`."""
    return Membership(
        tuple(
            replace(member, incarnation=incarnation) if member.node == node else member for member in membership.members
        )
    )
