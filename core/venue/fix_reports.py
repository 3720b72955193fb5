"""What the venue says in FIX 4.4: ExecutionReports and refusals as tag-value pairs.

Source: FIX 4.4 specification, volume 4 (order handling) and appendix D (order state changes).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from core.fix.message import timestamp
from core.orders.order import TimeInForce
from core.orders.scale import MarketScale
from core.venue.account import Account, VenueOrder
from core.venue.events import OrderAccepted, OrderEnded, OrderReplaced, OrderStatus, Traded, VenueEvent
from core.venue.exchange import Happened
from core.venue.order_book import BUY
from core.venue.rejects import VenueReject

Pairs = list[tuple[int, str | int]]

EXECUTION_REPORT, CANCEL_REJECT, BUSINESS_REJECT = "8", "9", "j"
TRADE_REPORT, POSITION_REPORT = "AE", "AP"
SECURITY_LIST: Final = "y"
PRICE_STEP, LOT_STEP = 969, 25039
"""MinPriceIncrement (FIX 5.0) and MinQtyIncrement, as Binance's FIX 4.4 lists them: 4.4 itself has no tags for them."""
_STATUS: Final = {
    OrderStatus.NEW: "0",
    OrderStatus.PARTIALLY_FILLED: "1",
    OrderStatus.FILLED: "2",
    OrderStatus.CANCELED: "4",
    OrderStatus.EXPIRED: "C",
    OrderStatus.EXPIRED_IN_MATCH: "C",
}
_TIME_IN_FORCE: Final = {"GTC": "1", "IOC": "3", "FOK": "4", "POST_ONLY": "1"}
_REJECT_REASONS: Final = (("Duplicate order", 6), ("Invalid symbol", 1), ("insufficient", 3), ("closed", 2))


