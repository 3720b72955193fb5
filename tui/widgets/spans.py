"""Where the cycle's time goes: one bar per span on a common axis of milliseconds.

A bar has three marks: solid, the time of the span itself (exclusive, mean per cycle); a thin line on to its p50 with
everything nested in it (inclusive); an upright tick at its p99. The shares of all rows, `untimed` included, add up to
the whole cycle. Where rows are short, groups are folded into one row that keeps the time of what it hides.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from core.spans import INDEX, NAMES, PARENT, ROOT
from core.statistics import SpanRow, SpanTable
from tui.figures import EIGHTHS, milliseconds, percent
from tui.view import WINDOW_CYCLES, View
from tui.widgets.panel import Panel, Part, Row

_CHILDREN: dict[str, tuple[str, ...]] = {
    name: tuple(child for child, parent in PARENT.items() if parent == name) for name in NAMES
}
UNFOLD_ORDER = (
    "quic_coordination",
    "order_execution",
    "pattern_matching_dtw",
    "strategy_execution",
    "risk_calculations",
    "reasoningbank_query",
    "news_sentiment_analysis",
    "strategy_signal_generation",
)
"""Groups are opened in this order while rows are left: a fixed order, so that no row jumps while figures move."""
_ALWAYS = 2 + len(_CHILDREN[ROOT])


@dataclass(frozen=True, slots=True)
class ShownSpan:
    """A row of the panel: a span, with the exclusive time of the spans folded into it."""

    span: SpanRow
    exclusive_ms: float
    exclusive_share: float
    folded: int


def shown_spans(table: SpanTable, rows: int) -> list[ShownSpan]:
    """As many spans as `rows` allow, in the order of the cycle, `untimed` last and always there."""
    spans = table.rows
    shown = []
    for index, hidden in (*_families(rows)[: max(0, rows - 1)], (-1, ())):
        span = spans[index]
        own_ms, share = span.exclusive_ms, span.exclusive_share
        for other in hidden:
            own_ms += spans[other].exclusive_ms
            share += spans[other].exclusive_share
        shown.append(ShownSpan(span, own_ms, share, len(hidden)))
    return shown


@lru_cache(maxsize=256)
def _families(rows: int) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """Which spans `rows` rows show, each with those folded into it; as indices into `NAMES`."""
    left = rows - _ALWAYS
    opened = {ROOT}
    for name in UNFOLD_ORDER:
        if PARENT[name] in opened and len(_CHILDREN[name]) <= left:
            opened.add(name)
            left -= len(_CHILDREN[name])
    return tuple(
        (INDEX[name], () if name in opened else tuple(INDEX[other] for other in _below(name)))
        for name in NAMES
        if name == ROOT or PARENT[name] in opened
    )


def _below(name: str) -> list[str]:
    return [other for child in _CHILDREN[name] for other in (child, *_below(child))]


def bar(own_ms: float, inclusive_ms: float, p99_ms: float, scale_ms: float, width: int, largest: bool) -> list[Part]:
    """The three marks on `width` cells: solid to `own_ms`, thin to `inclusive_ms`, tick at `p99_ms`."""
    if width <= 0:
        return []
    eighths = min(8 * width, round(own_ms / scale_ms * 8 * width))
    if own_ms > 0.0:
        eighths = max(1, eighths)
    line = max(0, min(width, round(inclusive_ms / scale_ms * width)) - (eighths + 7) // 8)
    return list(_marks(eighths, line, min(width - 1, int(p99_ms / scale_ms * width)), width, largest))


@lru_cache(maxsize=4_096)
def _marks(eighths: int, line: int, tick: int, width: int, largest: bool) -> tuple[Part, ...]:
    """The cells of a bar, neighbours of one style joined. Most bars are as they were a tick ago."""
    solid = "█" * (eighths // 8) + (EIGHTHS[eighths % 8] if eighths % 8 else "")
    cells = [(c, "largest" if largest else "own") for c in solid] + [("─", "inside")] * line
    cells += [(" ", "plain")] * (width - len(cells))
    if tick > max(len(solid) - 1, 0):  # a tick on the solid bar would hide it, and says nothing at that width
        cells[tick] = ("│", "tick")
    parts: list[Part] = []
    for text, style in cells:
        if parts and parts[-1].style == style:
            parts[-1] = Part(parts[-1].text + text, style)
        else:
            parts.append(Part(text, style))
    return tuple(parts)


@dataclass(frozen=True, slots=True)
class _Columns:
    name: int
    p50: int
    count: bool
    p99: bool
    bar: int


def _columns(width: int) -> _Columns:
    name = 27 if width < 60 else 34
    p50 = 6 if width < 60 else 7
    left = width - name - p50 - 6
    p99 = left >= 22
    count = left >= 38
    return _Columns(name, p50, count, p99, left - 7 * p99 - 8 * count)


class SpansPanel(Panel):
    """The timing table."""

    TICKS_A_DRAW = 2

    def heading(self, view: View) -> str:
        cycles = view.table.cycles
        if not cycles:
            return "No cycle under these toggles yet"
        few = f" of {WINDOW_CYCLES}" if cycles < WINDOW_CYCLES and self.size.width >= 60 else ""
        return f"Time per cycle, last {cycles}{few} cycles"

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        columns = _columns(width)
        legend = height >= len(NAMES) + 4
        shown = shown_spans(view.table, height - 1 - 2 * legend)
        largest = max(shown[1:], key=lambda span: span.exclusive_ms, default=None)
        out = [_header(columns, view.scale_ms)]
        per_cycle = max(1, view.table.cycles)
        out += [
            _span_row(span, columns, view.scale_ms, per_cycle, span is largest and span.exclusive_ms > 0.0)
            for span in shown
        ]
        if legend:
            out += [(), _legend()]
        return out


def _header(columns: _Columns, scale_ms: float) -> Row:
    end = f"{scale_ms:g} ms"
    axis = "0 " + "─" * max(0, columns.bar - len(end) - 3) + " " + end
    return (
        Part("span".ljust(columns.name), "muted"),
        Part("   calls" if columns.count else "", "muted"),
        Part("p50 ms".rjust(columns.p50), "muted"),
        Part(" p99 ms" if columns.p99 else "", "muted"),
        Part("  own ", "muted"),
        Part(axis[: columns.bar].ljust(columns.bar), "muted"),
    )


def _legend() -> Row:
    return (
        Part("█", "own"),
        Part(" own time  ", "muted"),
        Part("──", "inside"),
        Part(" with nested spans, p50  ", "muted"),
        Part("│", "tick"),
        Part(" p99", "muted"),
    )


def _span_row(span: ShownSpan, columns: _Columns, scale_ms: float, cycles: int, largest: bool) -> Row:
    row = span.span
    fold = f" +{span.folded}" if span.folded else ""
    name = " " * (row.depth if columns.name > 27 else max(0, row.depth - 1)) + row.name
    room = columns.name - len(fold)
    ran = row.count > 0 and row.inclusive_ms > 0.0
    weight = "strong" if largest or row.depth == 0 else "plain" if row.depth == 1 else "muted"
    parts = [
        Part((name if len(name) <= room else name[: room - 1] + "…"), weight),
        Part(fold.ljust(columns.name - min(len(name), room)), "muted"),
    ]
    if columns.count:
        parts.append(Part(f"{row.count / cycles:>8,.0f}" if ran else "       –", "muted"))
    parts.append(Part(f"{milliseconds(row.p50_ms) if ran else '–':>{columns.p50}}", weight if largest else "plain"))
    if columns.p99:
        parts.append(Part(f"{milliseconds(row.p99_ms) if ran else '–':>7}", "muted"))
    share = percent(span.exclusive_share) if ran and row.depth else ""
    parts.append(Part(f"{share:>5} ", "largest" if largest else "plain"))
    if row.depth == 0:
        return tuple(parts)
    if row.background_ms > 0.0 and row.inclusive_ms == 0.0:
        parts.append(Part(f"{milliseconds(row.background_ms / cycles)} ms behind", "muted"))
    else:
        parts += bar(span.exclusive_ms / cycles, row.p50_ms, row.p99_ms, scale_ms, columns.bar, largest)
    return tuple(parts)
