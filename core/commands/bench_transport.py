"""`tradetui bench wire` and `tradetui bench quic`: their flags, and what they run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console

from core.config import ConfigError


def add_transport_benches(subjects: Any) -> None:
    """Add both to the subjects of `tradetui bench`; each sets `run`."""
    wire = subjects.add_parser("wire", help="codecs by message kind and batch size, each against MessagePack maps")
    wire.add_argument("--rounds", type=int, default=15, help="interleaved; the median is shown")
    wire.add_argument("--json", type=Path, metavar="FILE")
    wire.set_defaults(run=_wire)


def _wire(arguments: argparse.Namespace, console: Console) -> int:
    from core.bench.wire import bench_wire

    _check_rounds(arguments.rounds)
    bench_wire(arguments.rounds, arguments.json, console)
    return 0


def _check_rounds(rounds: int) -> None:
    from core.bench.rows import ROUNDS_MIN

    if rounds < ROUNDS_MIN:
        raise ConfigError(f"--rounds {rounds}: want at least {ROUNDS_MIN}, with fewer there is no 95 % interval")
