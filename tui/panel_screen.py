"""The base of the six screens: status and warnings above, captions and keys below, panels between."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.screen import Screen
from textual.widget import Widget

from tui.panel_compositor import PanelCompositor
from tui.view import View
from tui.widgets.chrome import Banner, CaptionsLine, KeyBar, Mode, StartupPanel, StatusLine
from tui.widgets.panel import Panel
from tui.widgets.toggles import TogglesPanel

LIVE_WHILE_FROZEN = (TogglesPanel, Banner)
"""A frozen toggle panel would lie about what a key does, and a warning must not wait."""


class PanelScreen(Screen[None]):
    """Subclasses give the panels; sizes and breakpoints are the stylesheet's."""

    HORIZONTAL_BREAKPOINTS: ClassVar[list[tuple[int, str]]] = [(0, "-narrow"), (100, "-normal"), (170, "-wide")]
    VERTICAL_BREAKPOINTS: ClassVar[list[tuple[int, str]]] = [(0, "-short"), (30, "-medium"), (46, "-tall")]
    AUTO_FOCUS = None
    BINDINGS: ClassVar[list[BindingType]] = [Binding("tab", "app.next_tab", "next pane", show=False)]
    """Before Textual's own: nothing on these screens takes the focus."""
    MODE: ClassVar[str] = ""

    def __init__(self) -> None:
        super().__init__()
        self._compositor = PanelCompositor()

    def next_tab(self) -> str:
        """What `tab` shows next; empty where everything is shown at once."""
        return ""

    def show_tab(self, tab: str) -> None:
        """Show one of those that share a place."""

    def panels(self) -> Iterable[Widget]:
        """What stands between the lines above and below."""
        raise NotImplementedError

    def compose(self) -> ComposeResult:
        yield StatusLine()
        yield Banner()
        with Container(id="body"):
            yield from self.panels()
        yield StartupPanel(id="startup")
        yield CaptionsLine()
        yield KeyBar()

    def on_mount(self) -> None:
        self._panels = list(self.query(Panel))
        self._status, self._keys = self.query_one(StatusLine), self.query_one(KeyBar)
        self._ticks = 0

    def draw(self, live: View, shown: View, mode: Mode, at_once: bool) -> None:
        """`shown` is the frozen view, or `live` itself; `at_once` draws also what is not due at this tick."""
        self._ticks += 1
        self.set_class(not live.started, "-starting")
        self._status.mode = self._keys.mode = mode
        for place, panel in enumerate(self._panels):
            # Not all at the same tick: none takes long then.
            if at_once or (self._ticks + place) % panel.TICKS_A_DRAW == 0:
                panel.draw(live if isinstance(panel, LIVE_WHILE_FROZEN) else shown)
