"""A swarm's throughput with something and without, in blocks of four segments: without, with, with, without."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from core.attach import SwarmClient
from core.bench.processor import processor_s
from core.bench.rows import Row, row_of_pairs
from core.records import CycleRecord
from core.session import Session, SessionError

COUNTING_PUSH_S = 1.0
"""How often whoever only counts cycles asks for news: its own cost is on both sides of a comparison, and small."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """Of a segment."""

    at_ns: int
    """Unix time."""
    at_s: float
    venue_s: float


@dataclass(slots=True)
class Throughput:
    """Two figures of every segment: cycles a second as counted, and the venue's share of a core.

    A shared machine is a tenth faster or slower from one segment to the next while every process gets the same time.
    The venue knows nothing of monitors and recorders and has the same work for each cycle, so its processor time a
    second is the throughput as if the machine were always as fast. It leaves out what crowded caches cost.
    """

    client: SwarmClient
    venue_pid: int
    cycles_per_s: dict[bool, list[float]] = field(default_factory=lambda: {False: [], True: []})
    venue_share: dict[bool, list[float]] = field(default_factory=lambda: {False: [], True: []})

    def begin(self) -> Beginning:
        return Beginning(time.time_ns(), time.perf_counter(), processor_s(self.venue_pid))

    async def end(self, beginning: Beginning, *, present: bool) -> None:
        """The segment is over; `present`: it was one with. Waits for the news of its last cycles.

        A node tells of its cycles once in `COUNTING_PUSH_S`: counted as they are told, a segment of six seconds would
        be wrong by up to a sixth. Raises SessionError where there were fewer than two cycles.
        """
        used_s, ended_ns = processor_s(self.venue_pid) - beginning.venue_s, time.time_ns()
        self.venue_share[present].append(used_s / (time.perf_counter() - beginning.at_s))
        await asyncio.sleep(1.5 * COUNTING_PUSH_S)
        self.cycles_per_s[present].append(rate_between(self.client.cycles, beginning.at_ns, ended_ns))

    def rows(self, name: str, against: str) -> list[Row]:
        """Both figures of whole blocks, with over without."""
        counted, share = self.cycles_per_s, self.venue_share
        sides = (("cycles_per_s", "cycles/s", counted), ("at_equal_speed", "of a core, the venue's", share))
        return [
            row_of_pairs(
                f"{name}.{figure}",
                unit,
                block_means(values[True]),
                against,
                block_means(values[False]),
                higher_is_better=True,
            )
            for figure, unit, values in sides
        ]


def throughput_of(session: Session, client: SwarmClient) -> Throughput:
    """For a session that runs. Raises SessionError where it has no venue of its own."""
    state = session.running()
    pids = {each.name: each.pid for each in state.processes} if state is not None else {}
    pid = pids.get("venue")
    if not pid:
        raise SessionError(f"{session.directory} runs no venue of its own")
    return Throughput(client, pid)


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
