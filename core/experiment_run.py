"""Runs an interleaved experiment on a swarm: watches its cycles, asks for the next settings, puts the old ones back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from core.interleaved import InterleavedExperiment
from core.put_back import ToggledSwarm, put_back
from core.records import CycleRecord
from core.statistics import newer_than
from core.toggles import Toggles

POLL_S = 0.02
SILENCE_MAX_S = 60.0
"""Without a cycle for so long the experiment ends: trading is paused, or a cycle takes a minute."""
ASK_AGAIN_S = 15.0


class Swarm(ToggledSwarm, Protocol):
    """What an experiment needs of the link to a swarm."""

    @property
    def cycles(self) -> Sequence[CycleRecord]: ...


async def run_experiment(
    swarm: Swarm, experiment: InterleavedExperiment, tell: Callable[[str], None], poll_s: float = POLL_S
) -> None:
    """Drive `experiment` to its end, then restore its first setting, however it ended.

    Cancelling it restores too, and however often it is cancelled, it ends only then. What went wrong stands in
    `experiment.failure`; `tell` gets a sentence where the swarm does not go back.
    """
    asked: Toggles | None = None
    asked_at = heard_at = time.monotonic()
    last_cycle = swarm.cycles[-1].cycle if swarm.cycles else 0
    try:
        while not experiment.finished:
            if experiment.wanted != asked or (
                swarm.cycles and swarm.cycles[-1].toggles != asked and time.monotonic() > asked_at + ASK_AGAIN_S
            ):
                asked, asked_at = experiment.wanted, time.monotonic()
                experiment.answered(await swarm.set_toggles(asked))
            fresh = newer_than(swarm.cycles, last_cycle)
            for record in fresh:
                experiment.observe(record)
                last_cycle = record.cycle
            if fresh:
                heard_at = time.monotonic()
            elif time.monotonic() > heard_at + SILENCE_MAX_S:
                experiment.give_up(f"no cycle ran for {SILENCE_MAX_S:g} s")
            await asyncio.sleep(poll_s)
    finally:
        if not experiment.finished:
            experiment.give_up("stopped by hand")
        await put_back(swarm, experiment.design.cells[0], tell)
