"""Pairs of series, as rows of `tradetui bench kernels`: distances inside a kernel, paths, a long series."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numba import njit

from core.bench import kernel_peers as peers
from core.bench.kernel_dtw import Sides, band_steps, measured, microseconds, us_row
from core.bench.kernel_windows import library_and_queries, long_series
from core.bench.rows import Row, agree, row_of_pairs
from kernels.dtw_pair import pair_distance
from kernels.dtw_path import dtw_path, sakoe_chiba
from kernels.dtw_subsequence import subsequence_search

PAIR_CALLS: Final = 100_000
PAIRS: Final = 500
SERIES_STEPS: Final = 1_000_000


@njit(cache=True)
def _many_pairs(a: Any, b: Any, band: int, row: Any, out: Any) -> None:
    n = a.shape[0]
    for k in range(out.size):
        out[k] = pair_distance(a[k % n], b[k % n], band, row)


def pair_rows(rounds: int, aeon: peers.AeonProcess | None) -> Iterator[Row]:
    """100,000 distances called inside a kernel; µs a pair. dtaidistance is called from Python, aeon inside a kernel."""
    for steps in (16, 32):
        yield from _pair_case(f"dtw.pair.m{steps}", steps, rounds, aeon)


def _pair_case(name: str, steps: int, rounds: int, aeon: peers.AeonProcess | None) -> Iterator[Row]:
    band = band_steps(steps, 0.1)
    a, b = (rows.astype(np.float64) for rows in library_and_queries(steps, PAIRS, PAIRS))
    row, out = np.empty(steps + 1), np.empty(PAIR_CALLS)
    _many_pairs(a, b, band, row, out)
    sides: Sides = {"ours": lambda: _many_pairs(a, b, band, row, out)}
    if peers.installed("dtaidistance"):
        sides["dtaidistance"] = call = peers.dtaidistance_pairs(a, b, band)
        agree(f"{name} of dtaidistance", out[:PAIRS], call(), 1e-9)
    aeon_s: list[float] = []
    if aeon is not None:
        agree(f"{name} of aeon", out[:PAIRS], np.array(aeon.pairs(a, b, band, PAIR_CALLS)[1]), 1e-9)
        sides["aeon"] = lambda: aeon_s.append(aeon.pairs(a, b, band, PAIR_CALLS)[0])
    seconds = measured(sides, rounds)
    mine = microseconds(seconds["ours"], PAIR_CALLS)
    yield us_row(name, mine, "dtaidistance", microseconds(seconds.get("dtaidistance", []), PAIRS))
    if aeon is not None:
        # its own clock; the first was the unmeasured run
        yield us_row(f"{name}.aeon", mine, "aeon", microseconds(aeon_s[1:], PAIR_CALLS))


def path_rows(rounds: int) -> Iterator[Row]:
    """The warping path of one pair, called from Python; µs a pair."""
    for steps in (64, 128):
        yield _path_case(f"dtw.path.m{steps}", steps, rounds)


def _path_case(name: str, steps: int, rounds: int) -> Row:
    band = band_steps(steps, 0.1)
    a, b = (rows.astype(np.float64) for rows in library_and_queries(steps, 100, 100))
    region = sakoe_chiba(steps, steps, band)
    sides: Sides = {"ours": lambda: [dtw_path(x, y, region) for x, y in zip(a, b, strict=True)]}
    if peers.installed("dtaidistance"):
        sides["dtaidistance"] = call = peers.dtaidistance_paths(a, b, band)
        costs = [math.sqrt(sum((x[i] - y[j]) ** 2 for i, j in path)) for x, y, path in zip(a, b, call(), strict=True)]
        ours = [dtw_path(x, y, region)[0] for x, y in zip(a, b, strict=True)]
        agree(f"{name} of dtaidistance", np.array(ours), np.array(costs), 1e-9)
    seconds = measured(sides, rounds)
    theirs = microseconds(seconds.get("dtaidistance", []), len(a))
    return us_row(name, microseconds(seconds["ours"], len(a)), "dtaidistance", theirs)


def subsequence_rows(rounds: int) -> Iterator[Row]:
    """The nearest of 10⁶ windows, all z-normalised; ms a search. The series is resampled, see `long_series`."""
    for steps in (64, 128):
        yield from _subsequence_case(steps, rounds)


def _subsequence_case(steps: int, rounds: int) -> Iterator[Row]:
    band = band_steps(steps, 0.1)
    series = long_series(SERIES_STEPS + steps - 1)
    # of the panel: a window of the future would find itself
    query = library_and_queries(steps, 1, 1)[1][0].astype(np.float64)
    distance = subsequence_search(query, series, band)[1]
    sides: Sides = {
        "ours": lambda: subsequence_search(query, series, band),
        "ours, band 0": lambda: subsequence_search(query, series, 0),
    }
    if peers.installed("wildboar"):
        sides["wildboar"] = call = peers.wildboar_subsequence(query, series, band)
        agree(f"dtw.subsequence.m{steps} of wildboar", np.array([distance]), call()[:1], 1e-4)
    if peers.installed("stumpy"):
        sides["stumpy"] = call = peers.stumpy_nearest(query, series)
        straight = subsequence_search(query, series, 0)[1]
        agree(f"dtw.subsequence.m{steps} of stumpy", np.array([straight]), call()[:1], 1e-4)
    seconds = {side: milliseconds(values) for side, values in measured(sides, rounds).items()}
    for name, ours, side, against in (
        (f"dtw.subsequence.m{steps}.band10", "ours", "wildboar", "wildboar, UCR suite"),
        (f"dtw.subsequence.m{steps}.band0", "ours, band 0", "stumpy", "stumpy.mass"),
    ):
        if side in seconds:
            yield row_of_pairs(name, "ms", seconds[ours], against, seconds[side])
        else:
            yield Row(name, "ms", float(np.median(seconds[ours])))


def milliseconds(seconds: list[float]) -> list[float]:
    return [s * 1e3 for s in seconds]
