"""`tradetui bench wire` and `tradetui bench quic`: their flags, and what they run."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from rich.console import Console

from core.commands.output_file import output_file
from core.config import ConfigError

QUIC_CASES = ("rounds", "multiplexing", "batching", "strangers", "reconnects")


def add_transport_benches(subjects: Any) -> None:
    """Add both to the subjects of `tradetui bench`; each sets `run`."""
    wire = subjects.add_parser("wire", help="codecs by message kind and batch size, each against MessagePack maps")
    wire.add_argument("--rounds", type=int, default=15, help="interleaved; the median is shown")
    wire.add_argument("--json", type=output_file, metavar="FILE")
    wire.set_defaults(run=_wire)
    quic = subjects.add_parser("quic", help="rounds, round trips, batching, bad links, strangers, reconnects")
    quic.add_argument("--cases", nargs="+", choices=(*QUIC_CASES, "none"), default=list(QUIC_CASES))
    quic.add_argument("--soak-s", type=float, default=0.0, metavar="S", help="then rounds at full rate for so long")
    quic.add_argument("--rounds", type=int, default=11, help="interleaved slices; the median is shown")
    quic.add_argument("--json", type=output_file, metavar="FILE")
    quic.set_defaults(run=_quic)


def _wire(arguments: argparse.Namespace, console: Console) -> int:
    from core.bench.wire import bench_wire

    _check_rounds(arguments.rounds)
    bench_wire(arguments.rounds, arguments.json, console)
    return 0


def _quic(arguments: argparse.Namespace, console: Console) -> int:
    from core.bench.quic import bench_quic
    from core.bench.quic_cluster import QuicBenchError

    _check_rounds(arguments.rounds)
    cases = [name for name in arguments.cases if name != "none"]
    try:
        asyncio.run(bench_quic(cases, arguments.rounds, arguments.soak_s, arguments.json, console))
    except QuicBenchError as error:
        console.print(f"tradetui: {error}", style="bold red", markup=False, highlight=False)
        return 1
    return 0


def _check_rounds(rounds: int) -> None:
    from core.bench.rows import ROUNDS_MIN

    if rounds < ROUNDS_MIN:
        raise ConfigError(f"--rounds {rounds}: want at least {ROUNDS_MIN}, with fewer there is no 95 % interval")
