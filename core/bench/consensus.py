"""`tradetui bench consensus`: decisions a second and their latency, by mode, load and durability, on real processes.

Every case runs in processes of its own. Repetitions are interleaved, so that a slow spell of the machine falls on all
cases alike; the table and the file give the median repetition and the spread.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from core.bench.consensus_cluster import ConsensusCluster, running_cluster
from core.bench.consensus_peers import Peer, installed_peers
from core.bench.rows import ROUNDS_MIN, Row, row_of_pairs, table_of, write_rows
from net.quorum import fast_path_possible

WARM_UP_S = 0.7
PEER_NODES = 4
PEER_LOADS = (1, 16)
"""Payloads at once that are compared with other people's consensus: ours in one round, theirs so many in flight."""
FAILOVER_LOAD = 4


@dataclass(frozen=True, slots=True)
class Case:
    """`in_flight` proposals at once, each of `batch` payloads; what waits at the leader shares an entry.

    `sequential`: the baseline, one decision through all rounds before the next, every vote to everybody. `fast_path`:
    decided two delays after the proposal (`net.bft_fast`).
    """

    mode: str
    nodes: int
    in_flight: int
    batch: int
    durable: bool
    sequential: bool = False
    fast_path: bool = False

    @property
    def label(self) -> str:
        disk = ("durable" if self.durable else "in memory") + (", sequential" if self.sequential else "")
        disk += ", fast path" if self.fast_path else ""
        return f"{self.mode.lower()} n={self.nodes} {self.in_flight}×{self.batch} {disk}"


@dataclass(frozen=True, slots=True)
class Result:
    """The median repetition of a case. Rates count payloads; counts are those of the leader, per payload."""

    case: Case
    decisions_per_s: float
    decisions_per_s_min: float
    decisions_per_s_max: float
    latency_ms_p50: float
    latency_ms_p99: float
    leader_messages: float
    leader_datagrams: float
    leader_signatures: float
    leader_syncs: float
    leader_cpu_us: float
    load_average: float


def cases_of(
    modes: Sequence[str],
    nodes: Sequence[int],
    in_flight: Sequence[int],
    batches: Sequence[int],
    durable: Sequence[bool],
    fast_path: bool = False,
) -> list[Case]:
    """Every combination; and the sequential baseline of every mode whose pipeline is among them.

    `fast_path`: each Byzantine one that can have it twice, without and with it.
    """
    cases = [Case(*values) for values in itertools.product(modes, nodes, in_flight, batches, durable)]
    cases += [Case(mode, PEER_NODES, 1, 1, True, sequential=True) for mode in modes if _pipelined(mode) in cases]
    if not fast_path:
        return cases
    return [
        twin for case in cases for twin in (case, replace(case, fast_path=True)) if twin == case or _may_be_fast(case)
    ]


def _may_be_fast(case: Case) -> bool:
    return case.mode == "BFT" and fast_path_possible(case.nodes) and not case.sequential


def _pipelined(mode: str) -> Case:
    return Case(mode, PEER_NODES, 16, 1, True)


