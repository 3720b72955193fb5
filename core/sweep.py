"""A sweep: runs what its file does not hold yet, one after another here or on a Dask cluster, and keeps it all there.

The file is DuckDB: `runs` has a row a run with a column a factor, `effects` what came of them. Runs that failed, or
ran in part on numpy for want of compiled kernels, are not kept and are tried again by the next call.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import duckdb
import numpy as np

from core.factorial_effects import EffectEstimate, effects
from core.session import SessionError
from core.spans import ROOT
from core.sweep_run import execute
from core.sweep_spec import Run, SweepSpec, runs_of

FIGURES: dict[str, Callable[[dict[str, Any]], float]] = {
    "cycle_ms_p50": lambda result: result["spans"][ROOT]["p50_ms"],
    "cycle_ms_p99": lambda result: result["spans"][ROOT]["p99_ms"],
    "cycles_per_s": lambda result: result["cycles_per_s"],
    "quic_ms_p50": lambda result: result["spans"]["quic_coordination"]["p50_ms"],
    "order_ms_p50": lambda result: result["spans"]["order_execution"]["p50_ms"],
    "decisions": lambda result: float(result["decisions"]["committed"]),
    "orders": lambda result: float(result["orders"]["sent"]),
}
"""Columns of `runs` taken from the JSON of a run, which is kept whole beside them."""


class Executor(Protocol):
    """Who runs the runs; each result comes with the number of its run, in any order."""

    def results(self, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]: ...

    def close(self) -> None: ...


class OneAfterAnother:
    """This machine, one swarm at a time: two would slow each other."""

    def results(self, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        for number, task in enumerate(tasks):
            yield number, execute(task)

    def close(self) -> None:
        return


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that is in the file."""

    cell: tuple[int, ...]
    replicate: int
    cycle_ms_p50: float
    decisions: int


class SweepFile:
    """One DuckDB file of one specification."""

    def __init__(self, path: Path, spec: SweepSpec) -> None:
        """Opens or makes it. Raises SessionError where it is of another specification, or no such file."""
        self._spec = spec
        self._names = [f'"{factor.name}"' for factor in spec.factors]
        wanted = json.dumps(spec.as_dict(), sort_keys=True)
        try:
            self._db = duckdb.connect(str(path))
            self._db.execute("CREATE TABLE IF NOT EXISTS sweep (spec VARCHAR)")
            kept = self._db.execute("SELECT spec FROM sweep").fetchone()
            if kept is not None and kept[0] != wanted:
                raise SessionError(f"{path} is of another specification: name another --db, or delete it")
            if kept is None:
                self._make(wanted)
        except duckdb.Error as error:
            raise SessionError(f"{path} cannot be used: {error}") from None

    def _make(self, spec: str) -> None:
        factors = ", ".join(f"{name} VARCHAR" for name in self._names)
        figures = ", ".join(f"{name} DOUBLE" for name in FIGURES)
        self._db.execute("INSERT INTO sweep VALUES (?)", (spec,))
        self._db.execute(
            f"CREATE TABLE runs (cell VARCHAR, replicate INTEGER, {factors}, taken VARCHAR, took_s DOUBLE,"
            f" host VARCHAR, pid BIGINT, {figures}, result VARCHAR, PRIMARY KEY (cell, replicate))"
        )
        self._db.execute("CREATE TABLE effects (name VARCHAR, ratio DOUBLE, low DOUBLE, high DOUBLE)")

    def keep(self, run: Run, found: dict[str, Any]) -> None:
        """Keep a finished run; on disk when this returns."""
        result = found["result"]
        levels = [str(f.levels[place]) for f, place in zip(self._spec.factors, run.cell, strict=True)]
        figures = [take(result) for take in FIGURES.values()]
        values = [
            " ".join(map(str, run.cell)),
            run.replicate,
            *levels,
            time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            found["took_s"],
        ]
        values += [found["host"], found["pid"], *figures, json.dumps(result)]
        self._db.execute(f"INSERT INTO runs VALUES ({', '.join('?' * len(values))})", values)
        self._db.execute("CHECKPOINT")

    def finished(self) -> list[Finished]:
        """What is done, by cell and replicate."""
        rows = self._db.execute(
            "SELECT cell, replicate, cycle_ms_p50, decisions FROM runs ORDER BY cell, replicate"
        ).fetchall()
        return [
            Finished(tuple(map(int, cell.split())), replicate, ms, int(decisions))
            for cell, replicate, ms, decisions in rows
        ]

    def write_effects(self) -> list[EffectEstimate]:
        """Effects on the median cycle time from all finished runs, written to the file. Raises ValueError."""
        done = self.finished()
        factors = [(factor.name, [str(level) for level in factor.levels]) for factor in self._spec.factors]
        found = effects(
            np.array([each.cell for each in done], np.int64).reshape(-1, len(factors)),
            np.array([each.replicate for each in done], np.int64),
            np.array([each.cycle_ms_p50 for each in done], np.float64),
            factors,
        )
        self._db.execute("DELETE FROM effects")
        for each in found:
            self._db.execute("INSERT INTO effects VALUES (?, ?, ?, ?)", (each.name, each.ratio, each.low, each.high))
        return found

    def close(self) -> None:
        self._db.close()


def sweep(spec: SweepSpec, file: SweepFile, executor: Executor, report: Callable[[int, int], None]) -> list[str]:
    """Run what `file` does not hold. Returns what failed, a sentence each; `report` is told runs done and in all."""
    every = runs_of(spec)
    done = {(each.cell, each.replicate) for each in file.finished()}
    left = [run for run in every if (run.cell, run.replicate) not in done]
    finished, failed = len(every) - len(left), []
    report(finished, len(every))
    for number, found in executor.results(left):
        run = left[number]
        error = found["error"] or _not_comparable(found["result"])
        if error:
            failed.append(f"{describe(spec, run)}: {error}")
        else:
            file.keep(run, found)
        finished += 1
        report(finished, len(every))
    return failed


def _not_comparable(result: dict[str, Any]) -> str:
    """Why the figures of a run that came to its end say nothing; empty where they do."""
    numpy = result["numpy_kernel_cycles"]
    if not numpy:
        return ""
    return f"{numpy} of {result['cycles']} cycles ran on numpy, kernels were not compiled: tradetui doctor --warm there"


def describe(spec: SweepSpec, run: Run) -> str:
    """`b=on p=off, replicate 1`."""
    words = (f"{f.name}={f.levels[place]}" for f, place in zip(spec.factors, run.cell, strict=True))
    return f"{' '.join(words)}, replicate {run.replicate}"
