"""Writes the changed rows of panels to the terminal, past Textual's compositor where that has nothing to compose.

Textual (8.2.8) cuts every line with a change at the edges of all widgets, and works out those of each container behind
it too. Of a panel that nothing lies over, the rows are what the terminal shows: they are written as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat

from rich.console import Console, ConsoleOptions, RenderResult
from rich.control import Control
from textual._compositor import ChopsUpdate, Compositor, CompositorUpdate
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from tui.widgets.panel import Panel

_Visible = dict[Widget, tuple[Region, Region]]


class RowsUpdate(CompositorUpdate):
    """Whole rows of panels, each with its place on the screen."""

    def __init__(self, rows: list[tuple[int, int, Strip]]) -> None:
        self.rows = rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for x, y, strip in self.rows:
            yield Control.move_to(x, y).segment
            yield from strip

    def render_segments(self, console: Console) -> str:
        return "".join(f"\x1b[{y + 1};{x + 1}H{strip.render(console)}" for x, y, strip in self.rows)


class PanelCompositor(Compositor):
    """Textual's, with a shorter way for panels that lie free."""

    def __init__(self) -> None:
        super().__init__()
        self._free: tuple[_Visible, dict[Panel, Region]] = {}, {}

    def render_partial_update(self) -> RowsUpdate | ChopsUpdate | None:
        rows: list[tuple[int, int, Strip]] = []
        panels = self._free_panels()
        for dirty in self._dirty_regions:
            found = next(((panel, region) for panel, region in panels.items() if region.contains_region(dirty)), None)
            if found is None or dirty.width != found[1].width:
                return super().render_partial_update()
            panel, region = found
            top = dirty.y - region.y
            rows += zip(repeat(dirty.x), dirty.line_range, panel.strips_at(top, top + dirty.height), strict=False)
        self._dirty_regions.clear()
        return RowsUpdate(rows) if rows else None

    def _free_panels(self) -> dict[Panel, Region]:
        """Panels that are wholly on the screen with nothing over any cell of them, and where; until the next layout."""
        visible = self.visible_widgets
        if self._free[0] is not visible:
            self._free = visible, dict(_free(visible))
        return self._free[1]


def _free(visible: _Visible) -> Iterator[tuple[Panel, Region]]:
    """visible: front to back."""
    before: list[Region] = []
    for widget, (region, clip) in visible.items():
        if isinstance(widget, Panel) and clip.contains_region(region) and not any(map(region.overlaps, before)):
            yield widget, region
        before.append(region.intersection(clip))
