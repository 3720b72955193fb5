"""The latest value of every indicator of every instrument in one compiled call: the trading loop's form.

Incremental: a step takes the same work whatever came before it. Smoothed values go on from their last; those over the
last `BAND_PERIOD` steps are made anew from the closes kept, which costs that constant and rounds as the whole does.
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import Any, Final, NamedTuple

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


_STEPS, _FAST, _SLOW, _SIGNAL, _FAST_SUM, _SLOW_SUM, _LINE_SUM, _GAIN, _LOSS, _TRUE_RANGE = range(10)
_KEPT: Final = BAND_PERIOD + 1


class IndicatorStream(NamedTuple):
    """Indicators that follow their prices; made by `start_indicators`. `step_indicators` writes into these arrays."""

    table: NDArray[np.float64]
    """float64 [n, 15], see `Column`: of the closes so far."""
    smoothed: NDArray[np.float64]
    """float64 [n, 10]: steps so far, smoothed values and the sums that they start with."""
    recent: NDArray[np.float64]
    """float64 [n, 21]: the last closes, the newest last; zeros before the first."""


def start_indicators(closes: NDArray[np.float64]) -> IndicatorStream:
    """closes: float64 [n, t] prices, the newest last. Raises ValueError as `indicator_table`."""
    closes = checked_closes(closes)
    n = closes.shape[0]
    stream = IndicatorStream(np.full((n, COLUMNS), np.nan), np.zeros((n, 10)), np.zeros((n, _KEPT)))
    _advance(*stream, closes)
    return stream


def step_indicators(stream: IndicatorStream, newest: NDArray[np.float64]) -> IndicatorStream:
    """One step on: `newest` float64 [n] prices. Returns `stream`, changed in place.

    To the bit what `start_indicators` of all closes since its start gives. Raises ValueError as `indicator_table`, or
    where the sizes do not fit; then nothing is changed.
    """
    newest = checked_closes(np.ascontiguousarray(newest)[:, None])
    if len(newest) != len(stream.table):
        raise ValueError(f"{len(newest)} new closes for {len(stream.table)} instruments")
    _advance(*stream, newest)
    return stream


def indicator_table(closes: NDArray[np.float64]) -> NDArray[np.float64]:
    """The latest value of every indicator.

    closes: float64 [n, t] prices, the newest last. Returns float64 [n, 15], see `Column`; each equals the last column
    of its function in `kernels.indicators` at the periods above; NaN where t is too short for it (`STEPS_NEEDED`).
    Raises ValueError on a price that is not positive and finite, or wrong dtype or rank.
    """
    if not is_compiled("indicators"):
        return _table_of_series(checked_closes(closes))
    return start_indicators(closes).table


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
def _advance(table: Any, smoothed: Any, recent: Any, closes: Any) -> None:
    """Take the columns of `closes` [n, steps] one after another, then fill the table."""
    for i in range(closes.shape[0]):
        for step in range(closes.shape[1]):
            _smooth(smoothed[i], recent[i], closes[i, step])
        if smoothed[i, _STEPS] > 0.0:
            table[i, :] = np.nan
            _read_smoothed(smoothed[i], table[i])
            _read_recent(int(smoothed[i, _STEPS]), recent[i], table[i])


@njit(cache=True)
def _smooth(state: Any, recent: Any, close: float) -> None:
    """Both EMAs, MACD's signal, and Wilder's averages of gains, losses and true range (of closes alone)."""
    step = state[_STEPS]
    if step < EMA_FAST_SPAN:
        state[_FAST_SUM] += close
        state[_FAST] = state[_FAST_SUM] / EMA_FAST_SPAN
    else:
        state[_FAST] += 2.0 / (EMA_FAST_SPAN + 1.0) * (close - state[_FAST])
    if step < EMA_SLOW_SPAN:
        state[_SLOW_SUM] += close
        state[_SLOW] = state[_SLOW_SUM] / EMA_SLOW_SPAN
    else:
        state[_SLOW] += 2.0 / (EMA_SLOW_SPAN + 1.0) * (close - state[_SLOW])
    if step >= EMA_SLOW_SPAN - 1:
        line = state[_FAST] - state[_SLOW]
        if step < STEPS_NEEDED:
            state[_LINE_SUM] += line
            state[_SIGNAL] = state[_LINE_SUM] / MACD_SIGNAL_SPAN
        else:
            state[_SIGNAL] += 2.0 / (MACD_SIGNAL_SPAN + 1.0) * (line - state[_SIGNAL])
    if step > 0:
        change = close - recent[_KEPT - 1]
        up = max(change, 0.0)
        down = max(-change, 0.0)
        if step <= RSI_PERIOD:
            state[_GAIN] += up / RSI_PERIOD
            state[_LOSS] += down / RSI_PERIOD
        else:
            state[_GAIN] += (up - state[_GAIN]) / RSI_PERIOD
            state[_LOSS] += (down - state[_LOSS]) / RSI_PERIOD
        if step <= ATR_PERIOD:
            state[_TRUE_RANGE] += abs(change) / ATR_PERIOD
        else:
            state[_TRUE_RANGE] += (abs(change) - state[_TRUE_RANGE]) / ATR_PERIOD
    for k in range(_KEPT - 1):
        recent[k] = recent[k + 1]
    recent[_KEPT - 1] = close
    state[_STEPS] = step + 1


@njit(cache=True)
def _read_smoothed(state: Any, out: Any) -> None:
    t = state[_STEPS]
    line = state[_FAST] - state[_SLOW]
    if t >= EMA_FAST_SPAN:
        out[Column.EMA_FAST] = state[_FAST]
    if t >= EMA_SLOW_SPAN:
        out[Column.EMA_SLOW] = state[_SLOW]
        out[Column.MACD] = line
    if t >= STEPS_NEEDED:
        out[Column.MACD_SIGNAL] = state[_SIGNAL]
        out[Column.MACD_HISTOGRAM] = line - state[_SIGNAL]
    if t > RSI_PERIOD:
        moved = state[_GAIN] + state[_LOSS]
        out[Column.RSI] = 50.0 if moved == 0.0 else 100.0 * state[_GAIN] / moved
    if t > ATR_PERIOD:
        out[Column.ATR] = state[_TRUE_RANGE]


@njit(cache=True)
def _read_recent(t: int, recent: Any, out: Any) -> None:
    """Everything that looks at the last `BAND_PERIOD` steps."""
    close = recent[BAND_PERIOD]
    if t >= BAND_PERIOD:
        mean = 0.0
        for k in range(1, _KEPT):
            mean += recent[k]
        mean /= BAND_PERIOD
        squares = 0.0
        for k in range(1, _KEPT):
            squares += (recent[k] - mean) ** 2
        deviation = math.sqrt(squares / BAND_PERIOD)
        out[Column.BOLLINGER_LOWER] = mean - BAND_WIDTH * deviation
        out[Column.BOLLINGER_MIDDLE] = mean
        out[Column.BOLLINGER_UPPER] = mean + BAND_WIDTH * deviation
        out[Column.Z_SCORE] = 0.0 if deviation <= 1e-12 * close else (close - mean) / deviation
    if t > BAND_PERIOD:
        lowest = highest = recent[BAND_PERIOD - 1]
        squares = 0.0
        for k in range(BAND_PERIOD):
            lowest = min(lowest, recent[k])
            highest = max(highest, recent[k])
            squares += math.log(recent[k + 1] / recent[k]) ** 2
        out[Column.DONCHIAN_LOWER] = lowest
        out[Column.DONCHIAN_UPPER] = highest
        out[Column.MOMENTUM] = close / recent[0] - 1.0
        out[Column.VOLATILITY] = math.sqrt(squares / BAND_PERIOD)
