"""Prices are shown with as many decimals as they have, in the book's panel, in orders and in positions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.records import OrderRow, OrderState, PositionRow
from tests.tui.fixtures import empty_snapshot
from tui.figures import decimal_places, shortened
from tui.widgets.panel import Row
from tui.widgets.trading import order_rows, position_rows


@pytest.mark.parametrize(("prices", "places"), [((), 2), ((121.0, 122.5), 2), ((0.43, 0.4302), 4), ((0.00001, 7.0), 5)])
def test_prices_that_differ_look_different(prices: tuple[float, ...], places: int) -> None:
    assert decimal_places(prices) == places
    assert len({f"{price:.{places}f}" for price in prices}) == len(prices)


def text_of(rows: list[Row]) -> list[str]:
    return ["".join(part.text for part in row) for row in rows]


def order(instrument: str, limit_price: float, average_price: float) -> OrderRow:
    return OrderRow("x", 1, instrument, "buy", 5.0, limit_price, OrderState.FILLED, 5.0, average_price, 0.0, "")


SNAPSHOT = replace(
    empty_snapshot(),
    orders=(
        order("PEPEUSDT", 0.00001234, 0.0),
        order("PEPEUSDT", 0.00001235, 0.0000123456),
        order("BTCUSDT", 109_431.25, 109_431.2512),
        order("BTCUSDC", 109_431.25, 0.0),
    ),
    positions=(
        PositionRow("PEPEUSDT", 2e6, 0.0000123412, 0.00001235, 0.0, 1.0),
        PositionRow("EURUSD", 1_000.0, 1.08425, 1.08431, 0.0, 1.0),
        PositionRow("BTCUSDT", 0.25, 109_431.2512, 109_431.0, 0.0, 1.0),
    ),
)


@pytest.mark.parametrize("width", [48, 80])
def test_small_prices_are_shown_to_their_tick_and_names_apart(width: int) -> None:
    heading, *orders = text_of(order_rows(SNAPSHOT, width, 10))
    step = "     1  " if width >= 52 else ""
    assert [row.removeprefix(step) for row in orders] == [
        "PEPEUSDT buy       5 0.00001234  filled",
        "PEPEUSDT buy       5 0.00001235  filled",
        "BTCUSDT  buy       5 109,431.25  filled",
        "BTCUSDC  buy       5 109,431.25  filled",
    ]
    assert heading.index("side") == orders[0].index("buy")
    assert heading.index("state") == orders[0].index("filled")
    heading, *positions, _ = text_of(position_rows(SNAPSHOT, width, 10))
    marks = ("109,431.00", "1.08431", "0.00001235")
    assert [row.split()[0] for row in positions] == ["BTCUSDT", "EURUSD", "PEPEUSDT"]
    for row, mark in zip(positions, marks, strict=True):
        assert row.index(f" {mark} ") + 1 + len(mark) == heading.index("mark") + 4
    if width >= 66:
        assert [row.split()[2] for row in positions] == ["109,431.25", "1.08425", "0.00001234"]


def test_a_name_that_is_cut_says_so() -> None:
    assert shortened("ACME", 6) == "ACME  "
    assert shortened("1000SHIBUSDT", 9) == "1000SHIB…"
