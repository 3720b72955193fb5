"""The one table of the order life cycle, and the functions that move an order along it.

A fill is a fact: the venue traded, whatever else we believed. So a fill is taken in every state in which the order may
have been at the venue, also after a cancel or an expiry (its news and the cancel's crossed on the wire). Every other
jump that the table does not hold is refused by name.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from core.orders.order import Order, OrderRequest, TimeInForce
from core.records import OrderState as S

_AT_VENUE: Final = frozenset({S.ACCEPTED, S.PARTIALLY_FILLED, S.FILLED, S.CANCELLED, S.EXPIRED})

TRANSITIONS: Final[dict[S, frozenset[S]]] = {
    S.INITIALISED: frozenset({S.SUBMITTED, S.DENIED}),
    # An answer may be lost, so that the first we hear is any later state.
    S.SUBMITTED: _AT_VENUE | {S.REJECTED, S.UNKNOWN, S.PENDING_CANCEL},
    S.ACCEPTED: frozenset({S.PARTIALLY_FILLED, S.FILLED, S.PENDING_CANCEL, S.CANCELLED, S.EXPIRED, S.UNKNOWN}),
    S.PARTIALLY_FILLED: frozenset({S.PARTIALLY_FILLED, S.FILLED, S.PENDING_CANCEL, S.CANCELLED, S.EXPIRED, S.UNKNOWN}),
    # ACCEPTED and PARTIALLY_FILLED again: the venue refused the cancel, or a fill came first.
    S.PENDING_CANCEL: _AT_VENUE | {S.PENDING_CANCEL, S.REJECTED, S.UNKNOWN},
    S.UNKNOWN: _AT_VENUE | {S.REJECTED, S.PENDING_CANCEL},
    # Late fills: the order stays cancelled or expired with more filled, or turns out filled.
    S.CANCELLED: frozenset({S.CANCELLED, S.FILLED}),
    S.EXPIRED: frozenset({S.EXPIRED, S.FILLED}),
    S.FILLED: frozenset(),
    S.REJECTED: frozenset(),
    S.DENIED: frozenset(),
}
"""From each state, the states that may follow."""

FINAL: Final = frozenset({S.FILLED, S.CANCELLED, S.REJECTED, S.EXPIRED, S.DENIED})
"""Nothing more is expected; only a late fill may still come, after CANCELLED or EXPIRED."""

OPEN: Final = frozenset({S.SUBMITTED, S.ACCEPTED, S.PARTIALLY_FILLED, S.PENDING_CANCEL, S.UNKNOWN})
"""The venue may hold it."""

NUMBER_MAX: Final = 2**63 - 1
"""The journal holds no larger number."""


class RefusedTransition(ValueError):
    """A state jump that the life cycle does not hold; the order is unchanged."""

    def __init__(self, client_order_id: str, old: S, new: S, detail: str = "") -> None:
        super().__init__(f"order {client_order_id}: {old} -> {new} is refused{': ' if detail else ''}{detail}")
        self.client_order_id = client_order_id
        self.old = old
        self.new = new


class InvalidOrder(ValueError):
    """An order's terms make no sense; the text names the field."""


def initialise(request: OrderRequest) -> Order:
    """A new order. Raises InvalidOrder that names the bad field."""
    if request.side not in (-1, 1):
        raise InvalidOrder(f"order {request.client_order_id}: side {request.side}; want 1 (buy) or -1 (sell)")
    if request.quantity_lots < 1:
        raise InvalidOrder(f"order {request.client_order_id}: quantity {request.quantity_lots} lots; want >= 1")
    if request.limit_ticks < 0:
        raise InvalidOrder(f"order {request.client_order_id}: limit {request.limit_ticks} ticks; want >= 0")
    for name in ("quantity_lots", "limit_ticks", "step", "epoch", "index", "position"):
        if not 0 <= getattr(request, name) <= NUMBER_MAX:
            raise InvalidOrder(f"order {request.client_order_id}: {name} {getattr(request, name)} fits no journal")
    if request.limit_ticks == 0 and request.time_in_force not in (TimeInForce.IOC, TimeInForce.FOK):
        raise InvalidOrder(
            f"order {request.client_order_id}: a market order must be IOC or FOK, not {request.time_in_force}"
        )
    return Order(request, S.INITIALISED)


def move(order: Order, new: S, reason: str = "", venue_order_id: int = 0) -> Order:
    """The order in its next state, for changes that carry no fill. Raises RefusedTransition.

    FILLED and PARTIALLY_FILLED are reached by `fill` alone, except back from UNKNOWN or PENDING_CANCEL to
    PARTIALLY_FILLED with what is already filled.
    """
    old = order.state
    if new not in TRANSITIONS[old]:
        raise RefusedTransition(order.request.client_order_id, old, new)
    if new is S.FILLED:
        raise RefusedTransition(order.request.client_order_id, old, new, "only a fill fills")
    if new is S.PARTIALLY_FILLED and not order.cumulative_quantity:
        raise RefusedTransition(order.request.client_order_id, old, new, "nothing is filled")
    if new is S.ACCEPTED and order.cumulative_quantity:
        raise RefusedTransition(order.request.client_order_id, old, new, "it is filled in part already")
    return replace(order, state=new, reason=reason, venue_order_id=venue_order_id or order.venue_order_id)


def fill(
    order: Order, trade_id: int, quantity: int, price_ticks: int, fee_quanta: int, venue_order_id: int = 0
) -> Order | None:
    """The order after one fill, or None where this trade id was counted already.

    Raises RefusedTransition where the order cannot have traded, or the fill is larger than what is left.
    """
    if trade_id in order.trade_ids:
        return None
    cumulative = order.cumulative_quantity + quantity
    state = S.FILLED if cumulative == order.request.quantity_lots else _state_after_part(order.state)
    name = order.request.client_order_id
    if state not in TRANSITIONS[order.state]:
        raise RefusedTransition(name, order.state, state, f"trade {trade_id}")
    if trade_id < 1 or quantity < 1 or price_ticks < 1 or cumulative > order.request.quantity_lots:
        detail = f"trade {trade_id} of {quantity} lots at {price_ticks} ticks, {order.leaves_quantity} lots are left"
        raise RefusedTransition(name, order.state, state, detail)
    return replace(
        order,
        state=state,
        cumulative_quantity=cumulative,
        value_quanta=order.value_quanta + quantity * price_ticks,
        fee_quanta=order.fee_quanta + fee_quanta,
        trade_ids=order.trade_ids | {trade_id},
        venue_order_id=venue_order_id or order.venue_order_id,
    )


def _state_after_part(old: S) -> S:
    # A cancel that is on its way, and an end that was reported already, both outlast a partial fill.
    return old if old in (S.PENDING_CANCEL, S.CANCELLED, S.EXPIRED) else S.PARTIALLY_FILLED
