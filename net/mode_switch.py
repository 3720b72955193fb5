"""Who may change the mode of an epoch: the payload of a SWITCH entry.

A switch is signed over the context of the epoch that it ends, so it counts once. Its author is an operator, one of the
`authorities` that every node was started with. Who should lead then is not signed: it is the submitter's own word, and
a wrong one costs an election or a view.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from net.certificate import Verifier
from net.epoch import Epoch, make_epoch
from net.messages import Mode
from net.quorum import byzantine_faults

VERSION: Final = 2
"""1 carried no signature; no node obeys it."""
_LABEL: Final = b"tradetui.switch.1"
_SIGNATURE_BYTES: Final = 64
_PAYLOAD: Final = struct.Struct(f"<BHBH{_SIGNATURE_BYTES}s")  # version, leader hint, mode, author, signature
_NO_HINT: Final = 0xFFFF
PAYLOAD_BYTES: Final = _PAYLOAD.size


class SwitchError(ValueError):
    """A switch that begins no epoch; the text says why."""


@dataclass(frozen=True, slots=True)
class SwitchOrder:
    """`mode` from the next epoch on, by the word of `author`, for the one epoch that its signature covers."""

    mode: Mode
    author: int
    signature: bytes


def _said(context: bytes, mode: Mode) -> bytes:
    return _LABEL + context + bytes([mode])


def sign_switch(epoch: Epoch, mode: Mode, author: int, sign: Callable[[bytes], bytes]) -> SwitchOrder:
    """The order that ends `epoch` and begins one of `mode`. Raises `SwitchError` where the epoch cannot end so."""
    _check_mode(epoch.mode, mode, len(epoch.membership.voters))
    return SwitchOrder(mode, author, sign(_said(epoch.context, mode)))


def encode_switch(order: SwitchOrder, leader_hint: int | None) -> bytes:
    """The payload of a SWITCH entry. Raises `SwitchError` for an order that has no form there."""
    if not 0 <= order.author < 1 << 16 or len(order.signature) != _SIGNATURE_BYTES:
        raise SwitchError(f"author {order.author}, {len(order.signature)} bytes of signature: no order to switch")
    hint = _NO_HINT if leader_hint is None else leader_hint
    return _PAYLOAD.pack(VERSION, hint, order.mode, order.author, order.signature)


def decode_switch(payload: bytes) -> tuple[SwitchOrder, int | None]:
    """The order and the leader hint; the signature is not checked. Raises `SwitchError` for other bytes."""
    if len(payload) != _PAYLOAD.size:
        raise SwitchError(f"{len(payload)} bytes are no switch that an operator signed")
    version, hint, mode, author, signature = _PAYLOAD.unpack(payload)
    if version != VERSION or mode not in Mode.__members__.values():
        raise SwitchError(f"a switch of version {version} to mode {mode}")
    return SwitchOrder(Mode(mode), author, signature), None if hint == _NO_HINT else hint


def check_switch(order: SwitchOrder, context: bytes, mode: Mode, voters: int, authorities: Mapping[int, bytes]) -> None:
    """Raises `SwitchError` unless `order` ends the epoch of `context`, `mode` and so many voters.

    `authorities` maps an operator's id to its 32-byte public key. Pure: every node judges alike.
    """
    _check_mode(mode, order.mode, voters)
    key = authorities.get(order.author)
    said = _said(context, order.mode)
    if key is None or not Verifier({order.author: key}).verifies(order.author, said, order.signature):
        raise SwitchError(f"the switch to {order.mode.name} is not signed by operator {order.author} for this epoch")


def _check_mode(before: Mode, after: Mode, voters: int) -> None:
    if after is before:
        raise SwitchError(f"the mode is {before.name} already")
    if after is not Mode.RAFT and byzantine_faults(voters) < 1:
        raise SwitchError(f"mode {after.name} needs at least 4 nodes, there are {voters}")


def switched_epoch(epoch: Epoch, payload: bytes, index: int, digest: bytes, authorities: Mapping[int, bytes]) -> Epoch:
    """The epoch that a SWITCH entry at `index` begins. Raises `SwitchError` where it begins none.

    `digest` is the hash chain up to the entry. Pure: every node that holds the same log judges alike.
    """
    order, hint = decode_switch(payload)
    check_switch(order, epoch.context, epoch.mode, len(epoch.membership.voters), authorities)
    return make_epoch(epoch.number + 1, order.mode, index, digest, hint, epoch.membership)
