"""The plots of a report as SVG, by matplotlib without a display; text stays text."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np

from core.report.profile import Verdict
from core.report.report import Report
from core.spans import ROOT

INK = "#1b1f24"
FAINT = "#c9d1d9"
ACCENT = "#2563a8"
MEASURED = "#b3541e"
COLOURS = {
    Verdict.CRITICAL: "#a4262c",
    Verdict.HIGH: "#c8641d",
    Verdict.MEDIUM: "#b8901f",
    Verdict.ACCEPTABLE: "#4a7d4f",
    Verdict.NEGLIGIBLE: "#8a929b",
}
SPANS_SHOWN = 14
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tradetui",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
}


class PlotLibraryError(RuntimeError):
    """matplotlib is not installed; the text says how to get it."""


def draw(report: Report) -> dict[str, str]:
    """Every plot that the report has data for, as an `<svg>` element by name. Raises PlotLibraryError."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        raise PlotLibraryError("the plots of an HTML report need matplotlib: pip install 'tradetui[report]'") from None
    plots: dict[str, Callable[[Any, Report], None]] = {"cycles": _cycles, "ranking": _ranking, "trace": _trace}
    if report.optimisations:
        plots["projections"] = _projections
    heights = {"cycles": 2.5, "ranking": 4.0, "trace": 2.6, "projections": 1.0 + 0.42 * len(report.optimisations)}
    found = {}
    with mpl.rc_context(STYLE):
        for name, plot in plots.items():
            figure = Figure(figsize=(8.6, heights[name]), layout="constrained")
            plot(figure, report)
            found[name] = _svg(figure)
    return found


def _svg(figure: Any) -> str:
    """Without XML prologue and metadata, so that it can stand in a page and names no address but the namespaces."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :].strip()


def _cycles(figure: Any, report: Report) -> None:
    wall = np.array([record.wall_ms for record in report.evidence.cycles])
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    left.plot(wall, ".", color=ACCENT, markersize=2, alpha=0.5, rasterized=False)
    width = max(1, len(wall) // 50)
    if width > 1:
        middle = np.array([np.median(wall[max(0, k - width) : k + width]) for k in range(len(wall))])
        left.plot(middle, color=INK, linewidth=1.2, label="running median")
        left.legend(frameon=False, loc="upper right")
    left.set_ylim(0, float(np.quantile(wall, 0.995)) * 1.15)
    left.set_xlabel("cycle, in order")
    left.set_ylabel("ms")
    ordered = np.sort(wall)
    right.plot(ordered, np.arange(1, len(wall) + 1) / len(wall), color=ACCENT)
    for rank in (0.5, 0.95, 0.99):
        right.axhline(rank, color=FAINT, linewidth=0.8)
    right.set_yticks((0.0, 0.5, 0.95, 0.99), ("0", "p50", "p95", ""))
    right.text(1.0, 0.99, " p99", va="bottom", transform=right.get_yaxis_transform(), fontsize=9)
    right.set_xlim(0, float(np.quantile(wall, 0.995)) * 1.15)
    right.set_xlabel("ms")
    right.set_ylabel("of cycles")


def _ranking(figure: Any, report: Report) -> None:
    rows = [row for row in report.profile.ranking if row.name != ROOT][:SPANS_SHOWN][::-1]
    axes = figure.subplots()
    share = np.array([row.exclusive_share for row in rows]) * 100
    low = np.maximum(share - np.array([row.low for row in rows]) * 100, 0.0)
    high = np.maximum(np.array([row.high for row in rows]) * 100 - share, 0.0)
    axes.barh(
        [row.name for row in rows],
        share,
        xerr=(low, high),
        color=[COLOURS[row.verdict] for row in rows],
        error_kw={"ecolor": INK, "elinewidth": 0.9, "capsize": 2},
    )
    for k, row in enumerate(rows):
        _beside(axes, row.high * 100, k, f"{row.exclusive_share:.1%}")
    axes.set_xlabel("exclusive share of wall time, %")
    axes.margins(x=0.12)


def _beside(axes: Any, x: float, y: float, text: str) -> None:
    """A label some points to the right of a bar's end."""
    axes.annotate(text, (x, y), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8)


def _trace(figure: Any, report: Report) -> None:
    steps = report.profile.steps
    axes = figure.subplots()
    at = 0.0
    for k, step in enumerate(steps):
        colour = FAINT if step.name == "untimed" else ACCENT
        axes.barh(k, step.ms, left=at, color=colour)
        _beside(axes, at + step.ms, k, f"{step.ms:.2f} ms")
        at += step.ms
    axes.set_yticks(range(len(steps)), [step.name for step in steps])
    axes.invert_yaxis()
    axes.set_xlabel("ms of the mean cycle")
    axes.margins(x=0.12)


def _projections(figure: Any, report: Report) -> None:
    rows = report.optimisations[::-1]
    axes = figure.subplots()
    for k, each in enumerate(rows):
        if each.projected is not None:
            axes.plot(each.projected, k, "|", color=ACCENT, markersize=14, markeredgewidth=2.5)
        if each.measured is not None:
            m = each.measured
            axes.plot((m.low, m.high), (k, k), color=MEASURED, linewidth=1.5)
            axes.plot(m.ratio, k, "o", color=MEASURED, markersize=5)
    axes.axvline(1.0, color=FAINT, linewidth=1)
    axes.set_yticks(range(len(rows)), [each.name for each in rows])
    axes.set_xscale("log")
    ticks = [
        tick
        for tick in (0.5, 0.8, 1, 1.25, 1.5, 2, 3, 5, 10, 20, 50)
        if axes.get_xlim()[0] <= tick <= axes.get_xlim()[1]
    ]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("times as fast (logarithmic); 1: no change")
    axes.plot([], [], "|", color=ACCENT, markersize=10, markeredgewidth=2.5, label="at most (Amdahl)")
    axes.plot([], [], "o-", color=MEASURED, markersize=5, label="measured, 95 %")
    axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2)
