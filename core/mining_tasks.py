"""The parts of mining that run in workers: pure functions of their arguments and the recording.

A worker reads its part of the recording itself (`core.mining_input`), so a task carries only row numbers and the
present medoids. The same task gives the same bits in any process, which makes a library independent of who mined it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.mining_input import closes_of
from kernels.dtw import z_normalise
from kernels.dtw_batch import library_distances_batch, pack_patterns
from kernels.dtw_topk import library_topk, pack_library

Numbers = NDArray[np.int32] | NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Windows of one recording: ends first_end, first_end + stride, … below stop_end, of every instrument."""

    source: str
    window: int
    first_end: int
    stop_end: int
    stride: int
    instruments: int
    digest: str = ""
    """Of the recording (`core.mining_input.closes_of`)."""

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
        closes = closes_of(self.source, self.digest)
        return z_normalise(closes[instrument[:, None], end[:, None] + np.arange(1 - self.window, 1)])

    def returns(self, numbers: NDArray[np.int64], horizon: int) -> NDArray[np.float64]:
        """The simple return over the horizon after each candidate: float64 [n]."""
        instrument, end = self.place(numbers)
        closes = closes_of(self.source, self.digest)
        return np.asarray(closes[instrument, end + horizon] / closes[instrument, end] - 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Assign:
    """Which medoid is nearest to candidates first..stop-1. Gives int32 [stop - first], equal distances by index."""

    candidates: Candidates
    first: int
    stop: int
    medoids: NDArray[np.float32]
    band: int

    def run(self) -> NDArray[np.int32]:
        windows = self.candidates.windows(np.arange(self.first, self.stop))
        library = pack_library(self.medoids, self.band)
        return library_topk(windows, library, 1, self.band)[0][:, 0].astype(np.int32)


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
        windows = self.candidates.windows(numbers)
        distances = library_distances_batch(windows, pack_patterns(windows), len(windows), self.band)
        return int(numbers[distances.sum(axis=1, dtype=np.float64).argmin()])


def run_task(task: Assign | Centre) -> Numbers:
    """What a worker calls."""
    return task.run()
