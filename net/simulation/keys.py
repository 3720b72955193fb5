"""The keys of simulated nodes."""

from __future__ import annotations

from collections.abc import Callable

from nacl.signing import SigningKey

from net.epoch import first_epoch, with_fast_path
from net.membership import Membership
from net.messages import Mode

_KEYS = [SigningKey(bytes([number]) * 32) for number in range(1, 17)]
OPERATOR = 1000
OPERATOR_KEY = 15
"""The operator's id, and which of the simulated keys is its own."""


def signer(node: int) -> Callable[[bytes], bytes]:
    """Node `node`'s Ed25519 signature."""

    def sign(message: bytes) -> bytes:
        return _KEYS[node].sign(message).signature

    return sign


def roster_of(n: int) -> dict[int, bytes]:
    return {node: bytes(_KEYS[node].verify_key) for node in range(n)}


AUTHORITIES = {OPERATOR: roster_of(OPERATOR_KEY + 1)[OPERATOR_KEY]}


def context_of(epoch: int, fast_path: bool = False, witness: bool = False) -> bytes:
    """The context of the first Byzantine epoch of a simulated cluster; adversaries lie only there.

    `witness`: of the side log of a cluster that begins in AUTO.
    """
    if epoch != 1:
        raise ValueError(f"adversaries know the context of epoch 1 only, not {epoch}")
    if witness:
        return first_epoch(Mode.AUTO, 0, Membership(())).witness_context
    first = first_epoch(Mode.BFT, 0, Membership(()))
    return (with_fast_path(first) if fast_path else first).context
