"""The lines around the panels: status, banner, captions, keys, and what stands in their place while starting."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from core.records import Severity, VenueState
from core.trading_state import TradingState
from tui.alerts import has_failed
from tui.figures import age, clock, plain
from tui.view import View
from tui.widgets.panel import Panel, Part, Row, fit, row_of


@dataclass(frozen=True, slots=True)
class Mode:
    """What the screen itself is doing; beside the swarm's state it decides what the keys do."""

    frozen_at_ns: int | None = None
    now_ns: int = 0
    profiling_s: float | None = None
    """Seconds asked for, while a profile snapshot is being taken."""
    note: str = ""
    """The answer to the last key, shown for a few seconds."""
    next_tab: str = ""
    """What `tab` shows; empty where all panes are on the screen."""
    screen: str = "monitor"
    experimenting: bool = False
    replaying: bool = False
    read_only: bool = False
    may_export: bool = True
    owns_swarm: bool = True
    operator: int | None = None
    """This monitor's id in the roster."""
    started: bool = True
    """False while no cycle has run: there is nothing to freeze or profile yet."""


class StatusLine(Panel):
    """Product, market, step and lap; at the right what the swarm and the screen do."""

    mode = Mode()

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        snapshot = view.snapshot
        left = [Part(f" tradetui {self.mode.screen} ", "strong")]
        if self.mode.note:
            left.append(Part(f" {plain(self.mode.note)}", "accent"))
            return [row_of(left, self._right(view, width), width)]
        market = plain(snapshot.market) or "no swarm yet"
        left.append(Part(f" {market if width >= 100 else market.partition(':')[0]}"))
        latest = snapshot.cycles[-1] if snapshot.cycles else None
        if latest is not None:
            left += [Part("   step ", "muted"), Part(f"{latest.step:,}"), Part("  lap ", "muted")]
            left.append(Part(f"{latest.lap}"))
        if width >= 100 and snapshot.session:
            left += [Part("   session ", "muted"), Part(plain(snapshot.session))]
        return [row_of(left, self._right(view, width), width)]

    def _control(self, view: View, width: int) -> list[Part]:
        """Who is in control: named where it is somebody else."""
        holder = view.snapshot.in_control
        if holder is None or self.mode.replaying:
            return []
        if holder.operator == self.mode.operator:
            return [Part(" in control ", "muted", "app.control")] if width >= 100 else []
        name = plain(str(holder) if width >= 100 else holder.name)
        return [Part(f" {name} in control ", "caution", "app.control")]

    def _right(self, view: View, width: int) -> Row:
        parts: list[Part] = []
        if self.mode.replaying:
            parts.append(Part(f" REPLAY {clock(view.now_ns)} ", "caution"))
        elif self.mode.read_only:
            parts.append(Part(" READ-ONLY ", "caution"))
        parts += self._control(view, width)
        if self.mode.experimenting:
            parts.append(Part(" experiment… ", "caution", "app.show('compare')"))
        if self.mode.profiling_s is not None:
            parts.append(Part(f" profiling {self.mode.profiling_s:g} s… ", "caution"))
        if self.mode.frozen_at_ns is not None:
            parts.append(Part(f" FROZEN {age((self.mode.now_ns - self.mode.frozen_at_ns) / 1e9)} ", "alarm"))
        parts.append(Part(f" {_trading(view)} ", "good" if _trading(view) == "trading" else "warning"))
        return tuple(parts)


def _trading(view: View) -> str:
    if not view.started:
        return "failed" if has_failed(view.snapshot) else "starting"
    if view.snapshot.trading != TradingState.ACTIVE:
        return view.snapshot.trading
    if view.snapshot.venue in (VenueState.DOWN, VenueState.RECONCILING):
        return "paused"
    return "trading" if view.cycles_per_s > 0.0 else "no cycles"


class Banner(Panel):
    """One line for each thing that a person must know; no line, no space taken, when there is none."""

    LINES = 3

    def draw(self, view: View) -> None:
        lines = min(self.LINES, len(view.alerts))
        if self.display != bool(lines):
            self.display = bool(lines)
        if lines and self.styles.height is not None and self.styles.height.value != lines:
            self.styles.height = lines
        super().draw(view)

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        out: list[Row] = []
        for i, alert in enumerate(view.alerts[:height]):
            error = alert.severity is Severity.ERROR
            more = len(view.alerts) - height
            tail = f"  (+{more} more)" if more > 0 and i == height - 1 else ""
            text = f" {'×' if error else '!'} {alert.text}"
            style = "alarm" if error else "caution"
            room = width - len(tail)
            out.append((Part("".join(p.text for p in fit((Part(text),), room)) + tail, style),))
        return out


