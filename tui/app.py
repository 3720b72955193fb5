"""The monitor: takes one snapshot a tick, draws it, and sends keys to the swarm. It owns nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ClassVar

from textual.app import SystemCommand
from textual.binding import Binding, BindingType
from textual.command import CommandPalette
from textual.screen import Screen
from textual.theme import Theme

from core.toggles import FIELD_OF_KEY, TOGGLE_KEYS
from tui.asking import Asking
from tui.experiment_actions import ExperimentActions
from tui.fault_actions import FaultActions
from tui.help import HelpScreen
from tui.history import ViewHistory
from tui.monitor_screen import MonitorScreen
from tui.panel_screen import PanelScreen
from tui.profile_actions import PROFILE_S, ProfileActions
from tui.quit_dialog import Answer, QuitDialog
from tui.screens import KEY_OF_SCREEN, SCREENS, CycleScreen, OrdersScreen, ProfileScreen
from tui.session import Seekable, SwarmClient
from tui.settings_screen import SettingsScreen
from tui.textual_mends import mend_textual
from tui.toggle_actions import ToggleActions
from tui.tour import TourScreen
from tui.view import ViewBuilder
from tui.widgets.chrome import Mode
from tui.widgets.toggles import value_word

TICK_S = 0.1
SEEK_NS = 1_000_000_000

CALM = Theme(
    name="tradetui",
    primary="#5b9bd5",
    secondary="#7f93a8",
    accent="#4fc3b0",
    success="#7bc47f",
    warning="#e0b050",
    error="#f07178",
    foreground="#d5dbe3",
    background="#0f1419",
    surface="#26303b",
    panel="#182029",
    boost="#1c2530",
    dark=True,
    variables={"border": "#3a4652", "footer-key-foreground": "#4fc3b0"},
)


class MonitorApp(ToggleActions, ExperimentActions, FaultActions, ProfileActions, Asking):
    """`run()` returns True when the swarm is to be stopped, False when trading goes on (None after a crash)."""

    TITLE = "tradetui"
    CSS_PATH = "theme.tcss"
    MODES: ClassVar[dict[str, str | Callable[[], Screen[object]]]] = dict(SCREENS)
    DEFAULT_MODE = MonitorScreen.MODE
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(key, f"press('{key}')", f"toggle {key}", show=False) for key in TOGGLE_KEYS),
        Binding("K", "trading('halted')", "kill switch", show=False, priority=True),
        *(Binding(key, f"show('{mode}')", f"screen {mode}", show=False) for mode, key in KEY_OF_SCREEN.items()),
        Binding("a", "experiment", "interleaved experiment", show=False),
        Binding("C", "control", "take control, or give it up", show=False),
        Binding("S", "settings", "settings", show=False),
        Binding("k", "fault", "fault on purpose", show=False),
        Binding("space", "freeze", "freeze or go on", show=False),
        Binding("left", "scrub(-1)", "earlier", show=False),
        Binding("right", "scrub(1)", "later", show=False),
        Binding("shift+left", "scrub(-10)", "much earlier", show=False),
        Binding("shift+right", "scrub(10)", "much later", show=False),
        Binding("home", "scrub_to_start", "the start of the sitting", show=False),
        Binding("end", "live", "the present", show=False),
        Binding("left_square_bracket", "choose(-1)", "the one before", show=False),
        Binding("right_square_bracket", "choose(1)", "the next one", show=False),
        Binding("question_mark", "help", "help", show=False),
        Binding("e", "export", "profile snapshot", show=False),
        Binding("q", "leave", "quit", show=False),
        Binding("ctrl+q,ctrl+c", "leave", "quit", show=False, priority=True),
    ]

    def __init__(
        self,
        client: SwarmClient,
        export_directory: Path = Path("profiles"),
        clock_ns: Callable[[], int] = time.time_ns,
        tick_s: float = TICK_S,
        config_file: Path = Path("tradetui.toml"),
        tour: bool = False,
    ) -> None:
        """`config_file` is what the settings screen writes; `tour`: explain the screen first. `tick_s` 0 leaves
        drawing to calls of `tick`, for tests and screenshots.
        """
        super().__init__(client, export_directory, clock_ns)
        mend_textual()
        self.register_theme(CALM)
        self.theme = CALM.name
        self._tick_s = tick_s
        self._config_file = config_file
        self._tour = tour
        self._builder = ViewBuilder()
        self._history = ViewHistory()

    def on_mount(self) -> None:
        # Keys and the palette ask what is live, and may come before anything is drawn.
        self.tick()
        self.call_after_refresh(self.tick)
        if self._tour:
            self.push_screen(TourScreen())
        if self._tick_s > 0.0:
            self.set_interval(self._tick_s, lambda: self.tick(at_once=False))

    @property
    def monitor(self) -> MonitorScreen | None:
        """The main screen while it is the one that is shown."""
        front = self.front
        return front if isinstance(front, MonitorScreen) else None

    def tick(self, at_once: bool = True) -> None:
        """Take one snapshot and draw it; history goes on while frozen or under a dialog.

        The timer leaves `at_once` out: lists are then drawn a few times a second only, as fast as a person reads.
        """
        now_ns = self._clock_ns()
        screen = self.front
        snapshot = self._client.snapshot()
        if self._experiments.running is not None:
            self._experiments.running.saw(snapshot.captions)
        live = self._builder.build(
            snapshot,
            now_ns,
            frozenset(self._asked),
            self._experiments.states(),
            self._trace.trace,
            self._trace.reason,
            self._profile,
            (self._book.instrument, self._book.ladder, self._book.reason, self._book.quotes),
            with_percentiles=isinstance(screen, ProfileScreen),
            heat_of=self._heat_of,
            at_once=at_once,
        )
        if screen is not None and screen is self.screen and screen.is_mounted:
            screen.draw(live, self._frozen or live, self._mode(screen, now_ns, live.started), at_once)
        self._live = live
        if isinstance(screen, CycleScreen) and live.started:
            self._ask_for_trace(now_ns)
        if isinstance(screen, OrdersScreen) and live.started:
            self._ask_for_book(now_ns)
        self._history.add(live)

    def _mode(self, screen: PanelScreen, now_ns: int, started: bool) -> Mode:
        return Mode(
            screen=screen.MODE,
            frozen_at_ns=self._frozen.now_ns if self._frozen is not None else None,
            now_ns=now_ns,
            profiling_s=PROFILE_S * (1 + self._pairing) if self._profiling else None,
            note=self._note if now_ns < self._note_until_ns else "",
            next_tab=screen.next_tab() if started else "",
            read_only=self._client.read_only,
            replaying=self._client.seekable,
            experimenting=self._experiments.running is not None,
            started=started,
            may_export=self._may_export,
            owns_swarm=self._client.owns_swarm,
            operator=self._client.operator,
        )

    # -- the view

    def action_next_screen(self) -> None:
        modes = list(SCREENS)
        self.action_show(modes[(modes.index(self.current_mode) + 1) % len(modes)])

    def action_freeze(self) -> None:
        if self._frozen is None and not self._live.started:
            self._say("nothing to freeze: no cycle has run yet")
            return
        self._frozen = None if self._frozen is not None else self._live
        self.tick()

    def action_scrub(self, steps: int) -> None:
        """Show an earlier or later view of this sitting; past the last one the view goes on."""
        if isinstance(self._client, Seekable):
            shown_ns = self._frozen.now_ns if self._frozen is not None else self._client.now_ns
            self._seek(self._client, shown_ns + steps * SEEK_NS)
            return
        if not len(self._history):
            self._say("nothing to look back at: no cycle has run yet")
            return
        frozen = self._frozen
        position = len(self._history) if frozen is None else self._history.position_of(frozen.now_ns)
        position = max(0, position + steps)
        self._frozen = self._history.at(position) if position < len(self._history) else None
        self.tick()

    def _seek(self, recording: Seekable, at_ns: int) -> None:
        """Show another moment of a recording; what was derived from the one before is forgotten."""
        recording.seek(at_ns)
        self._builder = ViewBuilder()
        self._frozen = None
        self.tick()

    def action_scrub_to_start(self) -> None:
        if isinstance(self._client, Seekable):
            self._seek(self._client, 0)
            return
        self.action_scrub(-len(self._history))

    def action_live(self) -> None:
        if isinstance(self._client, Seekable):
            self._seek(self._client, self._client.last_ns)
            return
        self._frozen = None
        self.tick()

    def action_show_tab(self, tab: str) -> None:
        if self.front is not None:
            self.front.show_tab(tab)
            self.call_after_refresh(self.tick)
            self.tick()

    def action_next_tab(self) -> None:
        if self.front is not None and self.front.next_tab():
            self.action_show_tab(self.front.next_tab())

    def action_settings(self) -> None:
        if self._client.read_only:
            self._say("no settings are written here: this monitor changes nothing")
        elif not isinstance(self.screen, SettingsScreen):
            screen = SettingsScreen(self._config_file, self._client.snapshot().settings)
            self.push_screen(screen, self._settings_written)

    def _settings_written(self, sentence: str | None) -> None:
        if sentence:
            self.notify(sentence, title="settings", timeout=15, markup=False)

    def action_tour(self) -> None:
        self.push_screen(TourScreen())

    def action_help(self) -> None:
        self.push_screen(HelpScreen())

    # -- leaving

    def action_leave(self) -> None:
        if not isinstance(self.screen, QuitDialog):
            self.push_screen(QuitDialog(self._client.owns_swarm, self._client.may_stop), self._answered)

    def action_command_palette(self) -> None:
        """As Textual's, without its fixed id: a palette that is still closing would make the next one a duplicate."""
        if not CommandPalette.is_open(self):
            self.push_screen(CommandPalette())

    async def action_quit(self) -> None:
        self.action_leave()

    def _answered(self, answer: Answer | None) -> None:
        if answer in ("keep", "stop"):
            self.exit(answer == "stop")

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        toggles = self._live.snapshot.toggles
        for key, name in FIELD_OF_KEY.items():
            title = f"{name.replace('_', ' ')} (now {value_word(toggles, key)})"
            yield SystemCommand(f"Toggle {title}", f"key {key}", lambda key=key: self.action_press(key))
        yield SystemCommand("Baseline preset", "key 0", lambda: self.action_press("0"))
        yield SystemCommand("Optimised preset", "key 9", lambda: self.action_press("9"))
        for state, title in (("halted", "Kill switch"), ("reducing", "Only reduce positions"), ("active", "Resume")):
            now = "key K: " if state == "halted" else ""
            text = f"{now}no order leaves, open ones are cancelled" if state == "halted" else f"trading is {state}"
            yield SystemCommand(title, text, lambda state=state: self.action_trading(state))
        frozen = self._frozen is not None
        yield SystemCommand(
            "Back to the start of the sitting", "key home; left and right step", self.action_scrub_to_start
        )
        yield SystemCommand("Go on" if frozen else "Freeze the view", "key space", self.action_freeze)
        if self.monitor is not None and not self.monitor.shows_all_panes:
            for tab in ("orders", "positions", "events"):
                yield SystemCommand(f"Show {tab}", "key tab", lambda tab=tab: self.action_show_tab(tab))
        for mode, key in KEY_OF_SCREEN.items():
            yield SystemCommand(f"Screen {mode}", f"key {key}", lambda mode=mode: self.action_show(mode))
        yield SystemCommand("Interleaved experiment", "key a: compare toggles", self.action_experiment)
        yield SystemCommand("Control", "key C: take control of the swarm, or give it up", self.action_control)
        yield SystemCommand("Fault on purpose", "key k: kill, pause, cut, slow, or turn a node", self.action_fault)
        yield SystemCommand("Settings", "key S: change the configuration file", self.action_settings)
        yield SystemCommand("Tour", "the screen in one page", self.action_tour)
        yield SystemCommand("Help", "key ?: the screen, keys and spans in plain words", self.action_help)
        yield SystemCommand("Profile snapshot", "key e: profile the leader, write a folder", self.action_export)
        yield SystemCommand("Theme", "colours of the screen", self.action_change_theme)
        yield SystemCommand("Quit", "key q: asks whether trading goes on", self.action_leave)
