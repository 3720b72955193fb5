"""The commands about orders, for the command line: kill, reduce, resume, verify, pnl, bench orders."""

from __future__ import annotations

import argparse
import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from core.commands.output_file import output_file
from core.config import ConfigError
from core.session import find_session

_TRADING: Final = {
    "kill": "the kill switch: no order leaves any more, open ones are cancelled",
    "reduce": "only orders that bring a position closer to zero",
    "resume": "trade again after kill or reduce",
}


def add_order_commands(commands: Any) -> None:
    """Add the sub-commands to an argparse sub-parser collection."""
    for name, text in _TRADING.items():
        command = commands.add_parser(name, help=text)
        command.add_argument("--reason", default="", help="why; shown in every monitor and kept in the log")
        command.add_argument("--session", type=Path, metavar="DIR", help="default: the one that runs")
        command.set_defaults(run=_change_trading)
    proof = commands.add_parser("verify", help="prove from its files that a session lost and doubled nothing")
    proof.add_argument("directory", type=Path, nargs="?", metavar="SESSION", help="default: the one that runs")
    proof.add_argument("--json", type=output_file, metavar="FILE")
    proof.set_defaults(run=_verify)
    pnl = commands.add_parser("pnl", help="profit, drawdown, turnover, hit rate and slippage of a session")
    pnl.add_argument("directory", type=Path, nargs="?", metavar="SESSION", help="default: the one that runs")
    pnl.set_defaults(run=_show_performance)


def add_order_benchmark(subjects: Any) -> None:
    """Add `bench orders` to the benchmarks' sub-parser collection."""
    orders = subjects.add_parser("orders", help="parallel orders and async confirmation, at named venue latencies")
    orders.add_argument("--latency-ms", nargs="+", type=float, default=[0.0, 1.0, 3.0, 10.0], help="of the venue")
    orders.add_argument("--rounds", type=int, default=12, help="interleaved; the median is shown")
    orders.add_argument("--json", type=output_file, metavar="FILE")
    orders.set_defaults(run=_bench_orders)


def _bench_orders(arguments: argparse.Namespace, console: Console) -> int:
    from core.bench.orders import bench_orders
    from core.bench.rows import ROUNDS_MIN

    if arguments.rounds < ROUNDS_MIN or not all(0 <= latency <= 10_000 for latency in arguments.latency_ms):
        raise ConfigError(f"bench orders wants --rounds of {ROUNDS_MIN} or more, --latency-ms of 0 to 10,000")
    bench_orders(arguments.latency_ms, arguments.rounds, arguments.json, console)
    return 0


def _show_performance(arguments: argparse.Namespace, console: Console) -> int:
    from core.commands.pnl import show_performance

    show_performance(find_session(arguments.directory), console)
    return 0


def _verify(arguments: argparse.Namespace, console: Console) -> int:
    from core.verify import verify

    session = find_session(arguments.directory)
    verdict = verify(session)
    table = Table("", "", show_header=False, show_edge=False)
    for name, count in verdict.counts.items():
        table.add_row(name, f"{count:,}")
    console.print(table)
    for finding in verdict.findings:
        console.print(str(finding), style="bold red", markup=False, highlight=False)
    if arguments.json is not None:
        found = [asdict(finding) for finding in verdict.findings]
        document = {"session": session.directory.name, "counts": verdict.counts, "findings": found}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    said = "clean: every decision has its order or denial, and every unit of cash is found"
    console.print(said if verdict.is_clean else f"{len(verdict.findings)} findings", style="bold")
    return 0 if verdict.is_clean else 1


def _change_trading(arguments: argparse.Namespace, console: Console) -> int:
    from core.commands.trading import STATE_OF, change_trading

    session = find_session(arguments.session)
    work = change_trading(session, STATE_OF[arguments.command], arguments.reason, console)
    return 0 if asyncio.run(work) else 1
