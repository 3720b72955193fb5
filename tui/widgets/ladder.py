"""The venue's book as a ladder: asks above, bids below, sizes as bars, own orders marked."""

from __future__ import annotations

from core.book_ladder import BookLadder, LadderLevel
from core.quote_reading import QuoteReading
from tui.figures import decimal_places, plain, quantity
from tui.view import View
from tui.widgets.panel import Panel, Part, Row


class LadderPanel(Panel):
    """One instrument at a time; `[` and `]` go to the one before and after."""

    TICKS_A_DRAW = 5

    def heading(self, view: View) -> str:
        return f"Book of {plain(view.instrument)}, ● own" if view.instrument else "Book"

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        keys = (Part(" [ ", "key", "app.choose(-1)"), Part(" ] ", "key", "app.choose(1)"), Part(" instrument", "muted"))
        if view.ladder is None:
            return [keys, (Part(view.ladder_note or "asking the venue …", "muted"),)]
        ladder = view.ladder
        room = max(0, height - 2 - (view.quotes is not None))
        above = min(len(ladder.asks), room - min(len(ladder.bids), room // 2))
        asks, bids = ladder.asks[:above], ladder.bids[: room - above]
        largest = max((level.quantity for level in (*asks, *bids)), default=0.0)
        places = decimal_places(level.price for level in (*ladder.bids, *ladder.asks))
        rows = [_level("ask", level, largest, width, places) for level in reversed(asks)]
        rows.append(_spread(ladder, places))
        rows += [_pressure(view.quotes, places)] if view.quotes is not None else []
        rows += [_level("bid", level, largest, width, places) for level in bids]
        return [keys, *rows]


def _level(side: str, level: LadderLevel, largest: float, width: int, places: int) -> Row:
    own = f"● {quantity(level.own_quantity)}" if level.own_quantity else ""
    bar = max(0, width - 38)
    cells = "█" * max(1, round(level.quantity / largest * bar)) if bar and largest and level.quantity else ""
    return (
        Part(f"{side} ", "error" if side == "ask" else "good"),
        Part(f"{level.price:>12,.{places}f}"),
        Part(f"{quantity(level.quantity):>11} "),
        Part(f"{own:<10}", "accent"),
        Part(cells, "inside"),
    )


def _spread(ladder: BookLadder, places: int) -> Row:
    if not ladder.bids or not ladder.asks:
        return (Part("one side is empty" if ladder.bids or ladder.asks else "the book is empty", "warning"),)
    bid, ask = ladder.bids[0].price, ladder.asks[0].price
    return (
        Part(
            f"    {ask - bid:>12,.{places}f} spread, {(ask - bid) / ((ask + bid) / 2) * 1e4:.1f} basis points", "muted"
        ),
    )


def _pressure(quotes: QuoteReading, places: int) -> Row:
    """A positive flow came to the bid or left the ask."""
    since = f" in {quotes.looks} looks" if quotes.looks else ""
    # one place more than the prices, its point under theirs
    price = f"{quotes.microprice:>13,.{places + 1}f}"
    return (Part(f"    {price} microprice, order flow {quotes.flow:+,.0f}{since}", "muted"),)
