"""Binance Spot's JSON to the gateway's own records and back, for one market."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from core.gateway.connector import AccountTrade, Balances, VenueTrade, VenueUpdate
from core.gateway.fees import fee_quanta
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
    """Builds parameters and reads results. Readers raise KeyError, ValueError or ArithmeticError on what is none."""

    def __init__(self, scale: MarketScale, pairs: Sequence[tuple[str, str]] = ()) -> None:
        """`pairs`: base and quote asset of each instrument, as the venue names them; none before it was asked."""
        self._scale = scale
        self._pairs = tuple(pairs)

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
        fills = result.get("fills", ())
        trades = tuple(self._trade(row["tradeId"], request.instrument, row, ts_ns) for row in fills)
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

    def is_ours(self, symbol: str) -> bool:
        """Whether an instrument of ours has this name: an account may trade others beside."""
        return symbol in self._scale.index

    def execution_report(self, event: dict[str, Any]) -> VenueUpdate | None:
        """An event of the user stream; None for another symbol than ours."""
        scale = self._scale
        if not self.is_ours(event["s"]):
            return None
        trades: tuple[VenueTrade, ...] = ()
        if event["x"] == "TRADE":
            row = {"qty": event["l"], "price": event["L"], "commission": event["n"], "commissionAsset": event["N"]}
            trades = (self._trade(event["t"], scale.index[event["s"]], row, event["T"] * _MS),)
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
        instrument = self._scale.index[row["symbol"]]
        trade = self._trade(row["id"], instrument, row, row["time"] * _MS)
        return AccountTrade(row["orderId"], instrument, 1 if row["isBuyer"] else -1, trade)

    def balances(self, rows: Sequence[Mapping[str, Any]]) -> Balances:
        """The account's `balances`, in whole lots and quanta: it may hold dust."""
        totals = {row["asset"]: Decimal(row["free"]) + Decimal(row["locked"]) for row in rows}
        scale, nothing = self._scale, Decimal()
        lots = tuple(scale.lot.count_rounded(str(totals.get(base, nothing))) for base, _ in self._pairs)
        return Balances(scale.quantum.count_rounded(str(totals.get(self._pairs[0][1], nothing))), lots)

    def _trade(self, trade_id: int, instrument: int, row: Mapping[str, Any], ts_ns: int) -> VenueTrade:
        scale, price, asset = self._scale, row["price"], row.get("commissionAsset")
        fee = fee_quanta(scale, Decimal(row["commission"]), asset, self._pairs[instrument], Decimal(price))
        return VenueTrade(trade_id, scale.lot.count(row["qty"]), scale.tick.count(price), fee, ts_ns)