class FixReports:
    """Builds the bodies of messages for one market."""

    def __init__(self, scale: MarketScale) -> None:
        self._scale = scale

    def happened(self, item: Happened) -> Pairs | None:
        """The ExecutionReport of one event; None where it is of no order."""
        event, order = item.event, item.order
        if order is None:
            return None
        pairs: Pairs = [(17, str(event.number)), (150, _execution_type(event, order)), *self._order(order)]
        if isinstance(event, Traded):
            pairs += self._fill(event)
        if isinstance(event, OrderEnded) and event.cancel_client_order_id:
            pairs = _renamed(pairs, event.cancel_client_order_id, order.client_order_id)
        return [*pairs, (60, timestamp(event.time_ms / 1e3))]

    def status(self, order: VenueOrder, extra: Pairs) -> Pairs:
        """How an order stands (ExecType I), with what the request wants back."""
        return [(17, "0"), (150, "I"), *self._order(order), (60, timestamp(order.update_ms / 1e3)), *extra]

    def securities(self, request_id: str) -> Pairs:
        """SecurityList: every instrument with the steps of its price and quantity."""
        scale = self._scale
        pairs: Pairs = [(320, request_id), (322, request_id), (560, 0), (146, len(scale.instruments))]
        for name in scale.instruments:
            pairs += [(55, name), (15, scale.quote_asset)]
            pairs += [(PRICE_STEP, scale.tick.text(1)), (LOT_STEP, scale.lot.text(1))]
        return pairs

    def no_orders(self, request_id: str, now_ms: int) -> Pairs:
        """The answer to a mass status request where there is nothing to tell."""
        return [
            (37, "NONE"), (17, "0"), (150, "I"), (39, "8"), (54, "1"), (55, "NONE"), (151, "0"), (14, "0"), (6, "0"),
            (584, request_id), (911, 0), (912, "Y"), (60, timestamp(now_ms / 1e3)),
        ]  # fmt: skip

    def rejected(self, client_order_id: str, symbol: str, side: str, reject: VenueReject, now_ms: int) -> Pairs:
        """A refused NewOrderSingle."""
        reason = next((code for text, code in _REJECT_REASONS if text in reject.message), 99)
        return [
            (37, "NONE"), (11, client_order_id), (17, "0"), (150, "8"), (39, "8"), (55, symbol), (54, side),
            (151, "0"), (14, "0"), (6, "0"), (103, reason), (58, f"{reject.code} {reject.message}"),
            (60, timestamp(now_ms / 1e3)),
        ]  # fmt: skip

    def cancel_rejected(
        self, client_order_id: str, original_id: str, order: VenueOrder | None, is_replace: bool, reject: VenueReject
    ) -> Pairs:
        """A refused OrderCancelRequest or OrderCancelReplaceRequest."""
        unknown = order is None
        return [
            (37, "NONE" if order is None else str(order.order_id)), (11, client_order_id), (41, original_id),
            (39, "8" if order is None else _STATUS[order.status]), (434, "2" if is_replace else "1"),
            (102, 1 if unknown else 0 if reject.message.startswith("Unknown order") else 99),
            (58, f"{reject.code} {reject.message}"),
        ]  # fmt: skip

    def trade(self, order: VenueOrder, trade: Traded, request_id: str, total: int, last: bool) -> Pairs:
        """A TradeCaptureReport."""
        scale = self._scale
        value = scale.quantum.text(trade.fee_quanta)
        return [
            (571, str(trade.trade_id)), (568, request_id), (748, total), (912, "Y" if last else "N"), (570, "N"),
            (527, str(trade.trade_id)), (55, scale.instruments[order.instrument]),
            (32, scale.lot.text(trade.quantity_lots)), (31, scale.tick.text(trade.price_ticks)),
            (75, timestamp(trade.time_ms / 1e3)[:8]), (60, timestamp(trade.time_ms / 1e3)), (552, 1),
            (54, "1" if order.side == BUY else "2"), (37, str(order.order_id)), (11, order.client_order_id),
            (12, value), (13, "3"),
        ]  # fmt: skip

    def position(self, account: Account, instrument: int | None, request_id: str, total: int, now_ms: int) -> Pairs:
        """A PositionReport of one instrument; of the cash where `instrument` is None."""
        scale = self._scale
        symbol = scale.quote_asset if instrument is None else scale.instruments[instrument]
        pairs: Pairs = [(721, f"{request_id}-{symbol}"), (710, request_id), (727, total), (728, 0), (1, "1"), (581, 1)]
        pairs += [(715, timestamp(now_ms / 1e3)[:8]), (55, symbol), (730, "0"), (731, 1), (734, "0"), (702, 1)]
        if instrument is None:
            return [*pairs, (703, "TOT"), (704, "0"), (753, 1), (707, "CASH"), (708, scale.quantum.text(account.cash))]
        lots = account.base[instrument]
        return [*pairs, (703, "TQ"), (704, scale.lot.text(max(lots, 0))), (705, scale.lot.text(max(-lots, 0)))]

    def _order(self, order: VenueOrder) -> Pairs:
        scale = self._scale
        pairs: Pairs = [
            (37, str(order.order_id)),
            (11, order.client_order_id),
            (39, _STATUS[order.status]),
            (55, scale.instruments[order.instrument]),
            (54, "1" if order.side == BUY else "2"),
            (38, scale.lot.text(order.quantity_lots)),
            (40, "2" if order.price_ticks else "1"),
            (59, _TIME_IN_FORCE[order.time_in_force]),
            (151, scale.lot.text(order.leaves if order.is_open else 0)),
            (14, scale.lot.text(order.executed_lots)),
            (6, self._average(order)),
        ]
        if order.price_ticks:
            pairs.append((44, scale.tick.text(order.price_ticks)))
        if order.time_in_force == TimeInForce.POST_ONLY:
            pairs.append((18, "6"))
        return pairs

    def _average(self, order: VenueOrder) -> str:
        if not order.executed_lots:
            return "0"
        return f"{Decimal(order.value_quanta) / order.executed_lots * self._scale.tick.step:.10f}"

    def _fill(self, trade: Traded) -> Pairs:
        scale = self._scale
        return [
            (32, scale.lot.text(trade.quantity_lots)),
            (31, scale.tick.text(trade.price_ticks)),
            (527, str(trade.trade_id)),
            (12, scale.quantum.text(trade.fee_quanta)),
            (13, "3"),
        ]


def _execution_type(event: VenueEvent, order: VenueOrder) -> str:
    if isinstance(event, Traded):
        return "F"
    if isinstance(event, OrderAccepted):
        return "0"
    if isinstance(event, OrderReplaced):
        return "5"
    return "4" if order.status is OrderStatus.CANCELED else "C"


def _renamed(pairs: Pairs, client_order_id: str, original_id: str) -> Pairs:
    """A cancel's report goes by the cancel's own id; the order's stands in OrigClOrdID."""
    return [(tag, client_order_id if tag == 11 else value) for tag, value in pairs] + [(41, original_id)]
