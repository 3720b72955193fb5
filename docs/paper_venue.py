"""A venue without a market: every limit order is filled whole, at its limit, once. See `docs/add-venue.md`."""

from __future__ import annotations

import asyncio
import time
from asyncio import Future
from collections.abc import Callable, Sequence

from core.gateway.connector import (
    AccountTrade,
    Answer,
    Balances,
    EncodedOrder,
    LinkHandler,
    Refusal,
    VenueTrade,
    VenueUpdate,
)
from core.orders.order import OrderRequest
from core.records import OrderState


class PaperConnector:
    """Implements `Connector`; each method's contract stands there."""

    captions: tuple[str, ...] = ("paper: orders are filled at their limit",)
    replays = False

    def __init__(self, cash_quanta: int, instruments: int) -> None:
        self._orders: dict[str, VenueUpdate] = {}
        self._trades: list[AccountTrade] = []
        self._cash_quanta, self._lots = cash_quanta, [0] * instruments

    async def connect(self, handler: LinkHandler) -> None:
        """There is no link, so none is ever lost."""

    async def close(self) -> None:
        """Nothing is held."""

    def recall_unsent(self, reason: str) -> None:
        """Nothing is held back: `place` fills at once."""

    async def cannot_arrive(self, signed_until_ms: int) -> None:
        """Nothing is under way."""

    def encode(self, request: OrderRequest) -> EncodedOrder:
        return EncodedOrder(request, time.time_ns() // 1_000_000, b"")

    def place(self, order: EncodedOrder, answered: Callable[[Answer], None]) -> None:
        answer = self._fill(order.request)
        # never from within this call
        asyncio.get_running_loop().call_soon(answered, answer)

    def _fill(self, request: OrderRequest) -> Answer:
        if request.client_order_id in self._orders:
            return self._orders[request.client_order_id]
        if not request.limit_ticks:
            return Refusal(1, "paper takes limit orders only")
        # One count for both ids: trade ids rise in the order of execution.
        number, now_ns = len(self._orders) + 1, time.time_ns()
        trade = VenueTrade(number, request.quantity_lots, request.limit_ticks, fee_quanta=0, ts_ns=now_ns)
        self._trades.append(AccountTrade(number, request.instrument, request.side, trade))
        self._lots[request.instrument] += request.side * request.quantity_lots
        self._cash_quanta -= request.side * request.quantity_lots * request.limit_ticks
        update = VenueUpdate(
            request.client_order_id,
            number,
            request.instrument,
            OrderState.FILLED,
            request.quantity_lots,
            (trade,),
            reason="",
            ts_ns=now_ns,
        )
        self._orders[request.client_order_id] = update
        return update

    def cancel(self, request: OrderRequest, answered: Callable[[Answer], None]) -> None:
        known = self._orders.get(request.client_order_id, Refusal(2, "there is no such order"))
        asyncio.get_running_loop().call_soon(answered, known)

    async def query(self, request: OrderRequest) -> VenueUpdate | None:
        return self._orders.get(request.client_order_id)

    async def open_orders(self) -> Sequence[VenueUpdate]:
        return ()

    async def trades_after(self, instrument: int, trade_id: int) -> Sequence[AccountTrade]:
        return [each for each in self._trades if each.instrument == instrument and each.trade.trade_id > trade_id]

    async def balances(self) -> Balances:
        return Balances(self._cash_quanta, tuple(self._lots))

    def advance(self, step: int) -> Future[int]:
        there: Future[int] = asyncio.get_running_loop().create_future()
        there.set_result(step)
        return there
