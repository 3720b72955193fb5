"""Faults that a person asks for by name, to see what the swarm does about them. Off unless a setting names a node."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from hashlib import sha256
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from core.decision import Side, Veto
from core.limits import Limits
from net.certificate import signed_bytes
from net.messages import ConsensusMessage, Message, Phase, Propose, Vote

EQUIVOCATION_INTERVAL_S: Final = 1.0
SLOW_MS: Final = 20.0


class Fault(StrEnum):
    """What a node does wrong on purpose, from one moment to the next, on an operator's word."""

    NONE = "none"
    PAUSED = "paused"
    """Stopped by a signal; never a state that the process itself is in."""
    CUT = "cut off"
    """Nothing reaches other nodes or comes from them; gateway and monitors still do."""
    SLOW = "slow"
    """Every message to another node leaves `SLOW_MS` late."""
    SILENT = "silent"
    """Hears everything, tells other nodes nothing."""
    EQUIVOCATING = "equivocating"
    """Signs two contradictory Byzantine votes once a second."""
    LYING = "lying"
    """Judges rightly and signs the opposite: vetoes what it would let pass, and lets pass what it would veto."""
    OVERLIMIT = "over the limits"
    """While it leads, proposes an order beyond the limits in every decision, and votes for any."""


CAPTIONS: Final[dict[Fault, str]] = {
    Fault.PAUSED: "is paused",
    Fault.CUT: "is cut off",
    Fault.SLOW: f"sends {SLOW_MS:g} ms late",
    Fault.SILENT: "stays silent",
    Fault.EQUIVOCATING: "equivocates",
    Fault.LYING: "lies about what it judges",
    Fault.OVERLIMIT: "proposes beyond the limits",
}
"""How a caption names each: `fault: node 2 is cut off`."""


class Wire(Protocol):
    def broadcast(self, peer_ids: Sequence[int], message: ConsensusMessage, *, round_id: int = 0) -> None: ...

    def flush(self) -> None: ...


class PeerWire(Protocol):
    """The transport, as far as other nodes are concerned."""

    def broadcast(self, peer_ids: Sequence[int], message: Message, *, round_id: int = 0) -> None: ...

    def send(self, peer_id: int, message: Message, *, round_id: int = 0) -> bool: ...

    def flush(self) -> None: ...


class FaultyWire:
    """Between a node and its peers: passes everything on, until a fault is switched on."""

    def __init__(self, wire: PeerWire, fault: Fault = Fault.NONE) -> None:
        self._wire = wire
        self.fault = fault

    @property
    def hears(self) -> bool:
        """Whether what other nodes send reaches this one."""
        return self.fault is not Fault.CUT

    @property
    def _tells(self) -> bool:
        return self.fault not in (Fault.CUT, Fault.SILENT)

    def broadcast(self, peer_ids: Sequence[int], message: Message, *, round_id: int = 0) -> None:
        if self.fault is Fault.SLOW:
            self._later(lambda: self._wire.broadcast(peer_ids, message, round_id=round_id))
        elif self._tells:
            self._wire.broadcast(peer_ids, message, round_id=round_id)

    def send(self, peer_id: int, message: Message, *, round_id: int = 0) -> bool:
        if self.fault is Fault.SLOW:
            self._later(lambda: self._wire.send(peer_id, message, round_id=round_id))
            return True
        return self._tells and self._wire.send(peer_id, message, round_id=round_id)

    def _later(self, act: Callable[[], object]) -> None:
        def now() -> None:
            act()
            self._wire.flush()

        asyncio.get_running_loop().call_later(SLOW_MS / 1e3, now)

    def flush(self) -> None:
        self._wire.flush()


_VOTES = (Phase.NOTARIZE, Phase.FAST)


class EquivocatingWire:
    """Votes twice: once a second a vote of this node for a block is followed by one for another, rightly signed."""

    def __init__(
        self,
        wire: Wire,
        node: int,
        sign: Callable[[bytes], bytes],
        context: Callable[[], bytes],
        active: Callable[[], bool],
        fast_path: bool = False,
    ) -> None:
        """`context` gives the digest that signatures of the present epoch cover; it lies only while `active`."""
        self._fast_path = fast_path
        self._active = active
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
        if not self._active() or now_s < self._last_s + EQUIVOCATION_INTERVAL_S:
            return
        if isinstance(message, Vote) and message.phase in _VOTES and message.voter == self._node:
            contradictory: tuple[tuple[Phase, bytes], ...] = ((message.phase, sha256(message.digest).digest()),)
        elif isinstance(message, Propose) and message.leader == self._node:
            digest = sha256(message.signature).digest()
            # Of the leader's own FAST vote nobody hears, so it takes two to contradict each other.
            contradictory = (
                ((Phase.FAST, digest), (Phase.FAST, sha256(digest).digest()))
                if self._fast_path
                else ((Phase.NOTARIZE, digest),)
            )
        else:
            return
        self._last_s = now_s
        for phase, digest in contradictory:
            signature = self._sign(signed_bytes(self._context(), phase, message.view, message.height, digest))
            other = Vote(message.epoch, phase, message.view, message.height, digest, self._node, signature)
            # Only some hear both; the others must learn of it from those.
            self._wire.broadcast(peer_ids[:1], other, round_id=round_id)


def contrary(opinions: NDArray[np.void]) -> NDArray[np.void]:
    """The opposite of what was judged, OPINION_DTYPE[k], with full confidence: a lie that its signer cannot be shown to
    have told, since an opinion is its own.
    """
    changed = opinions.copy()
    changed["side"] = -opinions["side"]
    changed["confidence"] = 1.0
    changed["veto"] = np.where(opinions["veto"] == Veto.NONE, Veto.MEMORY, Veto.NONE)
    return changed


def beyond_limits(proposals: NDArray[np.void], limits: Limits) -> NDArray[np.void]:
    """The same proposals, the first of them made an order of twice the largest notional."""
    changed = proposals.copy()
    price = max(1, int(changed["limit_price"][0]))
    changed["limit_price"][0] = price
    changed["side"][0] = Side.BUY
    changed["quantity"][0] = 2 * limits.order_notional_max // price + 1
    return changed
