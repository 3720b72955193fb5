"""The optimisations: key, present value, what pressing does, and what the last change did."""

from __future__ import annotations

from dataclasses import replace

from core.experiment import CYCLES_NEEDED, Change
from core.toggles import FIELD_OF_KEY, PRESETS, Toggles, pressed
from tui.figures import milliseconds
from tui.view import View
from tui.widgets.panel import Panel, Part, Row

NAME_OF_KEY = {
    "b": "batching",
    "s": "serialization",
    "m": "consensus",
    "o": "optimistic",
    "x": "streams",
    "z": "0-RTT",
    "p": "parallel orders",
    "c": "async confirm",
    "d": "DTW kernel",
}


_SHORT = {"parallel orders": "parallel", "msgpack-columns": "columns"}
"""What must be said in fewer cells where the panel is narrow."""


def value_word(toggles: Toggles, key: str) -> str:
    """`on`, `off` or the value's own name."""
    value = getattr(toggles, FIELD_OF_KEY[key])
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def preset_of(toggles: Toggles) -> str | None:
    """The preset that `toggles` are, whatever the DTW kernel: presets leave it alone."""
    for name, preset in PRESETS.items():
        if replace(preset, dtw_kernel=toggles.dtw_kernel) == toggles:
            return name
    return None


class TogglesPanel(Panel):
    """Nine toggles, two presets, one measured effect."""

    TICKS_A_DRAW = 2

    def heading(self, view: View) -> str:
        return "Toggles"

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        out = [_toggle_row(view, key, width) for key in FIELD_OF_KEY]
        effect = effect_rows(view.change, width)
        spare = height - len(out) - len(effect)  # a banner takes rows: what was measured is the last to go
        if spare >= 1:
            out.append(_presets(view.snapshot.toggles, width))
        if spare >= 2:
            out.append(())
        return out + (effect if spare >= 0 else effect[-1:])


def _toggle_row(view: View, key: str, width: int) -> Row:
    toggles = view.snapshot.toggles
    now, then = value_word(toggles, key), value_word(pressed(toggles, key), key)
    action = f"app.press('{key}')"
    narrow = width < 40
    if narrow:
        now, then = _SHORT.get(now, now), _SHORT.get(then, then)
    parts = [
        Part(key if narrow else f" {key} ", "key", action),
        Part(f" {_SHORT.get(NAME_OF_KEY[key], NAME_OF_KEY[key]):<14}", "plain", action)
        if narrow
        else Part(f" {NAME_OF_KEY[key]:<16}", "plain", action),
        Part(now, "muted" if now == "off" else "accent", action),
    ]
    if key in view.asked:
        parts.append(Part(" asked…", "warning"))
    else:
        parts.append(Part(f"→{then}" if narrow else f" → {then}", "muted", action))
    return tuple(parts)


def _presets(toggles: Toggles, width: int) -> Row:
    present = preset_of(toggles)
    parts: list[Part] = []
    for key, name in (("0", "baseline"), ("9", "optimised")):
        chosen = name == present
        action = f"app.press('{key}')"
        parts.append(Part(key if width < 40 else f" {key} ", "key", action))
        parts.append(Part(f" {name}", "accent" if chosen else "plain", action))
        parts.append(Part(" ●  " if chosen else "    ", "accent"))
    return tuple(parts)


def _label(change: Change) -> str:
    preset = preset_of(change.after)
    if len(change.keys) > 2 and preset is not None:
        return f"{preset} preset"
    if len(change.keys) > 2:
        return f"{len(change.keys)} toggles: {' '.join(change.keys)}"
    return ", ".join(
        f"{key} {NAME_OF_KEY[key]} {value_word(change.before, key)}→{value_word(change.after, key)}"
        for key in change.keys
    )


def effect_rows(change: Change | None, width: int) -> list[Row]:
    """Two rows: what changed, and the ratio of median cycle times before / after with its 95 % interval."""
    if change is None:
        return [(Part("effect of a change:", "muted"),), (Part("press a key to measure one", "muted"),)]
    head: Row = (Part("effect of ", "muted"), Part(_label(change), "strong"))
    if change.before_cycles < CYCLES_NEEDED:
        return [head, (Part(f"unknown: {change.before_cycles}/{CYCLES_NEEDED} cycles before it", "warning"),)]
    if change.effect is None:
        return [head, (Part(f"measuring {change.measured_cycles}/{CYCLES_NEEDED} cycles", "warning"),)]
    found = change.effect
    style = {"faster": "good", "slower": "error"}.get(found.verdict, "plain")
    interval = f"({found.low:.2f}–{found.high:.2f})"
    if found.verdict == "no clear difference":
        parts = [Part("no clear difference " if width >= 40 else "no difference ", "strong")]
        parts.append(Part(f"{found.ratio:.2f}× {interval}", "muted"))
        return [head, tuple(parts)]
    ratio = found.ratio if found.verdict == "faster" else 1.0 / found.ratio
    if found.verdict == "slower":
        interval = f"({1.0 / found.high:.2f}–{1.0 / found.low:.2f})"
    parts = [Part(f"{ratio:.2f}× {found.verdict}", style), Part(f" {interval}", "plain")]
    if width >= 40:
        times = f"  {milliseconds(found.before_p50_ms)} → {milliseconds(found.after_p50_ms)} ms"
        parts.append(Part(times, "muted"))
    return [head, tuple(parts)]
