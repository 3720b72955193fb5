"""Monitors' questions of one kind: one at a time of each monitor, answered beside the trading."""

from __future__ import annotations

import asyncio
from typing import Protocol

from core.gateway.connector import ConnectorError
from core.telemetry_messages import Control, application
from net.messages import Application, Channel


class Wire(Protocol):
    def send(self, peer_id: int, message: Application, *, round_id: int = 0) -> bool: ...


class MonitorAnswers:
    """Asks whoever knows, for whoever may look on. Subclasses say what is asked."""

    refusal = "no answer"

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._asked: dict[int, asyncio.Task[None]] = {}

    def answer(self, monitor: int, message: Application) -> None:
        """Find out and send it; a monitor that waits for an answer is not heard a second time."""
        if monitor not in self._asked:
            task = asyncio.get_running_loop().create_task(self._answer(monitor, message))
            self._asked[monitor] = task
            task.add_done_callback(lambda _: self._asked.pop(monitor, None))

    async def close(self) -> None:
        tasks = list(self._asked.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, monitor: int, message: Application) -> None:
        try:
            reply = await self._reply(message)
        except (ConnectorError, ValueError, KeyError, TypeError) as error:
            reply = {"text": f"{self.refusal}: {error}", "refused": True}
        self._wire.send(monitor, application(Channel.CONTROL, Control.REPLY, reply, request_id=message.request_id))

    async def _reply(self, message: Application) -> dict[str, object]:
        raise NotImplementedError
