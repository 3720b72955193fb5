"""A heat map over time: one span's latency, a column a second, a row a range of times, darker for more cycles."""

from __future__ import annotations

import numpy as np

from core.latency_heat import BUCKETS, SpanHeat, bucket_ms
from tui.figures import milliseconds
from tui.view import View
from tui.widgets.panel import Panel, Part, Row, row_of

SHADES = " ░▒▓█"
"""Of the cycles of one second: none, up to a tenth, a quarter, a half, more. Told apart without colour."""
_SHARES = np.array([0.0, 0.1, 0.25, 0.5])
LABEL_CELLS = 9


class HeatPanel(Panel):
    """`[` and `]` go to the span before and after."""

    TICKS_A_DRAW = 5

    def heading(self, view: View) -> str:
        heat = view.heat
        name = heat.span if heat is not None else "latency"
        return f"{name} over time, ms: ░ ▒ ▓ █ to 10, 25, 50, 100 % of a second's cycles"

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        keys = (Part(" [ ", "key", "app.choose(-1)"), Part(" ] ", "key", "app.choose(1)"), Part(" span", "muted"))
        heat = view.heat
        seconds = max(0, width - LABEL_CELLS)
        if heat is None or not heat.counts[-seconds:].any():
            return [keys, (Part("no cycle of it yet", "muted"),)]
        lines = heat_lines(heat, seconds, max(1, height - 2))
        room = LABEL_CELLS - 1
        out: list[Row] = [(Part(f"{label:>{room}} ", "muted"), Part(cells, "time")) for label, cells in lines]
        shown = min(seconds, heat.counts.shape[0])
        return [*out, row_of((*keys, Part(f"  the last {shown} seconds", "muted")), (Part("now", "muted"),), width)]


def heat_lines(heat: SpanHeat, seconds: int, height: int) -> list[tuple[str, str]]:
    """At most `height` lines of (lower end of the range, one cell a second), the slowest first.

    Only the ranges in which cycles fell are shown; where they are more than lines, neighbours are put together.
    """
    counts = heat.counts[-seconds:].astype(np.int64)
    used = np.flatnonzero(counts.any(axis=0))
    first, last = int(used[0]), int(used[-1])
    together = -(-(last - first + 1) // height)
    edges = list(range(first, last + 1, together))
    totals = np.maximum(1, counts.sum(axis=1))
    lines = []
    for edge in edges:
        share = counts[:, edge : min(edge + together, BUCKETS)].sum(axis=1) / totals
        cells = "".join(SHADES[k] for k in np.searchsorted(_SHARES, share, side="left"))
        lines.append((milliseconds(bucket_ms(edge)), cells.rjust(seconds)))
    return lines[::-1]
