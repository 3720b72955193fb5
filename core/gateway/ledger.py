"""Every order as the gateway knows it, the venue's news applied to them, and the numbered reports that this makes.

Changes are staged and then committed together: first the journal, then the ears. Nobody hears of a report that is not
in the journal, so a sequence number never names two things.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from core.gateway.connector import VenueTrade, VenueUpdate
from core.gateway.journal import OrderJournal
from core.orders.life_cycle import FINAL, fill, move
from core.orders.order import ExecutionReport, Order, OrderRequest
from core.records import OrderState as S

RECENT_MAX: Final = 4_096
"""Finished orders kept in memory; older ones are read from the journal."""


class OrderLedger:
    """Orders over their journal."""

    def __init__(
        self,
        journal: OrderJournal,
        clock_ns: Callable[[], int] = time.time_ns,
        on_taken: Callable[[Order, VenueTrade, str], None] = lambda order, trade, owner: None,
    ) -> None:
        """`on_taken` hears of a trade that the venue tells of an order, and that is counted under another, `owner`."""
        self._journal = journal
        self._on_taken = on_taken
        self._clock_ns = clock_ns
        self._open: dict[str, Order] = {}
        self._recent: OrderedDict[str, Order] = OrderedDict()
        self._dirty: dict[str, Order] = {}
        self._reports: list[ExecutionReport] = []
        self._traded: dict[tuple[int, int], str] = {}
        """Whose the staged trades are, by instrument and trade id."""
        self._sequence = journal.last_sequence()
        for order in journal.open_orders():
            self._open[order.request.client_order_id] = order

    def get(self, client_order_id: str) -> Order | None:
        """The order as it stands, staged changes included, or None."""
        order = self._open.get(client_order_id) or self._recent.get(client_order_id)
        return order if order is not None else self._journal.order(client_order_id)

    def unfinished(self) -> list[Order]:
        """Orders that are not final, oldest first."""
        return list(self._open.values())

    def stage(self, order: Order) -> None:
        """Keep `order` as its new value; it reaches the journal with the next commit."""
        name = order.request.client_order_id
        self._dirty[name] = order
        if order.state in FINAL:
            self._open.pop(name, None)
            self._recent[name] = order
        else:
            self._open[name] = order

    def unstage(self, client_order_id: str) -> None:
        """Forget a new order whose commit failed: it is as if it had never been staged."""
        self._dirty.pop(client_order_id, None)
        self._open.pop(client_order_id, None)

    def mark(self, order: Order, state: S, reason: str) -> Order:
        """Move an order on our own account, and report it. Raises RefusedTransition."""
        after = move(order, state, reason)
        self.stage(after)
        self._report(after, self._clock_ns())
        return after

    def absorb(self, update: VenueUpdate, asked: bool = False) -> Order | None:
        """Apply the venue's word. Returns the order where fills are missing that must be asked for, else None.

        Late, repeated and overtaken news change nothing. `asked`: it answers a query made after everything that we
        sent, so it also says that a cancel had no effect. Raises KeyError for an order that is not ours, and
        RefusedTransition where the venue tells what cannot be; fills before the refused one are kept.
        """
        order = self.get(update.client_order_id)
        if order is None:
            raise KeyError(update.client_order_id)
        skipped = 0
        for trade in update.trades:
            if self._is_taken(order, trade):
                skipped += trade.quantity_lots
                continue
            args = trade.trade_id, trade.quantity_lots, trade.price_ticks, trade.fee_quanta
            after = fill(order, *args, venue_order_id=update.venue_order_id)
            if after is not None:
                order = after
                self.stage(order)
                self._traded[order.request.instrument, trade.trade_id] = order.request.client_order_id
                self._report(order, trade.ts_ns, *args)
        if update.cumulative_quantity - skipped > order.cumulative_quantity:
            return order
        state, reason = self._next_state(order, update, asked), update.reason
        if skipped and update.state is S.FILLED and order.state not in FINAL:
            # Else it would stay open for ever: no fill that we may count is left.
            state, reason = S.EXPIRED, f"{skipped} of its lots are trades of another order"
        if state is not None:
            after = move(order, state, reason, update.venue_order_id)
            self.stage(after)
            self._report(after, update.ts_ns)
        return None

    def _is_taken(self, order: Order, trade: VenueTrade) -> bool:
        """Whether the trade is another order's: an instrument's trade counts once, and the journal refuses it twice."""
        place, name = (order.request.instrument, trade.trade_id), order.request.client_order_id
        if trade.trade_id in order.trade_ids:
            return False
        owner = self._traded.get(place) or self._journal.trade_owner(*place)
        if owner is None or owner == name:
            return False
        self._on_taken(order, trade, owner)
        return True

    @staticmethod
    def _next_state(order: Order, update: VenueUpdate, asked: bool) -> S | None:
        """Where an update leads beyond its fills; None where it is no news."""
        state, old = update.state, order.state
        if state in (S.ACCEPTED, S.PARTIALLY_FILLED):
            waiting = (S.SUBMITTED, S.UNKNOWN, S.PENDING_CANCEL) if asked else (S.SUBMITTED, S.UNKNOWN)
            if old not in waiting or update.cumulative_quantity < order.cumulative_quantity:
                return None
            return S.PARTIALLY_FILLED if order.cumulative_quantity else S.ACCEPTED
        if state in (S.CANCELLED, S.EXPIRED, S.REJECTED):
            return None if old in FINAL else state
        return None

    def commit(
        self, fence: tuple[int, int] | None = None, decided: Sequence[OrderRequest] = ()
    ) -> list[ExecutionReport]:
        """Write everything staged in one transaction, and that the steps of `decided` are decided.

        Returns the reports that may now be told, in order. Raises sqlite3.Error; everything then stays staged.
        """
        if not self._dirty and not self._reports and fence is None:
            return []
        self._journal.write(self._dirty.values(), self._reports, fence, None, decided)
        told, self._reports = self._reports, []
        self._dirty.clear()
        self._traded.clear()
        # Only now: an order that is not in the journal yet must not be read back from it.
        while len(self._recent) > RECENT_MAX:
            self._recent.popitem(last=False)
        return told

    def _report(
        self, order: Order, ts_ns: int, trade_id: int = 0, quantity: int = 0, price: int = 0, fee: int = 0
    ) -> None:
        self._sequence += 1
        request = order.request
        self._reports.append(
            ExecutionReport(
                client_order_id=request.client_order_id,
                state=order.state,
                trade_id=trade_id,
                last_quantity=quantity,
                last_price_ticks=price,
                fee_quanta=fee,
                cumulative_quantity=order.cumulative_quantity,
                reason=order.reason,
                ts_ns=ts_ns,
                sequence=self._sequence,
                instrument=request.instrument,
                side=request.side,
                epoch=request.epoch,
                index=request.index,
                position=request.position,
            )
        )
