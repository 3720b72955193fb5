"""Blocks of cycles of a running swarm, for benches that switch something on and off between them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from core.attach import SwarmClient
from core.experiment import WARM_UP_CYCLES
from core.records import CycleRecord
from core.session import SessionError
from core.statistics import newer_than

SILENCE_MAX_S = 60.0


async def cycles_from_now(client: SwarmClient, count: int, ran_so: Callable[[CycleRecord], bool]) -> list[float]:
    """Wall ms of `count` cycles that are told from now on and of which `ran_so` holds, the first ones left out.

    Raises SessionError when none comes.
    """
    last = client.cycles[-1].cycle
    deadline = time.monotonic() + SILENCE_MAX_S
    found: list[CycleRecord] = []
    while len(found) < WARM_UP_CYCLES + count:
        fresh = [record for record in newer_than(client.cycles, last) if ran_so(record)]
        if fresh:
            deadline = time.monotonic() + SILENCE_MAX_S
        elif time.monotonic() > deadline:
            raise SessionError("no cycle ran as asked: did the lead change hands?")
        found += fresh
        last = client.cycles[-1].cycle
        await asyncio.sleep(0.02)
    return [record.wall_ms for record in found[WARM_UP_CYCLES : WARM_UP_CYCLES + count]]
