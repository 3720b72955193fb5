"""The six strategy agents: each a pure function from what it looks at to a signal float64[n] in [-1, 1].

+1 is a full long, -1 a full short, 0 no opinion. Signals are scaled by the instrument's own volatility, so that one
scale serves a calm stock and a wild one, days and seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.decision import Reason
from core.strategy.pattern import PatternForecast
from kernels.indicator_table import BAND_PERIOD, Column, indicator_table

AGENTS: Final[tuple[Reason, ...]] = (
    Reason.PATTERN,
    Reason.MOMENTUM,
    Reason.MEAN_REVERSION,
    Reason.BREAKOUT,
    Reason.VOLATILITY,
    Reason.NEWS,
)
"""Columns of every votes, weights and verdict array."""

_LEAST: Final = 1e-12
_ATR_TO_DEVIATION: Final = 1.2533
"""Mean absolute value to standard deviation of a normal variable: sqrt(pi / 2)."""


@dataclass(frozen=True, slots=True)
class AgentInputs:
    """What prices say about n instruments at one step."""

    close: NDArray[np.float64]
    """[n] quote currency."""
    returns: NDArray[np.float64]
    """[t - 1, n] simple returns, oldest first, one row a step."""
    indicators: NDArray[np.float64]
    """[n, columns] of `kernels.indicator_table`; NaN replaced by what says nothing."""
    volatility: NDArray[np.float64]
    """[n] of the last 20 steps, a step; never 0, see `moves`."""
    long_volatility: NDArray[np.float64]
    """[n] of the whole history, a step; never 0, see `moves`."""

    @property
    def moves(self) -> NDArray[np.bool_]:
        """[n]: False where the price is the same over the whole history. That is no calm: nothing is known of it."""
        result: NDArray[np.bool_] = self.long_volatility > _LEAST
        return result


def agent_inputs(history: NDArray[np.float64], indicators: NDArray[np.float64] | None = None) -> AgentInputs:
    """Stage `strategy_indicators`. `history` float64[n, t], t >= 2, closes up to and with this step; `indicators` of
    them where they are known (`kernels.indicator_table`).

    Raises ValueError on a price that is not positive and finite, or a history shorter than 2 steps.
    """
    if history.ndim != 2 or history.shape[1] < 2:
        raise ValueError(f"history {history.shape}: want [instruments, steps] with 2 steps or more")
    if indicators is None:
        indicators = indicator_table(history)
    close = history[:, -1].copy()
    returns = np.ascontiguousarray((history[:, 1:] / history[:, :-1] - 1.0).T)
    long_volatility = np.maximum(np.sqrt(np.mean(np.square(returns), axis=0)), _LEAST)
    if np.isnan(indicators).any():
        indicators = _without_nan(indicators, close, long_volatility)
    return AgentInputs(
        close, returns, indicators, np.maximum(indicators[:, Column.VOLATILITY], _LEAST), long_volatility
    )


def _without_nan(
    indicators: NDArray[np.float64], close: NDArray[np.float64], volatility: NDArray[np.float64]
) -> NDArray[np.float64]:
    """A history too short for an indicator: its neutral value, so that the agent has no opinion."""
    neutral = np.zeros_like(indicators)
    for column in (Column.EMA_FAST, Column.EMA_SLOW, Column.BOLLINGER_LOWER, Column.BOLLINGER_MIDDLE):
        neutral[:, column] = close
    for column in (Column.BOLLINGER_UPPER, Column.DONCHIAN_LOWER, Column.DONCHIAN_UPPER):
        neutral[:, column] = close
    neutral[:, Column.RSI] = 50.0
    neutral[:, Column.ATR] = close * volatility / _ATR_TO_DEVIATION
    neutral[:, Column.VOLATILITY] = volatility
    return np.where(np.isnan(indicators), neutral, indicators)


def pattern_signal(forecast: PatternForecast) -> NDArray[np.float64]:
    """The forecast in units of its own spread, trusted as far as it stands out."""
    ratio = forecast.expected_return / np.maximum(forecast.deviation, _LEAST)
    signal: NDArray[np.float64] = np.tanh(3.0 * ratio) * np.sqrt(forecast.confidence)
    return signal


def momentum_signal(inputs: AgentInputs) -> NDArray[np.float64]:
    """Follows the return of 20 steps and the MACD line, both in units of volatility."""
    table = inputs.indicators
    trend = table[:, Column.MOMENTUM] / (inputs.volatility * np.sqrt(BAND_PERIOD))
    line = table[:, Column.MACD] / np.maximum(table[:, Column.ATR], _LEAST * inputs.close)
    signal: NDArray[np.float64] = 0.5 * np.tanh(trend) + 0.5 * np.tanh(line)
    return signal


def mean_reversion_signal(inputs: AgentInputs) -> NDArray[np.float64]:
    """Against the distance from the 20-step mean (beyond one deviation) and against an extreme RSI."""
    z = inputs.indicators[:, Column.Z_SCORE]
    stretched = np.sign(z) * np.maximum(np.abs(z) - 1.0, 0.0)
    extreme = (inputs.indicators[:, Column.RSI] - 50.0) / 25.0
    signal: NDArray[np.float64] = -0.6 * np.tanh(stretched) - 0.4 * np.tanh(extreme)
    return signal


def breakout_signal(inputs: AgentInputs) -> NDArray[np.float64]:
    """With the close where it nears or leaves the channel of the 20 steps before."""
    place = channel_place(inputs)
    return np.clip(np.sign(place) * np.maximum(np.abs(place) - 0.5, 0.0) * 2.0, -1.0, 1.0)


def volatility_signal(inputs: AgentInputs) -> NDArray[np.float64]:
    """Long in calm, short in storm: volatility of 20 steps against that of the whole history. No opinion where nothing
    moved in 20 steps.

    Low volatility has been paid better than it should (Moreira & Muir 2017, Volatility-managed portfolios).
    """
    calm = np.tanh(-1.5 * np.log(inputs.volatility / inputs.long_volatility))
    return np.where(inputs.volatility > _LEAST, calm, 0.0)


def news_signal(sentiment: NDArray[np.float64]) -> NDArray[np.float64]:
    """The decayed sentiment itself."""
    return np.clip(sentiment, -1.0, 1.0)


def channel_place(inputs: AgentInputs) -> NDArray[np.float64]:
    """[n]: -1 at the bottom of the Donchian channel, +1 at its top, beyond outside; 0 in a channel without width."""
    low, high = inputs.indicators[:, Column.DONCHIAN_LOWER], inputs.indicators[:, Column.DONCHIAN_UPPER]
    half = 0.5 * (high - low)
    flat = half <= 1e-9 * inputs.close
    return np.where(flat, 0.0, (inputs.close - 0.5 * (high + low)) / np.where(flat, 1.0, half))


def price_votes(inputs: AgentInputs) -> NDArray[np.float64]:
    """Votes float64[n, 6] of the four agents that need prices only; pattern and news are 0. A peer's own agents.

    0 for an instrument that does not move.
    """
    votes = np.zeros((len(inputs.close), len(AGENTS)))
    votes[:, 1] = momentum_signal(inputs)
    votes[:, 2] = mean_reversion_signal(inputs)
    votes[:, 3] = breakout_signal(inputs)
    votes[:, 4] = volatility_signal(inputs)
    votes[~inputs.moves] = 0.0
    return votes


def all_votes(
    inputs: AgentInputs, forecast: PatternForecast | None, sentiment: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    """Votes float64[n, 6] of all agents, columns as `AGENTS`; an agent without its input says 0."""
    votes = price_votes(inputs)
    if forecast is not None:
        votes[:, 0] = np.where(inputs.moves, pattern_signal(forecast), 0.0)
    if sentiment is not None:
        votes[:, 5] = news_signal(sentiment)
    return votes
