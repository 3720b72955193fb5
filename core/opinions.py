"""Asking the peers' agents for their opinion on proposals, and answering such requests.

A request carries the proposals of one step; a peer judges them from its own feed at that step and signs its answer. The
leader goes on as soon as the opinions of a quorum, its own included, are there.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from core.decision import OPINION_DTYPE, PROPOSAL_DTYPE
from core.payload import OPINION_LAYOUT, PROPOSAL_LAYOUT, SignedOpinions, opinion_bytes
from net.messages import Application, Channel

REQUESTS_IN_FLIGHT_MAX = 256
_ASKED = struct.Struct("<Q")  # Unix, nanoseconds
ASK_AGAIN_S = 0.3
"""A request is repeated to peers that did not answer (they may have been reconnecting)."""


class OpinionKind(IntEnum):
    REQUEST = 1
    ANSWER = 2


class Wire(Protocol):
    def broadcast(self, peer_ids: Sequence[int], message: Application, *, round_id: int = 0) -> None: ...


class _Request:
    __slots__ = ("answers", "done", "message", "proposals")

    def __init__(self, proposals: NDArray[np.void], message: Application, done: asyncio.Future[None]) -> None:
        self.proposals = proposals
        self.message = message
        self.answers: dict[int, SignedOpinions] = {}
        self.done = done


class Opinions:
    """Both sides of the exchange in one node."""

    def __init__(
        self,
        node: int,
        peers: Sequence[int],
        quorum: int,
        wire: Wire,
        sign: Callable[[bytes], bytes],
        judge: Callable[[int, NDArray[np.void], int], NDArray[np.void] | None],
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """`judge(step, proposals, proposed_ns)` gives this node's own opinions, OPINION_DTYPE[k], on what was asked at
        `proposed_ns` by the proposer's clock; None for what no honest node asks: nothing is answered then. `quorum`
        counts this node too.
        """
        self._node = node
        self.set_voters(peers, quorum)
        self._wire = wire
        self._sign = sign
        self._judge = judge
        self._clock_ns = clock_ns
        self._requests: dict[int, _Request] = {}
        self._last_id = 0

    def set_voters(self, peers: Sequence[int], quorum: int) -> None:
        """Whom to ask from now on, and how many must have answered, this node counted."""
        self._peers = tuple(peers)
        self._quorum = quorum

    async def ask(self, step: int, proposals: NDArray[np.void]) -> tuple[SignedOpinions, ...]:
        """The opinions of a quorum less this node, in the order of arrival.

        Waits as long as it takes (a caller that lost the lead cancels it). Raises RuntimeError when more than
        `REQUESTS_IN_FLIGHT_MAX` requests are open.
        """
        if len(self._requests) >= REQUESTS_IN_FLIGHT_MAX:
            raise RuntimeError(f"more than {REQUESTS_IN_FLIGHT_MAX} opinion requests are open")
        self._last_id += 1
        request_id = self._last_id
        message = self._request(request_id, step, proposals)
        request = _Request(proposals, message, asyncio.get_running_loop().create_future())
        self._requests[request_id] = request
        try:
            self._wire.broadcast(self._peers, message, round_id=request_id)
            while True:
                done, _ = await asyncio.wait({request.done}, timeout=ASK_AGAIN_S)
                if done:
                    return tuple(request.answers.values())
                late = [peer for peer in self._peers if peer not in request.answers]
                self._wire.broadcast(late, self._request(request_id, step, proposals), round_id=request_id)
        finally:
            del self._requests[request_id]

    def _request(self, request_id: int, step: int, proposals: NDArray[np.void]) -> Application:
        """The body is the time of asking, by this node's clock."""
        body = _ASKED.pack(self._clock_ns())
        records = proposals.tobytes()
        return Application(Channel.OPINION, OpinionKind.REQUEST, request_id, step, PROPOSAL_LAYOUT, records, body)

    def deliver(self, sender: int, message: Application) -> None:
        """A message on `Channel.OPINION` from an authenticated node."""
        if message.kind == OpinionKind.REQUEST:
            self._answer(sender, message)
        elif message.kind == OpinionKind.ANSWER:
            self._collect(sender, message)

    def _answer(self, sender: int, message: Application) -> None:
        proposals = np.frombuffer(message.records, PROPOSAL_DTYPE)
        if proposals.size == 0 or (proposals["step"] != message.step).any() or len(message.body) != _ASKED.size:
            return
        opinions = self._judge(message.step, proposals, _ASKED.unpack(message.body)[0])
        if opinions is None:
            return
        signature = self._sign(opinion_bytes(self._node, proposals, opinions))
        answer = Application(
            Channel.OPINION,
            OpinionKind.ANSWER,
            message.request_id,
            message.step,
            OPINION_LAYOUT,
            opinions.tobytes(),
            signature,
        )
        self._wire.broadcast((sender,), answer, round_id=message.request_id)

    def _collect(self, sender: int, message: Application) -> None:
        request = self._requests.get(message.request_id)
        if request is None or sender not in self._peers or request.done.done():
            return
        opinions = np.frombuffer(message.records, OPINION_DTYPE)
        if opinions.size != request.proposals.size or message.step != request.message.step:
            return
        request.answers[sender] = SignedOpinions(sender, opinions, message.body)
        if len(request.answers) + 1 >= self._quorum:
            request.done.set_result(None)
