"""What the parts of the monitor's app share: the link to the swarm, what is shown now, and how a person is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from textual.app import App
from textual.worker import Worker

from core.quote_reading import QuoteReader
from core.spans import ROOT
from tui.experiments import Experiments
from tui.messages import LadderTaken, NotBack, TraceTaken
from tui.panel_screen import PanelScreen
from tui.session import SwarmClient
from tui.view import ProfileShown, View

NOTE_S = 5.0
NEWS_NS = 300_000_000
"""Behind a key's answer so much later news tells of what it brought: nodes push theirs ten times a second."""


class MonitorBase(App[bool]):
    """State and the few methods that actions need; `tui.app` puts the parts together."""

    def __init__(self, client: SwarmClient, export_directory: Path, clock_ns: Callable[[], int]) -> None:
        super().__init__()
        self._client = client
        self._export_directory = export_directory
        self._clock_ns = clock_ns
        self._live: View
        """The view of the last tick."""
        self._frozen: View | None = None
        self._asked: list[str] = []
        self._press_order = asyncio.Lock()
        self._profiling = False
        self._pairing = False
        self._profile: ProfileShown | None = None
        self._trace = TraceTaken(None)
        self._trace_asked_ns = 0
        self._book = LadderTaken("", None)
        self._quotes_of, self._quotes = "", QuoteReader()
        self._book_asked_ns = 0
        self._asking_book = False
        self._heat_of = ROOT
        self._experiments = Experiments()
        self._experiment_work: Worker[None] | None = None
        self._export_work: Worker[None] | None = None
        self._untold: list[str] = []
        """Where the swarm did not go back, and no screen has said so yet."""
        self._answered_ns: int | None = None
        """When the last toggle key was answered."""
        self._note = ""
        self._note_until_ns = 0

    @property
    def front(self) -> PanelScreen | None:
        """The screen that is shown, whatever dialog lies over it."""
        return next((screen for screen in self.screen_stack if isinstance(screen, PanelScreen)), None)

    def tick(self, at_once: bool = True) -> None:
        """Take one snapshot and draw it."""
        raise NotImplementedError

    def action_show(self, mode: str) -> None:
        self.switch_mode(mode)
        self.call_after_refresh(self.tick)

    @property
    def _may_export(self) -> bool:
        """A page of `tradetui serve` is anybody's: unless it controls the swarm, it writes nothing on the server."""
        return not (self.is_web and self._client.read_only)

    def _not_back(self, sentence: str) -> None:
        """Told on the screen, or by `settle` where there is none any more."""
        self._untold.append(sentence)
        self.post_message(NotBack(sentence))

    def on_not_back(self, message: NotBack) -> None:
        if message.sentence in self._untold:
            self._untold.remove(message.sentence)
        self.notify(message.sentence, title="other toggles than before", severity="error", timeout=60, markup=False)

    def _toggles_unknown(self) -> str:
        """Why the toggles on the screen may not be those that the keys before this one brought; empty if they are."""
        if self._asked:
            return f"{self._asked[-1]} has no answer yet"
        since = self._live.snapshot.taken_ns
        if self._answered_ns is not None and since - self._answered_ns < NEWS_NS:
            return "the swarm has not told yet what the last key brought"
        return ""

    def _say(self, note: str) -> None:
        self._note, self._note_until_ns = note, self._clock_ns() + int(NOTE_S * 1e9)
        self.tick()
