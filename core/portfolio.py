"""The replicated portfolio: integer positions and cash, built from fills and from nothing else.

Every amount of money is an integer number of quanta (`MarketSpec.tick_size * MarketSpec.lot_size` of the quote
currency), so that a fill of q lots at p ticks moves exactly q * p quanta and nothing is ever rounded. Open quantity is
kept as lots in the order they were bought and closed first in, first out: that gives each closed trade its own entry
step, which the memory needs, and leaves no fraction to round.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import msgpack
import numpy as np
from numpy.typing import NDArray

FORMAT: Final = 1
OPEN_LOTS_MAX: Final = 256
"""Open lots kept per instrument; beyond it the two oldest are merged into one."""
TRADE_IDS_MAX: Final = 512
"""Trade ids remembered per instrument; when full, the lower half is replaced by a floor."""
ORDERS_IN_FLIGHT_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class Fill:
    """One execution that the venue reported."""

    client_order_id: str
    trade_id: int
    """The venue's id, which rises within an instrument (as on Binance Spot and in our venue; where it is no number, the
    connector numbers trades by their time). One below the floor of those remembered counts as seen."""
    instrument: int
    side: int
    """core.decision.Side: +1 bought, -1 sold."""
    quantity: int
    """Lots, positive."""
    price: int
    """Ticks, positive."""
    fee: int
    """Quanta; negative is a rebate."""
    step: int
    """Market step of the decision behind the order."""


@dataclass(frozen=True, slots=True)
class ClosedTrade:
    """A quantity that was opened by one order and closed by a fill. Money in quanta."""

    instrument: int
    side: int
    """Of the position: +1 was long."""
    quantity: int
    opened_step: int
    closed_step: int
    entry_value: int
    exit_value: int
    fees: int
    """Of both ends."""
    profit: int
    """Realised, after fees."""
    opening_order: str
    closing_order: str
    closing_trade_id: int


@dataclass(slots=True)
class _Lot:
    order: str
    step: int
    quantity: int  # positive; the position's sign is kept apart
    value: int  # quantity times price, summed over fills
    fee: int


@dataclass(slots=True)
class _Reservation:
    instrument: int
    side: int
    quantity: int
    price: int


class Portfolio:
    """Positions, cash and orders in flight of `instruments` instruments.

    All methods are deterministic: two portfolios that were given the same calls in the same order have the same bytes
    and hash. `positions`, `reserved_buy`, `reserved_sell` are int64[n] in lots and live: read them, do not write.
    """

    def __init__(self, instruments: int, starting_cash: int) -> None:
        """`starting_cash` in quanta (see `cash_quanta`). Raises ValueError for no instrument or negative cash."""
        if instruments < 1 or starting_cash < 0:
            raise ValueError(
                f"portfolio: {instruments} instruments and {starting_cash} quanta of cash; want >= 1, >= 0"
            )
        self.cash = starting_cash
        self.starting_cash = starting_cash
        self.positions: NDArray[np.int64] = np.zeros(instruments, np.int64)
        self.reserved_buy: NDArray[np.int64] = np.zeros(instruments, np.int64)
        self.reserved_sell: NDArray[np.int64] = np.zeros(instruments, np.int64)
        self.realised: list[int] = [0] * instruments
        """Profit of closed quantity after the fees of both ends, quanta."""
        self.fees_paid = 0
        self.fills_applied = 0
        self.duplicates_ignored = 0
        self._lots: list[deque[_Lot]] = [deque() for _ in range(instruments)]
        self._seen: list[set[int]] = [set() for _ in range(instruments)]
        self._floor: list[int] = [-1] * instruments
        self._reservations: dict[str, _Reservation] = {}
        self._chain = b"\0" * 32

    @property
    def instruments(self) -> int:
        return len(self._lots)

    def reserve(self, client_order_id: str, instrument: int, side: int, quantity: int, price: int) -> None:
        """Count an order as in flight until it is filled or released. Price in ticks, quantity in lots.

        Raises ValueError for an order already reserved or a bad quantity, OverflowError beyond
        `ORDERS_IN_FLIGHT_MAX`.
        """
        self._refuse_bad(instrument, side, quantity, price)
        if client_order_id in self._reservations:
            raise ValueError(f"portfolio: order {client_order_id} is already reserved")
        if len(self._reservations) >= ORDERS_IN_FLIGHT_MAX:
            raise OverflowError(f"portfolio: more than {ORDERS_IN_FLIGHT_MAX} orders in flight; confirm some first")
        self._reservations[client_order_id] = _Reservation(instrument, side, quantity, price)
        (self.reserved_buy if side > 0 else self.reserved_sell)[instrument] += quantity

    def release(self, client_order_id: str) -> int:
        """Forget what is left of an order in flight (rejected, cancelled, done). Returns the lots released."""
        reservation = self._reservations.pop(client_order_id, None)
        if reservation is None:
            return 0
        column = self.reserved_buy if reservation.side > 0 else self.reserved_sell
        column[reservation.instrument] -= reservation.quantity
        return reservation.quantity

    def in_flight(self) -> tuple[str, ...]:
        """Client order ids that are reserved, oldest first."""
        return tuple(self._reservations)

    def apply(self, fills: Iterable[Fill]) -> list[ClosedTrade]:
        """Take fills in order; a trade id seen before changes nothing. Returns what was closed.

        Raises ValueError, before anything changes, when a fill names no instrument of ours or a non-positive
        quantity or price.
        """
        batch = list(fills)
        for fill in batch:
            self._refuse_bad(fill.instrument, fill.side, fill.quantity, fill.price)
        closed: list[ClosedTrade] = []
        for fill in batch:
            if self._is_new(fill.instrument, fill.trade_id):
                self._apply_one(fill, closed)
            else:
                self.duplicates_ignored += 1
        return closed

    def _refuse_bad(self, instrument: int, side: int, quantity: int, price: int) -> None:
        if not 0 <= instrument < self.instruments:
            raise ValueError(f"portfolio: instrument {instrument} is unknown; there are {self.instruments}")
        if side not in (-1, 1) or quantity < 1 or price < 1:
            raise ValueError(
                f"portfolio: side {side}, quantity {quantity}, price {price} of instrument {instrument};"
                " want side -1 or 1, quantity and price positive"
            )

    def _is_new(self, instrument: int, trade_id: int) -> bool:
        seen = self._seen[instrument]
        if trade_id <= self._floor[instrument] or trade_id in seen:
            return False
        seen.add(trade_id)
        if len(seen) > TRADE_IDS_MAX:
            ordered = sorted(seen)
            self._floor[instrument] = ordered[TRADE_IDS_MAX // 2]
            seen.difference_update(ordered[: TRADE_IDS_MAX // 2 + 1])
        return True

    def _apply_one(self, fill: Fill, closed: list[ClosedTrade]) -> None:
        i, side, quantity, price, fee = fill.instrument, fill.side, fill.quantity, fill.price, fill.fee
        reservation = self._reservations.get(fill.client_order_id)
        if reservation is not None:
            self._consume(fill, reservation)
        self.cash -= side * quantity * price + fee
        self.fees_paid += fee
        self.fills_applied += 1
        held = int(self.positions[i])
        self.positions[i] = held + side * quantity
        closing = min(quantity, abs(held)) if held * side < 0 else 0
        closing_fee = fee * closing // quantity
        if closing:
            self._close(fill, closing, closing_fee, closed)
        if quantity > closing:
            self._open(fill, quantity - closing, fee - closing_fee)
        text = f"{fill.client_order_id}|{fill.trade_id}|{i}|{side}|{quantity}|{price}|{fee}|{fill.step}"
        self._chain = hashlib.sha256(self._chain + text.encode()).digest()

    def _consume(self, fill: Fill, reservation: _Reservation) -> None:
        used = min(fill.quantity, reservation.quantity)
        column = self.reserved_buy if reservation.side > 0 else self.reserved_sell
        column[reservation.instrument] -= used
        reservation.quantity -= used
        if reservation.quantity == 0:
            del self._reservations[fill.client_order_id]

    def _open(self, fill: Fill, quantity: int, fee: int) -> None:
        lots = self._lots[fill.instrument]
        if lots and lots[-1].order == fill.client_order_id:
            last = lots[-1]
            last.quantity += quantity
            last.value += quantity * fill.price
            last.fee += fee
            return
        lots.append(_Lot(fill.client_order_id, fill.step, quantity, quantity * fill.price, fee))
        if len(lots) > OPEN_LOTS_MAX:
            oldest, second = lots.popleft(), lots[0]
            second.quantity += oldest.quantity
            second.value += oldest.value
            second.fee += oldest.fee

    def _close(self, fill: Fill, quantity: int, fee: int, closed: list[ClosedTrade]) -> None:
        lots = self._lots[fill.instrument]
        side = -fill.side
        while quantity:
            lot = lots[0]
            part = min(quantity, lot.quantity)
            # A merged lot has no single price: the part takes its floor share, the rest stays, nothing is lost.
            value, entry_fee = lot.value * part // lot.quantity, lot.fee * part // lot.quantity
            exit_fee = fee * part // quantity
            profit = side * (part * fill.price - value) - entry_fee - exit_fee
            closed.append(
                ClosedTrade(
                    instrument=fill.instrument,
                    side=side,
                    quantity=part,
                    opened_step=lot.step,
                    closed_step=fill.step,
                    entry_value=value,
                    exit_value=part * fill.price,
                    fees=entry_fee + exit_fee,
                    profit=profit,
                    opening_order=lot.order,
                    closing_order=fill.client_order_id,
                    closing_trade_id=fill.trade_id,
                )
            )
            self.realised[fill.instrument] += profit
            lot.quantity -= part
            lot.value -= value
            lot.fee -= entry_fee
            quantity -= part
            fee -= exit_fee
            if lot.quantity == 0:
                lots.popleft()

    def average_price(self, instrument: int) -> float:
        """Average entry price in ticks of what is open, fees apart; 0.0 when flat."""
        lots = self._lots[instrument]
        quantity = sum(lot.quantity for lot in lots)
        return sum(lot.value for lot in lots) / quantity if quantity else 0.0

    def unrealised(self, instrument: int, mark: int) -> int:
        """Quanta that closing at `mark` ticks would realise, entry fees included, exit fees not."""
        lots = self._lots[instrument]
        side = 1 if self.positions[instrument] > 0 else -1
        return sum(side * (lot.quantity * mark - lot.value) - lot.fee for lot in lots)

    def equity(self, marks: NDArray[np.int64]) -> int:
        """Cash plus positions at `marks` int64[n] ticks, in quanta, exact."""
        value: int = sum(q * p for q, p in zip(self.positions.tolist(), marks.tolist(), strict=True))
        return self.cash + value

    def state_hash(self) -> bytes:
        """32 bytes over cash, positions, orders in flight and the chain of every fill applied."""
        in_flight = "|".join(
            f"{name},{r.instrument},{r.side},{r.quantity},{r.price}" for name, r in self._reservations.items()
        )
        text = f"{FORMAT}|{self.cash}|{self.positions.tolist()}|{self.realised}|{in_flight}"
        return hashlib.sha256(self._chain + text.encode()).digest()

    def to_bytes(self) -> bytes:
        """A checkpoint; `from_bytes` gives a portfolio that behaves and hashes the same."""
        state = {
            "format": FORMAT,
            "cash": str(self.cash),
            "starting_cash": str(self.starting_cash),
            "positions": self.positions.tolist(),
            "realised": [str(value) for value in self.realised],
            "fees_paid": str(self.fees_paid),
            "fills_applied": self.fills_applied,
            "duplicates_ignored": self.duplicates_ignored,
            "lots": [[[x.order, x.step, x.quantity, str(x.value), str(x.fee)] for x in lots] for lots in self._lots],
            "seen": [sorted(seen) for seen in self._seen],
            "floor": self._floor,
            "in_flight": [[k, r.instrument, r.side, r.quantity, r.price] for k, r in self._reservations.items()],
            "chain": self._chain,
        }
        return bytes(msgpack.packb(state))

    @classmethod
    def from_bytes(cls, data: bytes) -> Portfolio:
        """The inverse of `to_bytes`. Raises ValueError when the bytes are not a checkpoint of this format."""
        try:
            state: dict[str, Any] = msgpack.unpackb(data)
            if state["format"] != FORMAT:
                raise ValueError(f"format {state['format']}, want {FORMAT}")
            portfolio = cls(len(state["positions"]), int(state["starting_cash"]))
            portfolio._restore(state)
        except (ValueError, KeyError, TypeError, IndexError, msgpack.UnpackException) as error:
            raise ValueError(f"portfolio checkpoint of {len(data)} bytes cannot be read: {error!r}") from error
        return portfolio

    def _restore(self, state: dict[str, Any]) -> None:
        self.cash = int(state["cash"])
        self.positions[:] = state["positions"]
        self.realised = [int(value) for value in state["realised"]]
        self.fees_paid = int(state["fees_paid"])
        self.fills_applied = state["fills_applied"]
        self.duplicates_ignored = state["duplicates_ignored"]
        self._lots = [deque(_Lot(o, s, q, int(v), int(f)) for o, s, q, v, f in lots) for lots in state["lots"]]
        open_quantity = [sum(lot.quantity for lot in lots) for lots in self._lots]
        if open_quantity != np.abs(self.positions).tolist():
            raise ValueError(f"open lots {open_quantity} do not add up to positions {self.positions.tolist()}")
        self._seen = [set(ids) for ids in state["seen"]]
        self._floor = list(state["floor"])
        self._chain = state["chain"]
        for name, instrument, side, quantity, price in state["in_flight"]:
            self.reserve(name, instrument, side, quantity, price)


def cash_quanta(amount: float, tick_size: float, lot_size: float) -> int:
    """`amount` of quote currency as quanta, rounded to the nearest. Raises ValueError unless both sizes are > 0."""
    if not (tick_size > 0 and lot_size > 0):
        raise ValueError(f"tick size {tick_size} and lot size {lot_size} must be positive")
    return round(amount / (tick_size * lot_size))
