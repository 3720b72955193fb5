"""Pre-trade risk of one node, beyond the replicated limits: what it measures itself, on its own clock and feed.

Each voting node runs these checks on every proposal it judges, and vetoes by code; f + 1 vetoes deny. What only brings
a position closer to zero always passes, except by order rate and clock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from core.decision import Side, Veto
from core.limits import reduces_only
from core.portfolio import Portfolio
from kernels.risk import portfolio_var_es

VAR_LEVEL: Final = 0.975
_DAY_NS: Final = 86_400_000_000_000
_SECOND_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class PreTradeLimits:
    """What one node lets pass."""

    orders_per_s_max: int = 5_000
    """Orders that a second may see, by this node's clock."""
    var_budget_fraction: float = 0.10
    """Value at risk of the positions with the order, one step ahead at 97.5 %, as a fraction of equity."""
    daily_loss_fraction_max: float = 0.25
    """Loss of equity since the start of the UTC day; beyond it positions are only reduced."""
    clock_skew_ms_max: float = 1_000.0
    """Between the proposer's clock and this node's."""

    def __post_init__(self) -> None:
        """Raises ValueError that names the bad limit."""
        for name in ("orders_per_s_max", "var_budget_fraction", "daily_loss_fraction_max", "clock_skew_ms_max"):
            if not getattr(self, name) > 0:
                raise ValueError(f"pre-trade risk: {name} = {getattr(self, name)}; want a positive number")


class PreTradeRisk:
    """The state behind the checks: recent orders, and the equity that the day began with."""

    def __init__(self, limits: PreTradeLimits) -> None:
        self.limits = limits
        self._accepted_ns: deque[int] = deque(maxlen=limits.orders_per_s_max)
        self._day = -1
        self._day_equity = 0

    def accepted(self, orders: int, now_ns: int) -> None:
        """So many orders were committed just now."""
        self._accepted_ns.extend([now_ns] * orders)

    def check(
        self,
        proposals: NDArray[Any],
        portfolio: Portfolio,
        marks: NDArray[np.int64],
        returns: NDArray[np.float64],
        proposed_ns: int,
        now_ns: int,
    ) -> NDArray[np.uint8]:
        """Veto codes uint8[rows] of PROPOSAL_DTYPE rows that are well formed and of known instruments.

        `marks` int64[n] ticks and `returns` float64[t, n] of this node's own feed; `proposed_ns` the proposer's clock,
        `now_ns` this node's, both Unix. The first that applies: clock skew, order rate, daily loss, VaR budget.
        """
        orders = proposals["side"] != Side.HOLD
        veto = np.zeros(len(proposals), np.uint8)
        if not orders.any():
            return veto
        if abs(now_ns - proposed_ns) > self.limits.clock_skew_ms_max * 1e6:
            veto[orders] = Veto.CLOCK_SKEW
            return veto
        room = self._room(now_ns)
        veto[orders & (np.cumsum(orders) > room)] = Veto.ORDER_RATE
        adds = orders & (veto == 0) & ~reduces_only(proposals, portfolio)
        if adds.any():
            equity = portfolio.equity(marks)
            if self._day_loss(equity, now_ns) > self.limits.daily_loss_fraction_max:
                veto[adds] = Veto.DAILY_LOSS
            else:
                self._check_var(proposals, np.flatnonzero(adds), veto, portfolio, marks, returns, equity)
        return veto

    def _room(self, now_ns: int) -> int:
        while self._accepted_ns and now_ns - self._accepted_ns[0] >= _SECOND_NS:
            self._accepted_ns.popleft()
        return self.limits.orders_per_s_max - len(self._accepted_ns)

    def _day_loss(self, equity: int, now_ns: int) -> float:
        """The loss since the day began, as a fraction of what it began with; negative is a gain."""
        day = now_ns // _DAY_NS
        if day != self._day:
            self._day, self._day_equity = day, equity
        return 1.0 - equity / self._day_equity if self._day_equity > 0 else 1.0

    def _check_var(
        self,
        proposals: NDArray[Any],
        rows: NDArray[np.intp],
        veto: NDArray[np.uint8],
        portfolio: Portfolio,
        marks: NDArray[np.int64],
        returns: NDArray[np.float64],
        equity: int,
    ) -> None:
        """Each row on top of those before it that passed."""
        if equity <= 0:
            veto[rows] = Veto.VAR_BUDGET
            return
        instruments = proposals["instrument"][rows].astype(np.int64)
        signed = proposals["side"][rows].astype(np.int64) * proposals["quantity"][rows]
        lots = portfolio.positions.copy()
        np.add.at(lots, instruments, signed)
        if self._value_at_risk(lots, marks, returns, equity) <= self.limits.var_budget_fraction:
            return
        lots = portfolio.positions.copy()
        for row, instrument, quantity in zip(rows.tolist(), instruments.tolist(), signed.tolist(), strict=True):
            lots[instrument] += quantity
            if self._value_at_risk(lots, marks, returns, equity) > self.limits.var_budget_fraction:
                lots[instrument] -= quantity
                veto[row] = Veto.VAR_BUDGET

    @staticmethod
    def _value_at_risk(
        lots: NDArray[np.int64], marks: NDArray[np.int64], returns: NDArray[np.float64], equity: int
    ) -> float:
        """The larger of the historical and the normal one, as a fraction of equity."""
        values = portfolio_var_es(returns, lots * marks / equity, VAR_LEVEL)
        return max(float(values[0]), float(values[2]))
