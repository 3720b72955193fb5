"""`tradetui experiment`: an interleaved experiment without a screen, on the running swarm or on one of its own."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from math import isfinite
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from core.attach import SwarmClient, stop_session
from core.commands.output_file import write_json
from core.commands.start import start_swarm
from core.config import Settings
from core.experiment_log import ExperimentState, state_of, to_dict, with_captions
from core.experiment_run import run_experiment
from core.factorial import Design, pair_design, toggle_design
from core.interleaved import REPLICATES_MIN, InterleavedExperiment, Plan
from core.profile_export import machine
from core.session import Session, SessionError, create_session
from core.statistics import span_table, under
from core.what_if import what_if

FIRST_CYCLES = 30
"""Before an experiment: the projection wants a profile."""
START_TIMEOUT_S = 180.0


async def run_experiments(
    settings: Settings,
    session: Session | None,
    experiments: list[str],
    replicates_max: int | None,
    json_file: Path | None,
    console: Console,
) -> None:
    """Run each of `experiments` (keys such as `b` or `bp`, or `aa`) one after another and print its result.

    Without a session a swarm is started with `settings` and stopped at the end. However it ends, cancelled or by
    SIGTERM too, the swarm gets its toggles back, and `json_file` the experiments that were finished by then. Raises
    SessionError when the swarm fails or at SIGTERM, ValueError for keys that are no toggles.
    """
    loop, work = asyncio.get_running_loop(), asyncio.current_task()
    assert work is not None
    loop.add_signal_handler(signal.SIGTERM, work.cancel, signal.SIGTERM)
    try:
        await _run(settings, session, experiments, replicates_max, json_file, console)
    except asyncio.CancelledError as error:
        if error.args != (signal.SIGTERM,):
            raise
        raise SessionError("stopped by SIGTERM") from None
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


async def _run(
    settings: Settings,
    session: Session | None,
    experiments: list[str],
    replicates_max: int | None,
    json_file: Path | None,
    console: Console,
) -> None:
    plan = (
        Plan()
        if replicates_max is None
        else Plan(replicates_min=min(REPLICATES_MIN, replicates_max), replicates_max=replicates_max)
    )
    supervisor = None
    own = session is None
    if session is None:
        session = create_session(settings)
        supervisor = start_swarm(settings, owned=True, session=session).supervisor
    client = SwarmClient(session, owns_swarm=own)
    states: list[ExperimentState] = []
    try:
        await client.connect()
        await _first_cycles(client)
        if not own:  # a monitor that was in control sees who has it now
            console.print(await client.take_control(), style="dim", highlight=False)
        for keys in experiments:
            state = await _one(client, settings, keys, plan, console)
            states.append(state)
    finally:
        try:
            if json_file is not None and states:
                _write(json_file, settings, states)
        finally:
            await client.close()
            if own:
                await stop_session(session)
                if supervisor is not None:
                    await asyncio.to_thread(supervisor.wait)


def _write(json_file: Path, settings: Settings, states: list[ExperimentState]) -> None:
    document = {
        "machine": machine(),
        "settings": settings.model_dump(),
        "experiments": [to_dict(s) for s in states],
    }
    write_json(json_file, document)


async def _first_cycles(client: SwarmClient) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    # Neither the projection nor the experiment takes what ran in numpy.
    while sum(not record.numpy_kernels for record in client.cycles) < FIRST_CYCLES:
        if client.phase.startswith("failed") or time.monotonic() > deadline:
            phase = client.phase or "no word from the swarm"
            raise SessionError(f"no {FIRST_CYCLES} cycles on compiled kernels yet: {phase}")
        await asyncio.sleep(0.1)


def design_of(client: SwarmClient, keys: str) -> Design:
    """`aa` compares the present settings with themselves: a test of the method. Raises ValueError for bad keys."""
    base = client.snapshot().toggles
    return pair_design(base, base) if keys == "aa" else toggle_design(base, tuple(keys))


async def _one(client: SwarmClient, settings: Settings, keys: str, plan: Plan, console: Console) -> ExperimentState:
    snapshot = client.snapshot()
    table = span_table(under(snapshot.cycles, snapshot.toggles, 200))
    design = design_of(client, keys)
    projection = what_if(table, snapshot.toggles, design.keys, settings.batch_max, settings.orders_in_flight)
    experiment = InterleavedExperiment(design, plan, seed=snapshot.cycles_total)
    started_ns, captions = time.time_ns(), snapshot.captions
    not_back: list[str] = []
    work = asyncio.create_task(run_experiment(client, experiment, not_back.append))
    try:
        with Progress(TextColumn("{task.description}"), BarColumn(), console=console, transient=True) as progress:
            task = progress.add_task(keys, total=1.0)
            while not work.done():
                progress.update(
                    task, completed=experiment.progress, description=f"{keys}: {experiment.replicates} replicates"
                )
                await asyncio.wait({work}, timeout=0.2)
                captions = with_captions(captions, client.snapshot().captions)
        await work
    finally:
        if not work.done():
            # `asyncio.wait` leaves it running: it has to put the toggles back while there is still a link.
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work
            if not not_back:
                text = f"{keys}: stopped; the swarm runs under {design.cells[0].label()} again"
                console.print(text, style="yellow", highlight=False)
        for sentence in not_back:
            console.print(f"{keys}: {sentence}", style="yellow", highlight=False)
    if not_back:
        raise SessionError(f"{keys}: the next experiment would begin with the setting that this one left")
    state = state_of(experiment, projection, captions, started_ns, time.time_ns())
    client.keep_experiment(to_dict(state))
    for line in lines_of(state):
        console.print(line, highlight=False, markup=False)
    return state


def lines_of(state: ExperimentState) -> list[str]:
    """What a terminal is told of a finished experiment."""
    if state.result is None:
        return [f"{state.label}: {state.failure}"]
    lines = [_line(state, each) for each in state.result.contrasts]
    if len(state.result.design.cells) > 2 and isfinite(state.projection.ratio):
        together = " ".join(state.keys)
        lines.append(f"  {together} changed together: at most {state.projection.ratio:.2f}× expected")
    if state.failure:
        lines.append(f"  ended early: {state.failure}")
    return lines


def _line(state: ExperimentState, each: Any) -> str:
    assert state.result is not None
    ratio, result = each.ratio, state.result
    name = state.label if len(result.design.cells) == 2 else each.contrast.name
    times = " → ".join(f"{ms:.2f}" for ms in result.cell_ms) + " ms" if len(result.cell_ms) == 2 else ""
    took_s = (state.ended_ns - state.started_ns) / 1e9
    # Of a factorial design the projection is of all toggles at once, which no contrast is.
    is_pair = len(result.design.cells) == 2 and isfinite(state.projection.ratio)
    expected = f"at most {state.projection.ratio:.2f}× expected; " if is_pair else ""
    return (
        f"{name}: {each.verdict}, {ratio.ratio:.3f}× ({ratio.low:.3f}–{ratio.high:.3f})  {times}  "
        f"{expected}{result.cycles} cycles, {result.replicates} replicates, "
        f"{took_s:.0f} s"
    )
