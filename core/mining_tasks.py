"""The parts of mining that run in workers: pure functions of their arguments and the recording.

A worker reads the recording itself, so a task carries only row numbers and the present medoids. The same task gives the
same bits in any process, which is what makes a library independent of who mined it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from core.market.load import load_market
from kernels.dtw import z_normalise
from kernels.dtw_batch import library_distances_batch, pack_patterns
from kernels.dtw_topk import library_topk, pack_library

MEMBERS_MAX = 256
"""Of a larger cluster so many members, evenly spaced in its order, choose the medoid."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Windows of one recording: ends first_end, first_end + stride, … below stop_end, of every instrument."""

    source: str
    window: int
    first_end: int
    stop_end: int
    stride: int
    instruments: int

    @property
    def per_instrument(self) -> int:
        return max(0, -(-(self.stop_end - self.first_end) // self.stride))

    def __len__(self) -> int:
        return self.instruments * self.per_instrument

    def place(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Instrument and end row of candidates by number; numbers go by instrument, then by time."""
        instrument, step = np.divmod(numbers, self.per_instrument)
        return instrument, self.first_end + step * self.stride

    def windows(self, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        """Candidates by number, z-normalised: float32 [n, window]."""
        instrument, end = self.place(numbers)
        closes = closes_of(self.source)
        return z_normalise(closes[instrument[:, None], end[:, None] + np.arange(1 - self.window, 1)])


@lru_cache(maxsize=2)
def closes_of(source: str) -> NDArray[np.float64]:
    """Closes of the library's part of a recording, float64 [instruments, rows]; trading rows are never read."""
    data = load_market(source)
    return data.closes(0, data.layout.library_rows)


@dataclass(frozen=True, slots=True, eq=False)
class Assign:
    """Which medoid is nearest to candidates first..stop-1. Gives int64 [stop - first], equal distances by index."""

    candidates: Candidates
    first: int
    stop: int
    medoids: NDArray[np.float32]
    band: int

    def run(self) -> NDArray[np.int64]:
        windows = self.candidates.windows(np.arange(self.first, self.stop))
        library = pack_library(self.medoids, self.band)
        return library_topk(windows, library, 1, self.band)[0][:, 0]


@dataclass(frozen=True, slots=True, eq=False)
class Centre:
    """The medoid of each of several clusters: the member with the least sum of distances to the others.

    members: candidate numbers of each cluster, 1 or more. Gives int64 [clusters].
    """

    candidates: Candidates
    members: tuple[NDArray[np.int64], ...]
    band: int

    def run(self) -> NDArray[np.int64]:
        return np.array([self._medoid(numbers) for numbers in self.members], np.int64)

    def _medoid(self, numbers: NDArray[np.int64]) -> int:
        if len(numbers) > MEMBERS_MAX:
            numbers = numbers[np.linspace(0, len(numbers) - 1, MEMBERS_MAX).astype(np.int64)]
        windows = self.candidates.windows(numbers)
        distances = library_distances_batch(windows, pack_patterns(windows), len(windows), self.band)
        return int(numbers[distances.sum(axis=1, dtype=np.float64).argmin()])


def run_task(task: Assign | Centre) -> NDArray[np.int64]:
    """What a worker calls."""
    return task.run()
