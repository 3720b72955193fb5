"""`tradetui bench consensus` and `tradetui bench log`: their flags, and what they run."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from rich.console import Console

from core.commands.output_file import output_file
from core.config import ConfigError


def add_consensus_benches(subjects: Any) -> None:
    """Add both to the subjects of `tradetui bench`; each sets `run`."""
    consensus = subjects.add_parser("consensus", help="decisions a second and latency, on real processes over QUIC")
    consensus.add_argument("--modes", nargs="+", choices=("raft", "bft", "auto"), default=["raft", "bft"])
    consensus.add_argument("--nodes", nargs="+", type=int, default=[4, 7])
    consensus.add_argument("--in-flight", nargs="+", type=int, default=[1, 16, 64])
    consensus.add_argument("--batch", nargs="+", type=int, default=[1, 16], help="payloads of one proposal")
    consensus.add_argument("--durability", nargs="+", choices=("strict", "none"), default=["strict", "none"])
    consensus.add_argument("--seconds", type=float, default=2.0, help="of each case and repetition")
    consensus.add_argument("--repetitions", type=int, default=6, help="interleaved; with 6 or more, intervals")
    consensus.add_argument("--fast-path", action="store_true", help="Byzantine cases of 4 or 5 nodes with it as well")
    consensus.add_argument("--failovers", type=int, default=0, metavar="N", help="kill N leaders a mode")
    consensus.add_argument("--json", type=output_file, metavar="FILE")
    consensus.set_defaults(run=_consensus)
    log = subjects.add_parser(
        "log", help="a synced append, by our log, SQLite, LMDB where installed: one process, four"
    )
    log.add_argument("--rounds", type=int, default=15, help="interleaved; the median is shown")
    log.add_argument("--json", type=output_file, metavar="FILE")
    log.set_defaults(run=_log)


def _consensus(arguments: argparse.Namespace, console: Console) -> int:
    from core.bench.consensus import bench_consensus, cases_of
    from core.bench.consensus_cluster import ClusterError
    from core.bench.consensus_peers import PeerError

    durable = [durability == "strict" for durability in arguments.durability]
    modes = [mode.upper() for mode in arguments.modes]
    cases = cases_of(modes, arguments.nodes, arguments.in_flight, arguments.batch, durable, arguments.fast_path)
    work = bench_consensus(
        cases, arguments.repetitions, arguments.seconds, arguments.failovers, arguments.json, console
    )
    try:
        asyncio.run(work)
    except (ClusterError, PeerError) as error:
        console.print(f"tradetui: {error}", style="bold red", markup=False, highlight=False)
        return 1
    return 0


def _log(arguments: argparse.Namespace, console: Console) -> int:
    from core.bench.log import LogBenchError, bench_log
    from core.bench.rows import ROUNDS_MIN

    if arguments.rounds < ROUNDS_MIN:
        raise ConfigError(f"--rounds {arguments.rounds}: want at least {ROUNDS_MIN}")
    try:
        bench_log(arguments.rounds, arguments.json, console)
    except LogBenchError as error:
        console.print(f"tradetui: {error}", style="bold red", markup=False, highlight=False)
        return 1
    return 0
