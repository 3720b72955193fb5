"""`k`: what a node is to do wrong, on purpose. First the node, then the fault."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from core.faults import SLOW_MS, Fault

KILL = "kill"
FAULTS: dict[str, tuple[str, str]] = {
    "k": (KILL, "kill the process; the supervisor starts it again"),
    "p": (Fault.PAUSED, "pause the process"),
    "c": (Fault.CUT, "cut it off from the other nodes"),
    "s": (Fault.SLOW, f"send {SLOW_MS:g} ms late to other nodes"),
    "x": (Fault.SILENT, "stay silent: hear all, tell nothing"),
    "e": (Fault.EQUIVOCATING, "equivocate: sign contradictory Byzantine votes"),
    "l": (Fault.LYING, "lie: sign the opposite of what it judges"),
    "o": (Fault.OVERLIMIT, "propose orders outside the limits while it leads"),
    "r": (Fault.NONE, "restore: do as it should"),
}
"""Key, then the fault (or `kill`) and what it is in words."""


class Ordered(NamedTuple):
    """What the person chose."""

    node: int
    fault: str


class FaultDialog(ModalScreen[Ordered | None]):
    """Dismissed with what was chosen, None for nothing."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(node), f"node({node})", f"node {node}") for node in range(10)),
        *(Binding(key, f"fault('{key}')", words) for key, (_, words) in FAULTS.items()),
        Binding("escape,q", "cancel", "cancel"),
    ]

    def __init__(self, nodes: Sequence[int], leader: int | None, faults: Sequence[str]) -> None:
        """`faults` are the captions of those that are on."""
        super().__init__()
        self._members = tuple(nodes)
        self._leader = leader
        self._faults = tuple(faults)
        self._node: int | None = None

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = "Fault on purpose"
            box.border_subtitle = "digit: node · letter: fault · escape closes"
            yield Static(self._page())

    def _page(self) -> Text:
        page = Text()
        for node in self._members:
            chosen = node == self._node
            page.append(f" {'●' if chosen else '○'} ", "bold" if chosen else "")
            page.append(f" {node} ", "reverse")
            page.append(" leads   " if node == self._leader else "   ", "bold" if chosen else "")
        page.append("\n\n")
        for key, (_, words) in FAULTS.items():
            page.append(f" {key} ", "reverse" if self._node is not None else "dim")
            page.append(f"  {words}\n", "" if self._node is not None else "dim")
        page.append("\n")
        page.append("\n".join(self._faults) or "no fault is on")
        return page

    def action_node(self, node: int) -> None:
        if node in self._members:
            self._node = node
            self.query_one(Static).update(self._page())

    def action_fault(self, key: str) -> None:
        if self._node is not None:
            self.dismiss(Ordered(self._node, str(FAULTS[key][0])))

    def action_cancel(self) -> None:
        self.dismiss(None)
