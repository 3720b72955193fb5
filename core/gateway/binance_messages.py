"""Binance Spot's JSON to the gateway's own records and back, for one market."""

from __future__ import annotations

from typing import Any, Final

from core.gateway.connector import AccountTrade, VenueTrade, VenueUpdate
from core.orders.order import OrderRequest, TimeInForce
from core.orders.scale import MarketScale
from core.records import OrderState

_STATES: Final = {
    "NEW": OrderState.ACCEPTED,
    "PENDING_NEW": OrderState.ACCEPTED,
    "PARTIALLY_FILLED": OrderState.PARTIALLY_FILLED,
    "PENDING_CANCEL": OrderState.PENDING_CANCEL,
    "FILLED": OrderState.FILLED,
    "CANCELED": OrderState.CANCELLED,
    "EXPIRED": OrderState.EXPIRED,
    "EXPIRED_IN_MATCH": OrderState.EXPIRED,
    "REJECTED": OrderState.REJECTED,
}
_REASONS: Final = {
    "EXPIRED": "not filled at once",
    "EXPIRED_IN_MATCH": "would have traded with an own order",
    "CANCELED": "cancelled",
}
_MS: Final = 1_000_000


class BinanceMessages:
    """Builds parameters and reads results. Readers raise KeyError or ValueError on what is no such message."""

    def __init__(self, scale: MarketScale) -> None:
        self._scale = scale

    def place_params(self, request: OrderRequest) -> dict[str, Any]:
        """Parameters of order.place, unsigned."""
        scale = self._scale
        params = {
            "symbol": scale.instruments[request.instrument],
            "side": "BUY" if request.side > 0 else "SELL",
            "quantity": scale.lot.text(request.quantity_lots),
            "newClientOrderId": request.client_order_id,
            "newOrderRespType": "FULL",
        }
        if request.limit_ticks == 0:
            return params | {"type": "MARKET"}
        params["price"] = scale.tick.text(request.limit_ticks)
        if request.time_in_force is TimeInForce.POST_ONLY:
            return params | {"type": "LIMIT_MAKER"}
        return params | {"type": "LIMIT", "timeInForce": str(request.time_in_force)}

    def name_params(self, request: OrderRequest) -> dict[str, Any]:
        """Parameters that name an order, unsigned."""
        return {
            "symbol": self._scale.instruments[request.instrument],
            "origClientOrderId": request.client_order_id,
        }

    def order_result(self, result: dict[str, Any], request: OrderRequest) -> VenueUpdate:
        """The result of order.place or order.cancel."""
        scale = self._scale
        ts_ns = result["transactTime"] * _MS
        trades = tuple(
            VenueTrade(
                row["tradeId"],
                scale.lot.count(row["qty"]),
                scale.tick.count(row["price"]),
                scale.quantum.count(row["commission"]),
                ts_ns,
            )
            for row in result.get("fills", ())
        )
        return VenueUpdate(
            request.client_order_id,
            result["orderId"],
            request.instrument,
            _STATES[result["status"]],
            scale.lot.count(result["executedQty"]),
            trades,
            _REASONS.get(result["status"], ""),
            ts_ns,
        )

    def status(self, result: dict[str, Any], trades: tuple[VenueTrade, ...]) -> VenueUpdate:
        """A row of order.status or openOrders.status, with the trades that were asked for apart."""
        return VenueUpdate(
            result["clientOrderId"],
            result["orderId"],
            self._scale.index[result["symbol"]],
            _STATES[result["status"]],
            self._scale.lot.count(result["executedQty"]),
            trades,
            _REASONS.get(result["status"], ""),
            result["updateTime"] * _MS,
        )

    def execution_report(self, event: dict[str, Any]) -> VenueUpdate:
        """An event of the user stream."""
        scale = self._scale
        trades: tuple[VenueTrade, ...] = ()
        if event["x"] == "TRADE":
            quantity, price = scale.lot.count(event["l"]), scale.tick.count(event["L"])
            trades = (VenueTrade(event["t"], quantity, price, scale.quantum.count(event["n"]), event["T"] * _MS),)
        return VenueUpdate(
            # A cancel's own id stands in `c`; the order's then stands in `C`.
            event["C"] or event["c"],
            event["i"],
            scale.index[event["s"]],
            _STATES[event["X"]],
            scale.lot.count(event["z"]),
            trades,
            _REASONS.get(event["X"], ""),
            event["T"] * _MS,
        )

    def account_trade(self, row: dict[str, Any]) -> AccountTrade:
        """A row of myTrades."""
        scale = self._scale
        trade = VenueTrade(
            row["id"],
            scale.lot.count(row["qty"]),
            scale.tick.count(row["price"]),
            scale.quantum.count(row["commission"]),
            row["time"] * _MS,
        )
        return AccountTrade(row["orderId"], scale.index[row["symbol"]], 1 if row["isBuyer"] else -1, trade)
