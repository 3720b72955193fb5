"""The base of every panel: rows of styled text on Textual's Line API.

A panel states its rows as plain values; comparing them with the rows on screen finds the lines to repaint. Painted this
way the whole screen costs under a tenth of a core at 10 Hz, a fifth of what stock widgets do. Styles are names, and the
stylesheet says what they look like.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby
from operator import attrgetter
from typing import ClassVar, Final, NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.color import Color
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

from tui.view import View

STYLES = (
    "plain", "muted", "strong", "accent", "good", "warning", "error", "own", "largest", "inside", "tick",
    "flame-even", "flame-odd", "rate", "rate-below", "time", "time-below", "loss", "key", "chosen", "alarm", "caution",
)  # fmt: skip


class Part(NamedTuple):
    """A stretch of one row. `action`, where given, is an app action that a click on it runs."""

    text: str
    style: str = "plain"
    action: str = ""


Row = tuple[Part, ...]
EMPTY: Row = ()
_WORD: Final = re.compile(r"\s+|\S+")
_ALL: Final = re.compile(r"\s+|\S(?:.*\S)?")


def fit(row: Iterable[Part], width: int) -> Row:
    """`row` cut or padded to exactly `width` cells; a cut is shown by an ellipsis."""
    out: list[Part] = []
    left = width
    for part in row:
        cells = cell_len(part.text)
        if cells > left:
            if left > 0:
                out.append(part._replace(text=set_cell_size(part.text, left - 1) + "…"))
            return tuple(out)
        out.append(part)
        left -= cells
    if left:
        out.append(Part(" " * left))
    return tuple(out)


def fold(row: Iterable[Part], width: int, indent: int = 2) -> list[Row]:
    """`row` over as many lines as it takes in `width` cells, broken at spaces; all but the first begin with `indent`.

    A part that begins with a space and fits on a line of its own is kept together. A word that is longer than a line
    stays whole: `fit` cuts it, and shows that.
    """
    lines: list[list[Part]] = [[]]
    taken, gap, begun = 0, list[Part](), False
    for part in row:
        together = part.text[:1].isspace() and indent + cell_len(part.text.strip()) <= width
        for text in (_ALL if together else _WORD).findall(part.text):
            piece = part._replace(text=text)
            if text.isspace():
                gap.append(piece)
                continue
            if begun and taken + sum(cell_len(each.text) for each in (*gap, piece)) > width:
                lines.append([Part(" " * indent)])
                taken, gap = indent, []
            lines[-1] += (*gap, piece)
            taken += sum(cell_len(each.text) for each in (*gap, piece))
            gap, begun = [], True
    return [tuple(line) for line in lines]


def row_of(left: Iterable[Part], right: Iterable[Part], width: int) -> Row:
    """One row with `right` flush at the right edge; `left` gives way."""
    tail = tuple(right)
    taken = sum(cell_len(part.text) for part in tail)
    return (*fit(left, max(0, width - taken)), *tail)


class _Frame(NamedTuple):
    """What does not change from row to row."""

    outer: Size
    """Of the panel; a frame for another size is out of date."""
    content: Region
    """Within the panel."""
    left: Strip
    right: Strip
    """What stands beside the content, through all filters."""
    background: Color


class Panel(Widget):
    """Subclasses give `rows`; the app calls `draw` once a tick."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"line--{name}" for name in STYLES}
    ALLOW_SELECT = False
    TICKS_A_DRAW: ClassVar[int] = 1
    """Lists that scroll faster than a person reads are drawn less often than the figures, tables less often than one
    figure. Keys draw everything at once."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._view: View | None = None
        self._rows: list[Row] = []
        self._shown = False
        self._style_of: dict[str, Style] = {}
        self._frame: _Frame | None = None

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        """At most `height` rows of at most `width` cells; the rest stays blank."""
        raise NotImplementedError

    def heading(self, view: View) -> str:
        """The border's title, as plain text; empty for none."""
        return ""

    def draw(self, view: View) -> None:
        """Show `view`; repaints nothing where nothing changed."""
        self._view = view
        if not self._shown:
            return
        title = self.heading(view)
        if title and self.border_title != title:
            self.border_title = title
        self._paint(view)

    def _paint(self, view: View) -> None:
        frame = self._framed()
        if frame is None:
            return
        width, height = frame.content.size
        rows = [fit(row, width) for row in self.rows(view, width, height)[:height]]
        rows += [fit(EMPTY, width)] * (height - len(rows))
        old, self._rows = self._rows, rows
        if len(old) != len(rows):
            self.refresh()
            return
        changed = [y for y, (before, after) in enumerate(zip(old, rows, strict=True)) if before != after]
        if changed:
            self.refresh(*_regions(changed, -frame.content.x, self.outer_size.width))

    def on_show(self) -> None:
        self._shown = True
        if self._view is not None:
            self.draw(self._view)

    def on_hide(self) -> None:
        self._shown = False

    def on_resize(self, event: events.Resize) -> None:
        if self._view is not None:
            self._rows = []
            self.draw(self._view)

    def notify_style_update(self) -> None:
        self._style_of = {}
        self._frame = None
        super().notify_style_update()

    def render_line(self, y: int) -> Strip:
        if y >= len(self._rows):
            return Strip.blank(self.content_size.width, self.rich_style)
        row = self._rows[y]
        segments = [
            Segment("".join(part.text for part in same), self._style(style))
            for style, same in groupby(row, key=attrgetter("style"))
        ]
        return Strip(segments)

    def strips_at(self, top: int, bottom: int) -> list[Strip]:
        """The lines from `top` to `bottom` of this panel, as `render_lines` gives them at three times the cost: Textual
        works out border, background and title anew.
        """
        frame = self._framed()
        if frame is None or top < frame.content.y or bottom > frame.content.bottom:
            return self.render_lines(Region(0, top, self.outer_size.width, bottom - top))
        filters = self.get_line_filters()
        strips = []
        for y in range(top - frame.content.y, bottom - frame.content.y):
            strip = self.render_line(y)
            for line_filter in filters:
                strip = strip.apply_filter(line_filter, frame.background)
            strips.append(Strip([*frame.left, *strip, *frame.right], self.outer_size.width))
        return strips

    def _framed(self) -> _Frame | None:
        """None while there is no room for content, and between a new layout and the panel's word of it."""
        outer = self.outer_size
        if self._frame is None or self._frame.outer != outer:
            content = self.content_region.translate(-self.region.offset)
            if not content or self.region.size != outer:
                return None
            line = self.render_lines(Region(0, content.y, outer.width, 1))[0]
            sides = line.crop(0, content.x), line.crop(content.right)
            self._frame = _Frame(outer, content, *sides, self.background_colors[1])
        return self._frame

    def _style(self, name: str) -> Style:
        style = self._style_of.get(name)
        if style is None:
            style = self._style_of[name] = self.get_component_rich_style(f"line--{name}")
        return style

    async def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is None or offset.y >= len(self._rows):
            return
        x = 0
        for text, _, action in self._rows[offset.y]:
            x += cell_len(text)
            if offset.x < x:
                if action:
                    event.stop()
                    await self.app.run_action(action)
                return


def _regions(changed: list[int], x: int, width: int) -> list[Region]:
    """One region per stretch of neighbouring rows, from border to border: anything less is cut out cell by cell."""
    regions: list[Region] = []
    start = previous = changed[0]
    for y in changed[1:]:
        if y != previous + 1:
            regions.append(Region(x, start, width, previous - start + 1))
            start = y
        previous = y
    regions.append(Region(x, start, width, previous - start + 1))
    return regions
