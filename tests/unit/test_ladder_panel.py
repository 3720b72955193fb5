"""The book's panel shows as many decimals as the prices have."""

from __future__ import annotations

import pytest

from core.book_ladder import BookLadder, LadderLevel
from tui.widgets.ladder import _decimal_places


@pytest.mark.parametrize(("prices", "places"), [((), 2), ((121.0, 122.5), 2), ((0.43, 0.4302), 4), ((0.00001, 7.0), 5)])
def test_prices_that_differ_look_different(prices: tuple[float, ...], places: int) -> None:
    levels = tuple(LadderLevel(price, 1.0, 0.0) for price in prices)
    assert _decimal_places(BookLadder("A", levels, ())) == places
    assert len({f"{price:.{places}f}" for price in prices}) == len(prices)
