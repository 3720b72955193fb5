"""Our book against an engine that nobody of us wrote: Liquibook (C++), where both mean the same.

Limit orders, GTC and IOC, and cancels; every order of another owner, so that self-trade prevention has nothing to do.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from core.bench.order_streams import random_messages, run_plain
from core.venue.fees import FeeSchedule
from kernels import order_book as kernel

liquibook = pytest.importorskip("liquibook", reason="Liquibook has wheels for Linux on x86-64 only")


def nothing(self: object, *_: object) -> None:
    """A callback of Liquibook that the comparison does not need."""


class Fills(liquibook.OrderListener):
    """Every fill that Liquibook reports: arriving order, resting order, price, lots."""

    on_accept = on_reject = on_cancel_reject = on_replace = on_replace_reject = on_trigger_stop = nothing

    def __init__(self) -> None:
        super().__init__()
        self.numbers: dict[int, int] = {}
        self.cancelled: set[int] = set()
        self.rows: list[tuple[int, int, int, int]] = []

    def on_fill(self, order: object, matched: object, quantity: int, price: int) -> None:
        taker, maker = (self.numbers[each.order_id_] for each in (order, matched))  # type: ignore[attr-defined]
        self.rows.append((taker, maker, int(price), int(quantity)))

    def on_cancel(self, order: object) -> None:
        self.cancelled.add(self.numbers[order.order_id_])  # type: ignore[attr-defined]


def run_liquibook(messages: NDArray[np.int64]) -> tuple[list[tuple[int, int, int, int]], dict[int, int]]:
    """Fills in order, and the lots of every order that rests at the end, by order id."""
    book, fills = liquibook.DepthOrderBook(), Fills()
    book.set_order_listener(fills)
    orders: dict[int, object] = {}
    for kind, order_id, _, side, price, quantity, terms in messages.tolist():
        if kind == kernel.ORDER:
            conditions = liquibook.oc_immediate_or_cancel if terms == kernel.IOC else liquibook.oc_no_conditions
            order = liquibook.SimpleOrder(side > 0, price, quantity, 0, conditions)
            orders[order_id] = order
            fills.numbers[order.order_id_] = order_id
            book.add(order, conditions)
        elif (found := orders.get(order_id)) is not None:
            book.cancel(found)
    left = {order_id: quantity for kind, order_id, _, _, _, quantity, _ in messages.tolist() if kind == kernel.ORDER}
    for taker, maker, _, lots in fills.rows:
        left[taker] -= lots
        left[maker] -= lots
    resting = {order_id: lots for order_id, lots in left.items() if lots and order_id not in fills.cancelled}
    return fills.rows, resting


@pytest.mark.parametrize("seed", [1, 2])
def test_trades_and_queues_are_those_of_liquibook(seed: int) -> None:
    messages = random_messages(20_000, seed)
    messages[:, 2] = np.arange(1, len(messages) + 1)  # owners: everybody alone
    messages = messages[messages[:, 0] != kernel.REDUCE]
    messages = messages[(messages[:, 0] != kernel.ORDER) | (messages[:, 4] > 0)]
    messages[:, 6] = np.where(messages[:, 6] == kernel.IOC, kernel.IOC, kernel.GTC)
    ours = run_plain(messages, kernel.EXPIRE_TAKER, FeeSchedule())
    fills, resting = run_liquibook(messages)
    assert len(fills) > 3_000
    assert [tuple(row) for row in ours.trades[:, 1:5].tolist()] == fills
    assert {row[0]: row[4] for row in ours.resting.tolist()} == resting
