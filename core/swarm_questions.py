"""Questions to nodes and gateway, each answered once, or not in time, or not because the link went."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any, Final

from core.session import GATEWAY_ID, SessionError
from core.telemetry_messages import Control, application, unpack
from net.messages import Application, Channel
from net.quic import Endpoint

REPLY_TIMEOUT_S = 60.0
REPEATABLE: Final = frozenset({Control.EPOCH, Control.SET_TOGGLES, Control.TRADING, Control.LIMITS})
"""Doing these twice is doing them once, so they are asked again where an answer was lost."""


class NotTaken(str):
    """Says so in place of an answer: the question reached nobody, so it may be asked again."""


class LinkLost(str):
    """Says so in place of an answer: nobody knows whether the question arrived."""


class Questions:
    """Numbers them, and matches the answers."""

    def __init__(self) -> None:
        self.endpoint: Endpoint | None = None
        self._replies: dict[int, tuple[int, asyncio.Future[Any]]] = {}
        self._numbers = itertools.count(1)

    def answered(self, message: Application) -> None:
        """A `Control.REPLY` has arrived."""
        _, future = self._replies.get(message.request_id, (0, None))
        if future is not None and not future.done():
            future.set_result(unpack(message.body))

    def link_lost(self, peer: int) -> None:
        """Question or answer may have gone with the link: whoever asked `peer` need not wait any longer."""
        for asked, future in self._replies.values():
            if asked == peer and not future.done():
                future.set_result(LinkLost(f"the link to {_name(peer)} was lost before it answered"))

    async def ask(self, peer: int, kind: Control, values: dict[str, Any], timeout_s: float = REPLY_TIMEOUT_S) -> Any:
        """The answer of a node or the gateway, a dict, or a sentence that says why there is none."""
        if self.endpoint is None:
            return "not connected yet"
        name = _name(peer)
        number = next(self._numbers)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._replies[number] = (peer, future)
        try:
            if not self.endpoint.send(peer, application(Channel.CONTROL, kind, values, request_id=number)):
                return NotTaken(f"{name} cannot be reached")
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            return f"{name} gave no answer within {timeout_s:g} s"
        finally:
            del self._replies[number]


def obeyed(reply: Any) -> dict[str, Any]:
    """The answer of a node that did what it was asked. Raises SessionError with its reason where it did not."""
    if not isinstance(reply, dict):
        raise SessionError(str(reply))
    if reply.get("refused"):
        raise SessionError(str(reply["text"]))
    return reply


def is_to_be_repeated(kind: Control, reply: Any) -> bool:
    """Whether the same question may still be answered: nobody took it, or the answer was lost and twice is once."""
    if isinstance(reply, LinkLost):
        return kind in REPEATABLE
    return isinstance(reply, NotTaken) or (isinstance(reply, dict) and bool(reply.get("again")))


def _name(peer: int) -> str:
    return "the gateway" if peer == GATEWAY_ID else f"node {peer}"
