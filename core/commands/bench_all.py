"""`tradetui bench all` and `tradetui bench table`: their flags, and what they run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console

from core.commands.output_file import output_file
from core.config import ConfigError


def add_bench_all(subjects: Any) -> None:
    """Add both to the subjects of `tradetui bench`; each sets `run`."""
    every = subjects.add_parser("all", help="all that README claims, in one interleaved run that can be resumed")
    every.add_argument("--json", type=output_file, metavar="FILE", required=True, help="the same file again goes on")
    every.add_argument("--md", type=Path, metavar="FILE")
    every.add_argument("--short", action="store_true", help="about 18 minutes on two quiet cores; wider intervals")
    every.add_argument("--only", metavar="TEXT", default="", help="tasks with this in their name")
    every.set_defaults(run=_all)
    table = subjects.add_parser("table", help="what bench all measured, as Markdown and in the README")
    table.add_argument("json", type=Path, metavar="FILE", help="as bench all wrote it")
    table.add_argument("--md", type=Path, metavar="FILE")
    table.add_argument("--readme", type=Path, metavar="FILE", help="replace what stands between its marks")
    table.set_defaults(run=_table)


def _all(arguments: argparse.Namespace, console: Console) -> int:
    from core.bench.all import run_bench_all
    from core.bench.published import read_document, to_markdown

    _, failed = run_bench_all(arguments.short, arguments.json, arguments.only, console)
    if arguments.md is not None:
        arguments.md.write_text(to_markdown(read_document(arguments.json)))
    for each in failed:
        console.print(each, style="bold red", markup=False, highlight=False)
    if failed:
        console.print("run the same command again to try these once more", style="dim")
    return 1 if failed else 0


def _table(arguments: argparse.Namespace, console: Console) -> int:
    from core.bench.published import PublishError, read_document, to_markdown, write_readme

    try:
        document = read_document(arguments.json)
        if arguments.readme is not None:
            write_readme(arguments.readme, document)
    except PublishError as error:
        raise ConfigError(str(error)) from None
    text = to_markdown(document)
    if arguments.md is not None:
        arguments.md.write_text(text)
    if arguments.md is None and arguments.readme is None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    return 0
