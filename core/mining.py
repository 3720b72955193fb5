"""Mining a pattern library from history: k-medoids under DTW, forward returns, and an honest look out of sample.

Only the part of a recording that belongs to the library is read (see `core.patterns`), and only its first 70 % makes
patterns; the rest, with no row in common, judges them. Clusters by Voronoi iteration (Park and Jun 2009, A simple and
fast algorithm for K-medoids clustering) from a regular grid of candidates.

The figure of quality is the rank correlation between the mean return that followed a cluster in sample and out of
sample. Its null distribution comes from the same returns shifted in time, all instruments together and round the end:
that keeps their autocorrelation and what instruments have in common, and breaks only the tie to the patterns. A shift
is never shorter than a window and its return, either way round: a shorter one would pair a window with a return inside
it, or with one that overlaps its own.

Every finished task is kept in the work folder, so that a run that was stopped goes on where it was. Neither the
recording nor the labels of its candidates need fit into memory: both are on disk, and read a part at a time.
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

from core.mining_input import partitions_of
from core.mining_labels import Labels
from core.mining_tasks import Assign, Candidates, Centre
from core.mining_workers import Task, Workers

IN_SAMPLE: Final = 0.7
CHUNK: Final = 2_048
"""Candidates to a task."""
CLUSTERS_A_TASK: Final = 32
SHIFTS: Final = 999
"""At the most; fewer where the rows out of sample have no more."""
FORMAT: Final = 2

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
        digest.update(partitions_of(self.source).digest.encode())
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
    shifts: int
    """That they were shifted by; no p-value is below 1 / (shifts + 1)."""
    symbols: NDArray[np.str_]
    """Names of the recording's instruments."""
    span_ns: NDArray[np.int64]
    """[2]: Unix time of the first and of the last row that was read, the returns included."""
    iterations: int


def mine(settings: MiningSettings, workers: Workers, work: Path, report: Report) -> MinedLibrary:
    """Mine the library, or go on with what `work` has of it. `remove_work` when the library is safe.

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
    return _judge(settings, (inside, outside), medoids, (labels, labels_out), done, report)


def remove_work(settings: MiningSettings, work: Path) -> None:
    """Finished tasks of these settings, and `work` itself where nothing else is in it. Raises OSError."""
    shutil.rmtree(work / settings.key())
    if not any(work.iterdir()):
        work.rmdir()


def _samples(settings: MiningSettings) -> tuple[Candidates, Candidates]:
    least = min(settings.window, settings.patterns, settings.horizon, settings.stride, settings.iterations)
    if least < 1 or settings.window < 2 or not 0.0 < settings.band_fraction <= 1.0:
        raise ValueError("window must be 2 or more; k, horizon, stride and iterations 1 or more; band within (0, 1]")
    found = partitions_of(settings.source)
    instruments, rows = found.closes.shape
    split = int(rows * IN_SAMPLE)
    common: dict[str, Any] = {
        "source": settings.source, "window": settings.window, "stride": settings.stride, "instruments": instruments,
        "digest": found.digest,
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

    def assign(self, stage: str, candidates: Candidates, medoids: NDArray[np.float32], band: int) -> Labels:
        starts = range(0, len(candidates), CHUNK)
        tasks = [Assign(candidates, first, min(first + CHUNK, len(candidates)), medoids, band) for first in starts]
        return Labels(self._run(stage, tasks), CHUNK)

    def centre(
        self, stage: str, candidates: Candidates, labels: Labels, medoids: NDArray[np.int64], band: int
    ) -> NDArray[np.int64]:
        members = labels.members(len(medoids))
        # a copy of an earlier medoid has no members and stays
        filled = [k for k, numbers in enumerate(members) if len(numbers)]
        groups = [filled[first : first + CLUSTERS_A_TASK] for first in range(0, len(filled), CLUSTERS_A_TASK)]
        tasks = [Centre(candidates, tuple(members[k] for k in group), band) for group in groups]
        centred = medoids.copy()
        centred[filled] = np.concatenate([np.load(file) for file in self._run(stage, tasks)])
        return centred

    def _run(self, stage: str, tasks: Sequence[Task]) -> list[Path]:
        """The file of each task's result."""
        files = [self._folder / f"{stage}-{number}.npy" for number in range(len(tasks))]
        missing = [number for number, file in enumerate(files) if not file.exists()]
        done = len(tasks) - len(missing)
        self._report(stage, done, len(tasks))
        for place, result in self._workers.results([tasks[number] for number in missing]):
            number = missing[place]
            partial = files[number].with_suffix(".part.npy")
            np.save(partial, result)
            partial.replace(files[number])
            done += 1
            self._report(stage, done, len(tasks))
        return files


