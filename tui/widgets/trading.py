"""Orders, positions and the log of events: rows for the single panels and for the switchable pane."""

from __future__ import annotations

import textwrap

from core.records import EventRow, OrderRow, OrderState, PositionRow, Severity, SwarmSnapshot
from tui.figures import clock, money, plain, quantity
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


def order_rows(snapshot: SwarmSnapshot, width: int, height: int) -> list[Row]:
    """The latest orders first, under a heading where there is room."""
    if not snapshot.orders:
        return [(Part("no order yet", "muted"),)]
    step = width >= 52
    out: list[Row] = []
    if height >= 6:
        out.append((Part(f"{'  step  ' if step else ''}instr. side    qty     price  state", "muted"),))
    return out + [_order_row(order, step) for order in snapshot.orders[: height - len(out)]]


def _order_row(order: OrderRow, step: bool) -> Row:
    state = str(order.state)
    if order.state is OrderState.PARTIALLY_FILLED:
        state = f"filled {quantity(order.filled_quantity)} of {quantity(order.quantity)}"
    return (
        Part(f"{order.step:>6,}  " if step else "", "muted"),
        Part(f"{plain(order.instrument):<6.6} "),
        Part(f"{plain(order.side):<4.4}"),
        Part(f"{quantity(order.quantity):>7} "),
        Part(f"{order.average_price or order.limit_price:>9,.2f}  "),
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
    out: list[Row] = []
    if height >= 6:
        price = "      price" if width >= 66 else ""
        realised = "    realised" if width >= 50 else ""
        out.append((Part(f"instr.      qty{price}      mark  unrealised{realised}", "muted"),))
    ranked = sorted(snapshot.positions, key=lambda row: -abs(row.quantity * row.mark_price))
    out += [_position_row(row, width) for row in ranked[: max(0, height - len(out) - 1)]]
    out.append(_total_row(snapshot, width))
    return out


def _position_row(row: PositionRow, width: int) -> Row:
    return (
        Part(f"{plain(row.instrument):<6.6}"),
        Part(f"{quantity(row.quantity):>9}"),
        Part(f"{row.average_price:>11,.2f}" if width >= 66 else "", "muted"),
        Part(f"{row.mark_price:>10,.2f}", "muted"),
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
