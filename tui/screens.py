"""The other screens, keys `2` to `6`: which panels each has. Sizes and breakpoints are the stylesheet's."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from textual.containers import Horizontal, Vertical
from textual.screen import Screen
from textual.widget import Widget

from tui.monitor_screen import MonitorScreen
from tui.panel_screen import PanelScreen
from tui.widgets.compare import ExperimentPanel, ResultsPanel, SpanRatiosPanel
from tui.widgets.flame import FlamePanel, FunctionsPanel
from tui.widgets.heat import HeatPanel
from tui.widgets.ladder import LadderPanel
from tui.widgets.life_cycle import LifeCyclePanel, ProfitPanel
from tui.widgets.ranking import RankingPanel
from tui.widgets.swarm import FaultsPanel, LinksPanel, NodesPanel
from tui.widgets.trading import EventsPanel, OrdersPanel, PositionsPanel
from tui.widgets.waterfall import WaterfallPanel


class CompareScreen(PanelScreen):
    MODE = "compare"

    def panels(self) -> Iterable[Widget]:
        yield Vertical(ExperimentPanel(), ResultsPanel(), id="experiments")
        yield Vertical(SpanRatiosPanel(), FunctionsPanel(), id="spans")


class SwarmScreen(PanelScreen):
    MODE = "swarm"

    def panels(self) -> Iterable[Widget]:
        yield NodesPanel()
        yield Horizontal(LinksPanel(), FaultsPanel(), EventsPanel(), id="beside")


class OrdersScreen(PanelScreen):
    MODE = "orders"
    tab = "orders"

    def next_tab(self) -> str:
        if not self.has_class("-short"):
            return ""
        return "book" if self.tab == "orders" else "orders"

    def show_tab(self, tab: str) -> None:
        self.tab = tab
        self.set_class(tab == "book", "-book")

    def panels(self) -> Iterable[Widget]:
        yield Vertical(LifeCyclePanel(), ProfitPanel(), id="summary")
        yield Vertical(OrdersPanel(), LadderPanel(), id="trades")
        yield PositionsPanel()


class ProfileScreen(PanelScreen):
    MODE = "profile"
    tab = "heat"

    def next_tab(self) -> str:
        if self.has_class("-wide"):
            return ""
        return "flame" if self.tab == "heat" else "heat"

    def show_tab(self, tab: str) -> None:
        self.tab = tab
        self.set_class(tab == "flame", "-flame")

    def panels(self) -> Iterable[Widget]:
        yield RankingPanel()
        yield Horizontal(HeatPanel(), FlamePanel(), id="under")


class CycleScreen(PanelScreen):
    MODE = "cycle"

    def panels(self) -> Iterable[Widget]:
        yield WaterfallPanel()


SCREENS: dict[str, Callable[[], Screen[None]]] = {
    screen.MODE: screen
    for screen in (MonitorScreen, CompareScreen, SwarmScreen, OrdersScreen, ProfileScreen, CycleScreen)
}
"""By mode, in the order of the keys `1`, `2`, ..."""
KEY_OF_SCREEN = {mode: str(number) for number, mode in enumerate(SCREENS, 1)}
