"""FIX 4.4 to the gateway's own records and back, for one market. Any venue's: nothing here is ours alone but `UAD`."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Final

from core.fix.message import FixError, FixMessage, body_of, unix_of
from core.gateway.connector import AccountTrade, VenueTrade, VenueUpdate
from core.orders.order import OrderRequest, TimeInForce
from core.orders.scale import DecimalScale, MarketScale
from core.records import OrderState
from core.venue.fix_reports import LOT_STEP, PRICE_STEP

Pairs = list[tuple[int, str | int]]

_STATES: Final = {
    "0": OrderState.ACCEPTED,
    "1": OrderState.PARTIALLY_FILLED,
    "2": OrderState.FILLED,
    "4": OrderState.CANCELLED,
    "6": OrderState.PENDING_CANCEL,
    "8": OrderState.REJECTED,
    "A": OrderState.ACCEPTED,
    "C": OrderState.EXPIRED,
}
_REASONS: Final = {"C": "not filled at once", "4": "cancelled"}
_TIME_IN_FORCE: Final = {
    TimeInForce.GTC: "1",
    TimeInForce.IOC: "3",
    TimeInForce.FOK: "4",
    TimeInForce.POST_ONLY: "1",
}


class FixMessages:
    """Builds bodies and reads reports. Readers raise FixError or ValueError on what is no such message."""

    def __init__(self, scale: MarketScale) -> None:
        self._scale = scale

    def new_order(self, request: OrderRequest, sent: str) -> Pairs:
        """NewOrderSingle."""
        scale = self._scale
        pairs: Pairs = [
            (11, request.client_order_id),
            (55, scale.instruments[request.instrument]),
            (54, _side(request)),
            (60, sent),
            (38, scale.lot.text(request.quantity_lots)),
            (40, "2" if request.limit_ticks else "1"),
            (59, _TIME_IN_FORCE[request.time_in_force]),
        ]
        if request.limit_ticks:
            pairs.append((44, scale.tick.text(request.limit_ticks)))
        if request.time_in_force is TimeInForce.POST_ONLY:
            pairs.append((18, "6"))
        return pairs

    def cancel(self, request: OrderRequest, cancel_id: str, sent: str) -> Pairs:
        """OrderCancelRequest."""
        pairs = [*self.names(request), (41, request.client_order_id), (60, sent)]
        return [(tag, cancel_id if tag == 11 else value) for tag, value in pairs]

    def names(self, request: OrderRequest) -> Pairs:
        """What names an order, as in OrderStatusRequest."""
        return [
            (11, request.client_order_id),
            (55, self._scale.instruments[request.instrument]),
            (54, _side(request)),
        ]

    def client_order_id(self, message: FixMessage) -> str:
        """The order that an ExecutionReport is about: a cancel's report names it as OrigClOrdID."""
        return message.get(41) or message.text(11)

    def update(self, message: FixMessage, trades: tuple[VenueTrade, ...] = ()) -> VenueUpdate:
        """An ExecutionReport; `trades` those that were asked for apart."""
        status = message.text(39)
        if message.get(150) == "F":
            trades = (self._fill(message),)
        text = message.get(58) or _REASONS.get(status, "")
        return VenueUpdate(
            self.client_order_id(message),
            _number(message.get(37)),
            self._instrument(message),
            _STATES[status],
            self._scale.lot.count(message.text(14)),
            trades,
            text,
            _ts_ns(message),
        )

    def account_trade(self, message: FixMessage) -> AccountTrade:
        """A TradeCaptureReport."""
        side = 1 if message.text(54) == "1" else -1
        return AccountTrade(_number(message.get(37)), self._instrument(message), side, self._fill(message))

    def position(self, message: FixMessage) -> tuple[int | None, int]:
        """Instrument and lots of a PositionReport; None and cash quanta of the account's money."""
        if message.get(707) == "CASH":
            return None, self._scale.quantum.count(message.text(708))
        lots = self._count(self._scale.lot, message.get(704, "0")) - self._count(self._scale.lot, message.get(705, "0"))
        return self._instrument(message), lots

    @staticmethod
    def steps(message: FixMessage) -> dict[str, tuple[Decimal, Decimal]]:
        """Tick and lot by symbol of a SecurityList. Raises FixError for what are no steps."""
        found: dict[str, dict[int, Decimal]] = {}
        name = ""
        for tag, value in body_of(message):
            if tag == 55:
                name = value
            elif tag in (PRICE_STEP, LOT_STEP):
                try:
                    found.setdefault(name, {})[tag] = Decimal(value).normalize()
                except InvalidOperation:
                    raise FixError(f"tag {tag} = {value!r} of {name} is no step") from None
        return {
            name: (steps[PRICE_STEP], steps[LOT_STEP])
            for name, steps in found.items()
            if PRICE_STEP in steps and LOT_STEP in steps
        }

    def _fill(self, message: FixMessage) -> VenueTrade:
        scale = self._scale
        return VenueTrade(
            _number(message.get(527) or message.get(571)),
            self._count(scale.lot, message.text(32)),
            self._count(scale.tick, message.text(31)),
            self._count(scale.quantum, message.get(12, "0")),
            _ts_ns(message),
        )

    @staticmethod
    def _count(scale: DecimalScale, text: str | None) -> int:
        # QuickFIX writes 5.00 and 1E+2 for the same number as ours.
        return scale.count_decimal(Decimal(text or "0"))

    def _instrument(self, message: FixMessage) -> int:
        instrument = self._scale.index.get(message.text(55))
        if instrument is None:
            raise FixError(f"symbol {message.get(55)} is not traded here")
        return instrument


def _side(request: OrderRequest) -> str:
    return "1" if request.side > 0 else "2"


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() else 0


def _ts_ns(message: FixMessage) -> int:
    return int(unix_of(message.get(60) or message.text(52)) * 1e9)
