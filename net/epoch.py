"""An epoch: a stretch of the log that one protocol orders, from a definite index on."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

from net.certificate import GENESIS_DIGEST, epoch_context
from net.membership import Membership
from net.messages import Mode
from net.quorum import byzantine_faults

_SWITCH: Final = struct.Struct("<BHB")
_NO_HINT: Final = 0xFFFF
_FAST_PATH_LABEL: Final = b"tradetui.fast-path.1"


@dataclass(frozen=True, slots=True)
class Epoch:
    """Epoch `number` orders the log from `base_index + 1` on; `base_digest` is the hash chain of all before.

    `context` is what every signature of the epoch covers, `witness_context` the same for the Byzantine log that runs
    beside an AUTO epoch. `leader_hint` names the node that led before, so that a switch costs no election timeout.
    `membership` is who votes and who only learns; it changes from epoch to epoch only.
    """

    number: int
    mode: Mode
    base_index: int
    base_digest: bytes
    leader_hint: int | None
    membership: Membership
    context: bytes
    witness_context: bytes
    fast_path: bool = False
    """Whether the log was started with the fast path on (`ConsensusSettings.fast_path`)."""


def make_epoch(
    number: int, mode: Mode, base_index: int, base_digest: bytes, leader_hint: int | None, membership: Membership
) -> Epoch:
    return Epoch(
        number,
        mode,
        base_index,
        base_digest,
        leader_hint,
        membership,
        epoch_context(number, mode, base_index, base_digest),
        epoch_context(number, mode, base_index, base_digest, witness=True),
    )


def with_fast_path(epoch: Epoch) -> Epoch:
    """`epoch` of a log that was started with the fast path on: what is signed in one counts nowhere in the other."""
    if epoch.fast_path:
        return epoch
    return replace(
        epoch,
        fast_path=True,
        context=sha256(_FAST_PATH_LABEL + epoch.context).digest(),
        witness_context=sha256(_FAST_PATH_LABEL + epoch.witness_context).digest(),
    )


def first_epoch(mode: Mode, leader_hint: int | None, membership: Membership) -> Epoch:
    """The epoch that an empty log starts in."""
    return make_epoch(1, mode, 0, GENESIS_DIGEST, leader_hint, membership)


def encode_switch(mode: Mode, leader_hint: int | None) -> bytes:
    """The payload of a SWITCH entry: version, leader hint, next mode."""
    return _SWITCH.pack(1, _NO_HINT if leader_hint is None else leader_hint, mode)


def decode_switch(payload: bytes, n: int) -> tuple[Mode, int | None] | None:
    """Next mode and leader hint; None when the payload is malformed or asks `n` nodes for what they cannot do."""
    if len(payload) != _SWITCH.size:
        return None
    version, hint, mode = _SWITCH.unpack(payload)
    if version != 1 or mode not in Mode.__members__.values():
        return None
    if mode != Mode.RAFT and byzantine_faults(n) < 1:
        return None
    return Mode(mode), None if hint == _NO_HINT else hint
