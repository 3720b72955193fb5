"""`tradetui report`: a session's profile as text, Markdown, JSON or one HTML file."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markdown import Markdown

from core.commands.output_file import output_file
from core.config import ConfigError
from core.session import SessionError, find_session
from core.toggles import FIELD_OF_KEY, Toggles, parse_toggles


def add_report_command(commands: Any) -> None:
    """Add the sub-command to an argparse sub-parser collection."""
    report = commands.add_parser("report", help="where a session's cycles spend their time, and what to do about it")
    report.add_argument("session", type=Path, metavar="SESSION", help="directory of a session that does not run now")
    report.add_argument("--html", type=Path, metavar="FILE", help="one file with plots, for a browser or a printer")
    report.add_argument("--md", type=Path, metavar="FILE")
    report.add_argument("--json", type=output_file, metavar="FILE")
    report.add_argument(
        "--toggles", metavar="TOGGLES", help="profile the cycles that ran under these; default: where experiments began"
    )
    report.add_argument("--days", metavar="KEY=N,...", default="", help="work of each toggle in days, for the ranking")
    report.set_defaults(run=_report)


def _report(arguments: argparse.Namespace, console: Console) -> int:
    from core.report.document import document_of
    from core.report.evidence import read_evidence
    from core.report.html import to_html
    from core.report.markdown import to_markdown
    from core.report.plots import PlotLibraryError, draw
    from core.report.report import make_report, to_dict

    evidence = read_evidence(find_session(arguments.session), _toggles(arguments.toggles))
    report = make_report(evidence, parse_days(arguments.days))
    document = document_of(report)
    if arguments.html is not None:
        try:
            arguments.html.write_text(to_html(document, draw(report)))
        except PlotLibraryError as error:
            raise SessionError(str(error)) from None
    if arguments.md is not None:
        arguments.md.write_text(to_markdown(document))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(to_dict(report), indent=1) + "\n")
    written = [str(path) for path in (arguments.html, arguments.md, arguments.json) if path is not None]
    if written:
        console.print(f"{', '.join(written)}: {len(evidence.cycles):,} cycles of {evidence.session}", highlight=False)
    else:
        console.print(Markdown(to_markdown(document)))
    return 0


def _toggles(text: str | None) -> Toggles | None:
    try:
        return None if text is None else parse_toggles(text)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def parse_days(text: str) -> dict[str, float]:
    """`x=2,z=0.5` as days by toggle key. Raises ConfigError naming the bad part."""
    found: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        key, _, value = part.strip().partition("=")
        try:
            days = float(value)
        except ValueError:
            days = 0.0
        if key not in FIELD_OF_KEY or not 0.0 < days < 10_000.0:
            raise ConfigError(f"--days {part!r}: want a toggle key and days above 0, such as x=2")
        found[key] = days
    return found
