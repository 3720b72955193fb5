"""What the venue knows: accounts, orders, trades. Nothing but its events, applied in order, live and after a restart.

With an archive, memory holds what is open and what happened since the last checkpoint; the rest is looked up there. So
no answer depends on how long ago something happened. Without one (`verify`), memory holds everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import msgpack

from core.venue import rejects
from core.venue.account import Account, VenueOrder
from core.venue.archive import Checkpoint, Ended, OrderArchive, pack_order, unpack_order
from core.venue.events import (
    OrderAccepted,
    OrderEnded,
    OrderReplaced,
    OrderStatus,
    StepAdvanced,
    Traded,
    VenueEvent,
)
from core.venue.journal import Position


class ExchangeState:
    """Accounts, orders and trades of one market, by instrument index."""

    def __init__(self, instruments: int, archive: OrderArchive | None = None) -> None:
        self.step = -1
        """Market step of the recorded price; -1 before the first."""
        self.closes: tuple[int, ...] = ()
        self.events_total = 0
        self.accounts: dict[int, Account] = {}
        self._archive = archive
        self._archived_events = 0
        self._instruments = instruments
        self._orders: dict[int, VenueOrder] = {}
        self._by_client: dict[tuple[int, str], int] = {}
        self._trades: list[list[tuple[int, Traded]]] = [[] for _ in range(instruments)]  # (owner, trade)
        self._trades_archived = [0] * instruments
        self._next_order_id = 1
        self._next_trade_id = 1

    # What there is

    def order(self, owner: int, order_id: int | None, client_order_id: str | None) -> VenueOrder:
        """The order by the venue's id or, without one, the client's. Raises VenueReject -2013."""
        if order_id is None:
            order_id = self._order_id(owner, client_order_id or "")
        order = self._find(order_id) if order_id is not None else None
        if order is None or order.owner != owner:
            raise rejects.no_such_order()
        return order

    def orders_of(self, owner: int) -> list[VenueOrder]:
        """Every order that `owner` ever had accepted."""
        archived = self._archive.orders(owner) if self._archive is not None else []
        return archived + [order for order in self._orders.values() if order.owner == owner]

    def page(self, owner: int, instrument: int, first: int | None, limit: int) -> list[VenueOrder]:
        """Orders of one instrument by order id: from `first` on, or the newest where that is None; at most `limit`."""
        found = [o for o in self._orders.values() if (o.owner, o.instrument) == (owner, instrument)]
        if first is not None:
            first = max(0, min(first, self._next_order_id))
            found = [order for order in found if order.order_id >= first]
        if self._archive is not None:
            found += self._archive.page(owner, instrument, first, limit)
        found.sort(key=lambda order: order.order_id)
        return found[-limit:] if first is None else found[:limit]

    def open_orders(self, owner: int, instrument: int | None = None) -> list[VenueOrder]:
        """Open orders of `owner`, oldest first."""
        found = self.accounts[owner].open_orders.values()
        return [order for order in found if instrument is None or order.instrument == instrument]

    def trades_of(self, order: VenueOrder) -> list[Traded]:
        """Every trade of one order, oldest first."""
        return [self._trade(order.instrument, place) for place in order.trades]

    def trades(self, owner: int, instrument: int, from_id: int = 0, limit: int = 500) -> list[Traded]:
        """Trades of `owner` with trade id >= `from_id`, oldest first, at most `limit`."""
        from_id = max(0, min(from_id, self._next_trade_id))
        found = self._archive.trades(owner, instrument, from_id, limit) if self._archive is not None else []
        rows = self._trades[instrument]
        low, high = 0, len(rows)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if rows[middle][1].trade_id < from_id else (low, middle)
        while low < len(rows) and len(found) < limit:
            if rows[low][0] == owner:
                found.append(rows[low][1])
            low += 1
        return found

    def recent(self, instrument: int, limit: int) -> list[tuple[VenueOrder, Traded]]:
        """The newest trades of one book with an order of each, oldest first; between two accounts, the taker's."""
        newest = self._takers((trade for _, trade in reversed(self._trades[instrument])), limit)
        if len(newest) < limit and self._archive is not None:
            # Both sides of a trade are one request's, so a checkpoint never stands between them.
            archived = self._archive.newest_trades(instrument, 2 * (limit - len(newest)))
            newest += self._takers(archived, limit - len(newest))
        return [(self._known(trade.order_id), trade) for trade in reversed(newest)]

    @staticmethod
    def _takers(newest: Iterable[Traded], limit: int) -> list[Traded]:
        found: list[Traded] = []
        for trade in newest:
            if len(found) == limit:
                break
            if not found or found[-1].trade_id != trade.trade_id:
                found.append(trade)
        return found

    def _order_id(self, owner: int, client_order_id: str) -> int | None:
        found = self._by_client.get((owner, client_order_id))
        if found is None and self._archive is not None:
            found = self._archive.order_id(owner, client_order_id)
        return found

    def _find(self, order_id: int) -> VenueOrder | None:
        found = self._orders.get(order_id)
        if found is None and self._archive is not None and 0 < order_id < self._next_order_id:
            found = self._archive.order(order_id)
        return found

    def _known(self, order_id: int) -> VenueOrder:
        order = self._find(order_id)
        if order is None:
            raise KeyError(f"order {order_id} was never accepted")
        return order

    def _trade(self, instrument: int, place: int) -> Traded:
        archived = self._trades_archived[instrument]
        if place >= archived or self._archive is None:
            return self._trades[instrument][place - archived][1]
        return self._archive.trade(instrument, place)

    # What changes it

    def apply(self, event: VenueEvent) -> VenueOrder | None:
        """Change the state by one event. Returns the order after it."""
        self.events_total = event.number
        if isinstance(event, Traded):
            return self._apply_trade(event)
        if isinstance(event, OrderAccepted):
            return self._apply_accepted(event)
        if isinstance(event, OrderEnded):
            order = self._known(event.order_id)
            return self._put(replace(order, status=OrderStatus(event.status), update_ms=event.time_ms))
        if isinstance(event, OrderReplaced):
            return self._apply_replaced(event)
        if isinstance(event, StepAdvanced):
            self.step, self.closes = event.step, event.closes
        else:
            self.accounts[event.owner] = Account(event.owner, self._instruments, event.cash_quanta)
        return None

    def _put(self, order: VenueOrder) -> VenueOrder:
        self._orders[order.order_id] = order
        self.accounts[order.owner].put(order)
        return order

    def _apply_accepted(self, event: OrderAccepted) -> VenueOrder:
        order = VenueOrder(
            event.order_id,
            event.client_order_id,
            event.owner,
            event.instrument,
            event.side,
            event.price_ticks,
            event.quantity_lots,
            event.time_in_force,
            event.step,
            event.time_ms,
            event.time_ms,
        )
        self._by_client[order.owner, order.client_order_id] = order.order_id
        self._next_order_id = order.order_id + 1
        return self._put(order)

    def _apply_replaced(self, event: OrderReplaced) -> VenueOrder:
        order = self._known(event.order_id)
        if not event.keeps_place:
            # Taken out first: after a restart orders queue as they stand in this table, and this one lost its place.
            self._orders.pop(event.order_id, None)
        order = replace(
            order,
            client_order_id=event.client_order_id,
            price_ticks=event.price_ticks,
            quantity_lots=event.quantity_lots,
            update_ms=event.time_ms,
        )
        if order.leaves <= 0:
            # Earlier versions journalled replacements by a quantity that was executed already.
            order = replace(order, status=OrderStatus.FILLED)
        self._by_client[order.owner, order.client_order_id] = order.order_id
        return self._put(order)

    def _apply_trade(self, event: Traded) -> VenueOrder:
        order = self._known(event.order_id)
        lots, price = event.quantity_lots, event.price_ticks
        rows = self._trades[order.instrument]
        place = self._trades_archived[order.instrument] + len(rows)
        order = order.after_trade(lots, price, event.fee_quanta, place, event.time_ms)
        rows.append((order.owner, event))
        account = self.accounts[order.owner]
        account.base[order.instrument] += order.side * lots
        account.cash -= order.side * lots * price + event.fee_quanta
        self._next_trade_id = max(self._next_trade_id, event.trade_id + 1)
        return self._put(order)

    # Checkpoints

    @property
    def is_checkpoint_due(self) -> bool:
        """So seldom, too, that writing the open orders anew each time costs no more than the events did."""
        if self._archive is None:
            return False
        still_open = sum(len(account.open_orders) for account in self.accounts.values())
        return self._events_since_checkpoint >= self._archive.events_between + still_open

    @property
    def _events_since_checkpoint(self) -> int:
        return self.events_total - self._archived_events

    def checkpoint(self, position: Position) -> None:
        """Hand what ended to the archive, with this state, which is that of the journal at `position`.

        Raises JournalError, and memory then still holds everything; ValueError without an archive.
        """
        if self._archive is None:
            raise ValueError("an exchange without an archive has no checkpoints")
        still_open = {number: order for number, order in self._orders.items() if order.is_open}
        ended = Ended(
            [order for order in self._orders.values() if not order.is_open],
            self._by_client,
            [
                (instrument, place, owner, trade)
                for instrument, rows in enumerate(self._trades)
                for place, (owner, trade) in enumerate(rows, self._trades_archived[instrument])
            ],
        )
        counts = [before + len(rows) for before, rows in zip(self._trades_archived, self._trades, strict=True)]
        self._archive.write(Checkpoint(position, self._packed(still_open.values(), counts)), ended)
        self._orders, self._by_client = still_open, {}
        self._trades, self._trades_archived = [[] for _ in counts], counts
        self._archived_events = self.events_total

    def _packed(self, still_open: Iterable[VenueOrder], trade_counts: Sequence[int]) -> bytes:
        state = (
            self.events_total,
            self.step,
            self.closes,
            self._next_order_id,
            self._next_trade_id,
            trade_counts,
            [(account.owner, account.cash, account.base) for account in self.accounts.values()],
            [pack_order(order) for order in still_open],
        )
        return bytes(msgpack.packb(state))

    def load(self, state: bytes) -> bool:
        """Take the state of a checkpoint, as a new exchange. False, and nothing changes, where it has another number
        of instruments."""
        total, step, closes, next_order_id, next_trade_id, trade_counts, accounts, rows = msgpack.unpackb(
            state, use_list=False
        )
        if len(trade_counts) != self._instruments:
            return False
        self.events_total = self._archived_events = total
        self.step, self.closes = step, closes
        self._next_order_id, self._next_trade_id = next_order_id, next_trade_id
        self._trades_archived = list(trade_counts)
        for owner, cash, base in accounts:
            account = self.accounts[owner] = Account(owner, self._instruments, cash)
            account.base = list(base)
        orders = [unpack_order(row) for row in rows]
        self._orders = {order.order_id: order for order in orders}
        for order in sorted(orders, key=lambda order: order.order_id):  # an account's are oldest first
            self.accounts[order.owner].put(order)
        return True
