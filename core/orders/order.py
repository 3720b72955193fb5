"""An order as the swarm asks for it, as it stands, and what the venue reported of it. All frozen."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from core.records import OrderState


class TimeInForce(StrEnum):
    GTC = "GTC"
    """Rests in the book until it is filled or cancelled."""
    IOC = "IOC"
    """Takes what it can at once; the rest expires."""
    FOK = "FOK"
    """All of it at once, or nothing."""
    POST_ONLY = "POST_ONLY"
    """Rests, or is refused if it would take."""


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """The terms of one order, and the committed decision it comes from."""

    client_order_id: str
    instrument: int
    """Index into `MarketSpec.instruments`."""
    side: int
    """core.decision.Side: +1 buy, -1 sell."""
    quantity_lots: int
    limit_ticks: int
    """0 is a market order, which must be IOC or FOK."""
    time_in_force: TimeInForce
    step: int
    """Market step of the decision."""
    epoch: int
    index: int
    """Log index of the decision's entry."""
    position: int
    """Row of the decision within its entry."""


@dataclass(frozen=True, slots=True)
class Order:
    """How one order stands. `core.orders.life_cycle` makes the next value from this one."""

    request: OrderRequest
    state: OrderState
    cumulative_quantity: int = 0
    """Lots filled so far."""
    value_quanta: int = 0
    """Sum of lots times ticks over its fills: exact, in cash quanta."""
    fee_quanta: int = 0
    trade_ids: frozenset[int] = frozenset()
    venue_order_id: int = 0
    """0 until the venue has named it."""
    reason: str = ""
    """Why it was refused, expired or is unknown; empty where there is nothing to say."""

    @property
    def leaves_quantity(self) -> int:
        """Lots not yet filled."""
        return self.request.quantity_lots - self.cumulative_quantity


@dataclass(frozen=True, slots=True)
class ExecutionReport:
    """One change of one order. `sequence` counts up from 1 without gaps over the gateway's whole life.

    A report that carries a fill has `trade_id` > 0 (unique within an instrument), `last_quantity`, `last_price_ticks`
    and `fee_quanta`; these are 0 in all others. `state` is the order's state after the report.
    """

    client_order_id: str
    state: OrderState
    trade_id: int
    last_quantity: int
    last_price_ticks: int
    fee_quanta: int
    cumulative_quantity: int
    reason: str
    ts_ns: int
    """Venue's time of the change, Unix."""
    sequence: int
    instrument: int
    side: int
    epoch: int
    index: int
    position: int
