"""Runs one task of `tradetui bench all`: starts its swarm, compares on it, and gives the rows."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from core.attach import SwarmClient, stop_session
from core.bench.all_plan import Comparison, Task
from core.bench.resampled import write_library, write_market
from core.bench.rows import Row
from core.commands.start import start_swarm
from core.config import load_settings
from core.experiment_run import run_experiment
from core.factorial import pair_design
from core.interleaved import InterleavedExperiment, Result
from core.paired_ratio import REPLICATES_MIN as ANALYSED_MIN
from core.paired_ratio import PairedRatio
from core.session import SessionError, create_session

START_TIMEOUT_S = 240.0
FIRST_CYCLES = 3
SEED = 1
TIME_IS_UP = "time is up"
RATE_UNIT = "1,000 ÷ ms of a median cycle"
SPAN_ROWS = (
    ("quic_ms_per_cycle", "quic_coordination"),
    ("order_ms_per_cycle", "order_execution"),
    ("serialization_ms_per_cycle", "quic_message_serialization"),
    ("dtw_ms_per_cycle", "pattern_matching_dtw"),
)
Say = Callable[[str, float], None]
"""Is told what is being done and how far it is, 0 to 1."""


async def run_task(task: Task, say: Say) -> list[Row]:
    """The rows of one task. Raises SessionError when its swarm fails or a comparison finds no interval."""
    with tempfile.TemporaryDirectory(prefix="tradetui-bench-") as folder:
        settings = dict(task.settings)
        say("preparing", 0.0)
        if task.instruments:
            settings["data"] = str(Path(folder) / "resampled.parquet")
            await asyncio.to_thread(write_market, Path(settings["data"]), task.instruments, SEED)
        if task.patterns:
            settings["patterns"] = str(Path(folder) / "resampled.npz")
            length = load_settings().window_steps
            await asyncio.to_thread(write_library, Path(settings["patterns"]), task.patterns, length, SEED)
        session = create_session(load_settings(**settings, recording_mb_max=0), Path(folder) / "session")
        started = start_swarm(session.settings(), owned=True, session=session)
        client = SwarmClient(session, owns_swarm=True)
        try:
            await client.connect()
            await _first_cycles(client, say)
            rows = []
            count = len(task.comparisons)
            for number, comparison in enumerate(task.comparisons):
                part = partial(_say_part, say, comparison.row, number, count)
                rows += rows_of(task, comparison, await _compare(client, task, comparison, part))
            return rows
        finally:
            await client.close()
            await stop_session(session)
            await asyncio.to_thread(started.supervisor.wait)


def _say_part(say: Say, doing: str, number: int, count: int, at: float) -> None:
    say(doing, (number + at) / count)


async def _first_cycles(client: SwarmClient, say: Say) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while len(client.cycles) < FIRST_CYCLES:
        if client.phase.startswith("failed") or time.monotonic() > deadline:
            last = [event.text for event in client.snapshot().events[-3:]]
            raise SessionError("; ".join([f"no {FIRST_CYCLES} cycles: {client.phase or 'no word'}", *last]))
        say(client.phase or "starting", 0.0)
        await asyncio.sleep(0.1)


async def _compare(client: SwarmClient, task: Task, comparison: Comparison, say: Callable[[float], None]) -> Result:
    """Until the interval is tight, or time is up and there is one."""
    experiment = InterleavedExperiment(pair_design(comparison.first, comparison.second), task.plan, SEED)
    # Nobody is told where the swarm does not go back: the next comparison asks for toggles of its own.
    work = asyncio.create_task(run_experiment(client, experiment, lambda _: None))
    began = time.monotonic()
    try:
        while not work.done():
            elapsed = time.monotonic() - began
            enough = experiment.replicates / ANALYSED_MIN
            say(min(1.0, max(experiment.progress, min(enough, elapsed / task.seconds_max))))
            if elapsed > task.seconds_max and experiment.result is not None and not experiment.finished:
                experiment.give_up(TIME_IS_UP)
            await asyncio.wait({work}, timeout=0.2)
        await work
    finally:
        if not work.done():
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work
    if experiment.result is None:
        raise SessionError(f"{comparison.row}: {experiment.failure or 'no interval'}")
    return experiment.result


def rows_of(task: Task, comparison: Comparison, result: Result) -> list[Row]:
    """Rates of `all.…` as the contract names them: `all.cycles_per_s.3ms`; times of the rest.

    A rate is 1,000 ÷ the time of a median cycle (`core.interleaved.Result`), as its unit says; `tradetui run` divides
    cycles by wall time, slow ones included.
    """
    first, second = result.cell_ms
    latency_ms = task.settings.get("venue_latency_ms", 0.0)
    against = f"{comparison.against}; {result.cycles} cycles" + (f"; venue {latency_ms:g} ms" if latency_ms else "")
    head, _, rest = comparison.row.partition(".")
    if not comparison.spans:
        return [_row(comparison.row, "ms a cycle", second, against, first, result.main.ratio)]
    rates = (1e3 / second, 1e3 / first)
    rows = [_row(f"{head}.cycles_per_s.{rest}", RATE_UNIT, rates[0], against, rates[1], result.main.ratio)]
    spans = {span.name: span for span in result.spans}
    for name, span_name in SPAN_ROWS:
        span = spans[span_name]
        times = (span.second_whole_ms, span.first_whole_ms)
        rows.append(_row(f"{head}.{name}.{rest}", "ms a cycle", times[0], against, times[1], span.whole_ratio))
    return rows


def _row(name: str, unit: str, ours: float, against: str, theirs: float, ratio: PairedRatio | None) -> Row:
    if ratio is None:
        return Row(name, unit, ours, against, theirs)
    return Row(name, unit, ours, against, theirs, ratio.ratio, ratio.low, ratio.high)
