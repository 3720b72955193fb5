"""Technical indicators of every instrument at once, as series over a history matrix [n_instruments, t].

Each function returns float64 of the shape of its input, NaN where the history is still too short. The trading loop
takes the latest values of all of them from one compiled call, `kernels.indicator_table.indicator_table`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from kernels.checks import checked


def checked_closes(closes: Any, name: str = "closes") -> NDArray[np.float64]:
    """Prices float64 [n, t], all positive and finite; else ValueError."""
    prices = checked(name, closes, np.float64, 2)
    if prices.size and prices.min() <= 0.0:
        row, column = (int(i) for i in np.argwhere(prices <= 0.0)[0])
        raise ValueError(f"{name}[{row}, {column}] is {prices[row, column]}: a price must be positive")
    return prices


def ema(closes: NDArray[np.float64], span: int) -> NDArray[np.float64]:
    """Exponential moving average, smoothing 2 / (span + 1), started with the mean of the first `span` values.

    closes: float64 [n, t] (any finite series). Raises ValueError on NaN, wrong dtype or rank, or span < 1.
    """
    span = _period("span", span)
    return _smoothed(checked("closes", closes, np.float64, 2), span, 2.0 / (span + 1.0), 0)


def rsi(closes: NDArray[np.float64], period: int) -> NDArray[np.float64]:
    """Relative strength index, 0 to 100, with Wilder's smoothing; 50 where nothing moved.

    closes: float64 [n, t] prices. Source: Wilder 1978, New Concepts in Technical Trading Systems. Raises ValueError on
    a price that is not positive and finite, wrong dtype or rank, or period < 1.
    """
    closes = checked_closes(closes)
    change = np.diff(closes, axis=1, prepend=closes[:, :1])
    gain = _smoothed(np.maximum(change, 0.0), _period("period", period), 1.0 / period, 1)
    loss = _smoothed(np.maximum(-change, 0.0), period, 1.0 / period, 1)
    total = gain + loss
    # NaN stays NaN: only a total of exactly zero is "nothing moved"
    return np.where(total == 0.0, 50.0, 100.0 * gain / np.where(total == 0.0, 1.0, total))


def atr(
    high: NDArray[np.float64], low: NDArray[np.float64], closes: NDArray[np.float64], period: int
) -> NDArray[np.float64]:
    """Average true range with Wilder's smoothing, in price units, from the second step on.

    high, low, closes: float64 [n, t] prices, low <= close <= high. Where only closes are known pass them three times:
    the true range is then the absolute change. Source: Wilder 1978. Raises ValueError on a price that is not positive
    and finite, closes outside the range, differing shapes, wrong dtype or rank, or period < 1.
    """
    closes, high, low = checked_closes(closes), checked_closes(high, "high"), checked_closes(low, "low")
    if not closes.shape == high.shape == low.shape:
        raise ValueError(f"high {high.shape}, low {low.shape} and closes {closes.shape} must have the same shape")
    if (low > closes).any() or (closes > high).any():
        row, column = (int(i) for i in np.argwhere((low > closes) | (closes > high))[0])
        raise ValueError(f"closes[{row}, {column}] is outside of its low and high")
    before = np.concatenate((closes[:, :1], closes[:, :-1]), axis=1)
    true_range = np.maximum(high, before) - np.minimum(low, before)
    return _smoothed(true_range, _period("period", period), 1.0 / period, 1)


def bollinger_bands(
    closes: NDArray[np.float64], period: int, width: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Lower band, middle (simple moving average) and upper band, `width` population standard deviations apart.

    closes: float64 [n, t] prices. Source: Bollinger 2001, Bollinger on Bollinger Bands. Raises ValueError as `rsi`.
    """
    mean, deviation = _moments(checked_closes(closes), _period("period", period))
    return mean - width * deviation, mean, mean + width * deviation


