"""The figures of `tradetui bench all` as Markdown: the whole table, and the part between the marks in README."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.bench.rows import Row

BEGIN = "<!-- bench: written by `tradetui bench table --readme`, do not edit -->"
END = "<!-- /bench -->"
README_ROWS = ("all.",)
"""Prefixes of the rows that README shows, and single toggles from the baseline beside them."""


class PublishError(ValueError):
    """The file of figures or the README cannot be used; the text says which and why."""


def read_document(path: Path) -> dict[str, Any]:
    """The JSON that `bench all` wrote. Raises PublishError."""
    try:
        document = json.loads(path.read_text())
        [Row(**row) for row in document["rows"]]
        document["settings"]["tasks"]
    except OSError as error:
        raise PublishError(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise PublishError(f"{path} was not written by `tradetui bench all`: {error}") from None
    return dict(document)


def to_markdown(document: Mapping[str, Any]) -> str:
    """Every row, under what it was measured."""
    rows = [Row(**row) for row in document["rows"]]
    missing = document["settings"]["missing"]
    note = f"\n\nNot measured: {', '.join(missing)}." if missing else ""
    return f"# tradetui bench all\n\n{_under_what(document)}\n\n{_table(rows)}{note}\n"


def to_readme(document: Mapping[str, Any]) -> str:
    """What stands between the marks, the marks included."""
    rows = [Row(**row) for row in document["rows"]]
    shown = [row for row in rows if row.name.startswith(README_ROWS) or _is_toggle(row.name)]
    return f"{BEGIN}\n{_under_what(document)}\n\n{_table(shown)}\n{END}"


def _is_toggle(name: str) -> bool:
    return name.startswith("toggle.") and name.count(".") == 1


def write_readme(path: Path, document: Mapping[str, Any]) -> None:
    """Replace what stands between the marks. Raises PublishError where they are not there once."""
    text = path.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise PublishError(f"{path} wants the two marks once each, in order: {BEGIN} and {END}")
    before, after = text[: text.index(BEGIN)], text[text.index(END) + len(END) :]
    path.write_text(before + to_readme(document) + after)


def _under_what(document: Mapping[str, Any]) -> str:
    machine, settings = document["machine"], document["settings"]
    loads = [task["load_before"] for task in settings["tasks"].values()]
    load = f"load before each part {min(loads):g} to {max(loads):g}" if loads else "no part was measured"
    return (
        f"Measured {settings['taken'][:10]} on {machine['processor']}, {machine['cores']} cores, Python"
        f" {machine['python']} ({settings['form']} form, {load}). Interleaved on one swarm, 95 % intervals. Injected:"
        " venue latency of 3 ms in `3ms` rows and in `toggle`, link delay in `link` rows, nothing else."
    )


def _table(rows: Sequence[Row]) -> str:
    lines = ["| figure | unit | ours | against | theirs | times better | 95 % |", "|---|---|--:|---|--:|--:|--:|"]
    for row in rows:
        theirs = "" if row.theirs is None else f"{row.theirs:,.4g}"
        ratio = "" if row.ratio is None else f"{row.ratio:,.2f}"
        interval = "" if row.ratio_lo is None else f"{row.ratio_lo:,.2f}–{row.ratio_hi:,.2f}"
        cells = (f"`{row.name}`", row.unit, f"{row.ours:,.4g}", row.against or "", theirs, ratio, interval)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
