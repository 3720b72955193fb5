"""Orders, positions and the log of events: rows for the single panels and for the switchable pane."""

from __future__ import annotations

from core.records import OrderRow, OrderState, Severity, SwarmSnapshot
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
    """The latest orders first, under a line of totals where there is room."""
    if not snapshot.orders:
        return [(Part("no order yet", "muted"),)]
    wide = width >= 56
    out: list[Row] = []
    if height >= 6:
        heading = (
            "  step  instrument side        qty       price  state" if wide else "instr. side    qty     price  state"
        )
        out.append((Part(heading, "muted"),))
    return out + [_order_row(order, wide) for order in snapshot.orders[: height - len(out)]]


def _order_row(order: OrderRow, wide: bool) -> Row:
    state = str(order.state)
    if order.state is OrderState.PARTIALLY_FILLED:
        state = f"filled {quantity(order.filled_quantity)} of {quantity(order.quantity)}"
    price = order.average_price or order.limit_price
    style = _STATE_STYLE.get(order.state, "plain")
    if wide:
        parts = [
            Part(f"{order.step:>6,}  ", "muted"),
            Part(f"{plain(order.instrument):<10.10} "),
            Part(f"{plain(order.side):<4.4} "),
            Part(f"{quantity(order.quantity):>10}  "),
            Part(f"{price:>10,.2f}  "),
            Part(state, style),
        ]
    else:
        parts = [
            Part(f"{plain(order.instrument):<6.6} "),
            Part(f"{plain(order.side):<4.4}"),
            Part(f"{quantity(order.quantity):>7} "),
            Part(f"{price:>9,.2f}  "),
            Part(state, style),
        ]
    if order.reason:
        parts.append(Part(f": {plain(order.reason)}", "muted"))
    return tuple(parts)


def profit(snapshot: SwarmSnapshot) -> tuple[float, float]:
    """Realised and unrealised profit over all positions, quote currency."""
    return sum(row.realised for row in snapshot.positions), sum(row.unrealised for row in snapshot.positions)


def position_rows(snapshot: SwarmSnapshot, width: int, height: int) -> list[Row]:
    """Largest positions by value first; the last row is the total with cash and equity."""
    if not snapshot.positions:
        return [(Part("no position yet", "muted"),)]
    wide = width >= 56
    out: list[Row] = []
    if height >= 6:
        heading = (
            "instrument         qty      price       mark   unrealised     realised"
            if wide
            else "instr.      qty      mark  unrealised"
        )
        out.append((Part(heading, "muted"),))
    ranked = sorted(snapshot.positions, key=lambda row: -abs(row.quantity * row.mark_price))
    for row in ranked[: max(0, height - len(out) - 1)]:
        unrealised = Part(f"{money(row.unrealised):>12}", _sign(row.unrealised))
        if wide:
            parts = [
                Part(f"{plain(row.instrument):<12.12}"),
                Part(f"{quantity(row.quantity):>10}"),
                Part(f"{row.average_price:>11,.2f}", "muted"),
                Part(f"{row.mark_price:>11,.2f}"),
                unrealised._replace(text=f" {unrealised.text}"),
                Part(f" {money(row.realised):>12}", _sign(row.realised)),
            ]
        else:
            parts = [
                Part(f"{plain(row.instrument):<6.6}"),
                Part(f"{quantity(row.quantity):>9}"),
                Part(f"{row.mark_price:>10,.2f}", "muted"),
                unrealised,
            ]
        out.append(tuple(parts))
    out.append(_total_row(snapshot, width))
    return out


def _total_row(snapshot: SwarmSnapshot, width: int) -> Row:
    realised, unrealised = profit(snapshot)
    total = realised + unrealised
    left = [Part("profit ", "muted"), Part(money(total), _sign(total))]
    if width >= 56:
        left += [Part("  realised ", "muted"), Part(money(realised), _sign(realised))]
    return row_of(left, (Part("equity ", "muted"), Part(f"{snapshot.equity:,.0f}", "strong")), width)


def _sign(value: float) -> str:
    return "good" if value > 0.0 else "error" if value < 0.0 else "muted"


def event_rows(snapshot: SwarmSnapshot, width: int, height: int) -> list[Row]:
    """The latest events, the newest last."""
    if not snapshot.events:
        return [(Part("nothing happened yet", "muted"),)]
    out = []
    for event in snapshot.events[-height:]:
        mark, style = _SEVERITY[event.severity]
        word = "" if event.severity is Severity.INFO else f"{event.severity}: "
        out.append(
            (
                Part(f"{clock(event.time_ns)} ", "muted"),
                Part(f"{mark} ", style),
                Part(f"{plain(event.source)}  ", "muted"),
                Part(f"{word}{plain(event.text)}", style if word else "plain"),
            )
        )
    return out


class OrdersPanel(Panel):
    def heading(self, view: View) -> str:
        s = view.snapshot
        return (
            f"Orders: {s.orders_sent_total:,} sent, {s.orders_filled_total:,} filled, "
            f"{s.orders_rejected_total:,} rejected, {s.denied_total:,} denied"
        )

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        return order_rows(view.snapshot, width, height)


class PositionsPanel(Panel):
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