def z_score(closes: NDArray[np.float64], period: int) -> NDArray[np.float64]:
    """How many population standard deviations the close is above its mean of `period` steps; 0 where nothing moved.

    closes: float64 [n, t] prices. Raises ValueError as `rsi`.
    """
    closes = checked_closes(closes)
    mean, deviation = _moments(closes, _period("period", period))
    # a deviation at the level of rounding is none
    still = deviation <= 1e-12 * closes
    return np.where(still, 0.0, (closes - mean) / np.where(still, 1.0, deviation))


def donchian_channel(closes: NDArray[np.float64], period: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest and highest close of the `period` steps **before** each step, so that a breakout lies outside.

    closes: float64 [n, t] prices. Source: Donchian 1960, High finance in copper. Raises ValueError as `rsi`.
    """
    closes = checked_closes(closes)
    lower, upper = np.full_like(closes, np.nan), np.full_like(closes, np.nan)
    if closes.shape[1] > _period("period", period):
        view = sliding_window_view(closes[:, :-1], period, axis=1)
        lower[:, period:], upper[:, period:] = view.min(axis=2), view.max(axis=2)
    return lower, upper


def momentum(closes: NDArray[np.float64], period: int) -> NDArray[np.float64]:
    """The simple return over `period` steps. closes: float64 [n, t] prices. Raises ValueError as `rsi`."""
    closes = checked_closes(closes)
    out = np.full_like(closes, np.nan)
    if closes.shape[1] > _period("period", period):
        out[:, period:] = closes[:, period:] / closes[:, :-period] - 1.0
    return out


def realised_volatility(closes: NDArray[np.float64], period: int) -> NDArray[np.float64]:
    """Root mean square of the last `period` log returns, a step (to annualise is the caller's).

    closes: float64 [n, t] prices. Source: Andersen & Bollerslev 1998, Answering the skeptics. Raises ValueError as
    `rsi`.
    """
    closes = checked_closes(closes)
    out = np.full_like(closes, np.nan)
    if closes.shape[1] > _period("period", period):
        log_returns = np.diff(np.log(closes), axis=1)
        out[:, period:] = np.sqrt((sliding_window_view(log_returns, period, axis=1) ** 2).mean(axis=2))
    return out


def macd(
    closes: NDArray[np.float64], fast: int, slow: int, signal: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Moving average convergence divergence: line (fast minus slow EMA), signal (EMA of the line), histogram.

    closes: float64 [n, t] prices, fast < slow. Each average starts with the mean of its own first span. Source: Appel
    2005, Technical Analysis. Raises ValueError as `rsi`, and unless fast < slow.
    """
    closes = checked_closes(closes)
    if not _period("fast", fast) < _period("slow", slow):
        raise ValueError(f"fast must be shorter than slow, got {fast} and {slow}")
    line = ema(closes, fast) - ema(closes, slow)
    signal_line = _smoothed(line, _period("signal", signal), 2.0 / (signal + 1.0), slow - 1)
    return line, signal_line, line - signal_line


def _smoothed(series: NDArray[np.float64], span: int, weight: float, first: int) -> NDArray[np.float64]:
    """Exponential smoothing from index `first` on, started with the mean of the first `span` values."""
    out = np.full_like(series, np.nan)
    start = first + span - 1
    if series.shape[1] <= start:
        return out
    value = series[:, first : start + 1].mean(axis=1)
    out[:, start] = value
    for step in range(start + 1, series.shape[1]):
        value = value + weight * (series[:, step] - value)
        out[:, step] = value
    return out


def _moments(series: NDArray[np.float64], period: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    mean, deviation = np.full_like(series, np.nan), np.full_like(series, np.nan)
    if series.shape[1] >= period:
        view = sliding_window_view(series, period, axis=1)
        mean[:, period - 1 :], deviation[:, period - 1 :] = view.mean(axis=2), view.std(axis=2)
    return mean, deviation


def _period(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name} must be a whole number of steps, 1 or more, got {value!r}")
    return int(value)
