"""What the swarm may do at most: limits, the veto check, and the router of critical decisions.

`check` runs twice: before the vote in each peer's judgement (with the peer's own marks) and at the vote, where it must
give the same answer on every honest node. It is integer arithmetic over the replicated portfolio and the given marks
only. A proposal comes from a leader that may lie, so every field is checked before it is multiplied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from core.decision import PROPOSAL_DTYPE, Side, Veto

_VALUE_MAX: Final = 1 << 52
"""Notional beyond this is refused, so that sums of it stay within int64."""


class Holdings(Protocol):
    """What is held and in flight, int64[n] in lots: a `core.portfolio.Portfolio`, or what it was at an index."""

    @property
    def instruments(self) -> int: ...

    @property
    def positions(self) -> NDArray[np.int64]: ...

    @property
    def reserved_buy(self) -> NDArray[np.int64]: ...

    @property
    def reserved_sell(self) -> NDArray[np.int64]: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """Money in quanta (see `core.portfolio`)."""

    order_notional_max: int
    """Largest single order at its limit price. Orders that only reduce a position are exempt."""
    position_notional_max: int
    """Largest position of one instrument, orders in flight counted at their worst."""
    gross_exposure_max: int
    """Largest sum of absolute positions, orders in flight counted at their worst."""
    gross_exposure_soft: int
    """Beyond it, an order that adds exposure is critical."""
    critical_notional: int
    """An order above it is critical."""
    price_band_bps: int = 100
    """How far a limit price may be from the mark; at least two ticks."""

    def __post_init__(self) -> None:
        """Raises ValueError for a limit that is not positive or a soft limit above the hard one."""
        for name in ("order_notional_max", "position_notional_max", "gross_exposure_max", "critical_notional"):
            value = getattr(self, name)
            if not 0 < value < _VALUE_MAX:
                raise ValueError(f"limits: {name} = {value} quanta; want a positive number below 2**52")
        if not 0 < self.gross_exposure_soft <= self.gross_exposure_max:
            raise ValueError(
                f"limits: gross_exposure_soft = {self.gross_exposure_soft} must be above 0 and not above max"
            )
        if not 0 < self.price_band_bps <= 10_000:
            raise ValueError(f"limits: price_band_bps = {self.price_band_bps}; want 1 to 10,000")


def limits_for_equity(
    equity: int,
    *,
    order_fraction: float = 0.15,
    position_fraction: float = 0.25,
    gross_fraction: float = 2.0,
    soft_fraction: float = 1.5,
    critical_fraction: float = 0.10,
    price_band_bps: int = 100,
) -> Limits:
    """Limits as fractions of `equity` (quanta), for example the starting cash.

    Fix them once and replicate them: limits that float with equity would differ between nodes.
    """
    return Limits(
        order_notional_max=int(equity * order_fraction),
        position_notional_max=int(equity * position_fraction),
        gross_exposure_max=int(equity * gross_fraction),
        gross_exposure_soft=int(equity * soft_fraction),
        critical_notional=int(equity * critical_fraction),
        price_band_bps=price_band_bps,
    )


@dataclass(frozen=True, slots=True)
class _Worst:
    """Per proposal, in quanta: notional of the order, and the worst exposure of its instrument before and after."""

    notional: NDArray[np.int64]
    before: NDArray[np.int64]
    after: NDArray[np.int64]
    reduces_only: NDArray[np.bool_]


def worst_exposure(portfolio: Holdings, marks: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64[n] quanta: each instrument's absolute position at `marks`, if orders in flight filled at their worst."""
    longest = portfolio.positions + portfolio.reserved_buy
    shortest = portfolio.positions - portfolio.reserved_sell
    lots: NDArray[np.int64] = np.maximum(np.abs(longest), np.abs(shortest))
    return lots * marks


