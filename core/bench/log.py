"""`tradetui bench log`: an append that is on disk when it returns, by our log, by SQLite and by LMDB.

The log of a node is ours because of this: a database would have to come within 1.5 times of it. One process alone is
measured, and then as many as a swarm has nodes on one disk: each with files of its own, all appending by the same store
at a time, the stores in turn.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from contextlib import ExitStack, suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from core.bench.log_stores import OURS, RECORD, Append, open_stores, serve_appends
from core.bench.rows import Row, interleaved, row_of_pairs, table_of, write_rows

APPENDS: Final = 200
"""Synced appends of one measurement."""
PROCESSES: Final = 4
SLICE_S: Final = 0.25
"""How long all processes append by one store before they go on to the next."""
STOP_TIMEOUT_S: Final = 10.0


class LogBenchError(RuntimeError):
    """A process of the bench ended before its time."""


def bench_log(rounds: int, json_file: Path | None, console: Console, slice_s: float = SLICE_S) -> None:
    """Measure every store in `rounds` interleaved rounds; print and write.

    Raises ValueError below 6 rounds, LogBenchError where a process of the second part dies.
    """
    with tempfile.TemporaryDirectory(prefix="tradetui-bench-") as folder:
        rows = [*_alone(Path(folder), rounds), *_together(Path(folder), rounds, slice_s)]
    console.print(table_of(f"an append of {len(RECORD)} bytes, on disk", rows))
    if json_file is not None:
        settings = {"rounds": rounds, "record_bytes": len(RECORD), "appends": APPENDS, "slice_s": slice_s}
        write_rows(json_file, settings, rows)


def _alone(folder: Path, rounds: int) -> list[Row]:
    """Microseconds an append, one process."""

    def appends(append: Append) -> None:
        for _ in range(APPENDS):
            append()

    with ExitStack() as stack:
        stores = open_stores(folder, stack)
        seconds = interleaved({name: partial(appends, append) for name, append in stores.items()}, rounds)
    micros = {name: [each / APPENDS * 1e6 for each in taken] for name, taken in seconds.items()}
    ours = micros.pop(OURS)
    return [row_of_pairs("log.append_synced", "µs", ours, name, theirs) for name, theirs in micros.items()]


def _together(folder: Path, rounds: int, slice_s: float) -> list[Row]:
    """Records a second of `PROCESSES` processes, all of them added up."""
    with ExitStack() as stack:
        links = [_start(folder / f"process-{k}", stack) for k in range(PROCESSES)]
        ready = [_answer(link) for link in links]
        rates: dict[str, list[float]] = {name: [] for name in ready[0]}

        def append_together(name: str) -> None:
            for link in links:
                link.send((name, slice_s))
            rates[name].append(sum(_answer(link) for link in links))

        interleaved({name: partial(append_together, name) for name in rates}, rounds)
    # The first of each is the unmeasured one.
    measured = {name: each[1:] for name, each in rates.items()}
    ours = measured.pop(OURS)
    name, unit = f"log.append_synced.{PROCESSES}_processes", "records/s"
    return [row_of_pairs(name, unit, ours, other, theirs, higher_is_better=True) for other, theirs in measured.items()]


def _start(folder: Path, stack: ExitStack) -> Connection:
    """A process with stores in `folder`; `stack` stops it."""
    folder.mkdir()
    spawn = multiprocessing.get_context("spawn")
    link, far_end = spawn.Pipe()
    process = spawn.Process(target=serve_appends, args=(folder, far_end), daemon=True)
    process.start()
    # Held here as well, it would keep the link open when the process is gone.
    far_end.close()

    def stop() -> None:
        with suppress(OSError):
            link.send(None)
        process.join(STOP_TIMEOUT_S)
        if process.is_alive():
            process.kill()
        link.close()

    stack.callback(stop)
    return link


def _answer(link: Connection) -> Any:
    try:
        return link.recv()
    except EOFError:
        raise LogBenchError("a process of the bench ended before its time; what it said is above") from None
