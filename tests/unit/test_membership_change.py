"""Changes of membership: whose word counts, for what, and for which epoch."""

from __future__ import annotations

from dataclasses import replace

import msgpack
import pytest

from net.epoch import Epoch, first_epoch
from net.membership import Member, Membership, MembershipError, all_voters, decode_membership, encode_membership
from net.membership_change import decode_change, next_epoch, readmission, sign_change
from net.messages import Mode
from net.simulation.keys import roster_of, signer

OPERATOR = 15
MEMBERS = all_voters(roster_of(4))
EPOCH = first_epoch(Mode.RAFT, 0, MEMBERS)
AUTHORITIES = {OPERATOR: roster_of(16)[OPERATOR]}
WITH_LEARNER = Membership((*MEMBERS.members, Member(4, roster_of(5)[4], voter=False)))
INCARNATION = b"i" * 16


def change(members: Membership, author: int, epoch: Epoch = EPOCH, key: int | None = None) -> bytes:
    return sign_change(epoch, members, None, author, signer(author if key is None else key))


def after(payload: bytes, epoch: Epoch = EPOCH) -> Epoch:
    return next_epoch(epoch, payload, 7, b"d" * 32, AUTHORITIES)


def test_an_operator_admits_and_the_next_epoch_begins_behind_the_entry() -> None:
    epoch = after(change(WITH_LEARNER, OPERATOR))
    assert (epoch.number, epoch.mode, epoch.base_index, epoch.base_digest) == (2, Mode.RAFT, 7, b"d" * 32)
    assert epoch.membership == WITH_LEARNER
    assert epoch.membership.learners == (4,)


def test_a_node_names_its_own_disk_and_nothing_else() -> None:
    readmitted = readmission(MEMBERS, 2, INCARNATION)
    assert after(change(readmitted, 2)).membership.entitles(2, INCARNATION)
    for members in (WITH_LEARNER, readmission(MEMBERS, 1, INCARNATION), MEMBERS, readmission(readmitted, 1, b"j" * 16)):
        with pytest.raises(MembershipError, match="its own disk and change nothing else"):
            after(change(members, 2))


def test_a_change_counts_in_its_own_epoch_only() -> None:
    payload = change(WITH_LEARNER, OPERATOR)
    later = after(payload)
    with pytest.raises(MembershipError, match="not signed by 15 for epoch 2"):
        after(payload, later)
    other = first_epoch(Mode.BFT, 0, MEMBERS)
    with pytest.raises(MembershipError, match="not signed"):
        after(payload, other)


@pytest.mark.parametrize("author", [2, 9, OPERATOR])
def test_another_key_signs_for_nobody(author: int) -> None:
    with pytest.raises(MembershipError, match="not signed"):
        after(change(readmission(MEMBERS, 2, INCARNATION), author, key=3))


def test_a_mode_that_lies_do_not_harm_needs_four_voters() -> None:
    three = Membership(MEMBERS.members[:3])
    byzantine = first_epoch(Mode.BFT, 0, MEMBERS)
    with pytest.raises(MembershipError, match="needs at least 4 voters, not 3"):
        change(three, OPERATOR, byzantine)
    assert after(change(three, OPERATOR)).membership == three
    # Signed by an operator whose program does not check.
    payload = change(three, OPERATOR, replace(byzantine, mode=Mode.RAFT))
    with pytest.raises(MembershipError, match="needs at least 4 voters"):
        after(payload, byzantine)


@pytest.mark.parametrize("payload", [b"", b"\x90", b"\x95\x01\xc4\x00\xc0\x01\xc4\x00", b"\x95\x02\x01\x02\x03\x04"])
def test_other_bytes_are_refused(payload: bytes) -> None:
    with pytest.raises(MembershipError):
        decode_change(payload)


@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize("value", [True, 1.0, 1 << 40, "1", (1,)])
def test_every_field_has_its_exact_type(place: int, value: object) -> None:
    """1.0 is found among the voters like 1, and fails where the statement of the change is packed."""
    fields = list(msgpack.unpackb(sign_change(EPOCH, WITH_LEARNER, 1, OPERATOR, signer(OPERATOR)), use_list=False))
    fields[place] = value
    with pytest.raises(MembershipError):
        after(msgpack.packb(fields))


@pytest.mark.parametrize("version", [True, 1.0, 2])
def test_a_membership_is_of_an_exact_version(version: object) -> None:
    _, rows = msgpack.unpackb(encode_membership(MEMBERS))
    with pytest.raises(MembershipError):
        decode_membership(msgpack.packb((version, rows)))


def test_the_hint_must_vote() -> None:
    payload = sign_change(EPOCH, WITH_LEARNER, 4, OPERATOR, signer(OPERATOR))
    with pytest.raises(MembershipError, match="does not vote"):
        decode_change(payload)
