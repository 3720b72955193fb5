"""One task of `tradetui bench all` on a real swarm, cut short."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from core.bench.all_plan import Comparison, Task
from core.bench.all_run import run_task
from core.interleaved import Plan
from core.toggles import OPTIMISED

pytestmark = [pytest.mark.swarm, pytest.mark.timeout(240)]


@pytest.mark.prove
def test_a_task_compares_on_a_swarm_of_its_own():
    """More instruments than the data has, so that the resampled market is traded too."""
    plan = Plan(block_cycles=1, warm_up_cycles=1, replicates_min=6, replicates_max=6)
    comparison = Comparison("all.3ms", replace(OPTIMISED, batching=False), OPTIMISED, "batching off", spans=True)
    task = Task("small", (comparison,), {"venue_latency_ms": 3.0, "toggles": "optimised"}, instruments=24, plan=plan)
    told: list[tuple[str, float]] = []
    rows = {row.name: row for row in asyncio.run(run_task(task, lambda doing, at: told.append((doing, at))))}
    rate = rows["all.cycles_per_s.3ms"]
    assert rate.ratio is not None
    assert rate.ratio > 1.0, "one round of 20 takes less time than 20 rounds"
    assert rows["all.quic_ms_per_cycle.3ms"].ours > 0.0
    assert all(0.0 <= at <= 1.0 for _, at in told)
    assert told[-1][0] == "all.3ms"
