"""The main screen: where each panel stands. Sizes and breakpoints are the stylesheet's."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import Screen

from tui.view import View
from tui.widgets.chrome import Banner, CaptionsLine, KeyBar, Mode, StartupPanel, StatusLine
from tui.widgets.consensus import ConsensusPanel
from tui.widgets.panel import Panel
from tui.widgets.spans import SpansPanel
from tui.widgets.throughput import ThroughputPanel
from tui.widgets.toggles import TogglesPanel
from tui.widgets.trading import TABS, EventsPanel, OrdersPanel, PanePanel, PositionsPanel

LIVE_WHILE_FROZEN = (TogglesPanel, Banner, StatusLine)
"""A frozen toggle panel would lie about what a key does, and a warning must not wait."""


class MonitorScreen(Screen[None]):
    HORIZONTAL_BREAKPOINTS: ClassVar[list[tuple[int, str]]] = [(0, "-narrow"), (100, "-normal"), (170, "-wide")]
    VERTICAL_BREAKPOINTS: ClassVar[list[tuple[int, str]]] = [(0, "-short"), (30, "-medium"), (46, "-tall")]
    AUTO_FOCUS = None
    BINDINGS: ClassVar[list[BindingType]] = [Binding("tab", "app.next_tab", "next pane", show=False)]
    """Before Textual's own: nothing on this screen takes the focus."""

    tab = TABS[0]

    def compose(self) -> ComposeResult:
        yield StatusLine()
        yield Banner()
        with Horizontal(id="body"):
            with Vertical(id="timing"):
                yield SpansPanel()
                yield ThroughputPanel(id="throughput-left")
                yield PanePanel(id="pane-left")
            with Vertical(id="state"):
                yield ThroughputPanel(id="throughput-right")
                yield ConsensusPanel()
                yield TogglesPanel()
                yield EventsPanel(id="events")
                yield PanePanel(id="pane-right")
            with Vertical(id="market"):
                yield OrdersPanel()
                yield PositionsPanel()
        yield StartupPanel(id="startup")
        yield CaptionsLine()
        yield KeyBar()

    def on_mount(self) -> None:
        self._panels = list(self.query(Panel))
        self._status, self._keys = self.query_one(StatusLine), self.query_one(KeyBar)
        self._ticks = 0

    @property
    def shows_all_panes(self) -> bool:
        return self.has_class("-wide")

    def draw(self, live: View, shown: View, mode: Mode, at_once: bool) -> None:
        """`shown` is the frozen view, or `live` itself; `at_once` draws also what is not due at this tick."""
        self._ticks += 1
        self.set_class(not live.started, "-starting")
        self._status.mode = self._keys.mode = mode
        for panel in self._panels:
            if at_once or self._ticks % panel.TICKS_A_DRAW == 0:
                panel.draw(live if isinstance(panel, LIVE_WHILE_FROZEN) else shown)

    def show_tab(self, tab: str) -> None:
        self.tab = tab
        for pane in self.query(PanePanel):
            pane.select(tab)

    def next_tab(self) -> str:
        return TABS[(TABS.index(self.tab) + 1) % len(TABS)]
