"""Weighing the agents into one proposal per instrument: the decision logic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from core.decision import PROPOSAL_DTYPE, Reason, Side
from core.limits import Limits, price_band
from core.portfolio import Portfolio
from core.strategy.agents import AGENTS
from core.strategy.risk import Sizing

_HEADROOM: Final = 0.95
"""Targets stay this far inside hard limits, so that a limit price a little off the mark is not vetoed."""


@dataclass(frozen=True, slots=True)
class DecisionConfig:
    base_weights: tuple[float, float, float, float, float, float] = (0.25, 0.25, 0.10, 0.10, 0.20, 0.10)
    """Of the agents in the order of `AGENTS`, before memory multiplies them."""
    full_signal: float = 0.45
    """Weighted vote at which a position has its full size."""
    gross_max: float = 1.5
    """Sum of absolute target weights, fraction of equity."""
    rebalance_fraction: float = 0.15
    """Half-width of the band around the target in which nothing is traded, a fraction of the instrument's full size.
    Outside it a trade goes to the nearer edge, not to the target: the best rule when costs are proportional (Davis and
    Norman 1990, Portfolio selection with transaction costs)."""
    order_fraction_min: float = 0.02
    """Smallest order, a fraction of the instrument's full size."""
    limit_offset_bps: float = 20.0
    """How far beyond the close the limit price lies: far enough to cross the spread, near enough to protect. Never
    beyond the price band of the limits."""
    closing_offset_bps: float = 60.0
    """The same for closing everything at the end of a lap."""
    limit_offset_ticks_min: int = 2
    """For low prices, where a few basis points are less than a tick."""

    def __post_init__(self) -> None:
        """Raises ValueError for weights that are negative or all zero, or another field out of range."""
        if min(self.base_weights) < 0 or sum(self.base_weights) <= 0:
            raise ValueError(f"base_weights {self.base_weights}: want none negative and some positive")
        if self.full_signal <= 0 or self.gross_max <= 0 or not 0 <= self.rebalance_fraction <= 1:
            raise ValueError(f"{self}: full_signal and gross_max must be positive, rebalance_fraction 0 to 1")
        if self.limit_offset_bps < 0 or self.closing_offset_bps < 0 or self.limit_offset_ticks_min < 0:
            raise ValueError(f"{self}: offsets must not be negative")


@dataclass(frozen=True, slots=True)
class Combined:
    """The agents' common view of n instruments."""

    signal: NDArray[np.float64]
    """[n] in [-1, 1], the weighted vote."""
    reason: NDArray[np.uint8]
    """[n] Reason of the agent with the largest say in the direction taken; NONE where nobody has one."""


def combine(
    votes: NDArray[np.float64], multipliers: NDArray[np.float64], config: DecisionConfig | None = None
) -> Combined:
    """Weighted mean of `votes` float64[n, 6]; `multipliers` float64[n, 6] is the memory's verdict."""
    chosen = config or DecisionConfig()
    weights = np.asarray(chosen.base_weights) * multipliers
    contributions = weights * votes
    total = contributions.sum(axis=1)
    signal = total / weights.sum(axis=1)
    along = contributions * np.sign(total)[:, None]
    largest = np.argmax(along, axis=1)
    reason = np.array([int(agent) for agent in AGENTS], np.uint8)[largest]
    reason[along[np.arange(len(along)), largest] <= 0] = Reason.NONE
    return Combined(signal, reason)


def target_weights(combined: Combined, sizing: Sizing, config: DecisionConfig | None = None) -> NDArray[np.float64]:
    """Signed fraction of equity to hold, float64[n]: signal times size, within the cap of gross exposure, scaled."""
    chosen = config or DecisionConfig()
    weights = np.clip(combined.signal / chosen.full_signal, -1.0, 1.0) * sizing.weight
    gross = float(np.abs(weights).sum())
    scale = sizing.scale * min(1.0, chosen.gross_max / gross) if gross > 0.0 else sizing.scale
    result: NDArray[np.float64] = weights * scale
    return result


def close_ticks(close: NDArray[np.float64], tick_size: float) -> NDArray[np.int64]:
    """Prices float64[n] as whole ticks int64[n], at least 1: the marks of this feed."""
    ticks: NDArray[np.int64] = np.maximum(np.rint(close / tick_size), 1).astype(np.int64)
    return ticks


