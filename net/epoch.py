"""An epoch: a stretch of the log that one protocol orders, from a definite index on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

from net.certificate import GENESIS_DIGEST, epoch_context
from net.membership import Membership
from net.messages import Mode

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
