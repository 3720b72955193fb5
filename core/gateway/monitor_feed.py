"""What the gateway pushes to monitors: its totals, the orders that changed, its events."""

from __future__ import annotations

import os
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Reversible
from itertools import takewhile
from typing import Protocol, TypeVar

from core.market.spec import MarketSpec
from core.orders.order import Order, OrderRequest
from core.push_schedule import PUSH_INTERVAL_S, PushSchedule
from core.records import EventRow, OrderRow, OrderState, Severity, VenueState
from core.swarm_state import CLOSED_STATES
from core.telemetry_messages import GatewayReport, report_message
from core.trading_state import TradingState
from net.messages import Application

ROWS_KEPT = 4_000
"""Whoever attaches is told of these, and nothing is lost up to so many changed orders a push. The recorder attaches
once all nodes trade, and again after a restart."""
EVENTS_KEPT = 200


Item = TypeVar("Item")


class Wire(Protocol):
    def send(self, peer_id: int, message: Application, *, round_id: int = 0) -> bool: ...


class MonitorFeed:
    """Keeps the newest orders and the totals; pushes to each subscriber what it has not had."""

    def __init__(self, wire: Wire, spec: MarketSpec) -> None:
        self._wire = wire
        self._spec = spec
        self.venue = VenueState.UNKNOWN
        self.trading = TradingState.ACTIVE
        self.trading_reason = ""
        self._sent: set[str] = set()
        self._totals = {"sent": 0, "filled": 0, "unfilled": 0}
        self._rows: OrderedDict[str, tuple[int, OrderRow]] = OrderedDict()
        self._events: deque[tuple[int, EventRow]] = deque(maxlen=EVENTS_KEPT)
        self._number = 0
        self._had: dict[int, int] = {}
        self._events_after_ns: dict[int, int] = {}
        self._untold: Counter[int] = Counter()
        """Orders that changed and had to go before a subscriber was told of them."""
        self._schedule = PushSchedule(self._push)

    def start(self) -> None:
        self._schedule.start()

    async def close(self) -> None:
        await self._schedule.close()

    def subscribe(self, operator: int, events_after_ns: int = 0, interval_s: float = PUSH_INTERVAL_S) -> None:
        """Push the orders, and the events after a time (Unix), each `interval_s` (`PushSchedule.add`)."""
        self._schedule.add(operator, interval_s)
        self._had[operator] = 0
        self._events_after_ns[operator] = events_after_ns

    def unsubscribe(self, operator: int) -> None:
        self._schedule.remove(operator)
        self._had.pop(operator, None)

    def event(self, severity: Severity, text: str) -> None:
        self._number += 1
        self._events.append((self._number, EventRow(time.time_ns(), severity, "gateway", text)))

    def sent(self, request: OrderRequest) -> None:
        """An order that goes to the venue now."""
        self._sent.add(request.client_order_id)
        self._totals["sent"] += 1

    def restored(self, order: Order) -> None:
        """An order of the journal, after a restart: count it once."""
        name = order.request.client_order_id
        if order.state is not OrderState.DENIED and name not in self._sent and name not in self._rows:
            self.sent(order.request)
        self.reported(order)

    def reported(self, order: Order) -> None:
        """An order changed."""
        name = order.request.client_order_id
        if order.state in CLOSED_STATES and name in self._sent:
            self._sent.discard(name)
            self._totals["filled" if order.state is OrderState.FILLED else "unfilled"] += 1
        self._number += 1
        self._rows[name] = (self._number, self._row(order))
        self._rows.move_to_end(name)
        if len(self._rows) > ROWS_KEPT:
            _, (number, _) = self._rows.popitem(last=False)
            self._untold.update(operator for operator, had in self._had.items() if 0 < had < number)

    def _row(self, order: Order) -> OrderRow:
        spec, request = self._spec, order.request
        filled = order.cumulative_quantity
        return OrderRow(
            client_order_id=request.client_order_id,
            step=request.step,
            instrument=spec.instruments[request.instrument].symbol,
            side="buy" if request.side > 0 else "sell",
            quantity=request.quantity_lots * spec.lot_size,
            limit_price=request.limit_ticks * spec.tick_size,
            state=order.state,
            filled_quantity=filled * spec.lot_size,
            average_price=order.value_quanta / filled * spec.tick_size if filled else 0.0,
            fee=order.fee_quanta * spec.tick_size * spec.lot_size,
            reason=order.reason,
        )

    def _push(self, operator: int) -> None:
        if lost := self._untold.pop(operator, 0):
            self.event(Severity.WARNING, f"{lost:,} orders changed faster than they can be told: a monitor lacks them")
        had, after_ns = self._had[operator], self._events_after_ns[operator]
        report = GatewayReport(
            pid=os.getpid(),
            venue=self.venue.value,
            trading=str(self.trading),
            trading_reason=self.trading_reason,
            orders_sent=self._totals["sent"],
            orders_filled=self._totals["filled"],
            orders_rejected=self._totals["unfilled"],
            orders=_newer(self._rows.values(), had),
            events=tuple(event for event in _newer(self._events, had) if event.time_ns > after_ns),
        )
        if self._wire.send(operator, report_message(report)):
            self._had[operator] = self._number


def _newer(numbered: Reversible[tuple[int, Item]], had: int) -> tuple[Item, ...]:
    """Those with a number above `had`, of items in the order of their numbers."""
    found = [item for _, item in takewhile(lambda each: each[0] > had, reversed(numbered))]
    return tuple(found[::-1])
