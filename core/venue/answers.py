"""What the venue says, in the JSON shapes of Binance Spot's WebSocket API.

Source: Binance Spot API documentation, "WebSocket API" (responses) and "User Data Streams" (executionReport).
Beyond Binance: `duplicate` in an answer to order.place, and `step` in exchangeInfo and replay.advance.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from core.orders.order import TimeInForce
from core.orders.scale import MarketScale
from core.venue.account import Account, VenueOrder
from core.venue.events import OrderAccepted, OrderEnded, OrderReplaced, OrderStatus, Traded, VenueEvent
from core.venue.exchange import PRICE_TICKS_MAX, QUANTITY_LOTS_MAX, Happened
from core.venue.liquidity import Level
from core.venue.order_book import BUY
from core.venue.settings import ExchangeSettings

_PREVENTION_NONE = "NONE"


def order_type(order: VenueOrder) -> str:
    if order.time_in_force == TimeInForce.POST_ONLY:
        return "LIMIT_MAKER"
    return "LIMIT" if order.price_ticks else "MARKET"


def _time_in_force(order: VenueOrder) -> str:
    return "GTC" if order.time_in_force == TimeInForce.POST_ONLY else order.time_in_force


class Answers:
    """Builds results for one market."""

    def __init__(self, scale: MarketScale, settings: ExchangeSettings) -> None:
        self.scale = scale
        self._settings = settings

    def order(self, order: VenueOrder) -> dict[str, Any]:
        """The fields that every answer about an order has."""
        scale = self.scale
        return {
            "symbol": scale.instruments[order.instrument],
            "orderId": order.order_id,
            "orderListId": -1,
            "clientOrderId": order.client_order_id,
            "price": scale.tick.text(order.price_ticks),
            "origQty": scale.lot.text(order.quantity_lots),
            "executedQty": scale.lot.text(order.executed_lots),
            "cummulativeQuoteQty": scale.quantum.text(order.value_quanta),
            "status": str(order.status),
            "timeInForce": _time_in_force(order),
            "type": order_type(order),
            "side": "BUY" if order.side == BUY else "SELL",
            "selfTradePreventionMode": str(self._settings.self_trade_prevention),
        }

    def placed(self, order: VenueOrder, trades: Sequence[Traded], response: str, duplicate: bool) -> dict[str, Any]:
        """The result of order.place; `response` is ACK, RESULT or FULL."""
        if response == "ACK":
            result = {
                "symbol": self.scale.instruments[order.instrument],
                "orderId": order.order_id,
                "orderListId": -1,
                "clientOrderId": order.client_order_id,
                "transactTime": order.update_ms,
            }
        else:
            result = self.order(order) | {"transactTime": order.update_ms, "workingTime": order.time_ms}
        if response == "FULL":
            result["fills"] = [self._fill(trade) for trade in trades]
        if duplicate:
            result["duplicate"] = True
        return result

    def _fill(self, trade: Traded) -> dict[str, Any]:
        return {
            "price": self.scale.tick.text(trade.price_ticks),
            "qty": self.scale.lot.text(trade.quantity_lots),
            "commission": self.scale.quantum.text(trade.fee_quanta),
            "commissionAsset": self.scale.quote_asset,
            "tradeId": trade.trade_id,
        }

    def status(self, order: VenueOrder) -> dict[str, Any]:
        """The result of order.status, and a row of openOrders.status."""
        return self.order(order) | {
            "stopPrice": "0",
            "icebergQty": "0",
            "time": order.time_ms,
            "updateTime": order.update_ms,
            "isWorking": order.is_open,
            "workingTime": order.time_ms,
            "origQuoteOrderQty": "0",
        }

    def cancelled(self, order: VenueOrder, cancel_id: str) -> dict[str, Any]:
        return self.order(order) | {
            "origClientOrderId": order.client_order_id,
            "clientOrderId": cancel_id,
            "transactTime": order.update_ms,
        }

    def amended(self, order: VenueOrder, events_total: int) -> dict[str, Any]:
        """The result of order.amend.keepPriority."""
        return {"transactTime": order.update_ms, "executionId": events_total, "amendedOrder": self.order(order)}

    def trade(self, order: VenueOrder, trade: Traded) -> dict[str, Any]:
        """A row of myTrades."""
        return self._fill(trade) | {
            "symbol": self.scale.instruments[order.instrument],
            "id": trade.trade_id,
            "orderId": order.order_id,
            "orderListId": -1,
            "quoteQty": self.scale.quantum.text(trade.price_ticks * trade.quantity_lots),
            "time": trade.time_ms,
            "isBuyer": order.side == BUY,
            "isMaker": trade.is_maker,
            "isBestMatch": True,
        }

    def public_trade(self, order: VenueOrder, trade: Traded) -> dict[str, Any]:
        """A row of trades.recent; `order` is the one of `trade`."""
        scale, value = self.scale, trade.price_ticks * trade.quantity_lots
        return {
            "id": trade.trade_id,
            "price": scale.tick.text(trade.price_ticks),
            "qty": scale.lot.text(trade.quantity_lots),
            "quoteQty": scale.quantum.text(value),
            "time": trade.time_ms,
            "isBuyerMaker": (order.side == BUY) == trade.is_maker,
            "isBestMatch": True,
        }

    def aggregate_trade(self, order: VenueOrder, trade: Traded) -> dict[str, Any]:
        """A row of trades.aggregate; `order` is the one of `trade`."""
        row = self.public_trade(order, trade)
        number = {"a": row["id"], "f": row["id"], "l": row["id"]}
        return number | {"p": row["price"], "q": row["qty"], "T": row["time"], "m": row["isBuyerMaker"], "M": True}

    def book_ticker(self, instrument: int, bids: Sequence[Level], asks: Sequence[Level]) -> dict[str, Any]:
        """The result of ticker.book; an empty side is 0."""
        scale = self.scale
        (bid, bid_lots), (ask, ask_lots) = (bids or [(0, 0)])[0], (asks or [(0, 0)])[0]
        return {
            "symbol": scale.instruments[instrument],
            "bidPrice": scale.tick.text(bid),
            "bidQty": scale.lot.text(bid_lots),
            "askPrice": scale.tick.text(ask),
            "askQty": scale.lot.text(ask_lots),
        }

    def account(self, account: Account, now_ms: int) -> dict[str, Any]:
        """The result of account.status. A margin account's `free` may be negative."""
        scale, settings = self.scale, self._settings
        locked = account.locked_cash(settings)
        balances = [_balance(scale.quote_asset, scale.quantum.text(account.cash - locked), scale.quantum.text(locked))]
        for instrument, lots in enumerate(account.base):
            locked = account.locked_base(instrument)
            if lots or locked:
                free, name = scale.lot.text(lots - locked), scale.instruments[instrument]
                balances.append(_balance(name, free, scale.lot.text(locked)))
        return {
            "makerCommission": settings.fees.maker_ppm // 100,
            "takerCommission": settings.fees.taker_ppm // 100,
            "canTrade": True,
            "updateTime": now_ms,
            "accountType": str(settings.account).upper(),
            "balances": balances,
        }

    def exchange_info(
        self, now_ms: int, step: int, captions: Sequence[str], halted: Collection[str] = ()
    ) -> dict[str, Any]:
        """The result of exchangeInfo; `halted` names the symbols whose trading rests."""
        scale = self.scale
        filters = [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": scale.tick.text(1),
                "maxPrice": scale.tick.text(PRICE_TICKS_MAX),
                "tickSize": scale.tick.text(1),
            },
            {
                "filterType": "LOT_SIZE",
                "minQty": scale.lot.text(1),
                "maxQty": scale.lot.text(QUANTITY_LOTS_MAX),
                "stepSize": scale.lot.text(1),
            },
            {
                "filterType": "NOTIONAL",
                "minNotional": scale.quantum.text(self._settings.notional_min_quanta),
                "applyMinToMarket": True,
            },
            {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": self._settings.open_orders_max},
        ]
        symbols = [
            {
                "symbol": name,
                "status": "HALT" if name in halted else "TRADING",
                "baseAsset": name,
                "quoteAsset": scale.quote_asset,
                "baseAssetPrecision": 8,
                "quoteAssetPrecision": 8,
                "quotePrecision": 8,
                "permissions": [],
                "permissionSets": [["SPOT"]],
                "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
                "isSpotTradingAllowed": True,
                "defaultSelfTradePreventionMode": str(self._settings.self_trade_prevention),
                "filters": filters,
            }
            for name in scale.instruments
        ]
        return {
            "timezone": "UTC",
            "serverTime": now_ms,
            "rateLimits": [],
            "exchangeFilters": [],
            "symbols": symbols,
            "step": step,
            "captions": list(captions),
        }

    def execution_report(self, happened: Happened) -> dict[str, Any] | None:
        """The user stream's event for one change of an order; None where the event is of no order."""
        event, order = happened.event, happened.order
        if order is None:
            return None
        scale = self.scale
        trade = event if isinstance(event, Traded) else None
        kind = execution_type(event, order)
        cancel_id = event.cancel_client_order_id if isinstance(event, OrderEnded) else ""
        return {
            "e": "executionReport",
            "E": event.time_ms,
            "s": scale.instruments[order.instrument],
            "c": cancel_id or order.client_order_id,
            "S": "BUY" if order.side == BUY else "SELL",
            "o": order_type(order),
            "f": _time_in_force(order),
            "q": scale.lot.text(order.quantity_lots),
            "p": scale.tick.text(order.price_ticks),
            "P": "0",
            "F": "0",
            "g": -1,
            "C": order.client_order_id if cancel_id else "",
            "x": kind,
            "X": str(order.status),
            "r": _PREVENTION_NONE,
            "i": order.order_id,
            "l": scale.lot.text(trade.quantity_lots if trade else 0),
            "z": scale.lot.text(order.executed_lots),
            "L": scale.tick.text(trade.price_ticks if trade else 0),
            "n": scale.quantum.text(trade.fee_quanta if trade else 0),
            "N": scale.quote_asset if trade else None,
            "T": event.time_ms,
            "t": trade.trade_id if trade else -1,
            "I": event.number,
            "w": order.is_open,
            "m": trade.is_maker if trade else False,
            "M": False,
            "O": order.time_ms,
            "Z": scale.quantum.text(order.value_quanta),
            "Y": scale.quantum.text(trade.quantity_lots * trade.price_ticks if trade else 0),
            "Q": "0",
            "W": order.time_ms,
            "V": str(self._settings.self_trade_prevention),
        }


def execution_type(event: VenueEvent, order: VenueOrder) -> str:
    """Binance's name for what happened to an order."""
    if isinstance(event, Traded):
        return "TRADE"
    if isinstance(event, OrderAccepted):
        return "NEW"
    if isinstance(event, OrderReplaced):
        return "REPLACED"
    return "CANCELED" if order.status is OrderStatus.CANCELED else "EXPIRED"


def _balance(asset: str, free: str, locked: str) -> dict[str, Any]:
    return {"asset": asset, "free": free, "locked": locked}
