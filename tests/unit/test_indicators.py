"""Indicators against plain Python written from their definitions, and the compiled table against the indicators."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels import indicator_table as compiled
from kernels.indicator_table import (
    COLUMNS,
    STEPS_NEEDED,
    Column,
    indicator_table,
    start_indicators,
    step_indicators,
)
from kernels.indicators import (
    atr,
    bollinger_bands,
    donchian_channel,
    ema,
    macd,
    momentum,
    realised_volatility,
    rsi,
    z_score,
)

NAN = math.nan


def prices(steps: int, count: int = 4) -> NDArray[np.float64]:
    random = np.random.default_rng(steps)
    closes = 50.0 * np.exp(0.02 * random.standard_normal((count, steps)).cumsum(axis=1))
    closes[-1] = 7.0
    return closes


def plain_ema(values: list[float], span: int) -> list[float]:
    out = [NAN] * len(values)
    for t in range(span - 1, len(values)):
        if t == span - 1:
            out[t] = sum(values[:span]) / span
        else:
            out[t] = out[t - 1] + 2 / (span + 1) * (values[t] - out[t - 1])
    return out


def plain_wilder(values: list[float], period: int) -> list[float]:
    """Of values that begin at step 1."""
    out = [NAN] * len(values)
    for t in range(period, len(values)):
        out[t] = (
            sum(values[1 : period + 1]) / period if t == period else (out[t - 1] * (period - 1) + values[t]) / period
        )
    return out


def plain_rsi(closes: list[float], period: int) -> list[float]:
    changes = [0.0] + [b - a for a, b in pairwise(closes)]
    gains = plain_wilder([max(c, 0.0) for c in changes], period)
    losses = plain_wilder([max(-c, 0.0) for c in changes], period)
    out = []
    for gain, loss in zip(gains, losses, strict=True):
        if gain == loss == 0.0:
            out.append(50.0)
        elif loss == 0.0:
            out.append(100.0)
        else:
            out.append(100.0 - 100.0 / (1.0 + gain / loss))
    return out


def plain_atr(high: list[float], low: list[float], closes: list[float], period: int) -> list[float]:
    ranges = [
        max(high[t] - low[t], abs(high[t] - closes[t - 1]), abs(low[t] - closes[t - 1])) for t in range(1, len(closes))
    ]
    return plain_wilder([0.0, *ranges], period)


def over_windows(
    closes: list[float], first: int, period: int, function: Callable[[list[float]], float], skip: int = 0
) -> list[float]:
    """function of the `period` values that end `skip` steps before each step, from step `first` on."""
    out = [NAN] * len(closes)
    for t in range(first, len(closes)):
        out[t] = function(closes[t - skip - period + 1 : t - skip + 1])
    return out


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def deviation(values: list[float]) -> float:
    return math.sqrt(mean([(v - mean(values)) ** 2 for v in values]))


def score(values: list[float]) -> float:
    return (values[-1] - mean(values)) / deviation(values) if deviation(values) else 0.0


def volatility(values: list[float]) -> float:
    return math.sqrt(mean([math.log(b / a) ** 2 for a, b in pairwise(values)]))


def assert_rows(actual: NDArray[np.float64], plain: Callable[[list[float]], list[float]]) -> None:
    closes = prices(actual.shape[1], actual.shape[0])
    expected = [plain(row) for row in closes.tolist()]
    np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 5, 6, 7, 60])
def test_series_equal_plain_python(steps: int) -> None:
    closes = prices(steps)
    assert_rows(ema(closes, 5), lambda c: plain_ema(c, 5))
    assert_rows(rsi(closes, 5), lambda c: plain_rsi(c, 5))
    assert_rows(atr(closes, closes, closes, 5), lambda c: plain_atr(c, c, c, 5))
    lower, middle, upper = bollinger_bands(closes, 5, 1.5)
    assert_rows(lower, lambda c: over_windows(c, 4, 5, lambda v: mean(v) - 1.5 * deviation(v)))
    assert_rows(middle, lambda c: over_windows(c, 4, 5, mean))
    assert_rows(upper, lambda c: over_windows(c, 4, 5, lambda v: mean(v) + 1.5 * deviation(v)))
    assert_rows(z_score(closes, 5), lambda c: over_windows(c, 4, 5, score))
    lowest, highest = donchian_channel(closes, 5)
    assert_rows(lowest, lambda c: over_windows(c, 5, 5, min, skip=1))
    assert_rows(highest, lambda c: over_windows(c, 5, 5, max, skip=1))
    assert_rows(momentum(closes, 5), lambda c: over_windows(c, 5, 6, lambda v: v[-1] / v[0] - 1))
    assert_rows(realised_volatility(closes, 5), lambda c: over_windows(c, 5, 6, volatility))


def test_macd_equals_plain_python() -> None:
    closes = prices(60)
    line, signal, histogram = macd(closes, 3, 8, 4)

    def plain_line(c: list[float]) -> list[float]:
        return [fast - slow for fast, slow in zip(plain_ema(c, 3), plain_ema(c, 8), strict=True)]

    def plain_signal(c: list[float]) -> list[float]:
        return [NAN] * 7 + plain_ema(plain_line(c)[7:], 4)

    assert_rows(line, plain_line)
    assert_rows(signal, plain_signal)
    np.testing.assert_array_equal(histogram, line - signal)


def test_atr_with_highs_and_lows() -> None:
    closes = prices(40)
    random = np.random.default_rng(0)
    high = closes * (1 + random.uniform(0.0, 0.02, closes.shape))
    low = closes * (1 - random.uniform(0.0, 0.02, closes.shape))
    expected = [plain_atr(*rows, 14) for rows in zip(high.tolist(), low.tolist(), closes.tolist(), strict=True)]
    np.testing.assert_allclose(atr(high, low, closes, 14), expected, rtol=1e-10)


def test_figures_worked_by_hand() -> None:
    closes = np.array([[10.0, 11.0, 10.0, 12.0]])
    # gains 1, 0, 2 and losses 0, 1, 0: after the first two 0.5 each, then (0.5 + 2) / 2 and 0.5 / 2
    np.testing.assert_allclose(rsi(closes, 2)[0], [NAN, NAN, 50.0, 100 * 1.25 / 1.5])
    np.testing.assert_allclose(ema(closes, 3)[0], [NAN, NAN, 31 / 3, 31 / 3 + (12 - 31 / 3) / 2])
    np.testing.assert_allclose(atr(closes, closes, closes, 2)[0], [NAN, NAN, 1.0, 1.5])
    np.testing.assert_allclose(momentum(closes, 2)[0], [NAN, NAN, 0.0, 12 / 11 - 1])
    lower, upper = donchian_channel(closes, 2)
    np.testing.assert_allclose(lower[0], [NAN, NAN, 10.0, 10.0])
    np.testing.assert_allclose(upper[0], [NAN, NAN, 11.0, 11.0])


@pytest.mark.parametrize("steps", [0, 1, 12, 14, 15, 20, 21, 26, 33, 34, 35, 200])
def test_table_equals_the_series(steps: int) -> None:
    closes = prices(max(steps, 1))[:, :steps]
    table = indicator_table(closes)
    assert table.shape == (4, COLUMNS)
    if steps == 0:
        assert np.isnan(table).all()
        return
    line, signal, histogram = macd(closes, 12, 26, 9)
    lower, middle, upper = bollinger_bands(closes, 20, 2.0)
    lowest, highest = donchian_channel(closes, 20)
    series = {
        Column.EMA_FAST: ema(closes, 12),
        Column.EMA_SLOW: ema(closes, 26),
        Column.MACD: line,
        Column.MACD_SIGNAL: signal,
        Column.MACD_HISTOGRAM: histogram,
        Column.RSI: rsi(closes, 14),
        Column.ATR: atr(closes, closes, closes, 14),
        Column.BOLLINGER_LOWER: lower,
        Column.BOLLINGER_MIDDLE: middle,
        Column.BOLLINGER_UPPER: upper,
        Column.Z_SCORE: z_score(closes, 20),
        Column.DONCHIAN_LOWER: lowest,
        Column.DONCHIAN_UPPER: highest,
        Column.MOMENTUM: momentum(closes, 20),
        Column.VOLATILITY: realised_volatility(closes, 20),
    }
    assert set(series) == set(Column)
    for column, values in series.items():
        np.testing.assert_allclose(table[:, column], values[:, -1], rtol=1e-9, atol=1e-10, err_msg=column.name)
    assert np.isfinite(table).all() == (steps >= STEPS_NEEDED)


GOOD = prices(30)
FREE = GOOD.copy()
FREE[2, 3] = 0.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: indicator_table(FREE), r"closes\[2, 3\] is 0.0: a price must be positive"),
        (lambda: indicator_table(np.where(FREE == 0.0, np.nan, FREE)), r"closes\[2, 3\] is nan"),
        (lambda: indicator_table(GOOD[0]), "two dimensions"),
        (lambda: rsi(GOOD.astype(np.float32), 14), "dtype float64"),
        (lambda: ema(GOOD, 0), "span must be a whole number"),
        (lambda: momentum(GOOD, 2.0), "period must be a whole number"),
        (lambda: macd(GOOD, 26, 12, 9), "fast must be shorter"),
        (lambda: atr(GOOD, GOOD * 1.1, GOOD, 14), "outside of its low and high"),
        (lambda: atr(GOOD[:, 1:], GOOD, GOOD, 14), "same shape"),
    ],
)
def test_bad_input_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_each_step_is_to_the_bit_the_whole_history() -> None:
    closes = prices(400)
    stream = start_indicators(closes[:, :1])
    for t in range(2, 401):
        assert step_indicators(stream, closes[:, t - 1]) is stream
        np.testing.assert_array_equal(stream.table, indicator_table(closes[:, :t]))
    # and of a part, for the other way to begin
    part = start_indicators(closes[:, :250])
    for t in range(251, 401):
        step_indicators(part, closes[:, t - 1])
    np.testing.assert_array_equal(part.table, stream.table)


def test_state_does_not_grow_and_refused_closes_change_nothing() -> None:
    stream = start_indicators(prices(30))
    sizes = [array.nbytes for array in stream]
    for close in prices(300).T:
        step_indicators(stream, close)
    assert [array.nbytes for array in stream] == sizes
    before = [array.copy() for array in stream]
    for newest in (np.array([1.0, 2.0, NAN, 3.0]), np.array([1.0, 0.0, 2.0, 3.0]), np.ones(3)):
        with pytest.raises(ValueError, match=r"positive|only finite|new closes"):
            step_indicators(stream, newest)
    for array, old in zip(stream, before, strict=True):
        np.testing.assert_array_equal(array, old)


class Counted(float):
    """A number that counts what is computed with it."""

    operations = 0


def _counting(name: str) -> Callable[..., object]:
    plain = getattr(float, name)

    def counted(self: float, *others: float) -> object:
        Counted.operations += 1
        found = plain(self, *others)
        return Counted(found) if type(found) is float else found

    return counted


for _name in ("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "pow", "neg", "abs"):
    setattr(Counted, f"__{_name}__", _counting(f"__{_name}__"))
for _name in ("lt", "le", "gt", "ge", "eq"):
    setattr(Counted, f"__{_name}__", _counting(f"__{_name}__"))


def test_a_step_takes_the_same_work_whatever_came_before(monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("_smooth", "_read_smoothed", "_read_recent"):
        monkeypatch.setattr(compiled, part, getattr(compiled, part).py_func)
    work = []
    for steps in (60, 600, 2_400):
        stream = start_indicators(prices(steps, 2))
        table, smoothed, recent = (array.astype(object) for array in stream)
        for array in (table, smoothed, recent):
            array[:] = np.vectorize(Counted, otypes=[object])(array)
        Counted.operations = 0
        newest = np.array([[Counted(50.5)], [Counted(7.5)]], object)
        compiled._advance.py_func(table, smoothed, recent, newest)
        work.append(Counted.operations)
        np.testing.assert_array_equal(
            table.astype(float), step_indicators(stream, np.array([50.5, 7.5])).table, strict=True
        )
    assert work[0] > 100
    # a minimum is changed or not by the prices themselves: a few more or less, and no trend
    assert max(work) - min(work) <= 4, work
