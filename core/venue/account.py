"""One account: lots per instrument and cash quanta, exact, and what its open orders could still do to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from core.venue.events import OrderStatus
from core.venue.order_book import BUY, SELL
from core.venue.settings import AccountKind, ExchangeSettings

_LEVERAGE_PARTS = 1_000


@dataclass(frozen=True, slots=True)
class VenueOrder:
    """An order as the venue holds it; each event makes the next value."""

    order_id: int
    client_order_id: str
    owner: int
    instrument: int
    side: int
    price_ticks: int
    """0 for a market order."""
    quantity_lots: int
    time_in_force: str
    step: int
    time_ms: int
    update_ms: int
    status: OrderStatus = OrderStatus.NEW
    executed_lots: int = 0
    value_quanta: int = 0
    fee_quanta: int = 0
    trades: tuple[int, ...] = ()
    """Indices into the exchange's trades of this instrument and account."""

    @property
    def leaves(self) -> int:
        return self.quantity_lots - self.executed_lots

    @property
    def is_open(self) -> bool:
        return self.status in (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED)

    def after_trade(self, lots: int, price: int, fee: int, trade: int, time_ms: int) -> VenueOrder:
        executed = self.executed_lots + lots
        return replace(
            self,
            executed_lots=executed,
            value_quanta=self.value_quanta + lots * price,
            fee_quanta=self.fee_quanta + fee,
            status=OrderStatus.FILLED if executed == self.quantity_lots else OrderStatus.PARTIALLY_FILLED,
            update_ms=time_ms,
            trades=(*self.trades, trade),
        )


class Account:
    """Balances of one owner. `base[i]` lots of instrument i; negative is a short position (margin accounts only)."""

    def __init__(self, owner: int, instruments: int, cash_quanta: int) -> None:
        self.owner = owner
        self.cash = cash_quanta
        self.base = [0] * instruments
        self.open_orders: dict[int, VenueOrder] = {}
        self._open_lots = {BUY: [0] * instruments, SELL: [0] * instruments}

    def put(self, order: VenueOrder) -> None:
        """Keep the newest value of an order: among the open ones while it is open."""
        lots = self._open_lots[order.side]
        before = self.open_orders.get(order.order_id)
        if before is not None:
            lots[order.instrument] -= before.leaves
        if order.is_open:
            self.open_orders[order.order_id] = order
            lots[order.instrument] += order.leaves
        elif before is not None:
            del self.open_orders[order.order_id]

    def locked_base(self, instrument: int) -> int:
        """Lots that open sells could still deliver."""
        return self._open_lots[SELL][instrument]

    def locked_cash(self, settings: ExchangeSettings) -> int:
        """Quanta that open buys could still cost, with the higher of the two fees."""
        return sum(self._cost(o.leaves * o.price_ticks, settings) for o in self.open_orders.values() if o.side == BUY)

    @staticmethod
    def _cost(value: int, settings: ExchangeSettings) -> int:
        fees = settings.fees
        return value + max(fees.fee(value, is_maker=True), fees.fee(value, is_maker=False))

    def can_afford(
        self, instrument: int, side: int, lots: int, value: int, marks: Sequence[int], settings: ExchangeSettings
    ) -> bool:
        """Whether the account may take an order of `lots` that is worth `value` quanta at worst."""
        if settings.account is AccountKind.SPOT:
            if side == BUY:
                return self._cost(value, settings) <= self.cash - self.locked_cash(settings)
            return lots <= self.base[instrument] - self.locked_base(instrument)
        gross_before, gross_after = self._gross(instrument, side, lots, marks)
        if gross_after <= gross_before:
            return True
        equity = self.cash + sum(b * m for b, m in zip(self.base, marks, strict=True) if b)
        return gross_after * _LEVERAGE_PARTS <= int(settings.leverage_max * _LEVERAGE_PARTS) * equity

    def _gross(self, instrument: int, side: int, lots: int, marks: Sequence[int]) -> tuple[int, int]:
        """Gross exposure at worst, in quanta: without the new order, and with it."""
        buys, sells = self._open_lots[BUY], self._open_lots[SELL]
        before = sum(
            max(abs(base + buy), abs(base - sell)) * mark
            for base, buy, sell, mark in zip(self.base, buys, sells, marks, strict=True)
            if base or buy or sell
        )
        base, buy, sell = self.base[instrument], buys[instrument], sells[instrument]
        worst_before = max(abs(base + buy), abs(base - sell))
        buy, sell = (buy + lots, sell) if side == BUY else (buy, sell + lots)
        worst_after = max(abs(base + buy), abs(base - sell))
        return before, before + (worst_after - worst_before) * marks[instrument]
