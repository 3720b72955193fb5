"""Monitors' questions for the venue's book: one at a time of each monitor, answered beside the trading."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from core.book_ladder import LEVELS_MAX, ladder
from core.gateway.book_source import BookSource
from core.gateway.connector import ConnectorError
from core.orders.order import Order
from core.orders.scale import MarketScale
from core.telemetry_messages import Control, application, unpack
from net.messages import Application, Channel


class Wire(Protocol):
    def send(self, peer_id: int, message: Application, *, round_id: int = 0) -> bool: ...


class Ladders:
    """Asks the venue for whoever may look on."""

    def __init__(
        self, wire: Wire, connector: object, scale: MarketScale, open_orders: Callable[[], Sequence[Order]]
    ) -> None:
        self._wire = wire
        self._connector = connector
        self._scale = scale
        self._open_orders = open_orders
        self._asked: dict[int, asyncio.Task[None]] = {}

    def answer(self, monitor: int, message: Application) -> None:
        """Ask the venue and send what it says; a monitor that waits for an answer is not heard a second time."""
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
            reply = await self._ladder(message)
        except (ConnectorError, ValueError, KeyError, TypeError) as error:
            reply = {"text": f"no book: {error}", "refused": True}
        self._wire.send(monitor, application(Channel.CONTROL, Control.REPLY, reply, request_id=message.request_id))

    async def _ladder(self, message: Application) -> dict[str, object]:
        values = unpack(message.body)
        symbol, levels = str(values["instrument"]), int(values["levels"])
        if symbol not in self._scale.instruments:
            raise ValueError(f"{symbol!r} is not traded")
        if not 1 <= levels <= LEVELS_MAX:
            raise ValueError(f"{levels} levels: want 1 to {LEVELS_MAX}")
        if not isinstance(self._connector, BookSource):
            raise ConnectorError("the gateway's protocol shows none")
        instrument = self._scale.instruments.index(symbol)
        bids, asks = await self._connector.depth(instrument, levels)
        return ladder(self._scale, instrument, bids, asks, self._open_orders()).to_dict()
