"""`tradetui mine`: the pattern library from history, with progress, on this machine or a Dask cluster."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from core.mining import MinedLibrary, MiningSettings, mine, remove_work, save_library
from core.mining_workers import DaskCluster, LocalProcesses, Workers
from kernels import cache

SHOWN = 8
SIGNIFICANT = 0.05
"""Above this p-value a library is called no better than chance."""


def mine_library(
    settings: MiningSettings, processes: int, scheduler: str | None, out: Path, console: Console
) -> MinedLibrary:
    """Mine, show and write the library. Finished tasks wait in `OUT.work` until the library is whole.

    Raises as `core.mining.mine`, OSError where `out` cannot be written, ValueError for fewer than one process.
    """
    if processes < 1:
        raise ValueError(f"--processes {processes}: want at least 1")
    # workers take over the folder of compiled kernels
    cache.use()
    began = time.perf_counter()
    work = out.with_name(out.name + ".work")
    workers: Workers = DaskCluster(scheduler) if scheduler else LocalProcesses(processes)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("reading")

        def report(stage: str, done: int, total: int) -> None:
            progress.update(bar, description=stage, completed=done, total=total)

        try:
            library = mine(settings, workers, work, report)
        except KeyboardInterrupt:
            console.print(f"stopped; finished work is in {work}, the same command goes on from there")
            raise
        finally:
            workers.close()
    try:
        save_library(out, settings, library)
    except OSError as error:
        raise OSError(
            f"{out} cannot be written ({error.strerror or error}); finished work is in {work}, the same command goes on"
            " from there"
        ) from error
    remove_work(settings, work)
    console.print(_table(settings, library))
    console.print(
        f"returns after a pattern, in and out of sample: rank correlation {library.rank_correlation:+.3f}, "
        f"p = {library.p_value:.3f} against {library.shifts} shifts of the returns in time: {_verdict(library)}"
    )
    console.print(f"{len(library.patterns)} patterns in {out}, {time.perf_counter() - began:.1f} s")
    console.print(f"trade by them: tradetui --patterns {out}", style="dim")
    return library


def _verdict(library: MinedLibrary) -> str:
    if 1 / (library.shifts + 1) > SIGNIFICANT:
        return "too few rows out of sample to tell; mine a longer recording, or with a shorter window"
    return "no better than chance" if library.p_value > SIGNIFICANT else "better than chance"


def _table(settings: MiningSettings, library: MinedLibrary) -> Table:
    table = Table(
        *("pattern", "members", "return after, %", "members out", "out of sample, %"),
        title=f"{settings.source}, {settings.window} steps: the largest of {len(library.patterns)} patterns, "
        f"{library.iterations} iterations",
        show_edge=False,
    )
    for k in range(min(SHOWN, len(library.patterns))):
        out = library.forward_return_out[k]
        table.add_row(
            f"instrument {library.instrument[k]}, row {library.end_row[k]}",
            f"{library.members[k]}",
            f"{100 * library.forward_return[k]:+.3f}",
            f"{library.members_out[k]}",
            "" if np.isnan(out) else f"{100 * out:+.3f}",
        )
    return table
