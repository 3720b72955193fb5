"""The monitor: takes one snapshot a tick, draws it, and sends keys to the swarm. It owns nothing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ClassVar

from textual import work
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.command import CommandPalette
from textual.screen import Screen
from textual.theme import Theme
from textual.worker import Worker, WorkerError

from core.experiment_log import to_dict
from core.experiment_run import run_experiment
from core.faults import Fault
from core.spans import NAMES, ROOT
from core.toggles import FIELD_OF_KEY, Toggles
from core.trading_state import TradingState
from tui.experiment_dialog import ExperimentDialog
from tui.experiments import Experiments, Started, project
from tui.fault_dialog import KILL, FaultDialog, Ordered
from tui.help import HelpScreen
from tui.history import ViewHistory
from tui.messages import (
    ControlAnswered,
    ExperimentEnded,
    FaultAnswered,
    FaultFailed,
    KeyAnswered,
    KeyFailed,
    LadderTaken,
    ProfileFailed,
    ProfileWritten,
    TraceTaken,
)
from tui.monitor_screen import MonitorScreen
from tui.panel_screen import PanelScreen
from tui.profiles import profile_shown
from tui.quit_dialog import Answer, QuitDialog
from tui.screens import KEY_OF_SCREEN, SCREENS, CompareScreen, CycleScreen, OrdersScreen, ProfileScreen
from tui.session import Seekable, SwarmClient
from tui.settings_screen import SettingsScreen
from tui.textual_mends import mend_textual
from tui.tour import TourScreen
from tui.view import ProfileShown, View, ViewBuilder
from tui.widgets.chrome import Mode
from tui.widgets.toggles import value_word

TICK_S = 0.1
PROFILE_S = 2.0
NOTE_S = 5.0
TRACE_INTERVAL_NS = 2_000_000_000
BOOK_INTERVAL_NS = 1_000_000_000
BOOK_LEVELS = 25
SEEK_NS = 1_000_000_000
KEYS_WAITING = 32
"""Toggle keys sent and not yet answered; more are refused rather than queued without end."""
TOGGLE_KEYS = (*FIELD_OF_KEY, "0", "9")

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


class MonitorApp(App[bool]):
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
        super().__init__()
        mend_textual()
        self.register_theme(CALM)
        self.theme = CALM.name
        self._client = client
        self._export_directory = export_directory
        self._clock_ns = clock_ns
        self._tick_s = tick_s
        self._config_file = config_file
        self._tour = tour
        self._builder = ViewBuilder()
        self._history = ViewHistory()
        self._frozen: View | None = None
        self._asked: list[str] = []
        self._press_order = asyncio.Lock()
        self._profiling = False
        self._pairing = False
        self._profile: ProfileShown | None = None
        self._trace = TraceTaken(None)
        self._trace_asked_ns = 0
        self._book = LadderTaken("", None)
        self._book_asked_ns = 0
        self._asking_book = False
        self._heat_of = ROOT
        self._experiments = Experiments()
        self._experiment_work: Worker[None] | None = None
        self._note = ""
        self._note_until_ns = 0

    def on_mount(self) -> None:
        self.call_after_refresh(self.tick)
        if self._tour:
            self.push_screen(TourScreen())
        if self._tick_s > 0.0:
            self.set_interval(self._tick_s, lambda: self.tick(at_once=False))

    @property
    def front(self) -> PanelScreen | None:
        """The screen that is shown, whatever dialog lies over it."""
        return next((screen for screen in self.screen_stack if isinstance(screen, PanelScreen)), None)

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
        live = self._builder.build(
            self._client.snapshot(),
            now_ns,
            frozenset(self._asked),
            self._experiments.states(),
            self._trace.trace,
            self._trace.reason,
            self._profile,
            (self._book.instrument, self._book.ladder, self._book.reason),
            with_percentiles=isinstance(screen, ProfileScreen),
            heat_of=self._heat_of,
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
            owns_swarm=self._client.owns_swarm,
            operator=self._client.operator,
        )

    def _say(self, note: str) -> None:
        self._note, self._note_until_ns = note, self._clock_ns() + int(NOTE_S * 1e9)
        self.tick()

    # -- toggles

    def action_press(self, key: str) -> None:
        if len(self._asked) >= KEYS_WAITING:
            self._say(f"{key} was not sent: {KEYS_WAITING} keys are still waiting for an answer")
            return
        if self._pairing:
            self._say(f"{key} was not sent: a profile is taken under two settings")
            return
        if self._experiments.running is not None:
            self._say(f"{key} was not sent: an experiment sets the toggles; a stops it")
            return
        self._asked.append(key)
        self._send_key(key)
        self.tick()

    @work(group="keys", exit_on_error=False)
    async def _send_key(self, key: str) -> None:
        """Keys reach the swarm one at a time, in the order in which they were pressed."""
        async with self._press_order:
            try:
                sentence = await self._client.press(key)
            except Exception as error:  # a monitor must outlive whatever breaks on the way; the person is told
                self.post_message(KeyFailed(key, f"{type(error).__name__}: {error}"))
            else:
                self.post_message(KeyAnswered(key, sentence))

    def on_key_answered(self, message: KeyAnswered) -> None:
        self._asked.remove(message.key)
        self._say(message.sentence)

    def on_key_failed(self, message: KeyFailed) -> None:
        self._asked.remove(message.key)
        self.notify(message.reason, title=f"key {message.key} failed", severity="error", timeout=10, markup=False)
        self.tick()

    # -- who is in control

    def action_control(self) -> None:
        if self._client.read_only:
            self._say("this monitor only looks on")
        else:
            self._change_control()

    @work(group="control", exclusive=True, exit_on_error=False)
    async def _change_control(self) -> None:
        holder = self._client.snapshot().in_control
        mine = holder is not None and holder.operator == self._client.operator
        try:
            sentence = await (self._client.give_up_control() if mine else self._client.take_control())
        except Exception as error:  # as with a key: told, and the monitor goes on
            sentence = f"control: {error}"
        self.post_message(ControlAnswered(sentence))

    def on_control_answered(self, message: ControlAnswered) -> None:
        self._say(message.sentence)

    # -- the trading state

    def action_trading(self, state: str) -> None:
        """The kill switch asks nothing: it acts, and says what it did."""
        self._send_trading(TradingState(state))

    @work(group="trading", exit_on_error=False)
    async def _send_trading(self, state: TradingState) -> None:
        try:
            answer = await self._client.change_trading(state, "from the monitor")
        except Exception as error:  # as above: told, and the monitor goes on
            self.notify(f"{type(error).__name__}: {error}", title=f"{state}: not sent", severity="error", timeout=15)
        else:
            self.notify(f"{answer.gateway}; {answer.swarm}", title="trading state", timeout=10, markup=False)
        self.tick()

    # -- experiments

    def action_experiment(self) -> None:
        if self._experiments.running is not None:
            self._end_experiment()
        elif self._client.read_only:
            self._say("nothing can be compared here: this monitor changes nothing")
        elif self._profiling:
            self._say("nothing is compared while a profile is taken: it slows the leader")
        elif not self._live.started:
            self._say("nothing to compare: no cycle has run yet")
        elif not isinstance(self.screen, ExperimentDialog):
            live = self._live
            change = live.change
            chosen = change.keys if change is not None and len(change.keys) == 1 else ()
            dialog = ExperimentDialog(live.snapshot.toggles, chosen, lambda keys: project(live, keys))
            self.push_screen(dialog, self._start_experiment)

    def _start_experiment(self, keys: tuple[str, ...] | None) -> None:
        if not keys:
            return
        started = self._experiments.start(self._live, keys, self._clock_ns())
        self._experiment_work = self._experiment(started)
        self.action_show("compare")

    @work(group="experiment", exclusive=True, exit_on_error=False)
    async def _experiment(self, started: Started) -> None:
        reason = ""
        try:
            await run_experiment(self._client, started.experiment)
        except Exception as error:  # as with a key: told, and the monitor goes on
            reason = f"{type(error).__name__}: {error}"
            started.experiment.give_up(reason)
        finally:
            self._client.keep_experiment(to_dict(self._experiments.end(self._clock_ns())))
        self.post_message(ExperimentEnded(reason or started.experiment.failure))

    def _end_experiment(self) -> None:
        if self._experiment_work is not None:
            self._experiment_work.cancel()
            self._say("the experiment ends: the toggles go back to what they were")

    def on_experiment_ended(self, message: ExperimentEnded) -> None:
        state = self._experiments.states()[-1]
        if message.reason:
            self.notify(message.reason, title="experiment ended early", severity="warning", timeout=15, markup=False)
        elif state.result is not None:
            main = state.result.main
            text = f"{main.verdict}: {main.ratio.ratio:.3f}× ({main.ratio.low:.3f}–{main.ratio.high:.3f})"
            self.notify(text, title=state.label, timeout=15, markup=False)
        self.tick()

    async def settle(self) -> None:
        """After the screen is gone: end what still works on the swarm, and wait until the toggles are put back."""
        if self._experiment_work is not None:
            self._experiment_work.cancel()
            with contextlib.suppress(WorkerError):
                await self._experiment_work.wait()

    # -- traces

    def _ask_for_trace(self, now_ns: int) -> None:
        """While the cycle is shown and not frozen, every other second."""
        if self._frozen is None and abs(now_ns - self._trace_asked_ns) >= TRACE_INTERVAL_NS:
            self._trace_asked_ns = now_ns
            self._take_trace()

    @work(group="trace", exclusive=True, exit_on_error=False)
    async def _take_trace(self) -> None:
        try:
            self.post_message(TraceTaken(await self._client.trace()))
        except Exception as error:  # as with a key: told, and the monitor goes on
            self.post_message(TraceTaken(None, f"no trace: {error}"))

    def on_trace_taken(self, message: TraceTaken) -> None:
        self._trace = message
        self.tick()

    # -- the book

    def _ask_for_book(self, now_ns: int) -> None:
        """While orders are shown and not frozen, once a second."""
        names = [row.instrument for row in self._live.snapshot.positions]
        if self._book.instrument not in names and names:
            self._book = LadderTaken(names[0], None)
        due = abs(now_ns - self._book_asked_ns) >= BOOK_INTERVAL_NS or not (self._book.ladder or self._book.reason)
        if self._frozen is None and self._book.instrument and due and not self._asking_book:
            self._book_asked_ns, self._asking_book = now_ns, True
            self._take_book(self._book.instrument)

    @work(group="book", exit_on_error=False)
    async def _take_book(self, instrument: str) -> None:
        try:
            self.post_message(LadderTaken(instrument, await self._client.ladder(instrument, BOOK_LEVELS)))
        except Exception as error:  # as with a key: told, and the monitor goes on
            self.post_message(LadderTaken(instrument, None, f"no book: {error}"))

    def on_ladder_taken(self, message: LadderTaken) -> None:
        self._asking_book = False
        if message.instrument == self._book.instrument:
            self._book = message
            self.tick()

    def action_choose(self, steps: int) -> None:
        """Go on to another of what this screen shows one of."""
        if isinstance(self.front, OrdersScreen):
            names = [row.instrument for row in self._live.snapshot.positions]
            if names:
                at = names.index(self._book.instrument) if self._book.instrument in names else 0
                self._book = LadderTaken(names[(at + steps) % len(names)], None)
        elif isinstance(self.front, ProfileScreen):
            self._heat_of = NAMES[(NAMES.index(self._heat_of) + steps) % len(NAMES)]
        self.tick()

    # -- faults

    def action_fault(self) -> None:
        snapshot = self._live.snapshot
        if self._client.read_only or not snapshot.nodes:
            self._say("there is no node to disturb here")
            return
        faults = [caption for caption in snapshot.captions if caption.startswith("fault")]
        dialog = FaultDialog([node.node for node in snapshot.nodes], snapshot.leader, faults)
        self.push_screen(dialog, self._order_fault)

    def _order_fault(self, ordered: Ordered | None) -> None:
        if ordered is not None:
            self._switch_fault(ordered)

    @work(group="faults", exit_on_error=False)
    async def _switch_fault(self, ordered: Ordered) -> None:
        try:
            if ordered.fault == KILL:
                sentence = await self._client.kill_node(ordered.node)
            else:
                sentence = await self._client.set_fault(ordered.node, Fault(ordered.fault))
        except Exception as error:  # as with a key: told, and the monitor goes on
            self.post_message(FaultFailed(f"{type(error).__name__}: {error}"))
        else:
            self.post_message(FaultAnswered(sentence))

    def on_fault_answered(self, message: FaultAnswered) -> None:
        self._say(message.sentence)

    def on_fault_failed(self, message: FaultFailed) -> None:
        self.notify(message.reason, title="fault not switched", severity="error", timeout=10, markup=False)
        self.tick()

    # -- the view

    def action_show(self, mode: str) -> None:
        self.switch_mode(mode)
        self.call_after_refresh(self.tick)

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
        if not len(self._history):
            self._say("nothing to look back at: no cycle has run yet")
            return
        if isinstance(self._client, Seekable):
            self._seek(self._client, self._client.now_ns + steps * SEEK_NS)
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
        if not isinstance(self.screen, SettingsScreen):
            screen = SettingsScreen(self._config_file, self._client.snapshot().settings)
            self.push_screen(screen, self._settings_written)

    def _settings_written(self, sentence: str | None) -> None:
        if sentence:
            self.notify(sentence, title="settings", timeout=15, markup=False)

    def action_tour(self) -> None:
        self.push_screen(TourScreen())

    def action_help(self) -> None:
        self.push_screen(HelpScreen())

    # -- profile snapshot

    def action_export(self) -> None:
        if not self._live.started:
            self._say("nothing to profile: no cycle has run yet")
            return
        if self._profiling:
            self._say("already profiling: one at a time")
            return
        pair = self._pair()
        if pair is not None and self._experiments.running is not None:
            self._say("nothing is profiled while an experiment runs: a stops it")
            return
        self._profiling, self._pairing = True, pair is not None
        self._export(self.export_screenshot(title="tradetui", simplify=True), pair)
        self.tick()

    def _pair(self) -> tuple[Toggles, Toggles] | None:
        """On the compare screen the two settings of the last experiment; none for a factorial design or a recording."""
        state = self._live.experiment
        if self.current_mode != CompareScreen.MODE or self._client.read_only or state is None:
            return None
        cells = state.result.design.cells if state.result is not None else ()
        return (cells[0], cells[1]) if len(cells) == 2 else None

    @work(group="profile", exit_on_error=False)
    async def _export(self, svg: str, settings: tuple[Toggles, Toggles] | None) -> None:
        try:
            if settings is None:
                pair = None
                folder = await self._client.export_profile(self._export_directory, svg, PROFILE_S)
            else:
                folder, pair = await self._client.export_pair(self._export_directory, svg, PROFILE_S, *settings)
            shown = await asyncio.to_thread(profile_shown, folder, pair, self._live.snapshot.toggles)
        except Exception as error:  # as above: told, and the monitor goes on
            self.post_message(ProfileFailed(f"{type(error).__name__}: {error}"))
        else:
            self.post_message(ProfileWritten(folder, shown))

    def on_profile_written(self, message: ProfileWritten) -> None:
        self._profiling = self._pairing = False
        if message.shown is not None:
            self._profile = message.shown
            for screen in self.screen_stack:
                if isinstance(screen, ProfileScreen):
                    screen.show_tab("flame")
        self.notify(str(message.folder), title="profile snapshot written to", timeout=15, markup=False)
        self.tick()

    def on_profile_failed(self, message: ProfileFailed) -> None:
        self._profiling = self._pairing = False
        self.notify(message.reason, title="no profile snapshot", severity="error", timeout=15, markup=False)
        self.tick()

    # -- leaving

    def action_leave(self) -> None:
        if not isinstance(self.screen, QuitDialog):
            self.push_screen(QuitDialog(self._client.owns_swarm), self._answered)

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
