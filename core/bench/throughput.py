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
    swarm_s: float


def _sides() -> dict[bool, list[float]]:
    return {False: [], True: []}


@dataclass(slots=True)
class Throughput:
    """Of every segment the cycles a second, and the two figures that they are made of.

    Cycles a second are the processor time that the swarm gets, over what a cycle takes of it. What it gets is known to
    a per cent: whoever runs beside it takes it away. What a cycle takes grows where others empty the caches or share a
    core, and on a shared machine also from one second to the next, by a tenth and more: hence the scatter.
    """

    client: SwarmClient
    pids: tuple[int, ...]
    """Of the swarm's processes."""
    cycles_per_s: dict[bool, list[float]] = field(default_factory=_sides)
    swarm_share: dict[bool, list[float]] = field(default_factory=_sides)
    cycle_ms: dict[bool, list[float]] = field(default_factory=_sides)

    def begin(self) -> Beginning:
        return Beginning(time.time_ns(), time.perf_counter(), self._swarm_s())

    def _swarm_s(self) -> float:
        return sum(map(processor_s, self.pids))

    async def end(self, beginning: Beginning, *, present: bool) -> None:
        """The segment is over; `present`: it was one with. Waits for the news of its last cycles.

        A node tells of its cycles once in `COUNTING_PUSH_S`: counted as they are told, a segment of six seconds would
        be wrong by up to a sixth. Raises SessionError where there were fewer than two cycles.
        """
        used_s, ended_ns = self._swarm_s() - beginning.swarm_s, time.time_ns()
        share = used_s / (time.perf_counter() - beginning.at_s)
        await asyncio.sleep(1.5 * COUNTING_PUSH_S)
        rate = rate_between(self.client.cycles, beginning.at_ns, ended_ns)
        self.cycles_per_s[present].append(rate)
        self.swarm_share[present].append(share)
        self.cycle_ms[present].append(share / rate * 1e3)

    def rows(self, name: str, against: str) -> list[Row]:
        """The figures of whole blocks, with against without."""
        figures = (
            ("cycles_per_s", "cycles/s", self.cycles_per_s, True),
            ("swarm_share", "of a core", self.swarm_share, True),
            ("swarm_ms_per_cycle", "ms of a core", self.cycle_ms, False),
        )
        return [
            row_of_pairs(
                f"{name}.{figure}",
                unit,
                block_means(values[True]),
                against,
                block_means(values[False]),
                higher_is_better=higher_is_better,
            )
            for figure, unit, values, higher_is_better in figures
        ]


def throughput_of(session: Session, client: SwarmClient) -> Throughput:
    """For a session that runs. Raises SessionError where it does not."""
    state = session.running()
    pids = tuple(each.pid for each in state.processes if each.pid) if state is not None else ()
    if not pids:
        raise SessionError(f"{session.directory} does not run")
    return Throughput(client, pids)


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