async def bench_consensus(
    cases: Sequence[Case], repetitions: int, seconds: float, failovers: int, json_file: Path | None, console: Console
) -> None:
    """Run all cases `repetitions` times for `seconds` each, then `failovers` killed leaders a mode; print and write.

    Where one case is what other people's consensus can be compared with, that runs in the same repetitions.
    """
    measured: dict[Case, list[dict[str, Any]]] = {case: [] for case in cases}
    peers = [
        (peer, load)
        for peer in installed_peers()
        for load in PEER_LOADS
        if (load, peer.durable) in {(load, case.durable) for case in cases if load == _load_of(case)}
    ]
    theirs: dict[tuple[Peer, int], list[dict[str, Any]]] = {each: [] for each in peers}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("consensus", total=(len(cases) + len(peers)) * repetitions)
        for _ in range(repetitions):
            for case in cases:
                progress.update(task, description=case.label)
                measured[case].append(await _measure(case, seconds))
                progress.advance(task)
            for peer, load in peers:
                progress.update(task, description=f"{peer.name}, {load} in flight")
                theirs[peer, load].append(await peer.measure(PEER_NODES, load, WARM_UP_S, seconds))
                progress.advance(task)
    results = [_result(case, runs) for case, runs in measured.items()]
    outages: dict[str, list[float]] = {}
    for mode in dict.fromkeys(case.mode for case in cases) if failovers else ():
        outages[mode] = await measure_failovers(mode, failovers, console)
    rows = [row for case, runs in measured.items() for row in _rows(case, runs, theirs)]
    rows += _rows_between_our_own(measured)
    console.print(_table(results))
    console.print(table_of("beside other people's consensus, and one of ours beside another", rows))
    for mode, times in outages.items():
        console.print(
            f"{mode.lower()}: a killed leader costs {statistics.median(times):.3f} s (median of {len(times)}, "
            f"{min(times):.3f} to {max(times):.3f} s) until the next decision"
        )
    if json_file is not None:
        settings = {
            "seconds": seconds,
            "repetitions": repetitions,
            "results": [asdict(result) for result in results],
            "failover_s": outages,
        }
        write_rows(json_file, settings, rows)


def _load_of(case: Case) -> int:
    """The payloads at once of a case that others are compared with; 0: of another."""
    comparable = case.nodes == PEER_NODES and case.in_flight == 1 and not case.sequential and not case.fast_path
    return case.batch if comparable and case.batch in PEER_LOADS else 0


def _rate(run: dict[str, Any]) -> float:
    return float(run["decided"] / run["took_s"])


def _rows(case: Case, runs: list[dict[str, Any]], theirs: dict[tuple[Peer, int], list[dict[str, Any]]]) -> list[Row]:
    """Row `raft.durable.1` and its like, against every peer of the same load and durability."""
    load = _load_of(case)
    if not load:
        return []
    name = f"{case.mode.lower()}.{'durable' if case.durable else 'memory'}.{load}"
    ours = [_rate(run) for run in runs]
    against = [(peer, rates) for (peer, each), rates in theirs.items() if each == load and peer.durable == case.durable]
    if not against or len(runs) < ROUNDS_MIN:
        return [Row(name, "decisions/s", statistics.median(ours))]
    return [
        row_of_pairs(name, "decisions/s", ours, peer.name, [_rate(run) for run in rates], higher_is_better=True)
        for peer, rates in against
    ]


def _rows_between_our_own(measured: dict[Case, list[dict[str, Any]]]) -> list[Row]:
    """Pipelined against sequential, the fast path against none, and what a decision costs by Raft against Byzantine, in
    the same repetitions.
    """
    rows = []
    for case, runs in measured.items():
        if case.fast_path and len(runs) >= ROUNDS_MIN:
            off = measured[replace(case, fast_path=False)]
            place = f"bft.{'durable' if case.durable else 'memory'}.{case.nodes}.{case.in_flight}x{case.batch}"
            rates = ([_rate(run) for run in runs], [_rate(run) for run in off])
            rows.append(
                row_of_pairs(f"{place}.fast", "decisions/s", rates[0], "no fast path", rates[1], higher_is_better=True)
            )
            times = ([_p50(run) for run in runs], [_p50(run) for run in off])
            rows.append(row_of_pairs(f"{place}.fast.latency", "ms", times[0], "no fast path", times[1]))
    for mode in dict.fromkeys(case.mode for case in measured):
        one, many = measured.get(Case(mode, PEER_NODES, 1, 1, True, sequential=True)), measured.get(_pipelined(mode))
        if one and many and len(one) >= ROUNDS_MIN:
            rates = ([_rate(run) for run in many], [_rate(run) for run in one])
            name = f"{mode.lower()}.pipelined"
            rows.append(row_of_pairs(name, "decisions/s", rates[0], "sequential", rates[1], higher_is_better=True))
    raft, bft = (measured.get(Case(mode, PEER_NODES, 1, 1, True)) for mode in ("RAFT", "BFT"))
    if raft and bft and len(raft) >= ROUNDS_MIN:
        times = ([_p50(run) for run in raft], [_p50(run) for run in bft])
        rows.append(row_of_pairs("raft.consensus_time", "ms", times[0], "Byzantine", times[1]))
    return rows


