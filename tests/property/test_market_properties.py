"""Whatever path a feed took, whatever order a book's events were applied in, whichever row is bad."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.market.depth import BookState, DepthEvents
from core.market.errors import MarketDataError
from core.market.events import MarketData
from core.market.feed import Feed
from core.market.load import load_market
from core.market.spec import decimal_places, tick_size_for
from tests.market_recordings import capture, panel, ticks, write_capture
from tests.unit.test_market_feed import differences, look_ahead

KINDS = ("panel", "ticks", "capture")


@cache
def recording(kind: str) -> MarketData:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        if kind == "panel":
            return load_market(panel().write(directory / "prices.csv"))
        if kind == "ticks":
            return load_market(ticks().write(directory / "es.csv"))
        return load_market(write_capture(directory / "mine", {"btcusdt": capture(), "ethusdt": capture(1.0)}))


@given(kind=st.sampled_from(KINDS), path=st.lists(st.integers(0, 150), max_size=8), last=st.integers(0, 150))
@settings(max_examples=80, deadline=None)
def test_a_feed_is_where_it_is_whatever_path_took_it_there(kind: str, path: list[int], last: int) -> None:
    wandered, direct = Feed(recording(kind)), Feed(recording(kind))
    for number in path:
        wandered.advance_to(number)
    wandered.advance_to(last)
    direct.advance_to(last)
    assert differences(wandered, direct) == []


@given(kind=st.sampled_from(KINDS), steps=st.sets(st.integers(0, 31), min_size=1))
@settings(max_examples=60, deadline=None)
def test_no_event_is_drained_twice_or_left_out(kind: str, steps: set[int]) -> None:
    hopping, direct = Feed(recording(kind)), Feed(recording(kind))
    assert sum(hopping.advance_to(number).events for number in sorted(steps)) == direct.advance_to(max(steps)).events


@given(kind=st.sampled_from(KINDS), number=st.integers(0, 30))
@settings(max_examples=40, deadline=None)
def test_no_step_depends_on_what_comes_after_it(kind: str, number: int) -> None:
    assert look_ahead(Feed, recording(kind), number) == []


LEVELS = 600
"""More than two scans of the best-price search."""
EVENT = st.tuples(st.integers(0, 1), st.integers(0, LEVELS - 1), st.integers(0, 3))


@given(
    events=st.lists(EVENT, min_size=1, max_size=60),
    resets=st.sets(st.integers(0, 59), max_size=3),
    cuts=st.sets(st.integers(1, 60), max_size=6),
)
@settings(max_examples=200, deadline=None)
def test_a_book_is_the_same_in_any_portions(
    events: list[tuple[int, int, int]], resets: set[int], cuts: set[int]
) -> None:
    depth = DepthEvents(
        prices=np.arange(1, LEVELS + 1) * 5,
        cell=np.array([side * LEVELS + level for side, level, _ in events]),
        lots=np.array([lots for _, _, lots in events]),
        resets=np.array(sorted(resets), dtype=np.int64),
        ends=np.array([len(events)]),
    )
    state, book, done = BookState(depth), {}, 0
    for stop in sorted({cut for cut in cuts if cut < len(events)} | {len(events)}):
        assert state.apply_to(stop) == stop - done
        for index in range(done, stop):
            if index in resets:
                book = {}
            side, level, lots = events[index]
            book[side, 5 * (level + 1)] = lots
        done = stop
        bids = sorted(((p, q) for (side, p), q in book.items() if side == 0 and q), reverse=True)
        asks = sorted((p, q) for (side, p), q in book.items() if side == 1 and q)
        assert state.best() == (bids[0][0] if bids else 0, asks[0][0] if asks else 0)
        shown = state.book(10)
        assert [tuple(level) for level in shown.bids.tolist()] == bids[:10]
        assert [tuple(level) for level in shown.asks.tolist()] == asks[:10]


@given(row=st.integers(1, 600), price=st.sampled_from([-1.0, 0.0, float("nan"), float("inf"), float("-inf")]))
@settings(max_examples=12, deadline=None)
def test_the_bad_row_is_the_one_named(row: int, price: float) -> None:
    sheet = panel()
    sheet.set(row, "close", price)
    with tempfile.TemporaryDirectory() as name:
        path = sheet.write(Path(name) / "prices.csv")
        with pytest.raises(MarketDataError) as caught:
            load_market(path)
    assert (caught.value.file, caught.value.row, caught.value.column) == (str(path), row, "close")


@given(
    places=st.integers(0, 8),
    counts=st.lists(st.integers(1, 10**12), min_size=1, max_size=50),
)
def test_decimal_prices_survive_ticks_exactly(places: int, counts: list[int]) -> None:
    prices = np.array([count / 10**places for count in counts])
    tick = tick_size_for(prices)
    inverse = round(1 / tick)
    assert (np.rint(prices * inverse) / inverse).tolist() == prices.tolist()
    needed = decimal_places(prices, 8)
    assert needed is not None
    assert needed <= places


@given(prices=st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=50))
def test_a_tick_is_never_coarser_than_a_basis_point(prices: list[float]) -> None:
    values = np.array(prices)
    tick = tick_size_for(values)
    inverse = round(1 / tick)
    exact = np.allclose(np.rint(values * inverse) / inverse, values, rtol=1e-15, atol=1e-12)
    assert exact or tick <= values.min() * 1.001e-4 or tick <= 1e-7
