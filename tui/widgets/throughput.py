"""Cycles per second and cycle time, now and over the last minutes."""

from __future__ import annotations

from tui.figures import milliseconds, rate, sparkline
from tui.view import View
from tui.widgets.panel import Panel, Part, Row


class ThroughputPanel(Panel):
    """Two figures with their history, one column a second."""

    def heading(self, view: View) -> str:
        return "Throughput"

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        tall = max(1, min(4, (height - 1) // 2)) if height >= 4 else 1
        label = 18 if width >= 40 else 12
        room = width - label
        speeds = sparkline([float(second.cycles) for second in view.seconds], room, tall)
        times = sparkline([second.cycle_ms for second in view.seconds], room, tall)
        cycle = view.table.root
        unit = (" cycles/s", " ms a cycle") if width >= 40 else ("/s", " ms")
        out: list[Row] = []
        for figure, name, lines, style in (
            (rate(view.cycles_per_s), unit[0], speeds, "accent"),
            (milliseconds(cycle.p50_ms) if view.table.cycles else "–", unit[1], times, "inside"),
        ):
            for i, line in enumerate(lines):
                last = i == len(lines) - 1
                text = (Part(f"{figure:>6}", "strong"), Part(name, "muted")) if last else ()
                used = 6 + len(name) if last else 0
                out.append((*text, Part(" " * (label - used)), Part(line, style)))
        if height > 2 * tall:
            out.append(_totals(view, width))
        if height > 2 * tall + 1:
            out.append(_counts(view))
        return out


def _totals(view: View, width: int) -> Row:
    cycle = view.table.root
    parts = [
        Part("   p95 ", "muted"),
        Part(milliseconds(cycle.p95_ms)),
        Part("   p99 ", "muted"),
        Part(milliseconds(cycle.p99_ms)),
        Part(" ms", "muted"),
    ]
    if width >= 44:
        parts += [Part(f"   {view.snapshot.cycles_total:,}"), Part(" cycles", "muted")]
    return tuple(parts)


def _counts(view: View) -> Row:
    return (
        Part(f"{view.decisions_per_cycle:>6.1f}"),
        Part(" decisions a cycle  ", "muted"),
        Part(f"{view.orders_per_cycle:.1f}"),
        Part(" orders a cycle", "muted"),
    )
