"""Which nodes the gateway counts signatures of: the session's first members, then whom f + 1 of them name.

The gateway reads no log. A change of membership is committed by the nodes; when f + 1 voters whom it knows say the same
over their authenticated links, one of them is honest, and it is so. What it believes survives its restart.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgpack

from net.membership import Membership, MembershipError, decode_membership, encode_membership
from net.quorum import byzantine_faults


class GatewayMembers:
    """The membership that the gateway believes, and who says otherwise."""

    def __init__(self, first: Membership, file: Path) -> None:
        """`file` keeps what was believed last; a damaged one counts for nothing, since the nodes say it again."""
        self._file = file
        self.epoch, self.membership = self._read() or (1, first)
        self._said: dict[int, tuple[int, bytes]] = {}

    def heard(self, sender: int, epoch: int, data: bytes) -> bool:
        """Node `sender` says that `data` (an encoded membership) holds from `epoch` on; whether it is believed now.

        Raises MembershipError for bytes that are no membership, OSError where it cannot be kept.
        """
        if epoch <= self.epoch or sender not in self.membership.voters:
            return False
        membership = decode_membership(data)
        self._said[sender] = (epoch, data)
        saying = sum(self._said.get(voter) == (epoch, data) for voter in self.membership.voters)
        if saying <= byzantine_faults(len(self.membership.voters)):
            return False
        self._write(epoch, membership)
        self.epoch, self.membership = epoch, membership
        self._said.clear()
        return True

    def _read(self) -> tuple[int, Membership] | None:
        try:
            epoch, data = msgpack.unpackb(self._file.read_bytes())
            return int(epoch), decode_membership(data)
        except (FileNotFoundError, MembershipError, ValueError, TypeError, msgpack.UnpackException):
            return None

    def _write(self, epoch: int, membership: Membership) -> None:
        temporary = self._file.with_suffix(".tmp")
        with temporary.open("wb") as file:
            file.write(msgpack.packb((epoch, encode_membership(membership))))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._file)
