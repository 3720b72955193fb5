"""Monitors' questions for the venue's book."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from core.book_ladder import LEVELS_MAX, ladder
from core.gateway.book_source import BookSource
from core.gateway.connector import ConnectorError
from core.gateway.monitor_answers import MonitorAnswers, Wire
from core.orders.order import Order
from core.orders.scale import MarketScale
from core.telemetry_messages import unpack
from net.messages import Application


class Ladders(MonitorAnswers):
    """Asks the venue for whoever may look on."""

    refusal = "no book"

    def __init__(
        self, wire: Wire, connector: object, scale: MarketScale, open_orders: Callable[[], Sequence[Order]]
    ) -> None:
        super().__init__(wire)
        self._connector = connector
        self._scale = scale
        self._open_orders = open_orders

    async def _reply(self, message: Application) -> dict[str, object]:
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