def propose(
    step: int,
    marks: NDArray[np.int64],
    combined: Combined,
    sizing: Sizing,
    portfolio: Portfolio,
    limits: Limits,
    last_of_lap: bool,
    config: DecisionConfig | None = None,
) -> NDArray[Any]:
    """Stage `strategy_decision_logic` ends here: PROPOSAL_DTYPE[n], one row per instrument, in order.

    `marks` int64[n] ticks of this step (`close_ticks`). An order brings the position, orders in flight counted as
    filled, to the edge of the band around its target; within the band the row is a HOLD. A HOLD's limit price is the
    mark. The last step of a lap closes everything.
    """
    chosen = config or DecisionConfig()
    n = len(marks)
    expected = portfolio.positions + portfolio.reserved_buy - portfolio.reserved_sell
    # Limits are fixed sums while equity grows: beyond what they allow, more equity means no larger positions.
    equity = min(max(portfolio.equity(marks), 0), _HEADROOM * limits.gross_exposure_max / chosen.gross_max)
    target = np.zeros(n, np.int64)
    band = np.zeros(n, np.int64)
    least = np.zeros(n, np.int64)
    if not last_of_lap:
        target = np.trunc(_lots(target_weights(combined, sizing, chosen), equity, marks, limits)).astype(np.int64)
        full_lots = _lots(sizing.weight * sizing.scale, equity, marks, limits)
        band = np.rint(chosen.rebalance_fraction * full_lots).astype(np.int64)
        least = np.rint(chosen.order_fraction_min * full_lots).astype(np.int64)
    gap = target - expected
    change = np.sign(gap) * np.maximum(np.abs(gap) - band, 0)
    trades = (change != 0) & (np.abs(change) >= least)
    if not last_of_lap:
        largest = (_HEADROOM * limits.order_notional_max / (marks * _offset_factor(chosen))).astype(np.int64)
        # A turn from long to short larger than an order may be takes more than one step.
        change = np.clip(change, -largest, largest)
    side = np.where(trades, np.sign(change), 0).astype(np.int8)
    offset_bps = chosen.closing_offset_bps if last_of_lap else chosen.limit_offset_bps
    offset = np.maximum(np.ceil(marks * (offset_bps * 1e-4)), chosen.limit_offset_ticks_min).astype(np.int64)
    offset = np.minimum(offset, price_band(marks, limits))
    rows = np.zeros(n, PROPOSAL_DTYPE)
    rows["step"] = step
    rows["instrument"] = np.arange(n)
    rows["side"] = side
    rows["quantity"] = np.where(side == Side.HOLD, 0, np.abs(change))
    rows["limit_price"] = np.maximum(marks + side * offset, 1)
    rows["target"] = target
    rows["confidence"] = np.clip(np.abs(combined.signal) / chosen.full_signal, 0.0, 1.0)
    rows["reason"] = _reasons(side, expected, target, combined, sizing, last_of_lap)
    return rows


def _offset_factor(config: DecisionConfig) -> float:
    return 1.0 + config.limit_offset_bps * 1e-4


def _lots(weights: NDArray[np.float64], equity: float, marks: NDArray[np.int64], limits: Limits) -> NDArray[np.float64]:
    """Weights as lots, inside the hard limit of a position."""
    largest = _HEADROOM * limits.position_notional_max
    lots: NDArray[np.float64] = np.clip(weights * equity, -largest, largest) / marks
    return lots


def _reasons(
    side: NDArray[np.int8],
    expected: NDArray[np.int64],
    target: NDArray[np.int64],
    combined: Combined,
    sizing: Sizing,
    last_of_lap: bool,
) -> NDArray[np.uint8]:
    if last_of_lap:
        return np.full(len(side), Reason.END_OF_LAP, np.uint8)
    reason = combined.reason.copy()
    shrinks = (side != 0) & (np.abs(target) < np.abs(expected)) & (target * expected >= 0)
    # The agents still point the way of the position, yet it shrinks: risk, not opinion, is the reason.
    shrinks &= (np.sign(combined.signal) == np.sign(expected)) & (sizing.scale < 1.0)
    reason[shrinks] = Reason.REDUCE_RISK
    return reason
