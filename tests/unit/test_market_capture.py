"""Binance-style captures: books rebuilt from depth, update ids checked, best prices compared with the quotes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pytest

from core.market.errors import MarketDataError
from core.market.feed import Feed
from core.market.load import load_market
from tests.market_recordings import Sheet, capture, panel, real_capture, write_capture
from tests.unit.test_market_load import refused

Book = dict[tuple[int, float], float]


def replayed(path: Path, until_ns: int) -> Book:
    """The exchange's own recipe, one row at a time: the oracle for the vectorised rebuild."""
    rows = duckdb.sql(f"SELECT ts_ns, u, side, px, qty, snap FROM '{path}'").fetchall()
    book: Book = {}
    waiting: list[tuple[int, int, float, float]] = []
    snapshot_id = None
    for ts_ns, update_id, side, price, quantity, snap in rows:
        if ts_ns >= until_ns:
            break
        if snap:
            snapshot_id = update_id
            book[side, price] = quantity
            continue
        waiting.append((update_id, side, price, quantity))
        if snapshot_id is None:
            continue
        for held_id, held_side, held_price, held_quantity in waiting:
            if held_id > snapshot_id:
                book[held_side, held_price] = held_quantity
        waiting.clear()
    return {level: quantity for level, quantity in book.items() if quantity > 0}


def assert_book_is(feed: Feed, instrument: int, expected: Book, levels: int) -> None:
    spec = feed.data.spec
    book = feed.book(instrument, levels)
    bids = sorted(((p, q) for (side, p), q in expected.items() if side == 0), reverse=True)[:levels]
    asks = sorted((p, q) for (side, p), q in expected.items() if side == 1)[:levels]
    for ours, theirs in ((book.bids, bids), (book.asks, asks)):
        np.testing.assert_array_equal(spec.price(ours[:, 0]), [p for p, _ in theirs])
        np.testing.assert_array_equal(spec.quantity(ours[:, 1]), [q for _, q in theirs])


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_capture_becomes_steps_and_books(tmp_path: Path, suffix: str) -> None:
    directory = write_capture(tmp_path / "mine", {"btcusdt": capture(), "ethusdt": capture(1.0)}, suffix)
    data = load_market(directory)
    assert data.spec.title == "mine: 2 instruments, 1 second a step"
    assert data.spec.symbols == ("BTCUSDT", "ETHUSDT")
    assert (data.spec.tick_size, data.spec.lot_size, data.spec.has_depth) == (0.01, 0.01, True)
    assert [(a.symbol, a.checks, a.agreed) for a in data.agreement] == [("BTCUSDT", 200, 200), ("ETHUSDT", 200, 200)]
    feed = Feed(data)
    for number in (0, 1, 30, 7):
        step = feed.advance_to(number)
        for index, symbol in enumerate(("btcusdt", "ethusdt")):
            path = directory / f"spot_{symbol}_depth{suffix}"
            assert_book_is(feed, index, replayed(path, step.ts_ns), levels=6)
            book = feed.book(index)
            assert (book.bids[0, 0], book.asks[0, 0]) == (step.best_bid[index], step.best_ask[index])
            assert step.best_bid[index] <= step.close[index] <= step.best_ask[index]
    with pytest.raises(LookupError, match="no instrument 2"):
        feed.book(2)


def test_updates_wait_for_the_snapshot_and_stale_ones_are_dropped(tmp_path: Path) -> None:
    """The far levels of update 1001 came before snapshot 1000 and count; update 900's 77 units do not."""
    directory = write_capture(tmp_path / "mine", {"btcusdt": capture()})
    feed = Feed(load_market(directory))
    feed.advance_to(0)
    book = feed.book(0)
    assert book.bids[-1].tolist() == [9_000, 150]
    assert book.asks[-1].tolist() == [11_000, 250]
    assert 7_700 not in book.bids[:, 1]


def test_a_later_snapshot_replaces_the_book(tmp_path: Path) -> None:
    sheets = capture()
    depth = sheets["depth"]
    stamp, update_id = depth.rows[-1][0], depth.rows[-1][1]
    mid = (sheets["quotes"].rows[-1][2] + sheets["quotes"].rows[-1][4]) / 2
    depth.rows += [[stamp, update_id, side, round(mid + shift, 2), 9.0, 1] for side, shift in ((0, -0.02), (1, 0.03))]
    feed = Feed(load_market(write_capture(tmp_path / "mine", {"btcusdt": sheets})))
    step = feed.advance_to(feed.steps_per_lap - 1)
    assert feed.book(0).bids.tolist() == [[step.best_bid[0], 900]]
    assert feed.book(0).asks.tolist() == [[step.best_bid[0] + 5, 900]]
    before = feed.advance_to(feed.steps_per_lap - 2)
    assert len(feed.book(0).bids) == 6
    assert before.best_ask[0] - before.best_bid[0] == 2


