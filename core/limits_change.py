"""An operator's signed word that changes the limits of a running swarm; the log makes it everybody's.

Ordered by the signer's clock, as changes of the trading state are (`core.trading_state`). The gateway obeys it with the
certificate of its entry, or by the word of f + 1 voters that they applied it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass

import msgpack

from core.limits import Limits
from net.identity import SIGNATURE_BYTES, verify_signature


@dataclass(frozen=True, slots=True)
class LimitsChange:
    """All limits as they are from now on."""

    limits: Limits
    signed_ns: int
    """Signer's clock, Unix; a later change wins."""
    signer: int
    """Roster id of an operator."""
    signature: bytes

    def is_signed(self, keys: Mapping[int, bytes]) -> bool:
        """Whether the signer is one of `keys` (id to public key) and signed this."""
        key = keys.get(self.signer)
        return key is not None and verify_signature(key, _signed(self), self.signature)


def sign_limits(limits: Limits, signed_ns: int, signer: int, sign: Callable[[bytes], bytes]) -> LimitsChange:
    """A change with its signature."""
    bare = LimitsChange(limits, signed_ns, signer, b"")
    return LimitsChange(limits, signed_ns, signer, sign(_signed(bare)))


def encode_limits(change: LimitsChange) -> bytes:
    return _fields(change) + change.signature


def decode_limits(data: bytes) -> LimitsChange:
    """The inverse of `encode_limits`; the signature is not checked. Raises ValueError for other bytes."""
    try:
        values, signed_ns, signer = msgpack.unpackb(data[:-SIGNATURE_BYTES], use_list=False)
        if not all(type(value) is int for value in (*values, signed_ns, signer)):
            raise TypeError("a value is no integer")
        change = LimitsChange(Limits(*values), signed_ns, signer, data[-SIGNATURE_BYTES:])
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise ValueError(f"{len(data)} bytes are no change of the limits: {error}") from error
    if encode_limits(change) != data:
        raise ValueError("a change of the limits is not in its one encoding")
    return change


def _signed(change: LimitsChange) -> bytes:
    return b"tradetui limits" + _fields(change)


def _fields(change: LimitsChange) -> bytes:
    return bytes(msgpack.packb((astuple(change.limits), change.signed_ns, change.signer)))
