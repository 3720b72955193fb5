"""No look-ahead, source by source: rows without events, several trades a row, snapshots within a row, new laps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.market.events import MarketData
from core.market.feed import Feed
from core.market.load import load_market
from tests.market_observation import PeekingEvents, differences, observe, random_ticks, spoilt_after


def leaks(data: MarketData, step: int, leak: str | None = None) -> list[str]:
    """What a feed shows at `step` that changes when all later rows change. `leak` names an off-by-one to put in."""
    spoilt = spoilt_after(data, data.layout.row_of(step))
    if leak is not None:
        data, spoilt = (replace(market, events=PeekingEvents(market.events, leak)) for market in (data, spoilt))
    return differences(observe(Feed(data), step), observe(Feed(spoilt), step))


@pytest.mark.parametrize("market", ["us-stocks", "futures-ticks"])
def test_shipped_steps_show_nothing_of_the_rows_after_them(market: str) -> None:
    data = load_market(market)
    for step in (0, 1, 63, 1_000, 4_733, data.layout.steps_per_lap + 5):
        assert leaks(data, step) == []


@pytest.mark.parametrize(
    ("leak", "shown"),
    [
        ("closes", ["history", "window", "windows"]),
        ("bars", ["close", "volume", "bar open", "bar high", "bar low", "bar close", "bar volume"]),
        ("best", ["best_bid", "best_ask"]),
        ("depth", ["best_bid", "best_ask", "bids 0", "asks 0"]),
    ],
)
def test_the_check_notices_one_row_of_look_ahead(leak: str, shown: list[str]) -> None:
    """The check is worth something only if it fails for a feed that is off by one: here is one for each source."""
    data = random_ticks(11, 200, 1, quotes=True, depth=leak == "depth")
    steps = range(data.layout.steps_per_lap - 1)
    assert all(leaks(data, step) == [] for step in steps)
    assert {name for step in steps for name in leaks(data, step, leak)} == set(shown)
