"""Orders, positions and the log of events: rows for the single panels and for the switchable pane."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Iterable, Sequence

from core.records import EventRow, OrderRow, OrderState, PositionRow, Severity, SwarmSnapshot
from tui.figures import clock, decimal_places, money, plain, quantity, shortened
from tui.view import View
from tui.widgets.panel import Panel, Part, Row, row_of

_STATE_STYLE = {
    OrderState.FILLED: "good",
    OrderState.REJECTED: "error",
    OrderState.DENIED: "warning",
    OrderState.UNKNOWN: "warning",
    OrderState.EXPIRED: "warning",
}
_SEVERITY = {Severity.INFO: ("·", "muted"), Severity.WARNING: ("!", "warning"), Severity.ERROR: ("×", "error")}


_SMALL_PRICE = 10.0
"""From here on a cent is less than a thousandth of the price."""


def _places(snapshot: SwarmSnapshot) -> defaultdict[str, int]:
    """Decimals by instrument: as many as its prices on ticks have where they are small, else 2."""
    prices = defaultdict[str, list[float]](list)
    for order in snapshot.orders:
        prices[order.instrument].append(order.limit_price)
    for position in snapshot.positions:
        prices[position.instrument].append(position.mark_price)
    small = {name: decimal_places(each) for name, each in prices.items() if max(each) < _SMALL_PRICE}
    return defaultdict(lambda: 2, small)


def _name_width(rows: Sequence[OrderRow | PositionRow], width: int) -> int:
    """Cells for the names: as many as the longest has, as far as there is room."""
    return min(12 if width >= 66 else 9, max((6, *(len(row.instrument) for row in rows))))


def order_rows(snapshot: SwarmSnapshot, width: int, height: int) -> list[Row]:
    """The latest orders first, under a heading where there is room."""
    if not snapshot.orders:
        return [(Part("no order yet", "muted"),)]
    step, heading = width >= 52, height >= 6
    orders = snapshot.orders[: max(0, height - heading)]
    places = _places(snapshot)
    shown = (f"{each.average_price or each.limit_price:,.{places[each.instrument]}f}" for each in orders)
    prices, name_width = _column("price", 10, shown), _name_width(orders, width)
    out: list[Row] = []
    if heading:
        columns = f"{'instr.':<{name_width}} side    qty{prices[0]}  state"
        out.append((Part(f"{'  step  ' if step else ''}{columns}", "muted"),))
    for order, price in zip(orders, prices[1:], strict=True):
        out.append(_order_row(order, step, shortened(plain(order.instrument), name_width), price))
    return out


def _order_row(order: OrderRow, step: bool, name: str, price: str) -> Row:
    state = str(order.state)
    if order.state is OrderState.PARTIALLY_FILLED:
        state = f"filled {quantity(order.filled_quantity)} of {quantity(order.quantity)}"
    return (
        Part(f"{order.step:>6,}  " if step else "", "muted"),
        Part(f"{name} "),
        Part(f"{plain(order.side):<4.4}"),
        Part(f"{quantity(order.quantity):>7}"),
        Part(f"{price}  "),
        Part(state, _STATE_STYLE.get(order.state, "plain")),
        Part(f": {plain(order.reason)}" if order.reason else "", "muted"),
    )


def profit(snapshot: SwarmSnapshot) -> tuple[float, float]:
    """Realised and unrealised profit over all positions, quote currency."""
    return sum(row.realised for row in snapshot.positions), sum(row.unrealised for row in snapshot.positions)


def position_rows(snapshot: SwarmSnapshot, width: int, height: int) -> list[Row]:
    """Largest positions by value first; the last row is the profit of all of them with the equity."""
    if not snapshot.positions:
        return [(Part("no position yet", "muted"),)]
    heading = height >= 6
    ranked = sorted(snapshot.positions, key=lambda row: -abs(row.quantity * row.mark_price))
    shown = ranked[: max(0, height - heading - 1)]
    places = _places(snapshot)
    quantities = _column("qty", 9, (quantity(row.quantity) for row in shown))
    prices = _column("price", 11, (f"{row.average_price:,.{places[row.instrument]}f}" for row in shown))
    marks = _column("mark", 10, (f"{row.mark_price:,.{places[row.instrument]}f}" for row in shown))
    if width < 66:
        prices = [""] * len(prices)
    name_width = _name_width(shown, width)
    out: list[Row] = []
    if heading:
        realised = "    realised" if width >= 50 else ""
        columns = f"{'instr.':<{name_width}}{quantities[0]}{prices[0]}{marks[0]}  unrealised{realised}"
        out.append((Part(columns, "muted"),))
    for row, *figures in zip(shown, quantities[1:], prices[1:], marks[1:], strict=True):
        out.append(_position_row(row, width, shortened(plain(row.instrument), name_width), *figures))
    out.append(_total_row(snapshot, width))
    return out


def _column(heading: str, least: int, figures: Iterable[str]) -> list[str]:
    """The heading and the figures, all as wide as the longest with a blank before it, `least` cells at the least."""
    texts = [heading, *figures]
    width = max((least, *(len(text) + 1 for text in texts)))
    return [f"{text:>{width}}" for text in texts]


def _position_row(row: PositionRow, width: int, name: str, held: str, price: str, mark: str) -> Row:
    return (
        Part(name),
        Part(held),
        Part(price, "muted"),
        Part(mark, "muted"),
        Part(f"{money(row.unrealised):>12}", _sign(row.unrealised)),
        Part(f"{money(row.realised):>12}" if width >= 50 else "", _sign(row.realised)),
    )


def _total_row(snapshot: SwarmSnapshot, width: int) -> Row:
    realised, unrealised = profit(snapshot)
    total = realised + unrealised
    left = [Part("profit ", "muted"), Part(money(total), _sign(total))]
    if width >= 50:
        left += [Part("  realised ", "muted"), Part(money(realised), _sign(realised))]
    return row_of(left, (Part("equity ", "muted"), Part(f"{snapshot.equity:,.0f}", "strong")), width)


def _sign(value: float) -> str:
    return "good" if value > 0.0 else "loss" if value < 0.0 else "muted"


def event_rows(snapshot: SwarmSnapshot, width: int, height: int) -> list[Row]:
    """The latest events, the newest last; long ones go on in a second and third line where there is room."""
    if not snapshot.events:
        return [(Part("nothing happened yet", "muted"),)]
    out: list[Row] = []
    for event in reversed(snapshot.events[-height:]):
        lines = _event_rows(event, width, 3 if height >= 8 else 1)
        if len(out) + len(lines) > height:
            break
        out = [*lines, *out]
    return out


def _event_rows(event: EventRow, width: int, lines: int) -> list[Row]:
    mark, style = _SEVERITY[event.severity]
    word = "" if event.severity is Severity.INFO else f"{event.severity}: "
    head = f"{clock(event.time_ns)} "
    source, text = plain(event.source), f"{word}{plain(event.text)}"
    indent = " " * (len(head) + 2)
    folded = textwrap.wrap(f"{source}  {text}", max(20, width - len(indent)), max_lines=lines, placeholder="…")
    said = style if word else "plain"
    first = folded[0]
    rows: list[Row] = [
        (
            Part(head, "muted"),
            Part(f"{mark} ", style),
            Part(first[: len(source)], "muted"),
            Part(first[len(source) :], said),
        )
    ]
    return rows + [(Part(indent), Part(line, said)) for line in folded[1:]]


_LIST_TICKS = 5


class OrdersPanel(Panel):
    TICKS_A_DRAW = _LIST_TICKS

    def heading(self, view: View) -> str:
        return "Orders"

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        s = view.snapshot
        totals = (
            Part(f"{s.orders_sent_total:,}", "strong"),
            Part(" sent  ", "muted"),
            Part(f"{s.orders_filled_total:,}"),
            Part(" filled  ", "muted"),
            Part(f"{s.orders_rejected_total:,}"),
            Part(" rejected  ", "muted"),
            Part(f"{s.denied_total:,}"),
            Part(" denied", "muted"),
        )
        return [totals, *order_rows(s, width, height - 1)]


class PositionsPanel(Panel):
    TICKS_A_DRAW = _LIST_TICKS

    def heading(self, view: View) -> str:
        return "Positions and profit"

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        return position_rows(view.snapshot, width, height)


class EventsPanel(Panel):
    def heading(self, view: View) -> str:
        return "Events"

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        return event_rows(view.snapshot, width, height)


TABS = ("orders", "positions", "events")
_ROWS = {"orders": order_rows, "positions": position_rows, "events": event_rows}


class PanePanel(Panel):
    """Orders, positions or events, one at a time; the tabs are its first row."""

    TICKS_A_DRAW = _LIST_TICKS
    tab = TABS[0]

    def select(self, tab: str) -> None:
        self.tab = tab
        if self._view is not None:
            self.draw(self._view)

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        tabs = tuple(
            Part(f" {name} ", "chosen" if name == self.tab else "muted", f"app.show_tab('{name}')") for name in TABS
        )
        s = view.snapshot
        brief = f"{s.orders_sent_total:,} sent" if self.tab == "orders" else ""
        head = row_of(tabs, (Part(brief, "muted"),), width)
        return [head, *_ROWS[self.tab](s, width, height - 1)]
