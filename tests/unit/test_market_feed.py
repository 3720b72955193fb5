"""The feed: laps, jumps, bars against an oracle, and no look-ahead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import duckdb
import numpy as np
import pytest

from core.market.depth import DepthEvents
from core.market.events import Bars, Events, MarketData, PanelEvents, Quotes, TickEvents, Trades
from core.market.feed import Feed, Step
from core.market.load import DATA_DIRECTORY, load_market
from tests.market_recordings import capture, panel, ticks, write_capture


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, MarketData]:
    directory = tmp_path_factory.mktemp("recordings")
    captured = write_capture(directory / "mine", {"btcusdt": capture(), "ethusdt": capture(1.0)})
    return {
        "panel": load_market(panel().write(directory / "prices.parquet")),
        "ticks": load_market(ticks().write(directory / "es.parquet")),
        "capture": load_market(captured),
    }


@pytest.fixture(scope="module", params=["panel", "ticks", "capture"])
def data(request: pytest.FixtureRequest, recordings: dict[str, MarketData]) -> MarketData:
    return recordings[request.param]


def differences(a: Feed, b: Feed) -> list[str]:
    """What two feeds disagree in, the events drained on the way apart."""
    assert a.step is not None
    assert b.step is not None
    step_fields = [field.name for field in fields(Step) if field.name != "events"]
    found = [f"step.{name}" for name in step_fields if not np.array_equal(getattr(a.step, name), getattr(b.step, name))]
    bar_fields = [field.name for field in fields(Bars)]
    found += [f"bars.{name}" for name in bar_fields if not np.array_equal(getattr(a.bars, name), getattr(b.bars, name))]
    if not np.array_equal(a.history, b.history):
        found.append("history")
    if a.data.spec.has_depth:
        for index in range(len(a.data.spec.instruments)):
            ours, theirs = a.book(index), b.book(index)
            if not (np.array_equal(ours.bids, theirs.bids) and np.array_equal(ours.asks, theirs.asks)):
                found.append(f"book {index}")
    return found


def test_the_layout_of_the_shipped_panel() -> None:
    data = load_market("us-stocks")
    assert (data.layout.library_rows, data.layout.history_rows) == (3_326, 252)
    feed = Feed(data)
    assert feed.steps_per_lap == 8_313 - 3_326 - 252
    step = feed.advance_to(0)
    assert step.ts_ns == data.ts_ns[3_326 + 252]
    assert feed.history.shape == (20, 252)
    assert feed.history.flags.c_contiguous
    np.testing.assert_array_equal(feed.history, data.closes(3_327, 3_579))
    np.testing.assert_array_equal(data.spec.price(step.close), feed.history[:, -1])
    assert feed.windows().shape == (20, 64)
    np.testing.assert_array_equal(feed.windows(), feed.history[:, -64:])
    assert step.events == 20
    assert not step.best_bid.any()


def test_a_new_feed_has_only_its_warm_up(data: MarketData) -> None:
    feed = Feed(data)
    assert feed.step is None
    first = data.layout.library_rows
    np.testing.assert_array_equal(feed.history, data.closes(first, first + feed.history_rows))
    with pytest.raises(RuntimeError, match="advance_to"):
        _ = feed.bars


def test_every_step_of_two_laps(data: MarketData) -> None:
    feed = Feed(data)
    for number in range(2 * feed.steps_per_lap):
        step = feed.advance_to(number)
        row = data.layout.first_trading_row + number % feed.steps_per_lap
        assert (step.number, step.lap, step.position) == (number, *divmod(number, feed.steps_per_lap))
        assert step.first_of_lap == (step.position == 0)
        assert step.last_of_lap == (step.position == feed.steps_per_lap - 1)
        assert step.ts_ns == data.ts_ns[row]
        np.testing.assert_array_equal(feed.history, data.closes(row + 1 - feed.history_rows, row + 1))
        np.testing.assert_array_equal(data.spec.price(step.close), feed.history[:, -1])


def test_a_new_lap_carries_nothing_across(data: MarketData) -> None:
    through, fresh = Feed(data), Feed(data)
    for number in range(through.steps_per_lap + 1):
        through.advance_to(number)
    fresh.advance_to(fresh.steps_per_lap)
    assert differences(through, fresh) == []
    first_lap = Feed(data)
    first_lap.advance_to(0)
    np.testing.assert_array_equal(first_lap.history, through.history)


def test_a_jump_drains_what_single_steps_drain(data: MarketData) -> None:
    one_by_one, at_once = Feed(data), Feed(data)
    drained = sum(one_by_one.advance_to(number).events for number in range(25))
    assert at_once.advance_to(24).events == drained > 0
    assert differences(one_by_one, at_once) == []
    assert at_once.advance_to(24).events == 0


def test_a_jump_past_the_whole_history(tmp_path: Path) -> None:
    data = load_market(panel(steps=600).write(tmp_path / "long.csv"))
    assert data.layout.history_rows == 180
    near, far = Feed(data), Feed(data)
    last = near.steps_per_lap - 1
    for number in range(last + 1):
        near.advance_to(number)
    far.advance_to(last)
    assert differences(near, far) == []
    far.advance_to(3)
    near.advance_to(3)
    assert differences(near, far) == []


def test_steps_cannot_be_changed_by_who_reads_them(data: MarketData) -> None:
    feed, other = Feed(data), Feed(data)
    step = feed.advance_to(0)
    for array in (step.close, step.best_bid, step.best_ask, step.volume):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    feed.history[:] = 0.0
    feed.windows()[:] = 0.0
    other.advance_to(0)
    assert differences(feed, other) == []


def test_a_bad_argument_is_named(data: MarketData) -> None:
    feed = Feed(data)
    with pytest.raises(ValueError, match="step -1 is negative"):
        feed.advance_to(-1)
    with pytest.raises(ValueError, match=f"window of {feed.history_rows + 1} steps"):
        feed.windows(feed.history_rows + 1)


def test_every_tick_is_in_the_bars() -> None:
    """All 34,171 one-second bars of the futures, and those that the feed shows, against DuckDB."""
    data = load_market("futures-ticks")
    path = DATA_DIRECTORY / "futures_ticks.parquet"
    query = f"""
        WITH ticks AS (SELECT *, file_row_number AS n FROM read_parquet('{path}', file_row_number = true))
        SELECT (ts_ns // 1000000000 + 1) * 1000000000 AS ts_ns, arg_min(price, n) AS open, max(price) AS high,
               min(price) AS low, arg_max(price, n) AS close, CAST(sum(quantity) AS BIGINT) AS volume,
               count(*) AS ticks
        FROM ticks GROUP BY 1 ORDER BY 1"""
    oracle = duckdb.sql(query).fetchnumpy()
    np.testing.assert_array_equal(data.ts_ns, oracle["ts_ns"])
    np.testing.assert_array_equal(data.closes(0, data.spec.steps_total)[0], oracle["close"])
    feed = Feed(data)
    for number in range(feed.steps_per_lap):
        step, bars, row = feed.advance_to(number), feed.bars, data.layout.row_of(number)
        prices = (bars.open[0] / 4, bars.high[0] / 4, bars.low[0] / 4, bars.close[0] / 4)
        assert prices == tuple(oracle[name][row] for name in ("open", "high", "low", "close"))
        assert (step.volume[0], step.events) == (oracle["volume"][row], oracle["ticks"][row])


def test_a_second_without_a_trade_keeps_the_close(recordings: dict[str, MarketData]) -> None:
    feed = Feed(recordings["capture"])
    feed.advance_to(0)
    quiet = 0
    for number in range(1, feed.steps_per_lap):
        before = feed.bars.close
        step = feed.advance_to(number)
        if step.volume[0] == 0:
            quiet += 1
            assert (feed.bars.open == before).all()
            assert (feed.bars.high == feed.bars.low).all()
            assert (step.close == before).all()
    assert quiet > 5


# No look-ahead: whatever comes after a row is replaced by something else; nothing up to that row may change.


def _spoilt(values: np.ndarray, start: int) -> np.ndarray:
    changed = values.copy()
    changed[start:] = changed[start:] * 3 + 7
    return changed


def _spoilt_depth(depth: DepthEvents, row: int) -> DepthEvents:
    return replace(depth, lots=_spoilt(depth.lots, int(depth.ends[row])))


def spoilt_after(data: MarketData, row: int) -> MarketData:
    """The same recording with every event and time after `row` changed."""
    events: Events
    if isinstance(data.events, PanelEvents):
        events = PanelEvents(_spoilt(data.events.close, row + 1))
    else:
        assert isinstance(data.events, TickEvents)
        events = TickEvents(
            trades=tuple(
                Trades(_spoilt(t.price, int(t.ends[row])), _spoilt(t.lots, int(t.ends[row])), t.ends)
                for t in data.events.trades
            ),
            quotes=tuple(
                Quotes(_spoilt(q.bid, int(q.ends[row])), _spoilt(q.ask, int(q.ends[row])), q.ends)
                for q in data.events.quotes
            ),
            depth=tuple(_spoilt_depth(depth, row) for depth in data.events.depth),
        )
    return replace(data, events=events, ts_ns=_spoilt(data.ts_ns, row + 1))


def look_ahead(make: Callable[[MarketData], Feed], data: MarketData, number: int) -> list[str]:
    """What a feed at step `number` shows of the time after it."""
    honest, spoilt = make(data), make(spoilt_after(data, data.layout.row_of(number)))
    honest.advance_to(number)
    spoilt.advance_to(number)
    return differences(honest, spoilt)


class OneRowAhead(Feed):
    """The mutation: books and closes drained one row too far."""

    def _drain(self, row: int) -> int:
        return super()._drain(row + 1)


class BarOfTheNextRow(Feed):
    """Another: only the bar is read too late, history is honest."""

    def advance_to(self, step: int) -> Step:
        found = super().advance_to(step)
        self._bars = self._data.events.bars(self._row + 1)
        return found


@pytest.mark.parametrize("number", [0, 1, 13, 25])
def test_the_feed_never_looks_ahead(data: MarketData, number: int) -> None:
    assert look_ahead(Feed, data, number) == []


def test_the_look_ahead_test_sees_an_off_by_one(data: MarketData) -> None:
    assert "history" in look_ahead(OneRowAhead, data, 12)
    assert look_ahead(BarOfTheNextRow, data, 12)[-1].startswith("bars.")
    if data.spec.has_depth:
        assert "book 0" in look_ahead(OneRowAhead, data, 12)


def test_the_feed_shows_nothing_of_the_library(data: MarketData) -> None:
    """The warm-up starts after the library's last row: the live part shares no close with it."""
    feed = Feed(data)
    first = data.layout.library_rows
    assert feed.history_rows + feed.steps_per_lap == data.spec.steps_total - first
    if isinstance(data.events, PanelEvents):
        library_spoilt = PanelEvents(data.events.close.copy())
        library_spoilt.close[:first] = 1
        other = Feed(replace(data, events=library_spoilt))
        np.testing.assert_array_equal(feed.history, other.history)
