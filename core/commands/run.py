"""`tradetui run`: so many cycles without a screen, and a JSON of what they took."""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from core.attach import SwarmClient, stop_session
from core.commands.output_file import write_json
from core.commands.start import start_swarm
from core.config import Settings
from core.kernel_compiling import CAPTION
from core.profile_export import machine
from core.records import CycleRecord, SwarmSnapshot
from core.session import SessionError, create_session
from core.statistics import span_summary
from core.telemetry import timer_cost_ns
from core.toggles import parse_toggles

POLL_S = 0.1
SETTLE_S = 10.0
"""Orders confirmed in the background are waited for this long after the last cycle."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run leaves behind before its swarm is stopped."""

    snapshot: SwarmSnapshot
    cycles: tuple[CycleRecord, ...]
    startup_s: float


async def run_cycles(
    settings: Settings,
    cycles: int,
    json_file: Path | None,
    session_directory: Path | None,
    console: Console,
    *,
    live: bool = False,
) -> None:
    """Trade `cycles` cycles and write the result. Raises SessionError when the swarm fails, KeyboardInterrupt on
    Ctrl-C; the swarm is stopped in every case. `live`: see `start_swarm`.
    """
    settings = settings.model_copy(update={"cycles": cycles})
    session = create_session(settings, session_directory)
    began_s = time.time()
    started = start_swarm(settings, owned=True, session=session, live=live)
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupted.set)
    client = SwarmClient(session, owns_swarm=True, keep_cycles=cycles + 100)
    try:
        await client.connect()
        work = asyncio.create_task(_trade(client, started.supervisor, cycles, began_s, console))
        stop = asyncio.create_task(interrupted.wait())
        await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not work.done():
            work.cancel()
            raise KeyboardInterrupt
        measured = await work
    finally:
        console.print("stopping the swarm", style="dim")
        await client.close()
        await stop_session(session)
        await asyncio.to_thread(started.supervisor.wait)
    result = result_of(measured, settings)
    console.print(summary_line(result))
    if result["numpy_kernel_cycles"]:
        console.print(
            f"{result['numpy_kernel_cycles']} of them ran on numpy while kernels were compiled: no figures to compare;"
            " run again, or tradetui doctor --warm first",
            style="yellow",
        )
    if json_file is not None:
        write_json(json_file, result)


async def _trade(client: SwarmClient, supervisor: Any, cycles: int, began_s: float, console: Console) -> Measured:
    """began_s: Unix time at which the supervisor was started."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("starting", total=cycles)
        while not client.cycles or client.cycles[-1].cycle < cycles:
            if supervisor.poll() is not None or client.phase.startswith("failed"):
                last = [event.text for event in client.snapshot().events[-3:]]
                raise SessionError("\n".join([f"the swarm stopped: {client.phase}", *last]))
            done = client.cycles[-1].cycle if client.cycles else 0
            progress.update(task, completed=done, description=_doing(client, done))
            await asyncio.sleep(POLL_S)
        progress.update(task, completed=cycles)
    await _settle(client)
    records = tuple(client.cycles)
    # records carry Unix time; they are of this machine
    return Measured(client.snapshot(), records, max(0.0, records[0].started_ns / 1e9 - began_s))


def _doing(client: SwarmClient, done: int) -> str:
    if not done:
        return client.phase or "starting"
    numpy = [caption for caption in client.snapshot().captions if caption.startswith(CAPTION)]
    return ", ".join(["trading", *numpy])


async def _settle(client: SwarmClient) -> None:
    """Wait until no order is under way, so that the totals are final."""
    deadline = time.monotonic() + SETTLE_S
    quiet_since = None
    last = None
    while time.monotonic() < deadline:
        snapshot = client.snapshot()
        totals = (snapshot.orders_sent_total, snapshot.orders_filled_total, snapshot.orders_rejected_total)
        settled = totals[0] > 0 and totals[0] == totals[1] + totals[2]
        if totals == last and settled:
            quiet_since = quiet_since or time.monotonic()
            if time.monotonic() - quiet_since > 3 * POLL_S:
                return
        else:
            quiet_since = None
        last = totals
        await asyncio.sleep(POLL_S)


def result_of(measured: Measured, settings: Settings) -> dict[str, Any]:
    """The JSON of a run. `wall_s` is the time of the cycles; start-up is apart."""
    cycles = measured.cycles
    wall_s = sum(record.wall_ms for record in cycles) / 1e3
    return {
        "cycles": len(cycles),
        "wall_s": wall_s,
        "startup_s": measured.startup_s,
        "numpy_kernel_cycles": sum(record.numpy_kernels > 0 for record in cycles),
        "cycles_per_s": len(cycles) / wall_s if wall_s else 0.0,
        "toggles": parse_toggles(settings.toggles).as_dict(),
        "settings": {**settings.model_dump(), "captions": list(measured.snapshot.captions)},
        "machine": {**machine(), "span_timer_cost_ns": timer_cost_ns()},
        "spans": span_summary(cycles),
        "untimed_ms": sum(record.untimed_ms for record in cycles),
        "consensus": {
            "rounds": sum(record.rounds for record in cycles),
            "messages": sum(record.messages for record in cycles),
            "datagrams": sum(record.datagrams for record in cycles),
            "bytes": sum(record.bytes_on_wire for record in cycles),
        },
        "decisions": {
            "committed": sum(record.decisions_committed for record in cycles),
            "denied": sum(record.decisions_denied for record in cycles),
        },
        "orders": {
            "sent": measured.snapshot.orders_sent_total,
            "filled": measured.snapshot.orders_filled_total,
            "rejected": measured.snapshot.orders_rejected_total,
            "denied": sum(record.decisions_denied for record in cycles),
        },
    }


def summary_line(result: dict[str, Any]) -> str:
    """One line for the terminal."""
    orders = result["orders"]
    return (
        f"{result['cycles']} cycles in {result['wall_s']:.2f} s: {result['cycles_per_s']:.1f} cycles/s, "
        f"{result['decisions']['committed']} decisions, {orders['filled']} of {orders['sent']} orders filled"
    )
