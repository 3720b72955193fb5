"""What became of the orders: counts by state, reasons for refusals, and the profit over time."""

from __future__ import annotations

from collections import Counter

from core.records import OrderState
from tui.figures import money, plain, sparkline
from tui.view import View
from tui.widgets.panel import Panel, Part, Row
from tui.widgets.trading import profit
from tui.widgets.trading_results import results_rows

_ORDER = tuple(OrderState)


class LifeCyclePanel(Panel):
    """Of the latest orders the count in each state, and why some were refused."""

    TICKS_A_DRAW = 5

    def heading(self, view: View) -> str:
        return f"Life cycle of the last {len(view.snapshot.orders)} orders"

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        s = view.snapshot
        out: list[Row] = []
        counts = Counter(order.state for order in s.orders)
        largest = max(counts.values(), default=1)
        for state in _ORDER:
            if counts[state]:
                bar = "█" * max(1, round(counts[state] / largest * max(1, width - 24)))
                out.append((Part(f"{state:<17}"), Part(f"{counts[state]:>4} "), Part(bar, "own")))
        reasons = Counter(plain(order.reason) for order in s.orders if order.reason)
        for reason, count in reasons.most_common():
            out.append((Part(f"{count:>4} ", "warning"), Part(reason, "muted")))
        if s.denials:
            out.append((Part("denied since the node started", "muted"),))
        out += [(Part(f"{count:>7,} ", "warning"), Part(plain(reason))) for reason, count in s.denials]
        return out[:height]


class ProfitPanel(Panel):
    """Profit now, what trading has come to, and equity a second."""

    TICKS_A_DRAW = 5

    def heading(self, view: View) -> str:
        return "Profit"

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        realised, unrealised = profit(view.snapshot)
        total = realised + unrealised
        style = "good" if total > 0 else "loss" if total < 0 else "muted"
        out: list[Row] = [
            (Part(money(total), style), Part("  equity ", "muted"), Part(f"{view.snapshot.equity:,.0f}", "strong")),
            (Part("realised ", "muted"), Part(money(realised)), Part("  cash ", "muted"),
             Part(f"{view.snapshot.cash:,.0f}")),
            (Part("unrealised ", "muted"), Part(money(unrealised))),
        ]  # fmt: skip
        out += results_rows(view.snapshot, width)
        values = view.equity
        if len(values) >= 2 and height >= len(out) + 2:
            low, high = min(values), max(values)
            lines = sparkline([value - low for value in values], width, min(6, height - len(out) - 1))
            out += [(Part(line, "rate"),) for line in lines]
            out.append((Part(f"equity a second, {low:,.0f} to {high:,.0f}", "muted"),))
        return out[:height]