class CaptionsLine(Panel):
    """Settings without which no figure on the screen can be read."""

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        captions = [plain(caption) for caption in view.snapshot.captions]
        if not captions:
            return [()]
        # Faults on purpose come first: on a narrow screen the end is cut.
        faults = [caption for caption in captions if caption.startswith("fault")]
        rest = " · ".join(caption for caption in captions if caption not in faults)
        marked = [Part(f" {caption} ", "caution") for caption in faults]
        return [(Part(" with ", "muted"), *marked, Part(f" {rest}" if faults else rest))]


class KeyBar(Panel):
    """The keys that are no toggle, each with what pressing it does now; without a word where there is no room."""

    mode = Mode()

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        mode = self.mode
        frozen = mode.frozen_at_ns is not None
        keys: list[tuple[str, str, str]] = [("1-6", "screens" if width >= 100 else "", "app.next_screen")]
        if mode.next_tab:
            keys.append(("tab", mode.next_tab, "app.next_tab"))
        if mode.started or frozen:
            keys.append(("space", "go on" if frozen else "freeze", "app.freeze"))
        if mode.replaying:
            keys.append(("← →", "seek", ""))
        elif mode.started and not mode.read_only:
            keys.append(("a", "stop" if mode.experimenting else "A/B", "app.experiment"))
        keys.append(("?", "help", "app.help"))
        if mode.started and mode.may_export and mode.profiling_s is None:
            keys.append(("e", "profile", "app.export"))
        keys.append(("q", "quit…" if mode.owns_swarm else "leave…", "app.leave"))
        keys.append(("^p", "commands", "app.command_palette"))
        gap = "   " if width >= 100 else " "
        for spared in ("^p", "?", "e"):
            if sum(len(key) + len(label) + 3 + len(gap) * bool(label) for key, label, _ in keys) <= width + len(gap):
                break
            keys = [(key, "" if key == spared else label, action) for key, label, action in keys]
        parts: list[Part] = []
        for key, label, action in keys:
            parts += [Part(f" {key} ", "key", action), Part(f" {label}{gap}" if label else " ", "muted", action)]
        return [tuple(parts)]


class StartupPanel(Panel):
    """What is known while no cycle has run: each process with what it does, then the latest events."""

    def heading(self, view: View) -> str:
        return "Swarm"

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        snapshot = view.snapshot
        if has_failed(snapshot):
            folded = textwrap.wrap(plain(snapshot.phase), max(20, width - 4))
            out: list[Row] = [(), *((Part(f"  {line}", "error"),) for line in folded), ()]
        else:
            out = [(), (Part("  starting …", "strong"),), ()]
            if not snapshot.nodes:
                words = plain(snapshot.phase) or "waiting for the first word from the swarm"
                out.append((Part(f"  {words}", "muted"),))
            elif "compiling" in snapshot.phase:
                out += [(Part(f"  {plain(snapshot.phase)}", "muted"),), ()]
        for node in snapshot.nodes:
            mark, style = ("●", "accent") if node.reachable else ("○", "muted")
            text = plain(node.activity) if node.activity else "up" if node.reachable else "not up yet"
            out.append((Part(f"  {mark} ", style), Part(f"node {node.node:<6}"), Part(text, style)))
        if snapshot.nodes:
            up = snapshot.gateway_connected
            out.append(_process("gateway", up, "connected" if up else "not up yet"))
            venue = snapshot.venue
            word = "not up yet" if venue is VenueState.UNKNOWN else str(venue)
            out.append(_process("venue", venue is VenueState.CONNECTED, word))
        out.append(())
        for event in snapshot.events[-max(0, height - len(out)) :] if height > len(out) else ():
            style = {Severity.INFO: "muted", Severity.WARNING: "warning"}.get(event.severity, "error")
            word = "" if event.severity is Severity.INFO else f"{event.severity}: "
            text = f"  {clock(event.time_ns)}  {plain(event.source)}  {word}{plain(event.text)}"
            out.append((Part(text, style),))
        return out


def _process(name: str, up: bool, word: str) -> Row:
    mark, style = ("●", "accent") if up else ("○", "muted")
    return (Part(f"  {mark} ", style), Part(f"{name:<11}"), Part(word, style))
