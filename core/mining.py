"""Mining a pattern library from history: k-medoids under DTW, forward returns, and an honest look out of sample.

Only the part of a recording that belongs to the library is read (see `core.patterns`), and only its first 70 % makes
patterns; the rest, with no row in common, judges them. Clusters by Voronoi iteration (Park and Jun 2009, A simple and
fast algorithm for K-medoids clustering) from a regular grid of candidates.

The figure of quality is the rank correlation between the mean return that followed a cluster in sample and out of
sample. Its null distribution comes from the same returns shifted in time, all instruments together and round the end:
that keeps their autocorrelation and what instruments have in common, and breaks only the tie to the patterns.

Every finished task is kept in the work folder, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from core.mining_tasks import Assign, Candidates, Centre, closes_of
from core.mining_workers import Task, Workers

IN_SAMPLE: Final = 0.7
CHUNK: Final = 2_048
"""Candidates to a task."""
CLUSTERS_A_TASK: Final = 32
SHIFTS: Final = 999
FORMAT: Final = 1

Report = Callable[[str, int, int], None]
"""Told the stage, tasks done and tasks in all."""


@dataclass(frozen=True, slots=True)
class MiningSettings:
    """What decides the library, and nothing else: who mines it does not."""

    source: str
    window: int = 64
    patterns: int = 1_000
    horizon: int = 1
    band_fraction: float = 0.1
    stride: int = 1
    iterations: int = 5
    seed: int = 1

    @property
    def band(self) -> int:
        return max(1, int(self.window * self.band_fraction))

    def key(self) -> str:
        """Of the settings and the recording's numbers."""
        digest = hashlib.sha256(json.dumps([FORMAT, asdict(self)], sort_keys=True).encode())
        digest.update(closes_of(self.source).tobytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True, eq=False)
class MinedLibrary:
    """k patterns by number of members, most first; arrays as `core.patterns.PatternLibrary` has them."""

    patterns: NDArray[np.float32]
    instrument: NDArray[np.int64]
    end_row: NDArray[np.int64]
    members: NDArray[np.int64]
    forward_return: NDArray[np.float64]
    """Mean over the cluster's members in sample."""
    members_out: NDArray[np.int64]
    forward_return_out: NDArray[np.float64]
    """Mean over those that joined it out of sample, NaN where none did."""
    horizon: int
    rank_correlation: float
    p_value: float
    """Share of shifted returns, these among them, that correlate as much or more."""
    iterations: int


def mine(settings: MiningSettings, workers: Workers, work: Path, report: Report) -> MinedLibrary:
    """Mine the library, or go on with what `work` has of it. Removes its part of `work` at the end.

    Raises ValueError for settings out of range or a recording too short, MarketDataError for one that is refused,
    WorkersError.
    """
    inside, outside = _samples(settings)
    folder = work / settings.key()
    folder.mkdir(parents=True, exist_ok=True)
    run = _Stages(workers, folder, report)
    count = min(settings.patterns, len(inside))
    medoids = np.unique(((np.arange(count) + 0.5) * len(inside) / count).astype(np.int64))
    done = 0
    while True:
        labels = run.assign(f"assign-{done}", inside, inside.windows(medoids), settings.band)
        if done == settings.iterations:
            break
        centred = run.centre(f"centre-{done}", inside, labels, medoids, settings.band)
        done += 1
        if np.array_equal(centred, medoids):
            break
        medoids = centred
    labels_out = run.assign("out", outside, inside.windows(medoids), settings.band)
    library = _judge(settings, inside, outside, medoids, labels, labels_out, done)
    shutil.rmtree(folder)
    return library


def _samples(settings: MiningSettings) -> tuple[Candidates, Candidates]:
    least = min(settings.window, settings.patterns, settings.horizon, settings.stride, settings.iterations)
    if least < 1 or settings.window < 2 or not 0.0 < settings.band_fraction <= 1.0:
        raise ValueError("window must be 2 or more; k, horizon, stride and iterations 1 or more; band within (0, 1]")
    rows = closes_of(settings.source).shape[1]
    instruments = closes_of(settings.source).shape[0]
    split = int(rows * IN_SAMPLE)
    common: dict[str, Any] = {
        "source": settings.source, "window": settings.window, "stride": settings.stride, "instruments": instruments
    }  # fmt: skip
    inside = Candidates(first_end=settings.window - 1, stop_end=split - settings.horizon, **common)
    # no row of a window or of its return is on both sides
    outside = Candidates(first_end=split + settings.window - 1, stop_end=rows - settings.horizon, **common)
    if not (len(inside) and len(outside)):
        raise ValueError(
            f"the library's part of {settings.source} has {rows} rows, too few for windows of {settings.window} in and"
            " out of sample; give a shorter window or a longer recording"
        )
    return inside, outside


