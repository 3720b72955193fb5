"""`tradetui watch`: says whether a running swarm drifts, a line a window."""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from core.config import ConfigError
from core.session import Session, find_session

POLL_S = 0.2


def add_watch_command(commands: Any) -> None:
    """Add the sub-command to an argparse sub-parser collection."""
    watch = commands.add_parser(
        "watch", help="does a running swarm drift? the median cycle time against its first cycles"
    )
    watch.add_argument("session", type=Path, nargs="?", metavar="SESSION", help="default: the one that runs")
    watch.add_argument("--window", type=int, default=150, metavar="N", help="cycles of the reference and of each look")
    watch.add_argument("--looks", type=int, default=0, metavar="N", help="end after N; exit code 1 if it drifts then")
    watch.set_defaults(run=_watch)


def _watch(arguments: argparse.Namespace, console: Console) -> int:
    if arguments.window < 30 or arguments.looks < 0:
        raise ConfigError("watch wants --window of 30 cycles or more, --looks of 0 (without end) or more")
    session = find_session(arguments.session)
    return asyncio.run(watch(session, arguments.window, arguments.looks, console))


async def watch(session: Session, window_cycles: int, looks: int, console: Console) -> int:
    """Print a line for each window; returns 1 where the last of `looks` is a drift.

    Raises SessionError where the swarm does not run, or ends before.
    """
    from core.attach import SwarmClient
    from core.drift import DriftTracker
    from core.statistics import newer_than

    session.must_run()
    client = SwarmClient(session, owns_swarm=False, read_only=True)
    # A node tells whoever attaches of the cycles that it still keeps: those are not the next ones.
    tracker = DriftTracker(window_cycles, since_ns=time.time_ns())
    await client.connect()
    console.print(f"watching {session.directory.name}: the next {window_cycles} cycles are the reference", style="dim")
    place, said, last_cycle = None, 0, 0
    seen = None
    try:
        while not looks or said < looks:
            # One by one, as several windows may have come to their end since.
            for record in newer_than(client.cycles, last_cycle):
                last_cycle = record.cycle
                look = tracker.update([record])
                if look is None or look is seen:
                    continue
                seen, said = look, said + 1
                if (look.toggles, look.leader) != place:
                    place = (look.toggles, look.leader)
                    console.print(
                        f"under {look.toggles.label()}, led by node {look.leader}", style="dim", highlight=False
                    )
                word = "DRIFT" if look.drifting else "moved" if look.moved else "steady"
                line = f"{time.strftime('%H:%M:%S')}  cycle {look.cycle:,}  {word}: {look.text}"
                console.print(line, style="bold red" if look.drifting else "", highlight=False, markup=False)
                if said == looks:
                    break
            if not looks or said < looks:
                session.must_run()
            await asyncio.sleep(POLL_S)
    finally:
        await client.close()
    return 1 if seen is not None and seen.drifting else 0
