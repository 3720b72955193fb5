"""`q`: the monitor owns nothing, so leaving is a question about the swarm."""

from __future__ import annotations

from typing import ClassVar, Literal

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

Answer = Literal["keep", "stop", "cancel"]


class QuitDialog(ModalScreen[Answer]):
    """Dismissed with `keep` (trading goes on), `stop` (end the swarm) or `cancel`."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("k,l", "answer('keep')", "keep trading"),
        Binding("s", "answer('stop')", "stop the swarm"),
        Binding("c,escape,q", "answer('cancel')", "cancel"),
    ]

    def __init__(self, owns_swarm: bool, may_stop: bool) -> None:
        """`may_stop`: this monitor may end the swarm; else the choice is not there."""
        super().__init__()
        self._owns_swarm = owns_swarm
        self._may_stop = may_stop

    def compose(self) -> ComposeResult:
        keep = "k  keep trading" if self._owns_swarm else "l  leave"
        with Vertical() as box:
            box.border_title = "Quit" if self._owns_swarm else "Leave"
            if self._owns_swarm:
                yield Static("This command started the swarm. What becomes of it?")
            else:
                yield Static("This monitor is attached to a swarm that others may be using.")
            choices = [Option(f"{keep:<20}it goes on without a monitor", "keep")]
            if self._may_stop:
                choices.append(Option(f"{'s  stop the swarm':<20}no process is left behind", "stop"))
            choices.append(Option(f"{'c  cancel':<20}back to the screen", "cancel"))
            yield OptionList(*choices)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.action_answer(event.option.id or "cancel")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """A monitor that only looks on has no key that stops the swarm."""
        return self._may_stop or action != "answer" or parameters != ("stop",)

    def action_answer(self, answer: str) -> None:
        self.dismiss("keep" if answer == "keep" else "stop" if answer == "stop" else "cancel")
