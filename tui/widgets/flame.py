"""The last profile snapshot: a flame view of its stacks, and the difference of a pair by function."""

from __future__ import annotations

from core.folded_stacks import FlameFrame
from tui.figures import percent, plain
from tui.view import View
from tui.widgets.panel import Panel, Part, Row, row_of

NARROWEST_CELLS = 2
"""Frames narrower than this are left out, with all below them."""
STYLES = ("flame-even", "flame-odd")


class FlamePanel(Panel):
    """A row a depth, the outermost above; a frame is as wide as its share of the samples, and stands over its own."""

    TICKS_A_DRAW = 5

    def heading(self, view: View) -> str:
        profile = view.profile
        if profile is None:
            return "Flame view"
        return f"Flame view of {profile.title}: {profile.flame.total_us / 1e6:.1f} s sampled, width is time"

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        profile = view.profile
        if profile is None:
            return [
                (Part(" e ", "key", "app.export"), Part(" samples the leader's loop and shows it here", "muted")),
                (Part("it slows the leader meanwhile; those cycles are in no statistic", "muted"),),
            ]
        return [tuple(line) for line in _lines(_cut(profile.flame), width, height)]


def _cut(root: FlameFrame) -> FlameFrame:
    """Without the outermost frames that hold everything: the loop that runs the loop says nothing."""
    frame = root
    while len(frame.below) == 1 and frame.below[0].total_us >= 0.98 * frame.total_us:
        frame = frame.below[0]
    return frame


def _lines(root: FlameFrame, width: int, height: int) -> list[list[Part]]:
    """One list of parts for each depth; every frame starts where its caller does or right of its larger siblings."""
    scale = width / max(1, root.total_us)
    lines: list[list[Part]] = []
    row: list[tuple[float, FlameFrame]] = [(0.0, root)]
    while row and len(lines) < height:
        parts: list[Part] = []
        at = 0
        below: list[tuple[float, FlameFrame]] = []
        for k, (start, frame) in enumerate(row):
            left, right = round(start * scale), round((start + frame.total_us) * scale)
            if right - left < NARROWEST_CELLS:
                continue
            if left > at:
                parts.append(Part(" " * (left - at)))
            parts.append(Part(_label(frame, root, right - left), STYLES[(len(lines) + k) % 2]))
            at = right
            for child in frame.below:
                below.append((start, child))
                start += child.total_us
        if not parts:
            break
        lines.append(parts)
        row = below
    return lines


def _label(frame: FlameFrame, root: FlameFrame, width: int) -> str:
    """The frame's name with its share, as far as there is room; a bar at its left edge tells it from its neighbour."""
    share = f" {percent(frame.total_us / max(1, root.total_us))}"
    name = plain(frame.name)
    text = name + share if len(name) + len(share) < width else name
    return f"│{text[: width - 1]:<{width - 1}}"


class FunctionsPanel(Panel):
    """What each function costs a decision in A and in B, by how much it changed; shown once a pair was taken."""

    TICKS_A_DRAW = 5

    def draw(self, view: View) -> None:
        pair = view.profile.pair if view.profile is not None else None
        if self.display != (pair is not None):
            self.display = pair is not None
        super().draw(view)

    def heading(self, view: View) -> str:
        return "By function, self time a decision under the profiler, µs"

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        pair = view.profile.pair if view.profile is not None else None
        if pair is None:
            return []
        name = max(12, width - 27)
        rows: list[Row] = [(Part(f"{'function':<{name}}{'A':>9}{'B':>9}{'B − A':>9}", "muted"),)]
        first, second = pair.total_us
        whole = (Part(f"all, {pair.first_decisions:,} and {pair.second_decisions:,} decisions", "strong"),)
        rows.append(row_of(whole, (Part(f"{first:>9.1f}{second:>9.1f}{second - first:>+9.1f}", "strong"),), width))
        for each in pair.functions[: max(0, height - 2)]:
            style = "good" if each.change_us < 0 else "error" if each.change_us > 0 else "muted"
            left = (Part(plain(each.function)),)
            change = f"{each.change_us:>+9.1f}" if each.change_us else f"{'0.0':>9}"
            figures = (Part(f" {each.first_us:>8.1f}{each.second_us:>9.1f}"), Part(change, style))
            rows.append(row_of(left, figures, width))
        return rows