def test_quotes_that_differ_are_counted_and_not_refused(tmp_path: Path) -> None:
    sheets = capture()
    sheets["quotes"].set(50, "bid", sheets["quotes"].rows[49][2] - 0.01)
    data = load_market(write_capture(tmp_path / "mine", {"btcusdt": sheets}))
    assert (data.agreement[0].checks, data.agreement[0].agreed) == (200, 199)


def test_without_depth_the_quotes_make_the_best_prices(tmp_path: Path) -> None:
    sheets = capture()
    quotes = sheets["quotes"]
    del sheets["depth"]
    feed = Feed(load_market(write_capture(tmp_path / "mine", {"btcusdt": sheets})))
    step = feed.advance_to(5)
    row = quotes.rows[feed.data.layout.row_of(5)]
    assert (step.best_bid[0] / 100, step.best_ask[0] / 100) == (row[2], row[4])
    assert not feed.data.spec.has_depth
    with pytest.raises(LookupError, match="no recorded depth"):
        feed.book(0)


def test_trades_alone_are_a_market(tmp_path: Path) -> None:
    path = capture()["trades"].write(tmp_path / "solusdt_trades.parquet")
    feed = Feed(load_market(path))
    assert feed.data.spec.symbols == ("SOLUSDT",)
    step = feed.advance_to(0)
    assert (step.best_bid.tolist(), step.best_ask.tolist()) == ([0], [0])


def _cross(sheet: Sheet) -> None:
    """The last row of second 60's update becomes a bid above every ask."""
    rows = [index for index, row in enumerate(sheet.rows) if row[1] == 1061]
    sheet.rows[rows[-1]][2:5] = [0, 120.0, 1.0]


def row_of(sheet: Sheet, update_id: int, last: bool = False) -> int:
    """1-based row of an update in the depth sheet."""
    found = [index + 1 for index, row in enumerate(sheet.rows) if row[1] == update_id]
    return found[-1 if last else 0]


