"""DTW of one window against a library, as rows of `tradetui bench kernels`: the batch and the pruned searches.

One core, windows of the shipped panel. Every pair of sides answers the same question, and the benchmark refuses to
report where their numbers differ.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from core.bench import kernel_peers as peers
from core.bench.kernel_windows import foreign_queries, library_and_queries
from core.bench.rows import Row, agree, interleaved, row_of_pairs
from kernels.dtw import library_distances_python, library_distances_scalar
from kernels.dtw_batch import library_distances_batch, pack_patterns
from kernels.dtw_topk import library_topk, pack_library

PEAK_CYCLES_A_CELL: Final = 0.125
"""What prototypes reached at most with 512-bit registers: one cell of 32 lanes in four cycles."""
QUERIES: Final = 8
REPEATS: Final = 5
"""Ours runs this often a round: single calls are too short for the clock."""
CASES: Final = ((32, 0.1), (64, 0.1), (128, 0.1), (64, 1.0))
LIBRARIES: Final = (1_000, 10_000, 100_000, 163_712)
"""The last with the 8 queries is every window of 128 steps that the panel has."""
SPIN_STEPS: Final = 100_000
SPIN_CYCLES: Final = 6 * SPIN_STEPS
"""Marsaglia's xorshift: three shifts and three exclusive ors, each one cycle and each waiting for the one before."""

Sides = dict[str, Callable[[], object]]


def band_steps(steps: int, share: float) -> int:
    """Half width of the band as the product's settings have it."""
    return max(1, int(steps * share)) if share < 1.0 else steps - 1


def cells_of(steps: int, band: int) -> int:
    """Cells of one warping matrix within the band."""
    band = min(band, steps - 1)
    return steps * (2 * band + 1) - band * (band + 1)


def batch_rows(rounds: int, with_python: bool) -> Iterator[Row]:
    """One window against 1,000 patterns, against every exhaustive peer; µs a window."""
    for steps, share in CASES:
        yield from _batch_case(f"dtw.batch.{_case_name(steps, share)}", steps, band_steps(steps, share), rounds)
        if with_python:
            yield _python_case(f"dtw.batch.{_case_name(steps, share)}.python", steps, band_steps(steps, share))


def _case_name(steps: int, share: float) -> str:
    return f"m{steps}.{'full' if share == 1.0 else 'band10'}"


def _batch_case(name: str, steps: int, band: int, rounds: int) -> Iterator[Row]:
    patterns, windows = library_and_queries(steps, 1_000, QUERIES)
    blocks = pack_patterns(patterns)
    reference = np.stack([library_distances_scalar(window, patterns, band) for window in windows])
    agree(name, library_distances_batch(windows, blocks, 1_000, band), reference, 1e-5)

    def ours() -> None:
        for _ in range(REPEATS):
            for i in range(QUERIES):
                library_distances_batch(windows[i : i + 1], blocks, 1_000, band)

    def scalar() -> None:
        for window in windows:
            library_distances_scalar(window, patterns, band)

    sides: Sides = {"ours": ours, "clock": _spin, "scalar": scalar}
    for peer in filter(peers.installed, peers.EXHAUSTIVE_PEERS):
        library = peers.exhaustive(peer, windows, patterns, band)
        agree(f"{name} of {peer}", np.stack([library(i) for i in range(QUERIES)]), reference, 1e-5)
        sides[peer] = every_query(library)
    seconds = measured(sides, rounds)
    mine = microseconds(seconds.pop("ours"), QUERIES * REPEATS)
    clock = seconds.pop("clock")
    theirs = {side: microseconds(values, QUERIES) for side, values in seconds.items()}
    best = min(theirs.keys() & peers.BEST_OF, key=lambda peer: float(np.median(theirs[peer])), default=None)
    yield us_row(name, mine, best or "", theirs.get(best or "", []))
    for side, values in theirs.items():
        yield us_row(f"{name}.{side}", mine, "scalar numba" if side == "scalar" else side, values)
    yield from _speed(name, np.array(mine) * 1e-6, np.array(clock), cells_of(steps, band) * 1_000)


def _python_case(name: str, steps: int, band: int) -> Row:
    patterns, windows = library_and_queries(steps, 1_000, 1)
    blocks = pack_patterns(patterns)
    repeats = REPEATS * QUERIES

    def ours() -> None:
        for _ in range(repeats):
            library_distances_batch(windows, blocks, 1_000, band)

    # seconds a call: more rounds than an interval needs would take minutes
    seconds = measured({"ours": ours, "python": lambda: library_distances_python(windows[0], patterns, band)}, 6)
    return us_row(name, microseconds(seconds["ours"], repeats), "plain Python", microseconds(seconds["python"], 1))


