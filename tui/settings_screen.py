"""`S`: every setting of the configuration file, changed here and written only if all of it is valid."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from core.config import ConfigError, Settings
from core.config_file import overridden, settings_of, with_text, write_changes

NAME_CELLS = 30


class SettingsScreen(ModalScreen[str]):
    """Dismissed with a sentence on what was written, empty where nothing was."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "write", "write", priority=True),
        Binding("escape", "back", "back", priority=True),
    ]

    def __init__(self, path: Path, running: Mapping[str, object]) -> None:
        """`running` are the values that the swarm on the screen runs under; empty where they are not known."""
        super().__init__()
        self._path = path
        self._runs_with = running
        self._problem = ""
        try:
            self._before = settings_of(path)
        except ConfigError as error:
            self._before = Settings.model_construct()
            self._problem = f"the file is not valid, defaults are shown: {error}"
        self._settings = self._before

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = f"Settings in {self._path}"
            box.border_subtitle = "enter edits · ^s writes the file · escape closes"
            yield OptionList(*(Option(self._line(name), id=name) for name in Settings.model_fields))
            yield Static(id="meaning")
            yield Input(id="value", placeholder="enter on a setting edits it")
            yield Static(self._problem, id="problem")

    def on_mount(self) -> None:
        self.query_one(Input).disabled = True
        self.query_one(OptionList).focus()

    def _line(self, name: str) -> Text:
        value, before = getattr(self._settings, name), getattr(self._before, name)
        line = Text("● " if value != before else "  ")
        line.append(f"{name:<{NAME_CELLS}} ")
        line.append(_shown(value), "bold" if value != before else "")
        running = self._runs_with.get(name, value)
        if _shown(running) != _shown(value):
            line.append(f"   runs with {_shown(running)}", "dim")
        return line

    @property
    def _changes(self) -> dict[str, object]:
        return {
            name: getattr(self._settings, name)
            for name in Settings.model_fields
            if getattr(self._settings, name) != getattr(self._before, name)
        }

    def _chosen(self) -> str:
        listed = self.query_one(OptionList)
        return listed.get_option_at_index(listed.highlighted or 0).id or ""

    @on(OptionList.OptionHighlighted)
    def _describe(self, event: OptionList.OptionHighlighted) -> None:
        field = Settings.model_fields[event.option.id or ""]
        meaning, default = " ".join((field.description or "").split()), _shown(field.default)
        self.query_one("#meaning", Static).update(Text(f"{meaning} Default: {default or 'empty'}."))

    @on(OptionList.OptionSelected)
    def _edit(self) -> None:
        typed = self.query_one(Input)
        typed.disabled = False
        typed.value = _shown(getattr(self._settings, self._chosen()))
        typed.focus()

    @on(Input.Submitted)
    def _submitted(self) -> None:
        if self._take():
            self._say(f"{len(self._changes)} changed, not written yet" if self._changes else "")

    def _take(self) -> bool:
        """Take the value that is being typed; False, and said why, where it is not valid."""
        name = self._chosen()
        try:
            self._settings = with_text(self._settings, name, self.query_one(Input).value)
        except ConfigError as error:
            self._say(str(error))
            return False
        self.query_one(OptionList).replace_option_prompt(name, self._line(name))
        self._leave_the_value()
        return True

    def _leave_the_value(self) -> None:
        typed = self.query_one(Input)
        typed.value, typed.disabled = "", True
        self.query_one(OptionList).focus()

    def _say(self, text: str) -> None:
        self.query_one("#problem", Static).update(Text(text))

    def action_back(self) -> None:
        """Out of the value, or out of the screen."""
        if self.query_one(Input).has_focus:
            self._leave_the_value()
        else:
            self.dismiss("")

    def action_write(self) -> None:
        if self.query_one(Input).has_focus and not self._take():
            return
        changes = self._changes
        if not changes:
            self._say("nothing has changed")
            return
        try:
            write_changes(self._path, changes)
            variables = overridden(self._path, changes)
        except (ConfigError, OSError) as error:
            self._say(str(error))
            return
        but = f", but for what the environment says otherwise: {', '.join(variables)}" if variables else ""
        self.dismiss(f"{', '.join(changes)} written; a swarm started with --config {self._path} runs under it{but}")


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.12g}" if isinstance(value, float) else str(value)
