"""`1`, the main screen: where a cycle's time goes, how the nodes agree, the toggles, what was traded."""

from __future__ import annotations

from collections.abc import Iterable

from textual.containers import Vertical
from textual.widget import Widget

from tui.panel_screen import PanelScreen
from tui.widgets.consensus import ConsensusPanel
from tui.widgets.spans import SpansPanel
from tui.widgets.throughput import ThroughputPanel
from tui.widgets.toggles import TogglesPanel
from tui.widgets.trading import TABS, EventsPanel, OrdersPanel, PanePanel, PositionsPanel


class MonitorScreen(PanelScreen):
    MODE = "monitor"

    tab = TABS[0]

    def panels(self) -> Iterable[Widget]:
        yield Vertical(SpansPanel(), ThroughputPanel(id="throughput-left"), PanePanel(id="pane-left"), id="timing")
        yield Vertical(
            ThroughputPanel(id="throughput-right"),
            ConsensusPanel(),
            TogglesPanel(),
            EventsPanel(id="events"),
            PanePanel(id="pane-right"),
            id="state",
        )
        yield Vertical(OrdersPanel(), PositionsPanel(), id="market")

    @property
    def shows_all_panes(self) -> bool:
        return self.has_class("-wide")

    def show_tab(self, tab: str) -> None:
        self.tab = tab
        for pane in self.query(PanePanel):
            pane.select(tab)

    def next_tab(self) -> str:
        if self.shows_all_panes:
            return ""
        return TABS[(TABS.index(self.tab) + 1) % len(TABS)]
