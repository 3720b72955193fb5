"""The pattern library: where its windows come from, and that it never looks past the first 40 %."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from core import patterns
from core.market.events import MarketData
from core.market.load import load_market
from core.patterns import PatternLibrary, build_library
from tests.unit.test_market_feed import spoilt_after

EVERY_WINDOW = 10**6


@pytest.fixture(scope="module")
def stocks() -> MarketData:
    return load_market("us-stocks")


def differences(a: PatternLibrary, b: PatternLibrary) -> list[str]:
    names = ("patterns", "forward_return", "instrument", "end_row")
    return [name for name in names if not np.array_equal(getattr(a, name), getattr(b, name))]


def test_the_shape_of_the_library(stocks: MarketData) -> None:
    library = build_library(stocks)
    assert len(library) == 1_000
    assert (library.patterns.shape, library.patterns.dtype) == ((1_000, 64), np.float32)
    assert library.forward_return.dtype == np.float64
    np.testing.assert_allclose(library.patterns.mean(axis=1), 0.0, atol=1e-6)
    np.testing.assert_allclose(library.patterns.std(axis=1), 1.0, atol=1e-5)
    assert not library.patterns.flags.writeable


def test_windows_are_the_rows_they_name(stocks: MarketData) -> None:
    library = build_library(stocks, horizon=5)
    closes = stocks.closes(0, stocks.spec.steps_total)
    for index in range(0, 1_000, 37):
        prices, end = closes[library.instrument[index]], library.end_row[index]
        window = prices[end - 63 : end + 1]
        expected = (window - window.mean()) / window.std()
        np.testing.assert_allclose(library.patterns[index], expected, atol=1e-5)
        assert library.forward_return[index] == prices[end + 5] / prices[end] - 1.0


def test_windows_are_spread_evenly_over_instruments_and_time(stocks: MarketData) -> None:
    library = build_library(stocks)
    assert np.bincount(library.instrument).tolist() == [50] * 20
    assert len(set(zip(library.instrument.tolist(), library.end_row.tolist(), strict=True))) == 1_000
    available = stocks.layout.library_rows - 64
    for instrument in range(20):
        rows = library.end_row[library.instrument == instrument]
        assert set(np.diff(rows)) <= {available // 50, available // 50 + 1}
        assert rows[0] < 63 + available / 50 + 1
        assert rows[-1] >= stocks.layout.library_rows - 1 - available / 50 - 1
    assert len({int(library.end_row[library.instrument == i][0]) for i in range(20)}) > 10


def test_the_choice_is_deterministic(stocks: MarketData) -> None:
    assert differences(build_library(stocks), build_library(load_market("us-stocks"))) == []
    assert "end_row" in differences(build_library(stocks), build_library(stocks, seed=1))


def test_counts_that_do_not_divide(stocks: MarketData) -> None:
    counts = np.bincount(build_library(stocks, count=47).instrument, minlength=20)
    assert counts.tolist() == [3] * 7 + [2] * 13
    assert len(build_library(stocks, count=3)) == 3


def test_a_short_recording_gives_every_window_it_has(stocks: MarketData) -> None:
    library = build_library(stocks, count=EVERY_WINDOW, length=64, horizon=1)
    rows = stocks.layout.library_rows
    assert len(library) == 20 * (rows - 64)
    assert (library.end_row.min(), library.end_row.max()) == (63, rows - 2)


@pytest.mark.parametrize("horizon", [1, 5, 30])
@pytest.mark.parametrize("name", ["us-stocks", "futures-ticks"])
def test_the_library_never_looks_past_its_rows(name: str, horizon: int) -> None:
    """With every window there is, the last one included, all later data may be anything."""
    data = load_market(name)
    spoilt = spoilt_after(data, data.layout.library_rows - 1)
    ours = build_library(data, count=EVERY_WINDOW, horizon=horizon)
    assert ours.end_row.max() + horizon == data.layout.library_rows - 1
    assert differences(ours, build_library(spoilt, count=EVERY_WINDOW, horizon=horizon)) == []


def test_the_look_ahead_test_sees_a_row_too_many(stocks: MarketData) -> None:
    """Mutation: a library that takes one row of the live part."""
    spoilt = spoilt_after(stocks, stocks.layout.library_rows - 1)
    one_more = replace(stocks.layout, library_rows=stocks.layout.library_rows + 1)
    found = differences(
        build_library(replace(stocks, layout=one_more), count=EVERY_WINDOW),
        build_library(replace(spoilt, layout=one_more), count=EVERY_WINDOW),
    )
    # Only the return of the last window reaches into the extra row.
    assert found == ["forward_return"]


def test_the_look_ahead_test_sees_a_window_shifted_by_one(stocks: MarketData, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutation: the last window ends one row late, so that its return would end outside: it cannot even be built."""
    honest = patterns._choose

    def late(count: int, instruments: int, first: int, stop: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        return honest(count, instruments, first, stop + 1, seed)

    monkeypatch.setattr(patterns, "_choose", late)
    with pytest.raises(IndexError):
        build_library(stocks, count=EVERY_WINDOW)


def test_bad_arguments_are_named(stocks: MarketData) -> None:
    with pytest.raises(ValueError, match="count 0"):
        build_library(stocks, count=0)
    with pytest.raises(ValueError, match=r"no pattern fits: .* 3326 rows, and a window of 3326 .* needs 3327"):
        build_library(stocks, length=3_326)
