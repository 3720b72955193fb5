"""`tradetui bench timers`: what timing the spans costs, and exporting them, and whether their shares are a sampler's.

The cost is measured on a running swarm: blocks of cycles with the leader's span timers on and off, A B B A, and beside
it the cost of one span times the spans of a cycle; then the same with `tradetui otlp` on and off. For the shares the
leader's event loop is sampled by pyinstrument. It sees processor time on that thread, so only the steps that compute
without waiting are compared, each as a part of them all; it slows functions that make many calls more than kernels,
which is the difference to expect.

Where `perf` may be used, native code is sampled from outside as well (`core.bench.native_shares`), which slows nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

from core.attach import SwarmClient, stop_session
from core.bench.cycle_blocks import cycles_from_now
from core.bench.export_cost import export_rows
from core.bench.native_shares import PerfError, explained_native, native_rows, sample_native, scheduled_time, waits_of
from core.bench.rows import ROUNDS_MIN, Row, row_of_pairs, table_of, write_rows
from core.commands.start import start_swarm
from core.config import Settings
from core.folded_stacks import stacks
from core.records import CycleRecord
from core.session import Session, SessionError, create_session
from core.spans import INDEX
from core.statistics import newer_than
from core.telemetry import timer_cost_ns
from core.what_if import family

START_TIMEOUT_S = 180.0
STRATEGY_TOO = ("_prepare", "vote")
"""Run before the last step, the first of them within another, and are timed as a part of strategy."""
FUNCTIONS = {
    "market_data_ingestion": "ingest",
    "pattern_matching_dtw": "match_patterns",
    "news_sentiment_analysis": "read_news",
    "reasoningbank_query": "query_memory",
    "risk_calculations": "assess_risk",
    "strategy_execution": "propose",
}
"""The function of `core.trader` that runs each step which waits for nothing."""
_TIMED = INDEX["news_fetching"]
"""A span that every cycle has: its count tells whether the timers were on."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Of one step among those that compute, 0 to 1."""

    span: str
    timed: float
    sampled: float
    samples_us: int


async def bench_timers(
    settings: Settings, replicates: int, block_cycles: int, seconds: float, json_file: Path | None, console: Console
) -> list[Row]:
    """Measure, print, and write `--json`. Raises SessionError when the swarm fails."""
    session = create_session(settings)
    started = start_swarm(settings, owned=True, session=session)
    client = SwarmClient(session, owns_swarm=True)
    try:
        await client.connect()
        await _first_cycles(client)
        with Progress(console=console, transient=True) as progress:
            bar = progress.add_task("timers on, off, off, on", total=replicates)
            pairs = []
            for turn in range(replicates):
                pairs.append(await _replicate(client, block_cycles, first_on=turn % 2 == 0))
                progress.advance(bar)
        native, noted = await _native(client, session, seconds)
        cycles = list(client.cycles)[-400:]
        exported = await export_rows(client, session, replicates, block_cycles, console)
        shares = compared(cycles, (await client.profile(seconds))["files"]["profile.folded"])
    finally:
        await client.close()
        await stop_session(session)
        await asyncio.to_thread(started.supervisor.wait)
    rows = [*cost_rows(pairs, cycles), *exported, *(row for each in shares for row in share_rows(each)), *native]
    console.print(table_of("the profile itself", rows))
    for text in (*(explained(each) for each in shares), *noted):
        console.print(text, style="dim", highlight=False, markup=False)
    if json_file is not None:
        write_rows(json_file, {**settings.model_dump(mode="json"), "block_cycles": block_cycles}, rows)
    return rows


async def _native(client: SwarmClient, session: Session, seconds: float) -> tuple[list[Row], list[str]]:
    """What perf sees of the leader while it trades, and sentences on it; without rows, why there are none."""
    leader, last = client.snapshot().leader, client.cycles[-1].cycle
    state = session.running()
    pid = next((each.pid for each in state.processes if each.name == f"node-{leader}"), 0) if state else 0
    try:
        before = scheduled_time(pid)
        samples = await sample_native(pid, seconds)
        waits = waits_of(before, scheduled_time(pid))
    except PerfError as error:
        return [], [f"no shares of native code: {error}"]
    cycles = [record for record in newer_than(client.cycles, last) if record.leader == leader]
    if len(cycles) < 2:
        return [], [f"no shares of native code: node {leader}, which was sampled, led no two cycles meanwhile"]
    rows = native_rows(samples, cycles, waits)
    return rows, explained_native(rows[0], waits)


