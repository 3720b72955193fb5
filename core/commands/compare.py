"""`tradetui compare`: span by span, did the second session become slower than the first?"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from core.commands.output_file import output_file
from core.config import ConfigError
from core.session import SessionError
from core.toggles import Toggles, parse_toggles

if TYPE_CHECKING:
    from core.profile_series import ProfileSeries
    from core.regression import Regression, SpanChange

SEED = 1
MACHINE_KEYS = ("processor", "cores", "python", "system")
NOT_COMPARED = frozenset(("toggles", "cycles", "recording_mb_max"))
"""Settings that make no difference to a cycle; the toggles are compared by what ran."""


def add_compare_command(commands: Any) -> None:
    """Add the sub-command to an argparse sub-parser collection."""
    compare = commands.add_parser("compare", help="did any span become slower? exit code 1 where one surely did")
    compare.add_argument("before", type=Path, metavar="A", help="session directory, or a profile kept by --keep")
    compare.add_argument("after", type=Path, metavar="B", nargs="?", help="the same; none: only --keep")
    compare.add_argument("--threshold", type=float, default=5.0, metavar="%", help="slowdowns of less do not count")
    compare.add_argument("--toggles", metavar="TOGGLES", help="compare the cycles under these; default: most on both")
    compare.add_argument("--keep", type=Path, metavar="FILE", help="keep the last of the two as a profile for later")
    compare.add_argument("--print-only", action="store_true", help="exit code 0 even where a span is slower")
    compare.add_argument("--json", type=output_file, metavar="FILE")
    compare.set_defaults(run=_compare)


def _compare(arguments: argparse.Namespace, console: Console) -> int:
    from core.profile_series import load_series, save_series
    from core.regression import compare

    if not 0.0 <= arguments.threshold < 1_000.0:
        raise ConfigError(f"--threshold {arguments.threshold:g}: want per cent, 0 or more")
    if arguments.after is None and arguments.keep is None:
        raise ConfigError("compare wants two sessions or profiles, or one and --keep FILE")
    wanted = _toggles(arguments.toggles)
    sides = [load_series(path) for path in (arguments.before, arguments.after) if path is not None]
    chosen = choose(sides, wanted)
    if arguments.keep is not None:
        save_series(chosen[-1], arguments.keep)
        console.print(f"{arguments.keep}: {len(chosen[-1].own_ms)} cycles of {chosen[-1].name}", highlight=False)
    if arguments.after is None:
        return 0
    before, after = chosen
    try:
        found = compare(before.own_ms, after.own_ms, SEED, arguments.threshold / 100.0)
    except ValueError as error:
        raise SessionError(str(error)) from None
    for line in differences(before, after):
        console.print(line, style="yellow", highlight=False, markup=False)
    console.print(table_of(found, before, after))
    console.print(verdict(found), style="bold", highlight=False)
    if arguments.json is not None:
        document = {
            "before": before.name,
            "after": after.name,
            "toggles": before.toggles.as_dict(),
            "threshold": found.threshold,
            "cycles": [found.before_cycles, found.after_cycles],
            "differences": differences(before, after),
            "spans": [asdict(change) for change in found.changes],
        }
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    return 1 if found.slowdowns and not arguments.print_only else 0


def _toggles(text: str | None) -> Toggles | None:
    try:
        return None if text is None else parse_toggles(text)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def choose(sides: list[dict[Toggles, ProfileSeries]], wanted: Toggles | None) -> list[ProfileSeries]:
    """Of each side the series under `wanted`, or under the setting that has the most cycles on all sides.

    Raises SessionError where no setting is on all of them.
    """
    common = [toggles for toggles in sides[0] if all(toggles in side for side in sides)]
    if wanted is not None:
        common = [toggles for toggles in common if toggles == wanted]
    if not common:
        ran = "; ".join(", ".join(toggles.label() for toggles in side) or "too few cycles" for side in sides)
        raise SessionError(f"there is no setting with enough cycles to compare; these ran: {ran}")
    best = max(common, key=lambda toggles: min(len(side[toggles].own_ms) for side in sides))
    return [side[best] for side in sides]


def differences(before: ProfileSeries, after: ProfileSeries) -> list[str]:
    """What besides the code differs between the two, in sentences: it may be the reason for a change."""
    found = [
        f"not the same {name}: {before.machine.get(name, 'unknown')}, then {after.machine.get(name, 'unknown')}"
        for name in MACHINE_KEYS
        if before.machine.get(name) != after.machine.get(name)
    ]
    names = {*before.settings, *after.settings} - NOT_COMPARED
    found += [
        f"not the same {name}: {before.settings.get(name)!r}, then {after.settings.get(name)!r}"
        for name in sorted(names)
        if before.settings.get(name) != after.settings.get(name)
    ]
    if before.captions != after.captions:
        found.append(f"not the same captions: {', '.join(before.captions)}; then {', '.join(after.captions)}")
    return found


def table_of(found: Regression, before: ProfileSeries, after: ProfileSeries) -> Table:
    """Every span; slowdowns stand out."""
    title = f"{before.name} → {after.name}, {found.before_cycles} and {found.after_cycles} cycles"
    note = (
        f"{before.toggles.label()}; medians of own time a cycle; ratio: after ÷ before; where a span did not run in"
        " most cycles: means, and their difference; intervals hold for all at once"
    )
    table = Table(title=title, caption=note, show_edge=False, pad_edge=False)
    table.add_column("span", no_wrap=True)
    for column in ("ms before", "ms after", "ratio", "95 %", ""):
        table.add_column(column, justify="right", no_wrap=bool(column))
    for change in found.changes:
        said = word(change)
        style = "bold red" if change.slowdown else "green" if said == "faster" else ""
        times = (f"{change.before_ms:.4f}", f"{change.after_ms:.4f}")
        table.add_row(change.name, *times, *_size(change), said, style=style)
    return table


def _size(change: SpanChange) -> tuple[str, str]:
    """The ratio or the difference, and its interval."""
    if change.ratio is not None:
        return f"{change.ratio:.3f}", f"{change.low:.3f}–{change.high:.3f}"
    if change.difference_ms is not None:
        return f"{change.difference_ms:+.4f} ms", f"{change.difference_low_ms:+.4f}–{change.difference_high_ms:+.4f}"
    return "", ""


def word(change: SpanChange) -> str:
    """What is said of one span."""
    if change.ratio is None and change.difference_ms is None:
        return "did not run"
    if change.slowdown:
        return "SLOWER"
    if not change.significant:
        return ""
    is_faster = change.ratio < 1.0 if change.ratio is not None else (change.difference_ms or 0.0) < 0.0
    return "faster" if is_faster else "slower, not enough"


def verdict(found: Regression) -> str:
    """One sentence."""
    if not found.slowdowns:
        return f"no span is surely slower by {found.threshold:.0%} or more"
    return f"slower by {found.threshold:.0%} or more: " + ", ".join(
        f"{change.name} {change.ratio:.2f}×"
        if change.ratio is not None
        else f"{change.name} {change.before_ms:.3f} → {change.after_ms:.3f} ms"
        for change in found.slowdowns
    )
