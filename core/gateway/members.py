"""Whose signatures the gateway counts, and in which mode of consensus: the session's first, then what f + 1 voters say.

The gateway reads no log. A change of membership or mode is committed by the nodes; when f + 1 voters whom it knows say
the same over their authenticated links, one of them is honest, and it is so. What it believes survives its restart.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgpack

from net.membership import Membership, MembershipError, decode_membership, encode_membership
from net.messages import Mode
from net.quorum import byzantine_faults

EPOCHS_KEPT: Final = 256


class GatewayMembers:
    """The membership and the modes that the gateway believes, and who says otherwise."""

    def __init__(self, first: Membership, mode: Mode, file: Path) -> None:
        """`mode` is that of the first epoch. `file` keeps what was believed last; a damaged one counts for nothing,
        since the nodes say it again.
        """
        self._file = file
        self.membership, self.modes = self._read() or (first, {1: mode})
        """`modes`: by epoch, as far as they were heard of; the newest is the running one."""
        self._said: dict[int, tuple[int, Mode, bytes]] = {}

    @property
    def epoch(self) -> int:
        """The newest that is believed to run."""
        return max(self.modes)

    def heard(self, sender: int, epoch: int, mode: Mode, data: bytes) -> bool:
        """Node `sender` says that `data` (an encoded membership) decides in `mode` from `epoch` on; whether that is
        believed now.

        Raises MembershipError for bytes that are no membership, OSError where it cannot be kept.
        """
        if epoch <= self.epoch or sender not in self.membership.voters:
            return False
        membership = decode_membership(data)
        said = self._said[sender] = (epoch, mode, data)
        saying = sum(self._said.get(voter) == said for voter in self.membership.voters)
        if saying <= byzantine_faults(len(self.membership.voters)):
            return False
        modes = {**self.modes, epoch: mode}
        while len(modes) > EPOCHS_KEPT:
            del modes[min(modes)]
        self._write(membership, modes)
        self.membership, self.modes = membership, modes
        self._said.clear()
        return True

    def _read(self) -> tuple[Membership, dict[int, Mode]] | None:
        try:
            data, rows = msgpack.unpackb(self._file.read_bytes())
            return decode_membership(data), {int(epoch): Mode(mode) for epoch, mode in rows} or {1: Mode.BFT}
        except (FileNotFoundError, MembershipError, ValueError, TypeError, msgpack.UnpackException):
            return None

    def _write(self, membership: Membership, modes: dict[int, Mode]) -> None:
        temporary = self._file.with_suffix(".tmp")
        rows = [(epoch, int(mode)) for epoch, mode in sorted(modes.items())]
        with temporary.open("wb") as file:
            file.write(msgpack.packb((encode_membership(membership), rows)))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._file)