class _Stages:
    """Runs stages of tasks, each finished task kept in a file of its own."""

    def __init__(self, workers: Workers, folder: Path, report: Report) -> None:
        self._workers = workers
        self._folder = folder
        self._report = report

    def assign(self, stage: str, candidates: Candidates, medoids: NDArray[np.float32], band: int) -> NDArray[np.int64]:
        starts = range(0, len(candidates), CHUNK)
        tasks = [Assign(candidates, first, min(first + CHUNK, len(candidates)), medoids, band) for first in starts]
        return np.concatenate(self._run(stage, tasks))

    def centre(
        self, stage: str, candidates: Candidates, labels: NDArray[np.int64], medoids: NDArray[np.int64], band: int
    ) -> NDArray[np.int64]:
        order = np.argsort(labels, kind="stable")
        members = np.split(order, np.cumsum(np.bincount(labels, minlength=len(medoids)))[:-1])
        # a copy of an earlier medoid has no members and stays
        filled = [k for k, numbers in enumerate(members) if len(numbers)]
        groups = [filled[first : first + CLUSTERS_A_TASK] for first in range(0, len(filled), CLUSTERS_A_TASK)]
        tasks = [Centre(candidates, tuple(members[k] for k in group), band) for group in groups]
        centred = medoids.copy()
        centred[filled] = np.concatenate(self._run(stage, tasks))
        return centred

    def _run(self, stage: str, tasks: Sequence[Task]) -> list[NDArray[np.int64]]:
        files = [self._folder / f"{stage}-{number}.npy" for number in range(len(tasks))]
        found = {number: np.load(file) for number, file in enumerate(files) if file.exists()}
        missing = [number for number in range(len(tasks)) if number not in found]
        self._report(stage, len(found), len(tasks))
        for place, result in self._workers.results([tasks[number] for number in missing]):
            number = missing[place]
            partial = files[number].with_suffix(".part.npy")
            np.save(partial, result)
            partial.replace(files[number])
            found[number] = result
            self._report(stage, len(found), len(tasks))
        return [found[number] for number in range(len(tasks))]


def _judge(
    settings: MiningSettings,
    inside: Candidates,
    outside: Candidates,
    medoids: NDArray[np.int64],
    labels: NDArray[np.int64],
    labels_out: NDArray[np.int64],
    done: int,
) -> MinedLibrary:
    closes = closes_of(settings.source)
    k = len(medoids)
    members, mean = _means(labels, _forward(closes, inside, settings.horizon).ravel(), k)
    returns_out = _forward(closes, outside, settings.horizon)
    members_out, mean_out = _means(labels_out, returns_out.ravel(), k)
    both = (members > 0) & (members_out > 0)
    correlation = _rank_correlation(mean[both], mean_out[both])
    random = np.random.default_rng(settings.seed)
    as_much = 1
    for _ in range(SHIFTS):
        shifted = np.roll(returns_out, int(random.integers(1, max(2, outside.per_instrument))), axis=1)
        as_much += _rank_correlation(mean[both], _means(labels_out, shifted.ravel(), k)[1][both]) >= correlation
    order = np.argsort(-members, kind="stable")
    order = order[members[order] > 0]
    instrument, end_row = inside.place(medoids[order])
    return MinedLibrary(
        patterns=inside.windows(medoids[order]),
        instrument=instrument,
        end_row=end_row,
        members=members[order],
        forward_return=mean[order],
        members_out=members_out[order],
        forward_return_out=mean_out[order],
        horizon=settings.horizon,
        rank_correlation=correlation,
        p_value=as_much / (SHIFTS + 1),
        iterations=done,
    )


def _forward(closes: NDArray[np.float64], candidates: Candidates, horizon: int) -> NDArray[np.float64]:
    """The simple return over the horizon after each candidate: float64 [instruments, per_instrument]."""
    ends = np.arange(candidates.first_end, candidates.stop_end, candidates.stride)
    return np.asarray(closes[:, ends + horizon] / closes[:, ends] - 1.0)


def _means(labels: NDArray[np.int64], values: NDArray[np.float64], k: int) -> tuple[NDArray[np.int64], Any]:
    count = np.bincount(labels, minlength=k)
    total = np.bincount(labels, weights=values, minlength=k)
    return count, np.divide(total, count, out=np.full(k, np.nan), where=count > 0)


def _rank_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Spearman's; 0 for fewer than three values. Equal values share no rank: means of returns are hardly ever equal."""
    if a.size < 3:
        return 0.0
    ranks = [np.argsort(np.argsort(values, kind="stable"), kind="stable") for values in (a, b)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def save_library(path: Path, settings: MiningSettings, library: MinedLibrary) -> None:
    """Write every array, and the settings as JSON, into one .npz file. Raises OSError."""
    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in asdict(library).items()}
    partial = path.with_name(path.name + ".part.npz")
    np.savez(partial, settings=json.dumps(asdict(settings)), **arrays)
    partial.replace(path)
