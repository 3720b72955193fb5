"""The risk stage of a cycle: what could be lost, how much may be risked, what room is left."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from core.limits import Limits, worst_exposure
from core.portfolio import Portfolio
from core.strategy.agents import AgentInputs
from kernels.risk import kelly_fraction, portfolio_var_es, volatility_target_weights


@dataclass(frozen=True, slots=True)
class RiskConfig:
    level: float = 0.975
    """Confidence of value at risk and expected shortfall."""
    value_at_risk_max: float = 0.03
    """Fraction of equity that one step may lose at `level`; beyond it every target shrinks in proportion."""
    volatility_target_step: float = 0.007
    """Volatility of the whole portfolio a step, as a fraction of equity, if instruments moved independently."""
    sharpe_step: float = 0.03
    """Skill assumed for the Kelly cap: expected return over volatility, a step (0.03 is about 0.5 a year of days)."""
    kelly_multiplier: float = 0.25
    """Fraction of full Kelly."""
    weight_max: float = 0.15
    """Largest position of one instrument, fraction of equity."""


@dataclass(frozen=True, slots=True)
class ValueAtRisk:
    """Of one set of weights, fractions of equity, one step ahead; losses are positive."""

    historical: float
    historical_shortfall: float
    normal: float
    normal_shortfall: float

    @property
    def worse(self) -> float:
        """The larger of both methods."""
        return max(self.historical, self.normal)


@dataclass(frozen=True, slots=True)
class Sizing:
    """How much each instrument may weigh at full signal."""

    weight: NDArray[np.float64]
    """[n], fraction of equity, 0 or more."""
    scale: float
    """0..1, applied to all: below 1 when value at risk is above its limit."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """Notional in quanta, orders in flight counted at their worst."""

    gross: int
    net: int
    gross_fraction: float
    """Of equity; 0 when there is no equity."""
    room: int
    """What the hard gross limit still allows."""
    position_room: NDArray[np.int64]
    """[n]: what each instrument's limit still allows."""


def var_calculation(inputs: AgentInputs, weights: NDArray[np.float64], config: RiskConfig | None = None) -> ValueAtRisk:
    """Stage `risk_var_calculation`: of `weights` float64[n] over the returns of the history."""
    chosen = config or RiskConfig()
    return ValueAtRisk(*portfolio_var_es(inputs.returns, weights, chosen.level).tolist())


def position_sizing(inputs: AgentInputs, config: RiskConfig | None = None) -> Sizing:
    """Stage `risk_position_sizing`: volatility target, capped by fractional Kelly and by the largest weight; 0 for an
    instrument that does not move. The scale is 1 until `within_value_at_risk` sets it.
    """
    chosen = config or RiskConfig()
    # The slower and the faster estimate, whichever is more cautious.
    volatility = np.maximum(inputs.volatility, inputs.long_volatility)
    target = chosen.volatility_target_step / np.sqrt(len(volatility))
    by_volatility = volatility_target_weights(volatility, target, chosen.weight_max)
    kelly = kelly_fraction(chosen.sharpe_step * volatility, np.square(volatility), 1.0 / chosen.kelly_multiplier)
    return Sizing(np.where(inputs.moves, np.minimum(by_volatility, chosen.kelly_multiplier * kelly), 0.0), 1.0)


def within_value_at_risk(sizing: Sizing, wanted: ValueAtRisk, config: RiskConfig | None = None) -> Sizing:
    """`sizing` with the scale that brings its targets to the largest value at risk, from that of those unscaled.

    It is theirs and not that of the positions held: a small portfolio that is to grow would pass, and one that was cut
    for its risk would be free to grow again at the next step. Value at risk grows in proportion with the weights, so
    the scaled targets are at the limit.
    """
    chosen = config or RiskConfig()
    return replace(sizing, scale=min(1.0, chosen.value_at_risk_max / max(wanted.worse, chosen.value_at_risk_max)))


def exposure_checks(portfolio: Portfolio, marks: NDArray[np.int64], limits: Limits) -> Exposure:
    """Stage `risk_exposure_checks`."""
    worst = worst_exposure(portfolio, marks)
    gross = int(worst.sum())
    equity = portfolio.equity(marks)
    return Exposure(
        gross=gross,
        net=int((portfolio.positions * marks).sum()),
        gross_fraction=gross / equity if equity > 0 else 0.0,
        room=max(limits.gross_exposure_max - gross, 0),
        position_room=np.maximum(limits.position_notional_max - worst, 0),
    )
