"""`tradetui bench timers`: its flags, and what it runs."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from rich.console import Console

from core.commands.output_file import output_file
from core.config import ConfigError, load_settings


def add_bench_timers(subjects: Any) -> None:
    """Add it to the subjects of `tradetui bench`."""
    said = "what timing spans and exporting them costs, and their shares beside samplers'"
    timers = subjects.add_parser("timers", help=said)
    timers.add_argument("--replicates", type=int, default=12, help="of timers on, off, off, on; intervals from 6 on")
    timers.add_argument("--block", type=int, default=20, metavar="N", help="cycles of each block")
    timers.add_argument(
        "--seconds", type=float, default=10.0, help="sampled by perf where it may be used, then by pyinstrument"
    )
    timers.add_argument("--toggles", default="optimised", help="of the swarm")
    timers.add_argument("--json", type=output_file, metavar="FILE")
    timers.set_defaults(run=_timers)


def _timers(arguments: argparse.Namespace, console: Console) -> int:
    from core.bench.timers import bench_timers
    from core.process_profile import SECONDS_MAX

    if min(arguments.replicates, arguments.block) < 1 or not 0 < arguments.seconds <= SECONDS_MAX:
        raise ConfigError(f"bench timers wants --replicates and --block of 1 or more, --seconds up to {SECONDS_MAX:g}")
    settings = load_settings(toggles=arguments.toggles)
    work = bench_timers(settings, arguments.replicates, arguments.block, arguments.seconds, arguments.json, console)
    asyncio.run(work)
    return 0
