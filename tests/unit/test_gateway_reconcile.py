"""Journal against a venue that has forgotten: what it does not know any more is shown, and ends by a stated rule."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from core.gateway.connector import AccountTrade, Balances, Connector, VenueTrade, VenueUpdate
from core.gateway.journal import OrderJournal
from core.gateway.ledger import OrderLedger
from core.gateway.reconcile import FORGOTTEN, NEVER_REACHED, Difference, Reconciler
from core.orders.life_cycle import fill, initialise, move
from core.orders.order import Order, OrderRequest, TimeInForce
from core.records import OrderState as S

REQUEST = OrderRequest("tt-a", 0, 1, 10, 100, TimeInForce.GTC, step=1, epoch=1, index=1, position=0)
TRADE = VenueTrade(5, 4, 100, 1, 99)


class Forgetful:
    """A venue that knows no order, and perhaps one trade."""

    def __init__(self, *trades: VenueTrade) -> None:
        self.trades = trades

    async def query(self, request: OrderRequest) -> VenueUpdate | None:
        return None

    async def cannot_arrive(self, signed_until_ms: int) -> None: ...

    async def open_orders(self) -> Sequence[VenueUpdate]:
        return []

    async def trades_after(self, instrument: int, trade_id: int) -> Sequence[AccountTrade]:
        return [AccountTrade(77, 0, 1, trade) for trade in self.trades if trade.trade_id > trade_id]

    async def balances(self) -> Balances:
        return Balances(0, (0,))


def order_in(state: S) -> Order:
    order = move(initialise(REQUEST), S.SUBMITTED)
    if state is S.SUBMITTED:
        return order
    order = move(order, S.ACCEPTED, venue_order_id=77)
    if state is S.PARTIALLY_FILLED:
        filled = fill(order, 1, 3, 100, 0)
        assert filled is not None
        return filled
    return order if state is S.ACCEPTED else move(order, state)


def reconciled(folder: Path, order: Order, venue: Any) -> tuple[Order | None, list[Difference]]:
    journal = OrderJournal(folder)
    ledger = OrderLedger(journal)
    ledger.stage(order)
    ledger.commit()
    told: list[Difference] = []
    commit = lambda: cast(None, ledger.commit())  # noqa: E731
    made = Reconciler(cast(Connector, venue), ledger, journal, ["S0"], told.append, commit, lambda: 0)
    asyncio.run(made.run())
    journal.close()
    return ledger.get("tt-a"), [each for each in told if each.kind == "order"]


@pytest.mark.parametrize(
    ("state", "reason", "filled"),
    [
        (S.SUBMITTED, NEVER_REACHED, 0),
        (S.ACCEPTED, FORGOTTEN, 0),
        (S.PARTIALLY_FILLED, FORGOTTEN, 3),
        (S.PENDING_CANCEL, FORGOTTEN, 0),
    ],
)
def test_an_order_that_the_venue_does_not_know_ends(tmp_path: Path, state: S, reason: str, filled: int) -> None:
    order, told = reconciled(tmp_path, order_in(state), Forgetful())
    assert order is not None
    assert (order.state, order.reason, order.cumulative_quantity) == (S.EXPIRED, reason, filled)
    assert [(d.journal, d.venue, d.resolution) for d in told] == [(state, "does not know it", f"expired: {reason}")]


def test_a_trade_of_a_forgotten_order_still_counts(tmp_path: Path) -> None:
    order, told = reconciled(tmp_path, order_in(S.ACCEPTED), Forgetful(TRADE))
    assert order is not None
    assert (order.state, order.cumulative_quantity, order.trade_ids) == (S.EXPIRED, 4, {5})
    assert told[-1].resolution == "venue's word taken, 1 fills reported"
