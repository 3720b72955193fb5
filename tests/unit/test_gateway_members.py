"""Whom the gateway counts signatures of: only what an honest node has said, kept over a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.gateway.members import GatewayMembers
from net.membership import Member, Membership, MembershipError, all_voters, encode_membership
from net.messages import Mode
from net.simulation.keys import roster_of

FIRST = all_voters(roster_of(4))
FIVE = all_voters(roster_of(5))


def test_one_node_alone_is_not_believed_and_two_of_four_are(tmp_path: Path) -> None:
    members = GatewayMembers(FIRST, Mode.BFT, tmp_path / "members")
    five = encode_membership(FIVE)
    assert not members.heard(1, 2, Mode.BFT, five)
    assert not members.heard(1, 2, Mode.BFT, five), "saying it twice is one voice"
    assert not members.heard(4, 2, Mode.BFT, five), "one who is not believed yet has none"
    assert not members.heard(2, 3, Mode.BFT, five), "of another epoch"
    assert not members.heard(3, 2, Mode.BFT, encode_membership(Membership((*FIRST.members, Member(9, b"k" * 32)))))
    assert members.heard(0, 2, Mode.BFT, five)
    assert members.membership == FIVE
    assert GatewayMembers(FIRST, Mode.BFT, tmp_path / "members").membership == FIVE
    assert not members.heard(0, 2, Mode.BFT, encode_membership(FIRST))
    assert not members.heard(1, 1, Mode.BFT, encode_membership(FIRST)), "an older epoch is over"


def test_a_damaged_file_and_bytes_that_are_no_membership(tmp_path: Path) -> None:
    (tmp_path / "members").write_bytes(b"damaged")
    members = GatewayMembers(FIRST, Mode.BFT, tmp_path / "members")
    assert members.membership == FIRST
    with pytest.raises(MembershipError):
        members.heard(0, 2, Mode.BFT, b"damaged")


def test_the_mode_of_an_epoch_is_believed_as_its_members_are_and_kept(tmp_path: Path) -> None:
    members = GatewayMembers(FIRST, Mode.BFT, tmp_path / "members")
    same = encode_membership(FIRST)
    assert members.modes == {1: Mode.BFT}
    assert not members.heard(1, 2, Mode.RAFT, same), "one liar moves nobody to Raft"
    assert not members.heard(2, 2, Mode.BFT, same)
    assert members.heard(3, 2, Mode.BFT, same)
    assert not members.heard(1, 3, Mode.RAFT, same)
    assert members.heard(0, 3, Mode.RAFT, same)
    again = GatewayMembers(FIRST, Mode.AUTO, tmp_path / "members")
    assert again.modes == members.modes == {1: Mode.BFT, 2: Mode.BFT, 3: Mode.RAFT}
    assert again.epoch == 3
