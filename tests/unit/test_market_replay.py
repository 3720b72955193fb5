"""The recorded market at the venue: closes in ticks, lap after lap, and recorded books where there are any."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.market.feed import Feed
from core.market.load import load_market
from core.orders.scale import MarketScale
from core.venue.exchange import Exchange, RecordedBook
from core.venue.process import PriceSource
from core.venue.replay import ReplayedPrices
from core.venue.settings import ExchangeSettings
from tests.market_observation import random_ticks
from tests.market_recordings import capture, real_capture, write_capture


def book_of(prices: PriceSource) -> RecordedBook:
    assert prices.recorded_book is not None
    return prices.recorded_book


def test_a_market_without_depth_has_closes_and_no_book() -> None:
    data = load_market("us-stocks")
    prices: PriceSource = ReplayedPrices(data)
    assert prices.recorded_book is None
    for step in (0, 1, 50, 4_734, 4_735, 2 * 4_735 + 3):
        closes = prices.advance_to(step)
        row = data.layout.row_of(step)
        assert closes == data.events.closes(row, row + 1)[0].tolist()
        assert all(type(close) is int for close in closes)


def test_a_venue_started_late_is_where_one_that_walked_is() -> None:
    """A venue that comes back from its journal goes to its step at once; a new lap is a later step."""
    data = random_ticks(4, 200, 2, depth=True)
    walked, jumped = ReplayedPrices(data), ReplayedPrices(data)
    lap = data.layout.steps_per_lap
    for step in range(2 * lap + 5):
        closes = walked.advance_to(step)
    assert closes == jumped.advance_to(2 * lap + 4)
    for instrument in range(2):
        assert book_of(walked)(instrument) == book_of(jumped)(instrument)
    with pytest.raises(ValueError, match="step -1 is negative"):
        walked.advance_to(-1)


def assert_is_book_of(prices: PriceSource, feed: Feed, step: int) -> None:
    assert prices.advance_to(step) == feed.advance_to(step).close.tolist()
    for index in range(len(feed.data.spec.instruments)):
        bids, asks = book_of(prices)(index)
        book = feed.book(index)
        assert (bids, asks) == ([tuple(row) for row in book.bids.tolist()], [tuple(row) for row in book.asks.tolist()])
        assert bids == sorted(bids, reverse=True)
        assert asks == sorted(asks)
        assert bids[0][0] < asks[0][0]
        assert all(type(number) is int and number > 0 for level in bids + asks for number in level)


def test_the_recorded_book_is_that_of_the_current_step(tmp_path: Path) -> None:
    data = load_market(write_capture(tmp_path / "mine", {"btcusdt": capture(), "ethusdt": capture(1.0)}))
    prices, feed = ReplayedPrices(data), Feed(data)
    held = book_of(prices)  # The exchange keeps the callable that it was given at its start.
    for step in (0, 1, 9, data.layout.steps_per_lap + 2):
        assert_is_book_of(prices, feed, step)
        assert held(0) == book_of(prices)(0)


def test_the_exchange_shows_the_recorded_capture() -> None:
    data = load_market(real_capture())
    assert data.spec.symbols == ("BTCUSDT", "ETHUSDT")
    assert data.spec.has_depth
    prices, feed = ReplayedPrices(data), Feed(data)
    scale = MarketScale.of(data.spec.symbols, data.spec.tick_size, data.spec.lot_size)
    exchange = Exchange(scale, ExchangeSettings(), recorded_book=prices.recorded_book)
    for step in (0, 1, 100, data.layout.steps_per_lap + 1):
        assert_is_book_of(prices, feed, step)
        exchange.advance(step, prices.advance_to(step), 0)
        seen = feed.advance_to(step)
        for index in range(2):
            bids, asks = exchange.depth(index, 1, 0)
            assert (bids[0][0], asks[0][0]) == (seen.best_bid[index], seen.best_ask[index])