Spoil = Callable[[Sheet], None]
REFUSALS: dict[str, tuple[str, Spoil, int, str, str]] = {
    "trade time": ("trades", lambda s: s.set(40, "ts_ns", 1), 40, "ts_ns", "time goes back"),
    "trade price": ("trades", lambda s: s.set(41, "px", -1), 41, "px", "-1.0 is not"),
    "trade NaN": ("trades", lambda s: s.set(41, "px", "nan"), 41, "px", "nan is not"),
    "trade quantity": ("trades", lambda s: s.set(41, "qty", 0), 41, "qty", "0.0 is not"),
    "trade id": ("trades", lambda s: s.set(42, "id", 5_000), 42, "id", "duplicate trade id, first seen in row 1"),
    "quote time": ("quotes", lambda s: s.set(43, "ts_ns", 1), 43, "ts_ns", "time goes back"),
    "quote NaN": ("quotes", lambda s: s.set(44, "ask", "nan"), 44, "ask", "nan is not"),
    "quote update id": ("quotes", lambda s: s.set(45, "u", 1044), 45, "u", "duplicate update id, first seen in row 44"),
    "quote update id back": ("quotes", lambda s: s.set(46, "u", 7), 46, "u", "update id goes back"),
    "crossed quote": ("quotes", lambda s: s.set(47, "bid", 200.0), 47, "bid", "the book is crossed: bid 200"),
    "locked quote": ("quotes", lambda s: s.set(48, "bid", s.rows[47][4]), 48, "bid", "is not below ask"),
    "depth time": ("depth", lambda s: s.set(49, "ts_ns", 1), 49, "ts_ns", "time goes back"),
    "depth price": ("depth", lambda s: s.set(50, "px", 0), 50, "px", "0.0 is not"),
    "depth quantity": ("depth", lambda s: s.set(51, "qty", -1), 51, "qty", "-1.0 is not 0 or a finite number"),
    "depth side": ("depth", lambda s: s.set(52, "side", 2), 52, "side", "2 is not 0 or 1"),
    "depth snap": ("depth", lambda s: s.set(53, "snap", 5), 53, "snap", "5 is not 0 or 1"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_capture_is_refused_whole(tmp_path: Path, case: str) -> None:
    part, spoil, row, column, words = REFUSALS[case]
    sheets = capture()
    spoil(sheets[part])
    directory = write_capture(tmp_path / "mine", {"btcusdt": sheets, "ethusdt": capture(1.0)}, ".csv")
    refused(directory, row, column, words, file=directory / f"spot_btcusdt_{part}.csv")


def _refused_depth(tmp_path: Path, depth: Sheet, row: int, column: str, words: str) -> None:
    sheets = capture()
    sheets["depth"] = depth
    directory = write_capture(tmp_path / "mine", {"btcusdt": sheets})
    refused(directory, row, column, words, file=directory / "spot_btcusdt_depth.parquet")


def test_a_crossed_rebuilt_book_is_refused(tmp_path: Path) -> None:
    depth = capture()["depth"]
    _cross(depth)
    _refused_depth(tmp_path, depth, row_of(depth, 1061, last=True), "px", "the rebuilt book is crossed")


def test_an_update_id_that_comes_again_is_refused(tmp_path: Path) -> None:
    depth = capture()["depth"]
    start, repeated = row_of(depth, 1061), 1055
    for row in depth.rows:
        if row[1] == 1061:
            row[1] = repeated
    _refused_depth(tmp_path, depth, start, "u", "duplicate update id 1055")


def test_an_update_id_that_goes_back_is_refused(tmp_path: Path) -> None:
    depth = capture()["depth"]
    start = row_of(depth, 1061)
    for row in depth.rows:
        if row[1] == 1061:
            row[1] = 950
    _refused_depth(tmp_path, depth, start, "u", "update id 950 goes back")


def test_a_row_recorded_twice_is_refused(tmp_path: Path) -> None:
    depth = capture()["depth"]
    row = row_of(depth, 1061)
    depth.rows.insert(row, list(depth.rows[row - 1]))
    _refused_depth(tmp_path, depth, row + 1, "u", "duplicate update id 1061: it sets the same level twice")


def with_first_ids(depth: Sheet) -> Sheet:
    """The exchange's `U`: each update starts right after the one before it; a snapshot has none of its own."""
    depth.header = [*depth.header, "first_u"]
    for row in depth.rows:
        row.append(0 if row[5] else row[1] if row[1] != 1001 else 995)
    return depth


def test_first_update_ids_without_a_gap_are_taken(tmp_path: Path) -> None:
    sheets = capture()
    # Second 0 has no update, so the first after the snapshot's 1001 is 1002.
    with_first_ids(sheets["depth"])
    data = load_market(write_capture(tmp_path / "mine", {"btcusdt": sheets}))
    assert data.agreement[0].agreed == 200


def test_a_gap_in_the_update_ids_is_refused(tmp_path: Path) -> None:
    depth = with_first_ids(capture()["depth"])
    lost = 1061
    depth.rows = [row for row in depth.rows if row[1] != lost]
    _refused_depth(
        tmp_path, depth, row_of(depth, lost + 1), "first_u", "gap in the update ids: 1060 is followed by 1062"
    )


def test_depth_without_a_snapshot_is_refused(tmp_path: Path) -> None:
    depth = capture()["depth"]
    depth.rows = [row for row in depth.rows if row[5] == 0]
    _refused_depth(tmp_path, depth, 1, "snap", "no row is part of a snapshot")


def test_a_missing_part_is_refused(tmp_path: Path) -> None:
    without_trades = {part: sheet for part, sheet in capture().items() if part != "trades"}
    directory = write_capture(tmp_path / "a", {"btcusdt": without_trades})
    refused(directory, None, None, "there is no trades file for BTCUSDT")
    without_depth = {part: sheet for part, sheet in capture().items() if part != "depth"}
    directory = write_capture(tmp_path / "b", {"btcusdt": capture(), "ethusdt": without_depth})
    refused(directory, None, None, "there is no depth file for ETHUSDT", "for every symbol or for none")
    directory = write_capture(tmp_path / "c", {"btcusdt": capture()})
    capture()["trades"].write(directory / "futures_btcusdt_trades.parquet")
    with pytest.raises(MarketDataError, match="BTCUSDT has two trades files"):
        load_market(directory)


def test_files_beside_a_capture_are_refused(tmp_path: Path) -> None:
    directory = write_capture(tmp_path / "mine", {"btcusdt": capture()})
    panel().write(directory / "prices.csv")
    refused(directory, None, None, "no part of a capture", file=directory / "prices.csv")


def test_the_recorded_capture_agrees_with_its_quotes() -> None:
    data = load_market(real_capture())
    assert data.spec.symbols == ("BTCUSDT", "ETHUSDT")
    assert (data.spec.tick_size, data.spec.steps_total) == (0.01, 651)
    assert [a.symbol for a in data.agreement] == ["BTCUSDT", "ETHUSDT"]
    for agreement in data.agreement:
        assert agreement.checks > 6_000
        assert agreement.agreed / agreement.checks >= 0.999


def test_the_recorded_capture_rebuilds_as_one_row_at_a_time() -> None:
    directory = real_capture()
    feed = Feed(load_market(directory))
    for number in (0, 120):
        step = feed.advance_to(number)
        for index, symbol in enumerate(("btcusdt", "ethusdt")):
            assert_book_is(feed, index, replayed(directory / f"spot_{symbol}_depth.parquet", step.ts_ns), levels=500)


def test_the_recorded_capture_drains_every_event() -> None:
    directory = real_capture()
    data = load_market(directory)
    rows = {
        part: sum(
            duckdb.sql(f"SELECT count(*) FROM '{directory}/spot_{symbol}_{part}.parquet'").fetchall()[0][0]
            for symbol in ("btcusdt", "ethusdt")
        )
        for part in ("trades", "quotes")
    }
    assert data.events.count(0, data.spec.steps_total) == sum(rows.values())
