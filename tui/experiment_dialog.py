"""`a`: which toggles to compare. One is an A/B, several are a factorial design; a preset stands alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from core.factorial import toggle_design
from core.interleaved import BLOCK_CYCLES, REPLICATES_MAX, REPLICATES_MIN
from core.toggles import FIELD_OF_KEY, Toggles, pressed
from core.what_if import Projection
from tui.widgets.toggles import NAME_OF_KEY, value_word

PRESETS = {"0": "all to the baseline", "9": "all to the optimised preset"}


class ExperimentDialog(ModalScreen[tuple[str, ...]]):
    """Dismissed with the keys chosen, empty for none."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(key, f"mark('{key}')", f"choose {key}") for key in (*FIELD_OF_KEY, *PRESETS)),
        Binding("enter", "start", "start"),
        Binding("escape,q,a", "cancel", "cancel"),
    ]

    def __init__(
        self, toggles: Toggles, chosen: tuple[str, ...], project: Callable[[tuple[str, ...]], Projection]
    ) -> None:
        """`chosen` is marked at first; `project` gives the limit by Amdahl's law."""
        super().__init__()
        self._toggles = toggles
        self._chosen = chosen
        self._project = project

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = "Interleaved experiment"
            box.border_subtitle = "keys choose · enter starts · escape closes"
            yield Static(self._page())

    def _page(self) -> Text:
        page = Text()
        for key in FIELD_OF_KEY:
            now, then = value_word(self._toggles, key), value_word(pressed(self._toggles, key), key)
            self._line(page, key, f"{NAME_OF_KEY[key]:<16} {now} → {then}")
        for key, words in PRESETS.items():
            self._line(page, key, words)
        page.append("\n")
        if not self._chosen:
            return page.append("choose one toggle, or several for a factorial design")
        design = toggle_design(self._toggles, self._chosen)
        projection = self._project(self._chosen)
        cells = len(design.cells)
        kind = "A/B" if cells == 2 else f"factorial, {cells} settings"
        page.append(f"{kind}: blocks of {BLOCK_CYCLES} cycles there and back, ")
        page.append(f"{REPLICATES_MIN} to {REPLICATES_MAX} times\n")
        page.append(f"what-if: at most {projection.ratio:.2f}× ({projection.assumption})")
        return page

    def _line(self, page: Text, key: str, words: str) -> None:
        marked = key in self._chosen
        page.append(f" {'●' if marked else '○'} ", "bold" if marked else "")
        page.append(f" {key} ", "reverse")
        page.append(f" {words}\n", "bold" if marked else "")

    def action_mark(self, key: str) -> None:
        if key in PRESETS:
            self._chosen = () if self._chosen == (key,) else (key,)
        else:
            others = tuple(each for each in self._chosen if each not in PRESETS)
            self._chosen = tuple(each for each in others if each != key) if key in others else (*others, key)
        self.query_one(Static).update(self._page())

    def action_start(self) -> None:
        if self._chosen:
            self.dismiss(self._chosen)

    def action_cancel(self) -> None:
        self.dismiss(())
