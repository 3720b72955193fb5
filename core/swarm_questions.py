"""Questions to nodes and gateway, each answered once or not in time."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from core.session import GATEWAY_ID, SessionError
from core.telemetry_messages import Control, application, unpack
from net.messages import Application, Channel
from net.quic import Endpoint

REPLY_TIMEOUT_S = 60.0


class Questions:
    """Numbers them, and matches the answers."""

    def __init__(self) -> None:
        self.endpoint: Endpoint | None = None
        self._replies: dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count(1)

    def answered(self, message: Application) -> None:
        """A `Control.REPLY` has arrived."""
        future = self._replies.get(message.request_id)
        if future is not None and not future.done():
            future.set_result(unpack(message.body))

    async def ask(self, peer: int, kind: Control, values: dict[str, Any], timeout_s: float = REPLY_TIMEOUT_S) -> Any:
        """The answer of a node or the gateway, a dict, or a sentence that says why there is none."""
        if self.endpoint is None:
            return "not connected yet"
        name = "the gateway" if peer == GATEWAY_ID else f"node {peer}"
        number = next(self._numbers)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._replies[number] = future
        try:
            if not self.endpoint.send(peer, application(Channel.CONTROL, kind, values, request_id=number)):
                return f"{name} cannot be reached"
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
