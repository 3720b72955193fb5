"""`tradetui sweep`: a factorial of toggles and settings over sessions, and what each of them does."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from core.commands.output_file import output_file
from core.session import SessionError

if TYPE_CHECKING:
    from core.factorial_effects import EffectEstimate
    from core.sweep import SweepFile
    from core.sweep_spec import SweepSpec


def add_sweep_command(commands: Any) -> None:
    """Add the sub-command to an argparse sub-parser collection."""
    sweep = commands.add_parser("sweep", help="a factorial of toggles and settings, each cell in processes of its own")
    sweep.add_argument("spec", type=Path, metavar="SPEC.toml", help="cycles, replicates, [settings], [factors]")
    sweep.add_argument("--db", type=Path, metavar="FILE", help="results; default: the specification's name, .duckdb")
    sweep.add_argument("--scheduler", metavar="tcp://HOST:PORT", help="run on the workers of a Dask scheduler")
    sweep.add_argument("--json", type=output_file, metavar="FILE")
    sweep.set_defaults(run=_sweep)


def _sweep(arguments: argparse.Namespace, console: Console) -> int:
    from core.sweep import Executor, OneAfterAnother, SweepFile, sweep
    from core.sweep_spec import read_spec

    spec = read_spec(arguments.spec)
    file = SweepFile(arguments.db or arguments.spec.with_suffix(".duckdb"), spec)
    executor: Executor = _dask(arguments.scheduler) if arguments.scheduler else OneAfterAnother()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, console=console, transient=True) as progress:
            bar = progress.add_task("runs", total=None)
            failed = sweep(spec, file, executor, lambda done, of: progress.update(bar, completed=done, total=of))
        for each in failed:
            console.print(each, style="bold red", markup=False, highlight=False)
        if failed:
            console.print("run the same command again to try these once more", style="dim")
            return 1
        _show(spec, file, arguments, console)
    finally:
        executor.close()
        file.close()
    return 0


def _dask(address: str) -> Any:
    from core.mining_workers import DaskCluster, WorkersError
    from core.sweep_run import execute

    try:
        return DaskCluster(address, run=execute)
    except WorkersError as error:
        raise SessionError(str(error)) from None


def _show(spec: SweepSpec, file: SweepFile, arguments: argparse.Namespace, console: Console) -> None:
    try:
        found = file.write_effects()
    except ValueError as error:
        raise SessionError(str(error)) from None
    console.print(table_of(spec, found, arguments.scheduler is not None))
    if arguments.json is not None:
        document = {
            "spec": spec.as_dict(),
            "runs": [asdict(each) for each in file.finished()],
            "effects": [asdict(each) for each in found],
        }
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")


def table_of(spec: SweepSpec, found: list[EffectEstimate], together: bool) -> Table:
    """Effects on the median cycle time."""
    count = len(spec.cells()) * spec.replicates
    note = "above 1: faster; × is how many times larger the one's effect is with the other; least squares on logarithms"
    if together:
        note += "; workers of one machine slow each other"
    table = Table(title=f"{count} runs of {spec.cycles} cycles", caption=note, show_edge=False)
    table.add_column("effect")
    for column in ("times as fast", "95 %"):
        table.add_column(column, justify="right")
    for each in found:
        interval = "no degree of freedom" if each.low is None else f"{each.low:.3f}–{each.high:.3f}"
        table.add_row(each.name, f"{each.ratio:.3f}", interval)
    return table
