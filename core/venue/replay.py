"""The recorded market as the venue sees it."""

from __future__ import annotations

from collections.abc import Sequence

from core.market.events import MarketData
from core.market.feed import Feed
from core.venue.exchange import RecordedBook


class ReplayedPrices:
    def __init__(self, data: MarketData) -> None:
        self._feed = Feed(data)

    def advance_to(self, step: int) -> Sequence[int]:
        closes: list[int] = self._feed.advance_to(step).close.tolist()
        return closes

    @property
    def recorded_book(self) -> RecordedBook | None:
        return None
