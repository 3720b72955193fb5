"""ccxt's unified structures to the gateway's own records and back, for one market.

Source: ccxt manual, "Order Structure", "Trade Structure". Numbers are text (`exchange.number = str`), so nothing is
rounded on the way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from core.gateway.connector import AccountTrade, VenueTrade, VenueUpdate
from core.gateway.fees import fee_quanta
from core.orders.order import OrderRequest, TimeInForce
from core.orders.scale import MarketScale
from core.records import OrderState

_ENDED: Final = {
    "canceled": OrderState.CANCELLED,
    "expired": OrderState.EXPIRED,
    "rejected": OrderState.REJECTED,
}
_BY_TIME: Final = 1 << 62
_HASH_BITS: Final = 22
_EPOCH_MS: Final = 1_577_836_800_000
"""2020-01-01. 40 bits of milliseconds from then on last until 2054."""
_REASONS: Final = {"canceled": "cancelled", "expired": "not filled at once", "rejected": "rejected"}


class CcxtMessages:
    """Builds arguments and reads structures. Readers raise KeyError, TypeError or ValueError on what is none."""

    def __init__(self, scale: MarketScale, symbols: Sequence[str]) -> None:
        """`symbols`: the unified symbol of each instrument, as `BTC/USDT`."""
        self._scale = scale
        self.symbols = tuple(symbols)
        self._instrument = {symbol: at for at, symbol in enumerate(symbols)}

    def place_arguments(self, request: OrderRequest) -> tuple[str, str, str, str, str | None, dict[str, object]]:
        """Of create_order: symbol, type, side, amount, price, params."""
        scale = self._scale
        params: dict[str, object] = {"clientOrderId": request.client_order_id}
        kind, price = "market", None
        if request.limit_ticks:
            kind, price = "limit", scale.tick.text(request.limit_ticks)
            if request.time_in_force is TimeInForce.POST_ONLY:
                params["postOnly"] = True
            else:
                params["timeInForce"] = str(request.time_in_force)
        side = "buy" if request.side > 0 else "sell"
        return self.symbols[request.instrument], kind, side, scale.lot.text(request.quantity_lots), price, params

    def update(self, order: Mapping[str, Any], name: str, trades: Sequence[VenueTrade] = ()) -> VenueUpdate:
        """An order structure; `name` is our id of it, `trades` those that were asked for apart."""
        filled = self._lots(order.get("filled"))
        status = order["status"]
        # An id that is no number is numbered by the history's own time: another endpoint may round it otherwise.
        told = [self.trade(row) for row in order.get("trades") or () if is_number(row.get("id"))]
        instrument = self._instrument[order["symbol"]]
        return VenueUpdate(
            name,
            number_of(order["id"]),
            instrument,
            self._state(status, filled, self._lots(order.get("amount"))),
            filled,
            tuple(trades or told),
            _REASONS.get(status, ""),
            _ts_ns(order),
        )

    @staticmethod
    def _state(status: str, filled: int, amount: int) -> OrderState:
        if status in _ENDED:
            return _ENDED[status]
        if status == "closed":
            return OrderState.FILLED if filled == amount else OrderState.CANCELLED
        return OrderState.PARTIALLY_FILLED if filled else OrderState.ACCEPTED

    def trade(self, row: Mapping[str, Any]) -> VenueTrade:
        """A trade structure."""
        scale, price = self._scale, Decimal(row["price"])
        return VenueTrade(
            trade_number(row),
            self._lots(row["amount"]),
            scale.tick.count_decimal(price),
            self._fee_quanta(row, price),
            _ts_ns(row),
        )

    def account_trade(self, row: Mapping[str, Any]) -> AccountTrade:
        """A trade structure of the account's history."""
        side = 1 if row["side"] == "buy" else -1
        return AccountTrade(number_of(row["order"]), self._instrument[row["symbol"]], side, self.trade(row))

    def cash_quanta(self, text: str | None) -> int:
        """An amount of the quote currency, to the nearest quantum: other people's exchanges are finer."""
        return self._scale.quantum.count_nearest(Decimal(text or "0"))

    def _fee_quanta(self, row: Mapping[str, Any], price: Decimal) -> int:
        fee = row.get("fee") or {}
        base, _, quote = str(row["symbol"]).partition("/")
        return fee_quanta(self._scale, Decimal(fee.get("cost") or "0"), fee.get("currency"), (base, quote), price)

    def _lots(self, text: str | None) -> int:
        return self._scale.lot.count_decimal(Decimal(text or "0"))


def is_number(text: object) -> bool:
    """Whether an id is a number that fits."""
    name = str(text)
    return name.isdecimal() and len(name) < 19


def number_of(text: object) -> int:
    """An id as a number: itself where it is one, else 62 bits of its hash."""
    return int(str(text)) if is_number(text) else _hash(text) >> 2


def trade_number(row: Mapping[str, Any]) -> int:
    """A trade's id as a number that rises in the order of execution, as everybody who counts a trade once relies on.

    Itself where it is a number; else the millisecond of the trade and, within it, bits of the id's hash: two trades of
    an instrument within one millisecond get the same number once in four million. Above every number and hash of 62
    bits. Raises ValueError for a trade without a time.
    """
    if is_number(row["id"]):
        return int(row["id"])
    ms = int(row.get("timestamp") or 0) - _EPOCH_MS
    if not 0 < ms < 1 << 40:
        raise ValueError(f"trade {row['id']} has time {row.get('timestamp')}; without one it cannot be numbered")
    return _BY_TIME | ms << _HASH_BITS | _hash(row["id"]) >> (64 - _HASH_BITS)


def first_number_after(trade_id: int) -> int:
    """The lowest number of a trade that may have come after this one: in the same millisecond any may."""
    return trade_id >> _HASH_BITS << _HASH_BITS if trade_id >= _BY_TIME else trade_id + 1


def _hash(text: object) -> int:
    return int.from_bytes(hashlib.sha256(str(text).encode()).digest()[:8], "big")


def _ts_ns(row: Mapping[str, Any]) -> int:
    return int(row.get("lastUpdateTimestamp") or row.get("lastTradeTimestamp") or row.get("timestamp") or 0) * 1_000_000
