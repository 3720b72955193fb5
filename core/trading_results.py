"""What trading has come to so far, part of the replicated state: every node counts the same, also after a restart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from core.portfolio import ClosedTrade


@dataclass(slots=True)
class TradingResults:
    """Money in quanta. Equity is taken behind each entry that changed it, at the prices of the last decisions."""

    equity_high: int = 0
    drawdown: int = 0
    """Largest fall of equity from an earlier high."""
    drawdown_from: int = 0
    """That high."""
    turnover: int = 0
    """Traded value, both sides."""
    closed_trades: int = 0
    winning_trades: int = 0
    """Closed trades with a profit after fees."""

    def marked(self, equity: int) -> None:
        """Equity stands here now."""
        self.equity_high = max(self.equity_high, equity)
        if self.equity_high - equity > self.drawdown:
            self.drawdown, self.drawdown_from = self.equity_high - equity, self.equity_high

    def traded(self, value: int, closed: Iterable[ClosedTrade]) -> None:
        """One fill of so much, and the trades that it closed."""
        self.turnover += value
        for trade in closed:
            self.closed_trades += 1
            self.winning_trades += trade.profit > 0

    def to_row(self) -> tuple[int | str, ...]:
        """For snapshots; money as text, since it may outgrow 64 bits."""
        money = (self.equity_high, self.drawdown, self.drawdown_from, self.turnover)
        return (*map(str, money), self.closed_trades, self.winning_trades)

    @classmethod
    def from_row(cls, row: Any) -> TradingResults:
        """Undo `to_row`. Raises ValueError or TypeError for another row."""
        high, drawdown, fallen_from, turnover, closed, won = map(int, row)
        found = cls(high, drawdown, fallen_from, turnover, closed, won)
        if min(found.drawdown, found.turnover, found.closed_trades) < 0 or found.winning_trades > found.closed_trades:
            raise ValueError("trading results out of range")
        return found
