"""An operator's signed word that changes the toggles of a running swarm; the log makes it everybody's.

Ordered by the signer's clock, as changes of the limits are (`core.limits_change`). Where the change names another
consensus mode than the one that runs, it brings the operator's order to switch (`net.mode_switch`), signed for the
epoch that runs: the log keeps it until that epoch ends, so whoever leads can carry it out, and nobody without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import msgpack

from core.toggles import Consensus, Toggles, from_dict
from net.epoch import Epoch
from net.identity import SIGNATURE_BYTES, verify_signature
from net.messages import Mode
from net.mode_switch import SwitchOrder, sign_switch

MODE_OF: Final = {Consensus.BFT: Mode.BFT, Consensus.RAFT: Mode.RAFT, Consensus.AUTO: Mode.AUTO}
CONSENSUS_OF: Final = {mode: consensus for consensus, mode in MODE_OF.items()}


@dataclass(frozen=True, slots=True)
class ToggleChange:
    """All toggles as they are to be from now on."""

    toggles: Toggles
    switch: SwitchOrder | None
    """Of the mode that `toggles` name; None where that mode ran already as this was signed."""
    signed_ns: int
    """Signer's clock, Unix; a later change wins."""
    signer: int
    """Roster id of an operator."""
    signature: bytes

    def is_signed(self, keys: Mapping[int, bytes]) -> bool:
        """Whether the signer is one of `keys` (id to public key) and signed this."""
        key = keys.get(self.signer)
        return key is not None and verify_signature(key, _signed(self), self.signature)


def sign_toggles(
    toggles: Toggles, epoch: Epoch, signed_ns: int, signer: int, sign: Callable[[bytes], bytes]
) -> ToggleChange:
    """A change with its signature, and with the order to switch where `epoch`, the running one, is of another mode.

    Raises `SwitchError` where that epoch cannot become of the mode that `toggles` name.
    """
    mode = MODE_OF[toggles.consensus]
    switch = None if mode is epoch.mode else sign_switch(epoch, mode, signer, sign)
    bare = ToggleChange(toggles, switch, signed_ns, signer, b"")
    return replace(bare, signature=sign(_signed(bare)))


def encode_toggles(change: ToggleChange) -> bytes:
    return _fields(change) + change.signature


def decode_toggles(data: bytes) -> ToggleChange:
    """The inverse of `encode_toggles`; no signature is checked. Raises ValueError for other bytes."""
    try:
        toggles, switch, signed_ns, signer = msgpack.unpackb(data[:-SIGNATURE_BYTES], use_list=False)
        if type(signed_ns) is not int or type(signer) is not int:
            raise TypeError("the time or the signer is no integer")
        order = None if switch is None else switch_of(switch)
        change = ToggleChange(from_dict(toggles), order, signed_ns, signer, data[-SIGNATURE_BYTES:])
    except (ValueError, TypeError, AttributeError, msgpack.UnpackException) as error:
        raise ValueError(f"{len(data)} bytes are no change of the toggles: {error}") from error
    if encode_toggles(change) != data:
        raise ValueError("a change of the toggles is not in its one encoding")
    if order is not None and order.mode is not MODE_OF[change.toggles.consensus]:
        raise ValueError(f"the toggles name {change.toggles.consensus}, the order to switch {order.mode.name}")
    return change


def switch_fields(order: SwitchOrder) -> tuple[int, int, bytes]:
    return int(order.mode), order.author, order.signature


def switch_of(fields: tuple[int, int, bytes]) -> SwitchOrder:
    """The inverse of `switch_fields`. Raises ValueError or TypeError for other values."""
    mode, author, signature = fields
    if type(author) is not int or type(signature) is not bytes or len(signature) != SIGNATURE_BYTES:
        raise TypeError("an order to switch is a mode, an author and a signature")
    return SwitchOrder(Mode(mode), author, signature)


def _signed(change: ToggleChange) -> bytes:
    return b"tradetui toggles" + _fields(change)


def _fields(change: ToggleChange) -> bytes:
    switch = None if change.switch is None else switch_fields(change.switch)
    return bytes(msgpack.packb((change.toggles.as_dict(), switch, change.signed_ns, change.signer)))
