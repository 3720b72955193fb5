"""What a person sees once, on the first start: the screen in one page. Any key closes it."""

from __future__ import annotations

from pathlib import Path

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

PAGE = (
    ("Left", "where a cycle's time goes: the largest highlighted"),
    ("Right", "how the nodes agree; the toggles, with what pressing gives"),
    ("Above", "what needs you, and who is in control"),
    ("Below", "settings that the figures were made under, and faults"),
    ("", ""),
    ("b … d", "switch one optimisation while the swarm trades"),
    ("9 0", "all of them on, all off"),
    ("a", "an interleaved experiment: does it help, how sure is that"),
    ("1-6", "screens: monitor, compare, swarm, orders, profile, cycle"),
    ("k", "do a node a wrong, and see what the others do about it"),
    ("K", "the kill switch: no order leaves any more"),
    ("?", "every span and key in plain words; ^p finds commands by name"),
    ("q", "leave; trading goes on unless you say otherwise"),
)
KEY_CELLS = 7


class TourScreen(ModalScreen[None]):
    """Dismissed by any key or click."""

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = "tradetui, in one screen"
            box.border_subtitle = "any key closes this; it is shown once"
            yield Static(_page())

    def on_key(self, event: events.Key) -> None:
        event.stop()
        self.dismiss()

    def on_click(self) -> None:
        self.dismiss()


def _page() -> Text:
    page = Text("Recorded prices, real processes, real votes: nothing here is made up.\n\n")
    for key, meaning in PAGE:
        page.append(f" {key:<{KEY_CELLS}} ", "bold")
        page.append(f"{meaning}\n")
    return page


def is_first_start(mark: Path) -> bool:
    """Whether nobody has seen the tour; from now on somebody has. A mark that cannot be kept is no trouble."""
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    except OSError:
        return True
    return True
