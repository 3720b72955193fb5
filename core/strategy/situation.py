"""The situation of an instrument as a vector, by which the memory finds similar ones."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.strategy.agents import AgentInputs, channel_place
from kernels.indicator_table import BAND_PERIOD, Column

DIMENSIONS: Final = 16
_LIMIT: Final = 3.0
"""One wild feature must not drown the others."""


def situation_vectors(inputs: AgentInputs) -> NDArray[np.float32]:
    """float32[n, 16], each row of length 1: the direction of 16 features that are about 1 in ordinary times.

    All are free of the price level and scaled by volatility, so situations of different instruments compare.
    """
    table, close, volatility = inputs.indicators, inputs.close, inputs.volatility
    atr = np.maximum(table[:, Column.ATR], 1e-12 * close)
    trend = table[:, Column.MOMENTUM] / (volatility * np.sqrt(BAND_PERIOD))
    features = np.empty((len(close), DIMENSIONS))
    features[:, 0] = table[:, Column.Z_SCORE] / 1.3
    features[:, 1] = (table[:, Column.RSI] - 50.0) / 15.0
    features[:, 2] = trend
    features[:, 3] = table[:, Column.MACD] / atr
    features[:, 4] = 3.0 * table[:, Column.MACD_HISTOGRAM] / atr
    features[:, 5] = channel_place(inputs) / 0.7
    features[:, 6] = (close / table[:, Column.EMA_FAST] - 1.0) / (2.0 * volatility)
    features[:, 7] = (close / table[:, Column.EMA_SLOW] - 1.0) / (3.0 * volatility)
    features[:, 8] = 3.0 * np.log(volatility / inputs.long_volatility)
    width = (table[:, Column.BOLLINGER_UPPER] - table[:, Column.BOLLINGER_LOWER]) / close
    features[:, 9] = width / (4.0 * volatility) - 1.5
    features[:, 10] = inputs.returns[-1] / volatility
    for column, steps in ((11, 5), (12, 60), (13, 250)):
        span = inputs.returns[-steps:]
        features[:, column] = span.sum(axis=0) / (inputs.long_volatility * np.sqrt(len(span)))
    features[:, 14] = trend.mean()  # what the whole market does
    features[:, 15] = 3.0 * np.log(volatility / inputs.long_volatility).mean()
    np.clip(features, -_LIMIT, _LIMIT, out=features)
    length = np.sqrt(np.square(features).sum(axis=1, keepdims=True))
    unit: NDArray[np.float32] = (features / np.maximum(length, 1e-9)).astype(np.float32)
    return unit
