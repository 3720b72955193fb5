"""Every state jump: those of the table are taken, every other is refused by name. Fills are facts."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from core.orders.life_cycle import (
    FINAL,
    OPEN,
    TRANSITIONS,
    InvalidOrder,
    RefusedTransition,
    fill,
    initialise,
    move,
)
from core.orders.order import Order, OrderRequest, TimeInForce
from core.records import OrderState as S

REQUEST = OrderRequest("tt-1", 0, 1, 10, 100, TimeInForce.IOC, step=1, epoch=1, index=1, position=0)
NEVER_AT_VENUE = {S.INITIALISED, S.DENIED, S.REJECTED}


def order_in(state: S, filled: int = 0) -> Order:
    return Order(REQUEST, state, cumulative_quantity=filled, trade_ids=frozenset(range(1, filled + 1)))


@pytest.mark.parametrize(("old", "new"), list(product(S, S)))
def test_every_pair_of_states(old: S, new: S) -> None:
    filled = 1 if S.PARTIALLY_FILLED in (old, new) else 0
    order = order_in(old, filled)
    if new in TRANSITIONS[old] and new is not S.FILLED and not (new is S.ACCEPTED and filled):
        assert move(order, new, "why") == replace(order, state=new, reason="why")
    else:
        with pytest.raises(RefusedTransition, match=f"{old} -> {new}"):
            move(order, new)


def test_the_table_names_every_state_and_ends_are_ends() -> None:
    assert set(TRANSITIONS) == set(S)
    assert set(S) == FINAL | OPEN | {S.INITIALISED}
    assert not FINAL & OPEN
    for state in FINAL:
        assert TRANSITIONS[state] <= {state, S.FILLED}


@pytest.mark.parametrize("state", [s for s in S if s not in NEVER_AT_VENUE and s is not S.FILLED])
def test_a_fill_is_taken_wherever_the_order_may_have_been_at_the_venue(state: S) -> None:
    order = fill(order_in(state), 7, 10, 101, 3)
    assert order is not None
    assert (order.state, order.cumulative_quantity, order.value_quanta, order.fee_quanta) == (S.FILLED, 10, 1010, 3)


@pytest.mark.parametrize("state", sorted(NEVER_AT_VENUE))
def test_a_fill_of_an_order_that_was_never_there_is_refused(state: S) -> None:
    with pytest.raises(RefusedTransition, match="trade 7"):
        fill(order_in(state), 7, 10, 101, 3)


@pytest.mark.parametrize("state", [S.CANCELLED, S.EXPIRED, S.PENDING_CANCEL])
def test_a_late_partial_fill_keeps_the_state(state: S) -> None:
    order = fill(order_in(state), 7, 4, 101, 0)
    assert order is not None
    assert (order.state, order.cumulative_quantity) == (state, 4)


def test_a_trade_id_counts_once() -> None:
    order = fill(order_in(S.ACCEPTED), 7, 4, 101, 0)
    assert order is not None
    assert fill(order, 7, 4, 101, 0) is None


@pytest.mark.parametrize(("trade_id", "quantity", "price"), [(0, 1, 100), (7, 0, 100), (7, 1, 0), (7, 11, 100)])
def test_an_impossible_fill_is_refused(trade_id: int, quantity: int, price: int) -> None:
    with pytest.raises(RefusedTransition):
        fill(order_in(S.ACCEPTED), trade_id, quantity, price, 0)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"side": 0}, "side 0"),
        ({"quantity_lots": 0}, "quantity 0"),
        ({"limit_ticks": -1}, "limit -1"),
        ({"limit_ticks": 0, "time_in_force": TimeInForce.GTC}, "market order"),
    ],
)
def test_bad_terms_are_refused_by_name(changes: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidOrder, match=named):
        initialise(replace(REQUEST, **changes))  # type: ignore[arg-type]
