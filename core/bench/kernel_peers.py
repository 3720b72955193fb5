"""The libraries that our kernels are held against, each spoken to in our convention: squared cost, square root, band.

They are optional: `pip install tradetui[peers]`. All run in this process, on one thread, with float64 inside, and get
their data in the form that suits them best, prepared outside the measured time. aeon pins another numba than ours, so
it runs in an environment of its own, see `AeonProcess`.
"""

from __future__ import annotations

import importlib
import json
import subprocess
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]
Library = Callable[[int], NDArray[Any]]
"""Distances [n] of window number i to the whole library."""

EXHAUSTIVE_PEERS: Final = ("dtaidistance", "wildboar", "tslearn")
BEST_OF: Final = ("dtaidistance", "wildboar")
"""The two that the contract's rows are held against; tslearn is slower than both."""


def installed(name: str) -> bool:
    """Whether a peer can be used here."""
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def versions() -> dict[str, str]:
    """The peers here and their versions."""
    return {name: metadata.version(name) for name in (*EXHAUSTIVE_PEERS, "stumpy") if installed(name)}


def exhaustive(name: str, windows: Rows, patterns: Rows, band: int) -> Library:
    """One window against every pattern by the peer's own best way, none left out.

    windows: float32 [q, m]; patterns: float32 [n, m].
    """
    return {"dtaidistance": _dtaidistance, "wildboar": _wildboar, "tslearn": _tslearn}[name](windows, patterns, band)


def _dtaidistance(windows: Rows, patterns: Rows, band: int) -> Library:
    """Its C matrix, restricted to the first row. Its window is our band + 1."""
    dtw = importlib.import_module("dtaidistance.dtw")
    stacks = [np.vstack([window[None], patterns]).astype(np.float64) for window in windows]
    options = {"window": band + 1, "block": ((0, 1), (1, len(patterns) + 1)), "compact": True, "parallel": False}
    return lambda i: np.asarray(dtw.distance_matrix_fast(stacks[i], **options))


def _wildboar(windows: Rows, patterns: Rows, band: int) -> Library:
    """Its radius is a fraction r of the length and open: |i - j| < floor(r m)."""
    distance = importlib.import_module("wildboar.distance")
    queries, library = windows.astype(np.float64), patterns.astype(np.float64)
    options = {"metric": "dtw", "metric_params": {"r": wildboar_radius(band, windows.shape[1])}, "n_jobs": 1}
    return lambda i: np.asarray(distance.pairwise_distance(queries[i : i + 1], library, **options)[0])


def wildboar_radius(band: int, steps: int) -> float:
    """The fraction that means our band to wildboar."""
    return min(1.0, (band + 1) / steps)


def _tslearn(windows: Rows, patterns: Rows, band: int) -> Library:
    metrics = importlib.import_module("tslearn.metrics")
    queries, library = windows.astype(np.float64)[:, :, None], patterns.astype(np.float64)[:, :, None]
    options = {"global_constraint": "sakoe_chiba", "sakoe_chiba_radius": band}
    return lambda i: np.asarray(metrics.cdist_dtw(queries[i : i + 1], library, **options)[0])


def wildboar_nearest(windows: Rows, patterns: Rows, band: int, k: int) -> Library:
    """wildboar's pruned search; gives the k smallest distances in order."""
    distance = importlib.import_module("wildboar.distance")
    queries, library = windows.astype(np.float64), patterns.astype(np.float64)
    options = {"metric": "dtw", "metric_params": {"r": wildboar_radius(band, windows.shape[1])}, "n_jobs": 1}

    def nearest(i: int) -> NDArray[Any]:
        found = distance.argmin_distance(queries[i : i + 1], library, k=k, sorted=True, return_distance=True, **options)
        return np.asarray(found[1][0])

    return nearest


def wildboar_subsequence(query: NDArray[np.float64], series: NDArray[np.float64], band: int) -> Callable[[], Any]:
    """Its UCR suite: distance of the nearest normalised window. Here its radius is closed: |i - j| <= floor(r m)."""
    distance = importlib.import_module("wildboar.distance")
    options = {"metric": "scaled_dtw", "metric_params": {"r": (band + 0.5) / query.size}, "n_jobs": 1}
    asked, line = [query], series[None]
    return lambda: np.ravel(distance.pairwise_subsequence_distance(asked, line, **options))


def stumpy_nearest(query: NDArray[np.float64], series: NDArray[np.float64]) -> Callable[[], Any]:
    """stumpy has no warping: its z-normalised Euclidean profile (MASS), of which the smallest; our band 0."""
    stumpy = importlib.import_module("stumpy")

    def nearest() -> NDArray[Any]:
        profile = stumpy.mass(query, series)
        return np.array([profile[np.argmin(profile)]])

    return nearest


def dtaidistance_pairs(a: NDArray[np.float64], b: NDArray[np.float64], band: int) -> Callable[[], NDArray[Any]]:
    """One C call a pair, a[i] with b[i], from Python."""
    dtw = importlib.import_module("dtaidistance.dtw")
    pairs = list(zip(a, b, strict=True))
    return lambda: np.array([dtw.distance_fast(x, y, window=band + 1) for x, y in pairs])


def dtaidistance_paths(a: NDArray[np.float64], b: NDArray[np.float64], band: int) -> Callable[[], list[Any]]:
    """The warping path of each pair a[i], b[i]: its C matrix, traced back."""
    dtw = importlib.import_module("dtaidistance.dtw")
    pairs = list(zip(a, b, strict=True))
    return lambda: [dtw.warping_path_fast(x, y, window=band + 1) for x, y in pairs]


_AEON: Final = """
import json, sys, time
import numpy as np
from importlib import metadata
from numba import njit
from aeon.distances.elastic import dtw_distance

@njit
def every(a, b, window, out):
    for i in range(out.size):
        out[i] = dtw_distance(a[i % len(a)], b[i % len(b)], window)

print(json.dumps({"aeon": metadata.version("aeon"), "numba": metadata.version("numba")}), flush=True)
for line in sys.stdin:
    ask = json.loads(line)
    a, b = np.array(ask["a"]), np.array(ask["b"])
    out = np.empty(ask["calls"])
    every(a, b, ask["window"], out[:1])
    began = time.thread_time()
    every(a, b, ask["window"], out)
    seconds = time.thread_time() - began
    print(json.dumps({"seconds": seconds, "values": np.sqrt(out[:len(a)]).tolist()}), flush=True)
"""


class AeonProcess:
    """aeon's pair distance, called inside a kernel of its own numba, in its own environment.

    It times itself. Its distance is ours before the square root; its window is the fraction (band + 0.5) / m.
    """

    def __init__(self, python: Path) -> None:
        self._process = subprocess.Popen(
            [str(python), "-c", _AEON], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.versions: dict[str, str] = self._answer()

    def pairs(self, a: NDArray[np.float64], b: NDArray[np.float64], band: int, calls: int) -> tuple[float, list[float]]:
        """Seconds for `calls` calls over the pairs a[i], b[i], again and again, and each pair's distance."""
        window = min(1.0, (band + 0.5) / a.shape[1])
        ask = {"a": a.tolist(), "b": b.tolist(), "window": window, "calls": calls}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(ask) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        return answer["seconds"], answer["values"]

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise OSError(f"aeon's process ended with code {self._process.wait()}; is aeon installed there?")
        return json.loads(line)
