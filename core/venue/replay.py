"""The recorded market as the venue sees it: closes of a step, and recorded books where there are any."""

from __future__ import annotations

from collections.abc import Sequence

from core.market.events import MarketData
from core.market.feed import Feed
from core.venue.exchange import RecordedBook
from core.venue.liquidity import Level


class ReplayedPrices:
    """A `core.venue.process.PriceSource` over a feed of the venue's own."""

    def __init__(self, data: MarketData) -> None:
        self._feed = Feed(data)
        self._has_depth = data.spec.has_depth

    def advance_to(self, step: int) -> Sequence[int]:
        """Closes in ticks at `step`, counted over all laps."""
        closes: list[int] = self._feed.advance_to(step).close.tolist()
        return closes

    @property
    def recorded_book(self) -> RecordedBook | None:
        """Reads the recorded depth of the current step; None where liquidity is modelled."""
        return self._book if self._has_depth else None

    def _book(self, instrument: int) -> tuple[list[Level], list[Level]]:
        book = self._feed.book(instrument)
        bids, asks = ([(int(price), int(lots)) for price, lots in side.tolist()] for side in (book.bids, book.asks))
        return bids, asks
