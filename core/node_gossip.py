"""What a node tells its peers beside the log: that it lives and how far it is, what it holds, what it remembers.

Nothing here decides anything. The hashes of the replicated state, one every so many entries, let every node see when
another that applied the same entries came to a different state: that must never be, and is told loudly.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from enum import IntEnum
from random import Random
from typing import Final, Protocol

import msgpack

from core.limits import worst_exposure
from core.records import PeerNews
from core.swarm_state import SwarmState
from net.gossip import Gossip
from net.messages import GossipDigest, GossipMessage

HASH_EVERY_ENTRIES: Final = 64
HASHES_TOLD: Final = 16
HASHES_KEPT: Final = 1_024
_HASH_BYTES: Final = 16
_MEMORY: Final = struct.Struct("<Q16s")


class Topic(IntEnum):
    """Keys of the gossip."""

    LIVENESS = 0
    """Step, applied index, and the hashes of the state behind the last multiples of `HASH_EVERY_ENTRIES`."""
    HOLDINGS = 1
    """Hash of positions and cash, and gross exposure in quanta, behind the last such index."""
    MEMORY = 2
    """Number and digest of the lessons remembered."""


class Wire(Protocol):
    def send(self, peer_id: int, message: GossipMessage) -> bool: ...


class NodeGossip:
    """Publishes this node's news, spreads everybody's, and compares states."""

    def __init__(
        self,
        node: int,
        members: Mapping[int, bytes],
        sign: Callable[[bytes], bytes],
        wire: Wire,
        state: SwarmState,
        memory: Callable[[], tuple[int, bytes]],
        step: Callable[[], int],
        on_disagreement: Callable[[int, int], None],
    ) -> None:
        """`memory()` gives the number of lessons and a 16-byte digest of them. `on_disagreement(peer, index)` is told
        once for each peer whose state differs.
        """
        self._node = node
        self._wire = wire
        self._state = state
        self._memory = memory
        self._step = step
        self._on_disagreement = on_disagreement
        self._gossip = Gossip(node, members, sign, Random(), time.time_ns())
        self._hashes: OrderedDict[int, bytes] = OrderedDict()
        self._holdings = b""
        self.disagreements: dict[int, int] = {}
        """First index behind which a peer said it holds another state, by peer."""

    def set_members(self, members: Mapping[int, bytes]) -> None:
        """Who takes part from now on."""
        self._gossip.set_members(members)

    def applied(self) -> None:
        """An entry was applied."""
        index = self._state.applied_index
        if index % HASH_EVERY_ENTRIES:
            return
        self._hashes[index] = self._state.state_hash()[:_HASH_BYTES]
        while len(self._hashes) > HASHES_KEPT:
            self._hashes.popitem(last=False)
        portfolio = self._state.portfolio
        gross = int(worst_exposure(portfolio, self._state.marks).sum())
        self._holdings = msgpack.packb((index, portfolio.state_hash()[:_HASH_BYTES], gross))

    def forget_hashes(self) -> None:
        """The state came from a snapshot: what was hashed on another way to it is compared no more."""
        self._hashes.clear()

    def digest(self) -> GossipDigest:
        """The question what a peer has that this node has not."""
        return self._gossip.digest()

    def deliver(self, sender: int, message: GossipMessage) -> None:
        """A gossip message of an authenticated node."""
        for send in self._gossip.step(sender, message, time.monotonic()):
            self._wire.send(send.to, send.message)

    async def run(self) -> None:
        """Publish and exchange for ever."""
        while True:
            self._publish()
            self._compare()
            for send in self._gossip.tick(time.monotonic()):
                self._wire.send(send.to, send.message)
            await asyncio.sleep(max(0.01, self._gossip.next_deadline() - time.monotonic()))

    def _publish(self) -> None:
        newest = [(index, self._hashes[index]) for index in list(self._hashes)[-HASHES_TOLD:]]
        # The clock makes it new every time: an unchanged node is told from a dead one.
        liveness = (self._step(), self._state.applied_index, newest, time.time_ns())
        self._gossip.publish(Topic.LIVENESS, msgpack.packb(liveness))
        self._gossip.publish(Topic.HOLDINGS, self._holdings)
        self._gossip.publish(Topic.MEMORY, _MEMORY.pack(*self._memory()))

    def _compare(self) -> None:
        for origin, (_, _, hashes) in self._liveness().items():
            for index, told in hashes:
                ours = self._hashes.get(index)
                if ours is None or ours == told or origin in self.disagreements:
                    continue
                self.disagreements[origin] = index
                self._on_disagreement(origin, index)

    def _liveness(self) -> dict[int, tuple[int, int, tuple[tuple[int, bytes], ...]]]:
        """Step, applied index and hashes by peer; what does not decode is its origin's own fault and left out."""
        found = {}
        for entry in self._gossip.entries():
            if entry.origin == self._node or entry.key != Topic.LIVENESS:
                continue
            try:
                step, applied, hashes, _ = msgpack.unpackb(entry.value, use_list=False)
                rows = tuple((index, told) for index, told in hashes if type(told) is bytes)
            except (ValueError, TypeError, msgpack.UnpackException):
                continue
            if type(step) is int and type(applied) is int:
                found[entry.origin] = (step, applied, rows)
        return found

    def news(self) -> tuple[PeerNews, ...]:
        """What was last heard of each peer."""
        now = time.monotonic()
        rows = []
        for origin, (step, applied, _) in sorted(self._liveness().items()):
            heard = self._gossip.heard_at(origin)
            memory = self._gossip.value(origin, Topic.MEMORY)
            lessons = _MEMORY.unpack(memory)[0] if memory is not None and len(memory) == _MEMORY.size else 0
            rows.append(PeerNews(origin, now - heard if heard is not None else 0.0, step, applied, lessons))
        return tuple(rows)
