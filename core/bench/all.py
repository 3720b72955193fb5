"""`tradetui bench all`: everything that README claims, in one run that can be broken off and taken up again.

Each finished task is a line in a file beside the result; a run of the same form on the same machine goes on behind it.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from core.bench.all_library import library_row
from core.bench.all_plan import Task, tasks_of
from core.bench.all_run import Say, run_task
from core.bench.consensus import bench_consensus, cases_of
from core.bench.rows import Row, table_of, write_rows
from core.profile_export import machine
from core.session import SessionError

PEERS = "consensus beside others"
KERNELS = "pattern libraries"
PATTERNS = (1_000, 10_000, 100_000, 1_000_000)
"""Of the kernel alone: from some 100,000 on a cycle holds its node longer than the others wait for a heartbeat."""
Work = Callable[[Say], Awaitable[list[Row]]]


class BenchStore:
    """Finished tasks, a line of JSON each, behind a line that says what run they belong to."""

    def __init__(self, path: Path, head: Mapping[str, Any]) -> None:
        """Raises SessionError where the file belongs to another run."""
        self.path = path
        self.tasks: dict[str, dict[str, Any]] = {}
        self.head = dict(head)
        try:
            lines = path.read_text().splitlines(keepends=True)
        except FileNotFoundError:
            lines = []
        # A line that was cut off when the machine went down is measured again.
        whole = [json.loads(line) for line in lines if line.endswith("\n")]
        if whole and {**whole[0], "began": ""} != {**self.head, "began": ""}:
            raise SessionError(f"{path} is of another form, machine or packages: delete it, or name another --json")
        if whole:
            self.head = whole[0]
            self.tasks = {each["task"]: each for each in whole[1:]}
        path.write_text("".join(json.dumps(each) + "\n" for each in [self.head, *whole[1:]]))

    def keep(self, task: str, rows: Sequence[Row], took_s: float, load: float) -> None:
        """Append a finished task; on disk when this returns."""
        entry = {
            "task": task,
            "taken": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "took_s": round(took_s, 1),
            "load_before": load,
            "rows": [asdict(row) for row in rows],
        }
        with self.path.open("a") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.tasks[task] = entry

    def rows(self) -> list[Row]:
        return [Row(**row) for entry in self.tasks.values() for row in entry["rows"]]


def works_of(short: bool, json_file: Path, console: Console) -> dict[str, Work]:
    """Every task by name, in order."""

    def of(task: Task) -> Work:
        return lambda say: run_task(task, say)

    found: dict[str, Work] = {task.name: of(task) for task in tasks_of(short)}
    found[KERNELS] = lambda say: asyncio.to_thread(_libraries, PATTERNS[:-1] if short else PATTERNS, say)
    found[PEERS] = lambda say: _beside_peers(short, json_file.with_suffix(".consensus.json"), say)
    return found


def _libraries(counts: Sequence[int], say: Say) -> list[Row]:
    """What a cycle's 20 windows take against a library: the pruned kernel beside the SIMD batch, interleaved."""
    rows = []
    for number, count in enumerate(counts):
        say(f"{count:,}", number / len(counts))
        rows.append(library_row(count))
    return rows


async def _beside_peers(short: bool, scratch: Path, say: Say) -> list[Row]:
    """Decisions a second, durable, one and sixteen at once; PySyncObj and etcd on the same work where installed."""
    say("rounds", 0.0)
    cases = cases_of(["RAFT", "BFT"], [4], [1], [1, 16], [True], False)
    try:
        await bench_consensus(cases, 6, 0.8 if short else 2.0, 0, scratch, Console(quiet=True))
        return [Row(**row) for row in json.loads(scratch.read_text())["rows"]]
    finally:
        scratch.unlink(missing_ok=True)


async def bench_all(
    short: bool, json_file: Path, only: str, console: Console, works: Mapping[str, Work] | None = None
) -> tuple[list[Row], list[str]]:
    """Run what is not done yet and write `json_file`; returns its rows and what failed, in sentences.

    `only`: the tasks whose name holds this text. A task that fails is tried again by the next run. Raises SessionError
    where the file of finished tasks belongs to another run.
    """
    works = works_of(short, json_file, console) if works is None else works
    chosen = {name: work for name, work in works.items() if only in name}
    if not chosen:
        raise SessionError(f"no task has {only!r} in its name; there are {', '.join(works)}")
    head = {"form": "short" if short else "full", "machine": machine(), "began": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    store = BenchStore(json_file.with_name(json_file.name + ".partial"), head)
    failed = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        whole = progress.add_task("tasks", total=len(chosen), completed=sum(name in store.tasks for name in chosen))
        for name, work in chosen.items():
            if name in store.tasks:
                continue
            part = progress.add_task(name, total=100)

            def say(doing: str, at: float, name: str = name, part: Any = part) -> None:
                progress.update(part, completed=round(at * 100), description=f"{name}: {doing}")

            began, load = time.monotonic(), round(os.getloadavg()[0], 2)
            try:
                rows = await work(say)
            except (SessionError, RuntimeError, OSError, ValueError) as error:
                failed.append(f"{name}: {error}")
            else:
                store.keep(name, rows, time.monotonic() - began, load)
            progress.remove_task(part)
            progress.advance(whole)
    # In the order of the plan, whatever was done first.
    store.tasks = {name: store.tasks[name] for name in works if name in store.tasks}
    rows = store.rows()
    write_rows(json_file, _settings(store, works), rows)
    console.print(table_of("all", rows))
    if len(store.tasks) == len(works):
        store.path.unlink()
    return rows, failed


def _settings(store: BenchStore, works: Mapping[str, Work]) -> dict[str, Any]:
    """What was run, and each swarm's settings where they are not the defaults: a row's name says the main one only."""
    changed = {task.name: task.settings for task in tasks_of(store.head["form"] == "short")}
    return {
        "form": store.head["form"],
        "began": store.head["began"],
        "tasks": {
            name: {key: entry[key] for key in ("taken", "took_s", "load_before")} | {"settings": changed.get(name, {})}
            for name, entry in store.tasks.items()
        },
        "missing": [name for name in works if name not in store.tasks],
        "interval": "95 %: bootstrap-t over replicates A B B A; of consensus, order statistics over rounds",
    }


def run_bench_all(short: bool, json_file: Path, only: str, console: Console) -> tuple[list[Row], list[str]]:
    """`bench_all` in an event loop of its own."""
    return asyncio.run(bench_all(short, json_file, only, console))