def _p50(run: dict[str, Any]) -> float:
    return float(run["latencies_ms"][len(run["latencies_ms"]) // 2])


async def _measure(case: Case, seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="tradetui-bench-") as folder:
        durability = "fdatasync" if case.durable else "none"
        settings: dict[str, Any] = {"fast_path": True} if case.fast_path else {}
        if case.sequential:
            settings = {"relay_votes": False, "bft_window": 1, "window_entries": 1}
        async with running_cluster(
            Path(folder) / "cluster",
            case.nodes,
            case.mode,
            durability,
            batch_payloads=case.in_flight * case.batch,
            **settings,
        ) as cluster:
            leader = await cluster.leader()
            run = await cluster.ask(
                leader,
                do="load",
                first_id=1,
                in_flight=case.in_flight,
                batch=case.batch,
                warm_up_s=WARM_UP_S,
                seconds=seconds,
            )
            run["load_average"] = os.getloadavg()[0]
            return run


def _result(case: Case, runs: list[dict[str, Any]]) -> Result:
    rates = [_rate(run) for run in runs]
    median = sorted(range(len(runs)), key=lambda at: rates[at])[len(runs) // 2]
    run = runs[median]
    latencies, decided = run["latencies_ms"], max(1, run["decided"])
    return Result(
        case,
        rates[median],
        min(rates),
        max(rates),
        latencies[len(latencies) // 2],
        latencies[int(len(latencies) * 0.99)],
        run["messages"] / decided,
        run["datagrams"] / decided,
        run["signatures"] / decided,
        run["syncs"] / decided,
        run["cpu_s"] / decided * 1e6,
        run["load_average"],
    )


async def measure_failovers(mode: str, count: int, console: Console) -> list[float]:
    """Seconds from the SIGKILL of the leader under load to the next decision anywhere, `count` times over."""
    times: list[float] = []
    with tempfile.TemporaryDirectory(prefix="tradetui-bench-") as folder:
        async with running_cluster(Path(folder) / "cluster", 4, mode) as cluster:
            for number in range(count):
                times.append(await _fail_over(cluster, (number + 1) * 1_000_000))
                console.print(f"{mode.lower()}: leader killed, {times[-1]:.3f} s", style="dim")
    return times


async def _fail_over(cluster: ConsensusCluster, first_id: int) -> float:
    leader = await cluster.leader()
    client = next(node for node in cluster.running if node != leader)
    await cluster.ask(client, do="propose", ids=[first_id])
    await cluster.until(lambda statuses: _all_know(statuses, cluster.nodes), 30, "every node is back")
    # What is submitted now goes to the leader that dies, or waits for the next: the clock runs from the kill.
    killed_at = time.monotonic()
    await cluster.kill(leader)
    await cluster.ask(client, do="propose", ids=list(range(first_id + 1, first_id + 1 + FAILOVER_LOAD)))
    decided = 0.0
    while not decided:
        for status in (await cluster.statuses()).values():
            if status["last_commit_s"] > killed_at:
                decided = max(decided, status["last_commit_s"])
        await asyncio.sleep(0.005)
    await cluster.start(leader)
    return decided - killed_at


def _all_know(statuses: dict[int, dict[str, Any]], nodes: int) -> bool:
    return len(statuses) == nodes and len({status["decided"] for status in statuses.values()}) == 1


def _table(results: Sequence[Result]) -> Table:
    table = Table(
        "in flight × batch",
        "decisions/s",
        "p50 ms",
        "p99 ms",
        "messages",
        "signed",
        "CPU µs",
        title="consensus, leader",
    )
    for result in results:
        table.add_row(
            result.case.label,
            f"{result.decisions_per_s:,.0f}",
            f"{result.latency_ms_p50:.2f}",
            f"{result.latency_ms_p99:.2f}",
            f"{result.leader_messages:.2f}",
            f"{result.leader_signatures:.2f}",
            f"{result.leader_cpu_us:,.0f}",
        )
    return table