async def _first_cycles(client: SwarmClient) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while len(client.cycles) < 30:
        if client.phase.startswith("failed") or time.monotonic() > deadline:
            raise SessionError(f"no 30 cycles yet: {client.phase or 'no word from the swarm'}")
        await asyncio.sleep(0.1)


async def _replicate(client: SwarmClient, block_cycles: int, *, first_on: bool) -> tuple[float, float]:
    """Median cycle ms with and without timers, of blocks A B B A; the timers are on again afterwards."""
    found: dict[bool, list[float]] = {True: [], False: []}
    try:
        for on in (first_on, not first_on, not first_on, first_on):
            await client.time_spans(on)
            found[on] += await cycles_from_now(client, block_cycles, _ran_timed if on else _ran_untimed)
    finally:
        with contextlib.suppress(SessionError):
            await client.time_spans(True)
    return statistics.median(found[True]), statistics.median(found[False])


def _ran_timed(record: CycleRecord) -> bool:
    return bool(record.count[_TIMED])


def _ran_untimed(record: CycleRecord) -> bool:
    return not record.count[_TIMED]


def cost_rows(pairs: Sequence[tuple[float, float]], cycles: Sequence[CycleRecord]) -> list[Row]:
    """The measured ratio of cycle times, and what the cost of one span makes of a cycle's."""
    timed = [record for record in cycles if record.count[_TIMED]]
    spans = float(np.median([int(record.count.sum()) - _pairs(record) for record in timed]))
    span_ns = timer_cost_ns()
    cycle_ms = statistics.median(on for on, _ in pairs)
    off, on = [each[1] for each in pairs], [each[0] for each in pairs]
    rows = [
        Row("timers.span_ns", "ns", span_ns),
        Row("timers.spans_per_cycle", "spans", spans),
        Row("timers.expected_share", "of the cycle", span_ns * spans / 1e6 / cycle_ms),
    ]
    if len(pairs) >= ROUNDS_MIN:
        rows.insert(0, row_of_pairs("timers.cycle_ms", "ms a cycle, timers off", off, "timers on", on))
    return rows


def _pairs(record: CycleRecord) -> int:
    """The DTW span counts the pairs that it compared, not its calls."""
    return int(record.count[INDEX["pattern_matching_dtw_single"]]) - 1


def compared(cycles: Sequence[CycleRecord], folded: bytes) -> list[Shares]:
    """Each computing step's part of them all: by the spans' own times over `cycles`, and by the sampled stacks.

    Raises ValueError for stacks that hold none of the steps.
    """
    timed = [record for record in cycles if record.count[_TIMED]]
    own = {
        span: math.fsum(float(record.exclusive_ms[INDEX[each]]) for record in timed for each in family(span))
        for span in FUNCTIONS
    }
    sampled = dict.fromkeys(FUNCTIONS, 0)
    for stack, us in stacks(folded):
        names = {frame.rpartition(" ")[0] for frame in stack if frame.rpartition(" ")[2].startswith("trader.py:")}
        if names.intersection(STRATEGY_TOO):
            sampled["strategy_execution"] += us
            continue
        for span, function in FUNCTIONS.items():
            if function in names:
                sampled[span] += us
                break
    if not sum(sampled.values()):
        raise ValueError("the sampled stacks hold no step of a cycle: was this node leading?")
    whole = sum(own.values())
    total_us = sum(sampled.values())
    return [Shares(span, own[span] / whole, sampled[span] / total_us, sampled[span]) for span in FUNCTIONS]


def share_rows(shares: Shares) -> list[Row]:
    """As timed, against as sampled; no ratio, as neither is better."""
    name = f"timers.share.{shares.span}"
    return [Row(name, "of the computing steps", shares.timed, "pyinstrument", shares.sampled)]


def explained(shares: Shares) -> str:
    """What may be behind a difference of over five points."""
    points = (shares.sampled - shares.timed) * 100.0
    if abs(points) <= 5.0:
        return f"{shares.span}: {points:+.1f} points, as expected"
    why = (
        "many Python calls, each of which the sampler makes dearer"
        if points > 0
        else "one long call of compiled code, which it leaves alone"
    )
    return f"{shares.span}: {points:+.1f} points by the sampler: {why}"
