"""What a session's trading came to, from the venue's own record of it: P&L two ways, drawdown, turnover, slippage.

Money is exact, in cash quanta (one lot at one tick). Realised profit by FIFO is that of `core.portfolio`, after the
fees of both ends; by average cost it is before fees, as fractions of a quantum arise. Slippage is against the decision
price: the close of the market step that the order was decided on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from core.portfolio import ClosedTrade, Fill, Portfolio
from core.venue.events import AccountOpened, OrderAccepted, StepAdvanced, Traded, VenueEvent


@dataclass(frozen=True, slots=True)
class InstrumentPerformance:
    """One instrument; money in quanta."""

    position_lots: int
    average_cost_ticks: float
    """Of the open position; 0.0 when flat."""
    realised_fifo: int
    """After the fees of both ends."""
    realised_average_cost: Fraction
    """Before fees."""
    unrealised: int
    """At the last close, entry fees deducted."""
    fees: int
    turnover: int
    """Traded value, both sides."""
    slippage: int
    """Paid beyond the decision price; negative is a gain."""


@dataclass(frozen=True, slots=True)
class Performance:
    """A whole account; money in quanta."""

    instruments: tuple[InstrumentPerformance, ...]
    starting_cash: int
    cash: int
    equity: int
    """At the last close."""
    drawdown: int
    """Largest fall of equity from an earlier high, at the closes of steps."""
    drawdown_fraction: float
    """Of that high."""
    closed_trades: int
    winning_trades: int
    """Closed trades with a profit after fees."""

    @property
    def hit_rate(self) -> float:
        """Share of closed trades that won; 0.0 where none closed."""
        return self.winning_trades / self.closed_trades if self.closed_trades else 0.0

    @property
    def turnover(self) -> int:
        return sum(row.turnover for row in self.instruments)

    @property
    def slippage_bps(self) -> float:
        """Of the traded value; 0.0 where nothing traded."""
        return sum(row.slippage for row in self.instruments) / self.turnover * 1e4 if self.turnover else 0.0


class AverageCost:
    """One instrument's position at average cost; profit is realised against the average, before fees."""

    def __init__(self) -> None:
        self.lots = 0
        self.value = Fraction(0)
        """Cost of what is open, in quanta; positive, whatever the side."""
        self.realised = Fraction(0)

    def trade(self, side: int, lots: int, price: int) -> None:
        """A fill: `side` 1 buys, -1 sells; `lots` positive; `price` in ticks."""
        closing = min(lots, abs(self.lots)) if self.lots * side < 0 else 0
        if closing:
            cost = self.value * closing / abs(self.lots)
            self.realised += -side * (closing * price - cost)
            self.value -= cost
            self.lots += side * closing
        if lots > closing:
            self.lots += side * (lots - closing)
            self.value += (lots - closing) * price


def performance(events: Iterable[VenueEvent], owner: int, instruments: int) -> Performance:
    """Replay a venue's events for one account. Raises ValueError where the account was never opened."""
    replay: _Replay | None = None
    for event in events:
        if isinstance(event, AccountOpened) and event.owner == owner:
            replay = _Replay(instruments, event.cash_quanta)
        elif replay is not None:
            replay.take(event, owner)
        elif isinstance(event, StepAdvanced):
            raise ValueError("the market moved before the account was opened")
    if replay is None:
        raise ValueError(f"account {owner} was never opened")
    return replay.result()


class _Replay:
    def __init__(self, instruments: int, cash: int) -> None:
        self._portfolio = Portfolio(instruments, cash)
        self._average = [AverageCost() for _ in range(instruments)]
        self._fees, self._turnover, self._slippage = ([0] * instruments for _ in range(3))
        self._orders: dict[int, OrderAccepted] = {}
        self._decided_at: dict[int, int] = {}
        self._closes: tuple[int, ...] = (0,) * instruments
        self._closed: list[ClosedTrade] = []
        self._high = cash
        self._drawdown, self._drawdown_of = 0, 1

    def take(self, event: VenueEvent, owner: int) -> None:
        if isinstance(event, StepAdvanced):
            self._mark()
            self._closes = event.closes
            self._mark()
        elif isinstance(event, OrderAccepted) and event.owner == owner:
            self._orders[event.order_id] = event
            self._decided_at[event.order_id] = self._closes[event.instrument]
        elif isinstance(event, Traded) and event.order_id in self._orders:
            self._trade(event, self._orders[event.order_id])

    def _trade(self, trade: Traded, order: OrderAccepted) -> None:
        i, side, lots, price = order.instrument, order.side, trade.quantity_lots, trade.price_ticks
        name = order.client_order_id
        fill = Fill(name, trade.trade_id, i, side, lots, price, trade.fee_quanta, order.step)
        self._closed += self._portfolio.apply([fill])
        self._average[i].trade(side, lots, price)
        self._fees[i] += trade.fee_quanta
        self._turnover[i] += lots * price
        self._slippage[i] += side * lots * (price - self._decided_at[order.order_id])

    def _equity(self) -> int:
        return self._portfolio.equity(np.array(self._closes, np.int64))

    def _mark(self) -> None:
        equity = self._equity()
        self._high = max(self._high, equity)
        fall = self._high - equity
        if fall > self._drawdown:
            self._drawdown, self._drawdown_of = fall, self._high

    def result(self) -> Performance:
        self._mark()
        portfolio = self._portfolio
        rows = tuple(
            InstrumentPerformance(
                position_lots=int(portfolio.positions[i]),
                average_cost_ticks=float(average.value / abs(average.lots)) if average.lots else 0.0,
                realised_fifo=portfolio.realised[i],
                realised_average_cost=average.realised,
                unrealised=portfolio.unrealised(i, self._closes[i]),
                fees=self._fees[i],
                turnover=self._turnover[i],
                slippage=self._slippage[i],
            )
            for i, average in enumerate(self._average)
        )
        return Performance(
            instruments=rows,
            starting_cash=portfolio.starting_cash,
            cash=portfolio.cash,
            equity=self._equity(),
            drawdown=self._drawdown,
            drawdown_fraction=self._drawdown / self._drawdown_of,
            closed_trades=len(self._closed),
            winning_trades=sum(trade.profit > 0 for trade in self._closed),
        )
