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
from tui.messages import LadderTaken, TraceTaken
from tui.panel_screen import PanelScreen
from tui.session import SwarmClient
from tui.view import ProfileShown, View

NOTE_S = 5.0


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
        self._ending = False
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

    def _say(self, note: str) -> None:
        self._note, self._note_until_ns = note, self._clock_ns() + int(NOTE_S * 1e9)
        self.tick()
