"""`tradetui sim`: consensus under simulated faults, seed by seed, checked after every event."""

from __future__ import annotations

import json
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from net.simulation.families import BROKEN, FAMILIES, KINDS, Tally, Violation, run_seeds
from net.simulation.scenario import Scenario

CHUNK = 20
"""Seeds of one task of a worker process."""


def simulate(
    family: str, seeds: int, first: int, events: int, jobs: int, json_file: Path | None, console: Console
) -> bool:
    """Spread `seeds` evenly over the kinds of `family` (or all); print what came of it. False after a violation."""
    kinds = list(KINDS if family == "all" else FAMILIES[family])
    shares = {name: seeds // len(kinds) + (at < seeds % len(kinds)) for at, name in enumerate(kinds)}
    tallies = {name: Tally() for name in kinds}
    began = time.perf_counter()
    columns = (TextColumn("seeds"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress, ProcessPoolExecutor(jobs) as pool:
        task = progress.add_task("seeds", total=seeds)
        work = {
            pool.submit(run_seeds, name, first + at, min(CHUNK, shares[name] - at), events): name
            for at in range(0, max(shares.values()), CHUNK)
            for name in kinds
            if at < shares[name]
        }
        for done in as_completed(work):
            tally = done.result()
            tallies[work[done]].add(tally)
            progress.advance(task, tally.seeds)
            for violation in tally.violations:
                _show(violation, events, console)
    took_s = time.perf_counter() - began
    total = Tally()
    for tally in tallies.values():
        total.add(tally)
    console.print(_table(tallies))
    console.print(", ".join(f"{count:,} {what}" for what, count in total.counts.most_common() if count))
    console.print(
        f"{total.seeds:,} seeds, {total.events:,} events, {total.decided:,} decisions in {took_s:.1f} s: "
        f"{total.seeds / took_s:.1f} seeds/s, {total.events / took_s:,.0f} events/s, "
        f"{len(total.violations)} violations"
    )
    if json_file is not None:
        document = {"seconds": took_s, "first": first, "total": _values(total)}
        document["kinds"] = {name: _values(tally) for name, tally in tallies.items()}
        json_file.write_text(json.dumps(document, indent=1))
    return not total.violations


def _values(tally: Tally) -> dict[str, object]:
    # `asdict` makes a Counter of the items of a Counter.
    return asdict(replace(tally, counts=Counter())) | {"counts": dict(tally.counts)}


def replay(name: str, seed: int, events: int, console: Console) -> bool:
    """One seed, with everything that happened, line by line. False where it fails."""
    scenario = Scenario(seed, KINDS[name])
    failed: Exception | None = None
    try:
        scenario.run(events)
    except BROKEN as error:
        failed = error
    for line in scenario.cluster.trace:
        console.print(line, markup=False, highlight=False)
    cluster = scenario.cluster
    said = f"{type(failed).__name__}: {failed}" if failed is not None else "nothing is broken"
    console.print(f"{name}, seed {seed}: {cluster.events:,} events, {len(cluster.truth):,} decisions; {said}")
    return failed is None


def _show(violation: Violation, events: int, console: Console) -> None:
    console.print(f"{violation.kind}, seed {violation.seed}: {violation.error}", style="bold red", markup=False)
    for line in violation.trace:
        console.print(f"  {line}", markup=False, highlight=False)
    console.print(f"  {len(violation.steps)} steps that still fail:")
    for step in violation.steps:
        console.print(f"  {step}", markup=False, highlight=False)
    console.print(f'  replay: tradetui sim --replay {violation.seed} --kind "{violation.kind}" --events {events}')


def _table(tallies: dict[str, Tally]) -> Table:
    table = Table("kind", "seeds", "events a seed", "at least", "decisions", "violations")
    for name, tally in tallies.items():
        table.add_row(
            name,
            f"{tally.seeds:,}",
            f"{tally.events / max(1, tally.seeds):,.0f}",
            f"{tally.events_min:,}",
            f"{tally.decided:,}",
            str(len(tally.violations)),
        )
    return table
