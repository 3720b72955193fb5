"""The risk stage of a cycle: what could be lost, how much may be risked, what room is left."""

from __future__ import annotations

from dataclasses import dataclass

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
    """Of the positions held, fractions of equity, one step ahead; losses are positive."""

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


def position_weights(portfolio: Portfolio, marks: NDArray[np.int64]) -> NDArray[np.float64]:
    """Signed fraction of equity in each instrument, float64[n]; zeros when there is no equity."""
    equity = portfolio.equity(marks)
    if equity <= 0:
        return np.zeros(len(marks))
    return portfolio.positions * marks / equity


def var_calculation(inputs: AgentInputs, weights: NDArray[np.float64], config: RiskConfig | None = None) -> ValueAtRisk:
    """Stage `risk_var_calculation`: of `weights` float64[n] over the returns of the history."""
    chosen = config or RiskConfig()
    return ValueAtRisk(*portfolio_var_es(inputs.returns, weights, chosen.level).tolist())


def position_sizing(inputs: AgentInputs, value_at_risk: ValueAtRisk, config: RiskConfig | None = None) -> Sizing:
    """Stage `risk_position_sizing`: volatility target, capped by fractional Kelly and by the largest weight."""
    chosen = config or RiskConfig()
    # The slower and the faster estimate, whichever is more cautious.
    volatility = np.maximum(inputs.volatility, inputs.long_volatility)
    target = chosen.volatility_target_step / np.sqrt(len(volatility))
    by_volatility = volatility_target_weights(volatility, target, chosen.weight_max)
    kelly = kelly_fraction(chosen.sharpe_step * volatility, np.square(volatility), 1.0 / chosen.kelly_multiplier)
    weight = np.minimum(by_volatility, chosen.kelly_multiplier * kelly)
    worse = value_at_risk.worse
    scale = chosen.value_at_risk_max / worse if worse > chosen.value_at_risk_max else 1.0
    return Sizing(weight, scale)


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