def price_band(marks: NDArray[np.int64], limits: Limits) -> NDArray[np.int64]:
    """int64[n] ticks: how far a limit price may be from its mark. Two ticks, enough to cross a spread, always are."""
    # Divided, not multiplied: a huge mark must not overflow.
    bps = limits.price_band_bps
    band: NDArray[np.int64] = np.maximum(marks // 10_000 * bps + marks % 10_000 * bps // 10_000, 2)
    return band


def check(proposals: NDArray[Any], portfolio: Holdings, marks: NDArray[np.int64], limits: Limits) -> NDArray[np.uint8]:
    """Veto codes uint8[rows] (`core.decision.Veto`) of PROPOSAL_DTYPE rows; 0 lets the row pass.

    `marks` int64[n] ticks. Rows are taken in order, each counted on top of those before it that passed. HOLD passes
    when its quantity is 0. Raises TypeError when `proposals` has another dtype.
    """
    if proposals.dtype != PROPOSAL_DTYPE:
        raise TypeError(f"limits.check wants PROPOSAL_DTYPE rows, not {proposals.dtype}")
    veto = np.zeros(len(proposals), np.uint8)
    instrument = proposals["instrument"].astype(np.int64)
    known = instrument < portfolio.instruments
    instrument = np.where(known, instrument, 0)
    holds = proposals["side"] == Side.HOLD
    sane = known & _well_formed(proposals, marks[instrument], limits)
    veto[~sane] = Veto.NOTIONAL_LIMIT
    veto[sane & ~holds & _repeated(instrument, holds)] = Veto.DUPLICATE
    active = np.flatnonzero((veto == Veto.NONE) & ~holds)
    if len(active):
        veto[active] = _check_orders(proposals[active], instrument[active], portfolio, marks, limits)
    return veto


def _well_formed(proposals: NDArray[Any], marks: NDArray[np.int64], limits: Limits) -> NDArray[np.bool_]:
    """Fields in range, and small enough that quantity times price (and times mark) cannot overflow."""
    side, quantity, price = proposals["side"], proposals["quantity"], proposals["limit_price"]
    confidence = proposals["confidence"]
    order = (np.abs(side) == 1) & (quantity > 0) & (price > 0) & (marks > 0)
    largest = np.maximum(np.maximum(price, marks), 1)
    order &= quantity <= _VALUE_MAX // largest
    hold = (side == Side.HOLD) & (quantity == 0)
    confident = (confidence >= 0) & (confidence <= 1)  # False for NaN
    result: NDArray[np.bool_] = (order | hold) & confident
    return result


def _repeated(instrument: NDArray[np.int64], holds: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """True for an order of an instrument that an earlier order row already names."""
    repeated = np.zeros(len(instrument), np.bool_)
    orders = np.flatnonzero(~holds)
    if len(set(instrument[orders].tolist())) < len(orders):
        _, first = np.unique(instrument[orders], return_index=True)
        repeated[orders] = True
        repeated[orders[first]] = False
    return repeated


def _check_orders(
    orders: NDArray[Any], instrument: NDArray[np.int64], portfolio: Holdings, marks: NDArray[np.int64], limits: Limits
) -> NDArray[np.uint8]:
    veto = np.zeros(len(orders), np.uint8)
    worst = _worst(orders, instrument, portfolio, marks)
    grows = worst.after > worst.before
    veto[(worst.after > limits.position_notional_max) & grows] = Veto.POSITION_LIMIT
    veto[(worst.notional > limits.order_notional_max) & ~worst.reduces_only] = Veto.NOTIONAL_LIMIT
    mark, price = marks[instrument], orders["limit_price"]
    veto[np.abs(price - mark) > price_band(mark, limits)] = Veto.PRICE_BAND
    growth = np.where(veto == Veto.NONE, worst.after - worst.before, 0)
    gross = int(worst_exposure(portfolio, marks).sum())
    if gross + int(np.maximum(growth, 0).sum()) > limits.gross_exposure_max:
        for row in np.flatnonzero(veto == Veto.NONE).tolist():
            added = int(growth[row])
            if added > 0 and gross + added > limits.gross_exposure_max:
                veto[row] = Veto.EXPOSURE_LIMIT
            else:
                gross += added
    return veto


def _worst(
    orders: NDArray[Any], instrument: NDArray[np.int64], portfolio: Holdings, marks: NDArray[np.int64]
) -> _Worst:
    held = portfolio.positions[instrument]
    side, quantity = orders["side"].astype(np.int64), orders["quantity"]
    mark = marks[instrument]
    longest = held + portfolio.reserved_buy[instrument]
    shortest = held - portfolio.reserved_sell[instrument]
    before = np.maximum(np.abs(longest), np.abs(shortest))
    after = np.maximum(
        np.abs(longest + np.where(side > 0, quantity, 0)), np.abs(shortest - np.where(side < 0, quantity, 0))
    )
    in_flight = np.where(side > 0, portfolio.reserved_buy[instrument], portfolio.reserved_sell[instrument])
    reduces_only = (held * side < 0) & (quantity + in_flight <= np.abs(held))
    # What only closes frees exposure once filled; until then it is counted at its worst, which is unfilled.
    return _Worst(quantity * orders["limit_price"], before * mark, after * mark, reduces_only)


def reduces_only(proposals: NDArray[Any], portfolio: Holdings) -> NDArray[np.bool_]:
    """bool[rows]: which orders can only bring a position closer to zero, orders in flight counted.

    `proposals` PROPOSAL_DTYPE rows of known instruments, at most one an instrument.
    """
    marks = np.zeros(portfolio.instruments, np.int64)
    return _worst(proposals, proposals["instrument"].astype(np.int64), portfolio, marks).reduces_only


def is_critical(
    proposals: NDArray[Any], portfolio: Holdings, marks: NDArray[np.int64], limits: Limits
) -> NDArray[np.bool_]:
    """bool[rows]: which proposals need the Byzantine vote in AUTO. The router's pure function.

    Critical is an order above `critical_notional`, or one that adds exposure while gross exposure, with all rows
    before it, is beyond the soft limit; also any row that `check` could not read. HOLD never is.
    """
    instrument = proposals["instrument"].astype(np.int64)
    known = instrument < portfolio.instruments
    instrument = np.where(known, instrument, 0)
    readable = known & _well_formed(proposals, marks[instrument], limits)
    critical = ~readable
    active = np.flatnonzero(readable & (proposals["side"] != Side.HOLD))
    if len(active):
        worst = _worst(proposals[active], instrument[active], portfolio, marks)
        growth = np.maximum(worst.after - worst.before, 0)
        gross = int(worst_exposure(portfolio, marks).sum()) + np.cumsum(growth)
        critical[active] = (worst.notional > limits.critical_notional) | (
            (growth > 0) & (gross > limits.gross_exposure_soft)
        )
    return critical