def _speed(name: str, took_s: NDArray[np.float64], spin_s: NDArray[np.float64], cells: int) -> Iterator[Row]:
    """Cells a second, cycles a cell, and the share of the peak, by the clock measured in the same rounds."""
    cycles = took_s * (SPIN_CYCLES / spin_s) / cells
    yield Row(f"{name}.cells_per_s", "1/s", float(np.median(cells / took_s)))
    yield Row(f"{name}.cycles_per_cell", "cycles", float(np.median(cycles)))
    yield Row(f"{name}.share_of_peak", "fraction", float(np.median(PEAK_CYCLES_A_CELL / cycles)))


def _spin() -> object:
    return _xorshift(88172645463325252, SPIN_STEPS)


@njit(cache=True)
def _xorshift(state: Any, steps: int) -> Any:
    x = np.uint64(state)
    for _ in range(steps):
        x ^= x << np.uint64(13)
        x ^= x >> np.uint64(7)
        x ^= x << np.uint64(17)
    return x


def nearest_rows(rounds: int) -> Iterator[Row]:
    """The nearest of 1,000 patterns, pruned on both sides; µs a window."""
    for steps, share in CASES:
        yield _nearest_case(f"dtw.nearest.{_case_name(steps, share)}", steps, band_steps(steps, share), rounds)


def _nearest_case(name: str, steps: int, band: int, rounds: int) -> Row:
    patterns, windows = library_and_queries(steps, 1_000, QUERIES)
    library = pack_library(patterns, band)

    def ours() -> None:
        for _ in range(REPEATS):
            for i in range(QUERIES):
                library_topk(windows[i : i + 1], library, 1, band)

    sides: Sides = {"ours": ours}
    if peers.installed("wildboar"):
        theirs = peers.wildboar_nearest(windows, patterns, band, 1)
        found = np.stack([theirs(i) for i in range(QUERIES)])
        agree(f"{name} of wildboar", library_topk(windows, library, 1, band)[1], found, 1e-5)
        sides["wildboar"] = every_query(theirs)
    seconds = measured(sides, rounds)
    mine = microseconds(seconds["ours"], QUERIES * REPEATS)
    return us_row(name, mine, "wildboar, pruned", microseconds(seconds.get("wildboar", []), QUERIES))


def topk_rows(rounds: int) -> Iterator[Row]:
    """The pruned 10 nearest against our own brute-force batch with a partial sort; µs a window, exact."""
    for steps in (16, 32, 64, 128):
        for count in LIBRARIES:
            patterns, windows = library_and_queries(steps, count, QUERIES)
            yield _topk_case(f"dtw.topk.m{steps}.n{count}", patterns, windows, rounds)
    patterns, windows = library_and_queries(128, 300_000, QUERIES)
    yield _topk_case("dtw.topk.m128.n300000.resampled", patterns, windows, rounds)
    yield _topk_case("dtw.topk.m128.n100000.foreign", patterns[:100_000], foreign_queries(128, QUERIES), rounds)


def _topk_case(name: str, patterns: Any, windows: Any, rounds: int) -> Row:
    n, steps = patterns.shape
    band = band_steps(steps, 0.1)
    library = pack_library(patterns, band)

    def brute(i: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        every = library_distances_batch(windows[i : i + 1], library.blocks, n, band)[0]
        near = np.flatnonzero(every <= np.partition(every, 9)[9])
        near = near[np.argsort(every[near], kind="stable")[:10]]
        return near, every[near]

    for i in range(QUERIES):
        indices, distances = library_topk(windows[i : i + 1], library, 10, band)
        agree(f"{name}, indices", indices[0], brute(i)[0], 0.0)
        agree(name, distances[0], brute(i)[1], 0.0)
    repeats = max(1, 10_000 // n)

    def ours() -> None:
        for _ in range(repeats):
            for i in range(QUERIES):
                library_topk(windows[i : i + 1], library, 10, band)

    def theirs() -> None:
        for _ in range(repeats):
            for i in range(QUERIES):
                brute(i)

    seconds = measured({"ours": ours, "theirs": theirs}, rounds)
    calls = QUERIES * repeats
    against = "our brute-force batch"
    return us_row(name, microseconds(seconds["ours"], calls), against, microseconds(seconds["theirs"], calls))


def measured(sides: Sides, rounds: int) -> dict[str, list[float]]:
    """Interleaved seconds of this thread's processor, which leave out what other processes took."""
    return interleaved(sides, rounds, time.thread_time)


def every_query(library: peers.Library) -> Callable[[], object]:
    """One call a window."""
    return lambda: [library(i) for i in range(QUERIES)]


def microseconds(seconds: list[float], calls: int) -> list[float]:
    """Of one call, where each figure took `calls`."""
    return [s * 1e6 / calls for s in seconds]


def us_row(name: str, ours: list[float], against: str, theirs: list[float]) -> Row:
    """A row in µs; without another side where `theirs` is empty."""
    if not theirs:
        return Row(name, "us", float(np.median(ours)))
    return row_of_pairs(name, "us", ours, against, theirs)