def _judge(
    settings: MiningSettings,
    samples: tuple[Candidates, Candidates],
    medoids: NDArray[np.int64],
    labels: tuple[Labels, Labels],
    done: int,
    report: Report,
) -> MinedLibrary:
    """samples and labels: in sample and out of sample."""
    inside, outside = samples
    k = len(medoids)
    members, total = np.zeros(k, np.int64), np.zeros((1, k))
    for first, some in labels[0].parts():
        members += np.bincount(some, minlength=k)
        returns = inside.returns(np.arange(first, first + len(some)), settings.horizon)
        total[0] += np.bincount(some, weights=returns, minlength=k)
    mean = _means(total, members)[0]
    members_out, totals_out = _shifted_totals(settings, outside, labels[1], k, report)
    means_out = _means(totals_out, members_out)
    mean_out = means_out[0]
    both = (members > 0) & (members_out > 0)
    correlation = _rank_correlation(mean[both], mean_out[both])
    # the first is not shifted, and counts as one of them
    as_much = sum(_rank_correlation(mean[both], shifted[both]) >= correlation for shifted in means_out)
    order = np.argsort(-members, kind="stable")
    order = order[members[order] > 0]
    found = partitions_of(settings.source)
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
        p_value=as_much / len(means_out),
        shifts=len(means_out) - 1,
        symbols=np.array(found.symbols),
        span_ns=np.array(found.span_ns),
        iterations=done,
    )


def _shifted_totals(
    settings: MiningSettings, outside: Candidates, labels: Labels, k: int, report: Report
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Members of each cluster, int64 [k], and the sum of the returns after them: as they were, then under each shift,
    float64 [1 + shifts, k]. One instrument is in memory at a time.
    """
    steps = outside.per_instrument
    shifts = [0, *_shifts(settings, steps)]
    members, totals = np.zeros(k, np.int64), np.zeros((len(shifts), k))
    for instrument in range(outside.instruments):
        report("judging", instrument, outside.instruments)
        first = instrument * steps
        some = labels.between(first, first + steps)
        returns = outside.returns(np.arange(first, first + steps), settings.horizon)
        members += np.bincount(some, minlength=k)
        for place, shift in enumerate(shifts):
            totals[place] += np.bincount(some, weights=np.roll(returns, shift), minlength=k)
    report("judging", outside.instruments, outside.instruments)
    return members, totals


def _shifts(settings: MiningSettings, steps: int) -> list[int]:
    """Candidates to shift by, no shift twice; round the end `steps` - s is as far as s."""
    least = -(-(settings.window + settings.horizon) // settings.stride)
    free = max(0, steps - 2 * least + 1)
    chosen = np.arange(free)
    if free > SHIFTS:
        chosen = np.random.default_rng(settings.seed).choice(free, SHIFTS, replace=False)
    return (least + chosen).tolist()


def _means(totals: NDArray[np.float64], count: NDArray[np.int64]) -> NDArray[np.float64]:
    """Row by row; NaN for a cluster without members."""
    empty = np.full_like(totals, np.nan)
    return np.divide(totals, count, out=empty, where=np.broadcast_to(count > 0, totals.shape))


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
