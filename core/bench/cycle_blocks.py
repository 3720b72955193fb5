"""Blocks and rates of cycles of a running swarm, for benches that switch something on and off between them."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Iterable, Sequence

from core.attach import SwarmClient
from core.experiment import WARM_UP_CYCLES
from core.records import CycleRecord
from core.session import SessionError
from core.statistics import newer_than

SILENCE_MAX_S = 60.0
COUNTING_PUSH_S = 1.0
"""How often whoever only counts cycles asks for news: its own cost is on both sides of a comparison, and small."""


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


async def rate_until_now(client: SwarmClient, began_ns: int) -> float:
    """Cycles per second that began since `began_ns` (Unix time), by the nodes' own clock.

    A node tells of its cycles once in `COUNTING_PUSH_S`: counted as they are told, a segment of six seconds would be
    wrong by up to a sixth. So this waits for the news of what has begun by now. Raises SessionError where there is no
    rate, for fewer than two cycles.
    """
    ended_ns = time.time_ns()
    await asyncio.sleep(1.5 * COUNTING_PUSH_S)
    return rate_between(client.cycles, began_ns, ended_ns)


def rate_between(cycles: Iterable[CycleRecord], began_ns: int, ended_ns: int) -> float:
    """Cycles per second of those that began from `began_ns` on, before `ended_ns` (Unix time): the intervals between
    their beginnings, over the time from the first to the last. Raises SessionError for fewer than two.
    """
    starts = [record.started_ns for record in cycles if began_ns <= record.started_ns < ended_ns]
    if len(starts) < 2:
        raise SessionError(f"{len(starts)} cycles in {(ended_ns - began_ns) / 1e9:.1f} s: too few for a rate")
    return (len(starts) - 1) * 1e9 / (max(starts) - min(starts))


def block_means(rates: Sequence[float]) -> list[float]:
    """Of each block's two segments with, or its two without: in the order without, with, with, without, a machine
    that steadily slows down or speeds up does so for both alike. rates: as measured, an even number.
    """
    return [statistics.mean(pair) for pair in zip(rates[::2], rates[1::2], strict=True)]
