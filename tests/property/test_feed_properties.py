"""Feeds and pattern libraries over recordings made at random: against plain oracles, made of the past alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from core.market.depth import DepthEvents
from core.market.events import MarketData
from core.market.feed import Feed
from core.patterns import build_library
from kernels.dtw import z_normalise
from tests.market_observation import differences, observe, random_panel, random_ticks, spoilt_after


@st.composite
def markets(draw: st.DrawFn) -> MarketData:
    seed = draw(st.integers(0, 2**32 - 1))
    steps, instruments = draw(st.integers(161, 260)), draw(st.integers(1, 4))
    if draw(st.booleans()):
        return random_panel(seed, steps, instruments)
    return random_ticks(seed, steps, instruments, quotes=draw(st.booleans()), depth=draw(st.booleans()))


def replayed(events: DepthEvents, stop: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Bids and asks after the first `stop` events, one at a time in a dictionary."""
    book: dict[int, int] = {}
    starts = set(events.resets.tolist())
    for index in range(stop):
        if index in starts:
            book.clear()
        book[int(events.cell[index])] = int(events.lots[index])
    levels = len(events.prices)
    sides: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
    for cell, lots in sorted(book.items()):
        if lots:
            sides[cell // levels].append((int(events.prices[cell % levels]), lots))
    return sides[0][::-1], sides[1]


@settings(max_examples=60, deadline=None)
@given(data=markets(), path=st.lists(st.integers(0, 400), max_size=6), target=st.integers(0, 400))
def test_a_step_is_the_same_whatever_path_led_to_it(data: MarketData, path: list[int], target: int) -> None:
    wandering, walking = Feed(data), Feed(data)
    for step in path:
        wandering.advance_to(step)
    for step in range(target - target % data.layout.steps_per_lap, target):
        walking.advance_to(step)
    seen = observe(wandering, target)
    assert differences(seen, observe(Feed(data), target)) == []
    assert differences(seen, observe(walking, target)) == []


@settings(max_examples=60, deadline=None)
@given(data=markets(), step=st.integers(0, 400), path=st.lists(st.integers(0, 400), max_size=3))
def test_a_step_depends_on_no_later_row(data: MarketData, step: int, path: list[int]) -> None:
    plain, spoilt = Feed(data), Feed(spoilt_after(data, data.layout.row_of(step)))
    for earlier in path:  # What this feed may already have seen of later rows, it must forget.
        plain.advance_to(earlier)
    assert differences(observe(plain, step), observe(spoilt, step)) == []


@settings(max_examples=40, deadline=None)
@given(data=markets(), step=st.integers(0, 400))
def test_a_step_is_what_the_recording_says(data: MarketData, step: int) -> None:
    feed = Feed(data)
    seen = feed.advance_to(step)
    row = data.layout.row_of(step)
    closes = data.closes(0, row + 1)
    np.testing.assert_array_equal(feed.history, closes[:, -feed.history_rows :])
    np.testing.assert_array_equal(data.spec.price(seen.close), closes[:, -1])
    assert row + 1 - feed.history.shape[1] >= data.layout.library_rows
    for index, depth in enumerate(data.events.depth):
        bids, asks = replayed(depth, int(depth.ends[row]))
        book = feed.book(index, levels=1_000)
        assert [tuple(level) for level in book.bids.tolist()] == bids
        assert [tuple(level) for level in book.asks.tolist()] == asks
        assert seen.best_bid[index] == (bids[0][0] if bids else 0)
        assert seen.best_ask[index] == (asks[0][0] if asks else 0)


@settings(max_examples=60, deadline=None)
@given(data=markets(), count=st.integers(1, 300), length=st.integers(1, 50), horizon=st.integers(1, 15))
def test_patterns_lie_in_the_library_part_and_are_spread_evenly(
    data: MarketData, count: int, length: int, horizon: int
) -> None:
    rows = data.layout.library_rows
    library = build_library(data, count, length, horizon)
    instruments, available = len(data.spec.instruments), rows - length - horizon + 1
    quotas = [min(available, count // instruments + (index < count % instruments)) for index in range(instruments)]
    assert np.bincount(library.instrument, minlength=instruments).tolist() == quotas
    closes = data.closes(0, data.spec.steps_total)
    windows = np.empty((len(library), length))
    for index, (instrument, end) in enumerate(zip(library.instrument, library.end_row, strict=True)):
        assert length - 1 <= end <= rows - 1 - horizon
        windows[index] = closes[instrument, end - length + 1 : end + 1]
        assert library.forward_return[index] == closes[instrument, end + horizon] / closes[instrument, end] - 1.0
    np.testing.assert_array_equal(library.patterns, z_normalise(windows))
    for index in range(instruments):
        gaps = {int(later - earlier) for earlier, later in pairwise(library.end_row[library.instrument == index])}
        assert not gaps or (min(gaps) >= 1 and max(gaps) - min(gaps) <= 1)

    spoilt = build_library(spoilt_after(data, rows - 1), count, length, horizon)
    np.testing.assert_array_equal(library.patterns, spoilt.patterns)
    np.testing.assert_array_equal(library.forward_return, spoilt.forward_return)
