"""The profile as a ranking: what costs most, how it is spread, what halving it would give, what to try."""

from __future__ import annotations

from math import isfinite

from core.statistics import SpanRow
from core.toggles import Toggles, pressed
from core.what_if import ACTS_ON, amdahl, family
from tui.figures import milliseconds, percent, shortened
from tui.view import View
from tui.widgets.panel import Panel, Part, Row
from tui.widgets.toggles import value_word

LARGE_SHARE = 0.2
SMALL_SHARE = 0.02
WORTH_TRYING = "bmspcxod"
"""Where several toggles act on a span, the one that can save more of it comes first."""
LONG_TAIL = 5.0
"""p99.9 this many times p50 is a stall rather than work."""


def verdict(row: SpanRow, largest: bool, tail: float) -> tuple[str, str]:
    """A word of advice and its style. `tail` is p99.9 / p50 of the span, 0 where it is not known."""
    if largest:
        return "start here", "largest"
    if row.exclusive_share < SMALL_SHARE:
        return "leave it", "muted"
    if tail > LONG_TAIL:
        return "stalls", "warning"
    return ("worth it", "accent") if row.exclusive_share >= LARGE_SHARE else ("small", "plain")


def remedy(name: str, toggles: Toggles) -> str:
    """A key that changes a toggle which acts on the span and is not on yet, such as `b → on`; empty for none."""
    for key in WORTH_TRYING:
        if any(name in family(span) for span in ACTS_ON[key]) and value_word(toggles, key) in (
            "off",
            "msgpack",
            "bft",
            "python",
        ):
            return f"{key} → {value_word(pressed(toggles, key), key)}"
    return ""


class RankingPanel(Panel):
    """Spans by exclusive time, the largest first."""

    TICKS_A_DRAW = 5

    def heading(self, view: View) -> str:
        if not view.histogram_cycles:
            return "Where to start"
        own, all_of_them = view.table.cycles, view.histogram_cycles
        return f"Where to start: own time of the last {own} cycles, percentiles of all {all_of_them:,}"

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        wide = width >= 110
        name = 24 if not wide else 33 if width >= 124 else 24
        bar = width - name - (90 if wide else 50)
        head = f"{'span':<{name}}{'own ms':>7}{'share':>6}"
        if wide:
            head += f"{'p50':>8}{'p90':>8}{'p99':>8}{'p99.9':>8}{'max':>8}"
            head += f"{'÷2':>7}{'gone':>7}  "
        else:
            head += f"{'p99.9':>7}{'÷2':>6}  "
        out: list[Row] = [(Part(head + f"{'verdict':<11} try", "muted"),)]
        ranked = sorted(view.table.rows[1:], key=lambda row: -row.exclusive_ms)
        out += [
            _row(row, view, wide, name, bar, row is ranked[0] and row.exclusive_ms > 0.0)
            for row in ranked[: height - 1]
        ]
        return out


def _row(row: SpanRow, view: View, wide: bool, name: int, bar: int, largest: bool) -> Row:
    ranks = view.percentiles.get(row.name)
    own_ms = row.exclusive_ms / max(1, view.table.cycles)
    tail = ranks.p999_ms / ranks.p50_ms if ranks is not None and ranks.p50_ms else 0.0
    word, style = verdict(row, largest, tail)
    parts = [
        Part(f"{shortened(row.name, name - 1)} ", "largest" if largest else "plain"),
        Part(f"{milliseconds(own_ms):>7}"),
        Part(f"{percent(row.exclusive_share):>6}", "largest" if largest else "plain"),
    ]
    half, gone = amdahl(row.exclusive_share, 2.0), amdahl(row.exclusive_share, float("inf"))
    if wide:
        values = (ranks.p50_ms, ranks.p90_ms, ranks.p99_ms, ranks.p999_ms, ranks.max_ms) if ranks else ()
        parts.append(Part("".join(f"{milliseconds(value):>8}" for value in values) or " " * 40, "muted"))
        parts.append(Part(f"{half:>6.2f}×{f'{gone:.2f}×' if isfinite(gone) else '∞':>7}  "))
    else:
        parts.append(Part(f"{milliseconds(ranks.p999_ms) if ranks else '–':>7}", "muted"))
        parts.append(Part(f"{half:>5.2f}×  "))
    parts.append(Part(f"{word:<11} ", style))
    parts.append(Part(f"{remedy(row.name, view.snapshot.toggles) if row.exclusive_share >= SMALL_SHARE else '':<9}"))
    if bar >= 8:
        parts.append(Part(" " + "█" * round(row.exclusive_share * (bar - 1)), "own"))
    return tuple(parts)
