"""The latest value of every indicator of every instrument in one compiled call: the trading loop's form."""

from __future__ import annotations

import math
from enum import IntEnum
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.indicators import (
    atr,
    bollinger_bands,
    checked_closes,
    donchian_channel,
    ema,
    macd,
    momentum,
    realised_volatility,
    rsi,
    z_score,
)
from kernels.readiness import is_compiled

EMA_FAST_SPAN: Final = 12
EMA_SLOW_SPAN: Final = 26
MACD_SIGNAL_SPAN: Final = 9
RSI_PERIOD: Final = 14
ATR_PERIOD: Final = 14
BAND_PERIOD: Final = 20
"""Bollinger bands, z-score, Donchian channel, momentum and volatility."""
BAND_WIDTH: Final = 2.0
STEPS_NEEDED: Final = EMA_SLOW_SPAN + MACD_SIGNAL_SPAN - 1
"""With a shorter history some columns are NaN. The smoothed ones forget their start after some 100 steps."""


class Column(IntEnum):
    """Columns of `indicator_table`; prices in the unit of the closes, volatility a step."""

    EMA_FAST = 0
    EMA_SLOW = 1
    MACD = 2
    MACD_SIGNAL = 3
    MACD_HISTOGRAM = 4
    RSI = 5
    ATR = 6
    BOLLINGER_LOWER = 7
    BOLLINGER_MIDDLE = 8
    BOLLINGER_UPPER = 9
    Z_SCORE = 10
    DONCHIAN_LOWER = 11
    DONCHIAN_UPPER = 12
    MOMENTUM = 13
    VOLATILITY = 14


COLUMNS: Final = len(Column)


def indicator_table(closes: NDArray[np.float64]) -> NDArray[np.float64]:
    """The latest value of every indicator.

    closes: float64 [n, t] prices, the newest last. Returns float64 [n, 15], see `Column`; each equals the last column
    of its function in `kernels.indicators` at the periods above; NaN where t is too short for it (`STEPS_NEEDED`).
    Raises ValueError on a price that is not positive and finite, or wrong dtype or rank.
    """
    closes = checked_closes(closes)
    if not is_compiled("indicators"):
        return _table_of_series(closes)
    table = np.full((closes.shape[0], COLUMNS), np.nan)
    _fill(closes, table)
    return table


def _table_of_series(closes: NDArray[np.float64]) -> NDArray[np.float64]:
    """The last column of each function in `kernels.indicators`."""
    if not closes.shape[1]:
        return np.full((closes.shape[0], COLUMNS), np.nan)
    series = (
        ema(closes, EMA_FAST_SPAN),
        ema(closes, EMA_SLOW_SPAN),
        *macd(closes, EMA_FAST_SPAN, EMA_SLOW_SPAN, MACD_SIGNAL_SPAN),
        rsi(closes, RSI_PERIOD),
        atr(closes, closes, closes, ATR_PERIOD),
        *bollinger_bands(closes, BAND_PERIOD, BAND_WIDTH),
        z_score(closes, BAND_PERIOD),
        *donchian_channel(closes, BAND_PERIOD),
        momentum(closes, BAND_PERIOD),
        realised_volatility(closes, BAND_PERIOD),
    )
    return np.stack([values[:, -1] for values in series], axis=1)


@njit(cache=True, nogil=True)
def _fill(closes: Any, table: Any) -> None:
    n = closes.shape[0]
    for i in range(n):
        row = closes[i]
        out = table[i]
        _fill_averages(row, out)
        _fill_wilder(row, out)
        _fill_bands(row, out)


@njit(cache=True)
def _fill_averages(row: Any, out: Any) -> None:
    """Both EMAs, MACD and its signal in one pass."""
    fast = slow = signal = fast_sum = slow_sum = line_sum = 0.0
    t = row.size
    for step in range(t):
        close = row[step]
        if step < EMA_FAST_SPAN:
            fast_sum += close
            fast = fast_sum / EMA_FAST_SPAN
        else:
            fast += 2.0 / (EMA_FAST_SPAN + 1.0) * (close - fast)
        if step < EMA_SLOW_SPAN:
            slow_sum += close
            slow = slow_sum / EMA_SLOW_SPAN
        else:
            slow += 2.0 / (EMA_SLOW_SPAN + 1.0) * (close - slow)
        if step >= EMA_SLOW_SPAN - 1:
            line = fast - slow
            if step < STEPS_NEEDED:
                line_sum += line
                signal = line_sum / MACD_SIGNAL_SPAN
            else:
                signal += 2.0 / (MACD_SIGNAL_SPAN + 1.0) * (line - signal)
    if t >= EMA_FAST_SPAN:
        out[Column.EMA_FAST] = fast
    if t >= EMA_SLOW_SPAN:
        out[Column.EMA_SLOW] = slow
        out[Column.MACD] = fast - slow
    if t >= STEPS_NEEDED:
        out[Column.MACD_SIGNAL] = signal
        out[Column.MACD_HISTOGRAM] = fast - slow - signal


@njit(cache=True)
def _fill_wilder(row: Any, out: Any) -> None:
    """RSI, and the ATR of closes alone."""
    gain = loss = true_range = 0.0
    t = row.size
    for step in range(1, t):
        change = row[step] - row[step - 1]
        up = max(change, 0.0)
        down = max(-change, 0.0)
        if step <= RSI_PERIOD:
            gain += up / RSI_PERIOD
            loss += down / RSI_PERIOD
        else:
            gain += (up - gain) / RSI_PERIOD
            loss += (down - loss) / RSI_PERIOD
        if step <= ATR_PERIOD:
            true_range += abs(change) / ATR_PERIOD
        else:
            true_range += (abs(change) - true_range) / ATR_PERIOD
    if t > RSI_PERIOD:
        out[Column.RSI] = 50.0 if gain + loss == 0.0 else 100.0 * gain / (gain + loss)
    if t > ATR_PERIOD:
        out[Column.ATR] = true_range


@njit(cache=True)
def _fill_bands(row: Any, out: Any) -> None:
    """Everything that looks at the last `BAND_PERIOD` steps."""
    t = row.size
    close = row[t - 1] if t else 0.0
    if t >= BAND_PERIOD:
        mean = 0.0
        for step in range(t - BAND_PERIOD, t):
            mean += row[step]
        mean /= BAND_PERIOD
        squares = 0.0
        for step in range(t - BAND_PERIOD, t):
            squares += (row[step] - mean) ** 2
        deviation = math.sqrt(squares / BAND_PERIOD)
        out[Column.BOLLINGER_LOWER] = mean - BAND_WIDTH * deviation
        out[Column.BOLLINGER_MIDDLE] = mean
        out[Column.BOLLINGER_UPPER] = mean + BAND_WIDTH * deviation
        out[Column.Z_SCORE] = 0.0 if deviation <= 1e-12 * close else (close - mean) / deviation
    if t > BAND_PERIOD:
        lowest = highest = row[t - 2]
        squares = 0.0
        for step in range(t - 1 - BAND_PERIOD, t - 1):
            lowest = min(lowest, row[step])
            highest = max(highest, row[step])
            squares += math.log(row[step + 1] / row[step]) ** 2
        out[Column.DONCHIAN_LOWER] = lowest
        out[Column.DONCHIAN_UPPER] = highest
        out[Column.MOMENTUM] = close / row[t - 1 - BAND_PERIOD] - 1.0
        out[Column.VOLATILITY] = math.sqrt(squares / BAND_PERIOD)
