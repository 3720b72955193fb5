"""Cycles per second and cycle time, now and over the last minutes."""

from __future__ import annotations

from itertools import groupby

from tui.figures import milliseconds, rate, sparkline
from tui.view import View
from tui.widgets.panel import Panel, Part, Row


class ThroughputPanel(Panel):
    """Two figures with their history, one column a second."""

    TICKS_A_DRAW = 2

    def heading(self, view: View) -> str:
        return "Throughput"

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        tall = max(1, min(4, (height - 2) // 2))
        apart = height >= 2 * tall + 3
        label = 18 if width >= 40 else 15
        room = width - label
        speeds = sparkline([float(second.cycles) for second in view.seconds], room, tall)
        times = sparkline([second.cycle_ms for second in view.seconds], room, tall)
        cycle = view.table.root
        unit = (" cycles/s", " ms a cycle") if width >= 40 else (" cycles/s", " ms/cycle")
        out: list[Row] = []
        for figure, name, lines, style in (
            (rate(view.cycles_per_s), unit[0], speeds, "rate"),
            (milliseconds(cycle.p50_ms) if view.table.cycles else "–", unit[1], times, "time"),
        ):
            for i, line in enumerate(lines):
                last = i == len(lines) - 1
                text = (Part(f"{figure:>5}", "strong"), Part(name, "muted")) if last else ()
                used = 5 + len(name) if last else 0
                above = lines[i - 1] if i else " " * room
                out.append((*text, Part(" " * (label - used)), *_shade(line, above, style)))
            if apart:
                out.append(())
        return [*out, _totals(view, width), _counts(view)]


def _shade(line: str, above: str, style: str) -> list[Part]:
    """`line` with the cells that others stand on in a quieter style: the eye follows the top of the curve."""
    stretches = groupby(zip(line, above, strict=True), key=lambda cell: cell[1] != " ")
    return [
        Part("".join(mark for mark, _ in cells), f"{style}-below" if below else style) for below, cells in stretches
    ]


def _totals(view: View, width: int) -> Row:
    cycle = view.table.root
    parts = [
        Part("  p95 ", "muted"),
        Part(milliseconds(cycle.p95_ms) if view.table.cycles else "–"),
        Part("   p99 ", "muted"),
        Part(milliseconds(cycle.p99_ms) if view.table.cycles else "–"),
        Part(" ms", "muted"),
    ]
    if width >= 44:
        parts += [Part(f"   {view.snapshot.cycles_total:,}"), Part(" cycles", "muted")]
    return tuple(parts)


def _counts(view: View) -> Row:
    return (
        Part(f"{view.decisions_per_cycle:>5.1f}"),
        Part(" decisions a cycle  ", "muted"),
        Part(f"{view.orders_per_cycle:.1f}"),
        Part(" orders a cycle", "muted"),
    )
