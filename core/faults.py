"""Faults that a person asks for by name, to see what the swarm does about them. Off unless a setting names a node."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from core.decision import Side
from core.limits import Limits
from net.certificate import signed_bytes
from net.messages import ConsensusMessage, Phase, Propose, Vote

EQUIVOCATION_INTERVAL_S: Final = 1.0


class Wire(Protocol):
    def broadcast(self, peer_ids: Sequence[int], message: ConsensusMessage, *, round_id: int = 0) -> None: ...

    def flush(self) -> None: ...


class EquivocatingWire:
    """Votes twice: once a second a NOTARIZE vote of this node is followed by one for another block, rightly signed."""

    def __init__(self, wire: Wire, node: int, sign: Callable[[bytes], bytes], context: Callable[[], bytes]) -> None:
        """`context` gives the digest that signatures of the present epoch cover."""
        self._wire = wire
        self._node = node
        self._sign = sign
        self._context = context
        self._last_s = float("-inf")

    def flush(self) -> None:
        self._wire.flush()

    def broadcast(self, peer_ids: Sequence[int], message: ConsensusMessage, *, round_id: int = 0) -> None:
        self._wire.broadcast(peer_ids, message, round_id=round_id)
        now_s = time.monotonic()
        if now_s < self._last_s + EQUIVOCATION_INTERVAL_S:
            return
        if isinstance(message, Vote) and message.phase is Phase.NOTARIZE and message.voter == self._node:
            digest = sha256(message.digest).digest()
            place = (message.view, message.height)
        elif isinstance(message, Propose) and message.leader == self._node:
            digest = sha256(message.signature).digest()
            place = (message.view, message.height)
        else:
            return
        self._last_s = now_s
        signature = self._sign(signed_bytes(self._context(), Phase.NOTARIZE, *place, digest))
        other = Vote(message.epoch, Phase.NOTARIZE, *place, digest, self._node, signature)
        # Only some hear both; the others must learn of it from those.
        self._wire.broadcast(peer_ids[:1], other, round_id=round_id)


def beyond_limits(proposals: NDArray[np.void], limits: Limits) -> NDArray[np.void]:
    """The same proposals, the first of them made an order of twice the largest notional."""
    changed = proposals.copy()
    price = max(1, int(changed["limit_price"][0]))
    changed["limit_price"][0] = price
    changed["side"][0] = Side.BUY
    changed["quantity"][0] = 2 * limits.order_notional_max // price + 1
    return changed
