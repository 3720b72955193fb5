"""ACTIVE, REDUCING, HALTED: what the swarm may order at all, and the signed word that changes it.

An operator's signature makes the change, wherever it is heard: the gateway obeys a stricter state the moment it hears
it, the log makes it everybody's. Back to a looser state leads only the log: the gateway wants its certificate, or the
word of f + 1 voters. Changes are ordered by the signer's clock, so a repeated or overtaken one changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgpack

from net.identity import SIGNATURE_BYTES, verify_signature

REASON_BYTES_MAX: Final = 200


class TradingState(StrEnum):
    ACTIVE = "active"
    REDUCING = "reducing"
    """Only orders that bring a position closer to zero."""
    HALTED = "halted"
    """No order; open ones are cancelled."""


STRICTNESS: Final = {TradingState.ACTIVE: 0, TradingState.REDUCING: 1, TradingState.HALTED: 2}


@dataclass(frozen=True, slots=True)
class TradingChange:
    """A signed change of the trading state."""

    state: TradingState
    pressed_ns: int
    """Signer's clock, Unix; a later change wins."""
    signer: int
    """Roster id of an operator, or of the gateway."""
    reason: str
    signature: bytes

    def is_signed(self, keys: Mapping[int, bytes]) -> bool:
        """Whether the signer is one of `keys` (id to public key) and signed this."""
        key = keys.get(self.signer)
        return key is not None and verify_signature(key, _signed(self), self.signature)


def sign_trading(
    state: TradingState, pressed_ns: int, signer: int, reason: str, sign: Callable[[bytes], bytes]
) -> TradingChange:
    """A change with its signature; a long reason is cut."""
    cut = reason.encode()[:REASON_BYTES_MAX].decode(errors="ignore")
    bare = TradingChange(state, pressed_ns, signer, cut, b"")
    return TradingChange(state, pressed_ns, signer, cut, sign(_signed(bare)))


def encode_trading(change: TradingChange) -> bytes:
    return _fields(change) + change.signature


def decode_trading(data: bytes) -> TradingChange:
    """The inverse of `encode_trading`; the signature is not checked. Raises ValueError for other bytes."""
    try:
        state, pressed_ns, signer, reason = msgpack.unpackb(data[:-SIGNATURE_BYTES])
        if (type(pressed_ns), type(signer), type(reason)) != (int, int, str):
            raise TypeError("the time or the signer is no integer, or the reason no text")
        change = TradingChange(TradingState(state), pressed_ns, signer, reason, data[-SIGNATURE_BYTES:])
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise ValueError(f"{len(data)} bytes are no change of the trading state: {error}") from error
    if encode_trading(change) != data:
        raise ValueError("a change of the trading state is not in its one encoding")
    return change


def _signed(change: TradingChange) -> bytes:
    return b"tradetui trading state" + _fields(change)


def _fields(change: TradingChange) -> bytes:
    return bytes(msgpack.packb((str(change.state), change.pressed_ns, change.signer, change.reason)))
