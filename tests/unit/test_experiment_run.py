"""What an experiment leaves behind: the setting that it found, and the captions that it ran under."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from core.experiment_log import with_captions
from core.experiment_run import run_experiment
from core.factorial import pair_design
from core.interleaved import InterleavedExperiment
from core.records import CycleRecord
from core.toggles import BASELINE, OPTIMISED, Toggles


class SlowSwarm:
    """Takes its time to obey."""

    cycles: Sequence[CycleRecord] = ()

    def __init__(self) -> None:
        self.toggles = BASELINE

    async def set_toggles(self, toggles: Toggles) -> str:
        await asyncio.sleep(0.02)
        self.toggles = toggles
        return "taken"


def test_whoever_cancels_twice_finds_the_old_toggles_again() -> None:
    async def work() -> None:
        swarm = SlowSwarm()
        running = asyncio.create_task(
            run_experiment(swarm, InterleavedExperiment(pair_design(OPTIMISED, BASELINE)), 0.0)
        )
        await asyncio.sleep(0.05)
        swarm.toggles = BASELINE
        running.cancel()
        await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await asyncio.sleep(0.05)
        assert swarm.toggles == OPTIMISED

    asyncio.run(work())


def test_a_fault_that_was_over_before_the_end_stays_named() -> None:
    known = with_captions(("venue latency 0 ms",), ("venue latency 0 ms", "fault: node 2 sends 20 ms late"))
    assert with_captions(known, ("venue latency 0 ms",)) == ("venue latency 0 ms", "fault: node 2 sends 20 ms late")
