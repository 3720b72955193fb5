"""Batch DTW and Monte Carlo losses on a CUDA device, by the arguments and to the figures of the processor's functions.

Used where the setting `gpu` or `tradetui risk --gpu` asks for it and there is a device; none was at hand to measure
where one pays. Without a device `available` is False and both raise; NUMBA_ENABLE_CUDASIM=1 runs them in numba's
simulator, slowly. One thread has one pair, or one draw.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numba import cuda as numba_cuda
from numpy.typing import NDArray

from kernels.checks import checked, checked_band
from kernels.monte_carlo import check_draws, drawn_stretches, portfolio_loadings
from kernels.philox import philox

# its annotations lack what a kernel sees
cuda: Any = numba_cuda

_THREADS: Final = 32
_INFINITY: Final = np.float32(np.inf)
_LOW: Final = np.uint64(0xFFFFFFFF)
_ZERO: Final = np.uint64(0)


class NoDeviceError(RuntimeError):
    """There is no CUDA device, or no driver for it."""


def available() -> bool:
    """Whether a CUDA device, or numba's simulator of one, can be used."""
    return bool(cuda.is_available())


def library_distances_gpu(
    windows: NDArray[np.float32], patterns: NDArray[np.float32], band: int
) -> NDArray[np.float32]:
    """Every window against every pattern, as `kernels.dtw_batch.library_distances_batch` to float32 rounding.

    windows: float32 [q, m]; patterns: float32 [n, m], not packed; m, n and q >= 1. Returns float32 [q, n]. Raises
    ValueError on NaN, infinity, magnitudes above 1e15, wrong dtype, rank or shape; NoDeviceError.
    """
    windows, patterns = checked("windows", windows, np.float32, 2), checked("patterns", patterns, np.float32, 2)
    if not windows.size or not patterns.size or windows.shape[1] != patterns.shape[1]:
        raise ValueError(f"windows {windows.shape} and patterns {patterns.shape} must have the same steps, 1 or more")
    band = checked_band(band)
    _need_device()
    (q, m), n = windows.shape, len(patterns)
    # neighbouring threads have neighbouring patterns, so that their loads fall together
    columns = cuda.to_device(np.ascontiguousarray(patterns.T))
    rows = cuda.device_array((q, m + 1, n), np.float32)
    out = cuda.device_array((q, n), np.float32)
    _distances[(-(-n // _THREADS), q), _THREADS](cuda.to_device(windows), columns, band, rows, out)
    return np.asarray(out.copy_to_host())


def monte_carlo_losses_gpu(
    mean: NDArray[np.float64],
    covariance: NDArray[np.float64],
    weights: NDArray[np.float64],
    paths: int,
    seed: int,
    *,
    degrees: int | None = None,
) -> NDArray[np.float32]:
    """Losses under fresh shocks: the random draws of `kernels.monte_carlo.monte_carlo_losses`, to float32 rounding.

    Arguments, result and ValueError as there; what Student's t stretches the shocks by, one number a path, comes from
    the processor. Raises NoDeviceError.
    """
    loadings, centre = portfolio_loadings(mean, covariance, weights)
    check_draws(paths, 0, seed, degrees)
    _need_device()
    out = cuda.device_array(paths, np.float32)
    key = np.uint64(seed) & _LOW, np.uint64(seed) >> np.uint64(32)
    _moves[-(-paths // _THREADS), _THREADS](cuda.to_device(loadings.astype(np.float32)), *key, out)
    moved = np.asarray(out.copy_to_host())
    if degrees is not None:
        moved *= drawn_stretches(int(degrees), len(loadings), seed, 0, paths, sobol=False)
    return np.float32(-centre) - moved


def _need_device() -> None:
    if not available():
        raise NoDeviceError("no CUDA device or driver is found; the processor's functions give the same")


@cuda.jit
def _distances(windows: Any, columns: Any, band: int, rows: Any, out: Any) -> None:
    p = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    w = cuda.blockIdx.y
    m, n = columns.shape
    if p >= n:
        return
    for j in range(m + 1):
        rows[w, j, p] = _INFINITY
    rows[w, 0, p] = np.float32(0.0)
    for i in range(m):
        first = max(0, i - band)
        diagonal = rows[w, first, p]
        left = _INFINITY
        for j in range(first, min(m, i + band + 1)):
            above = rows[w, j + 1, p]
            difference = windows[w, i] - columns[j, p]
            left = difference * difference + min(min(above, diagonal), left)
            rows[w, j + 1, p] = left
            diagonal = above
        # only the very first cell may be reached from outside the matrix
        rows[w, 0, p] = _INFINITY
    out[w, p] = math.sqrt(rows[w, m, p])


_philox: Final = cuda.jit(device=True)(philox.py_func)


@cuda.jit
def _moves(loadings: Any, k0: Any, k1: Any, out: Any) -> None:
    path = cuda.grid(1)
    if path >= out.size:
        return
    moved = np.float32(0.0)
    for four in range((loadings.size + 3) // 4):
        bits = _philox(np.uint64(path), np.uint64(four), _ZERO, _ZERO, k0, k1)
        for pair in range(2):
            k = 4 * four + 2 * pair
            uniform = np.float32((bits[2 * pair] >> np.uint64(8)) + np.uint64(1)) * np.float32(2.0**-24)
            turn = np.float32(bits[2 * pair + 1] >> np.uint64(8)) * np.float32(2.0**-24) - np.float32(0.5)
            radius = math.sqrt(np.float32(-2.0) * math.log(uniform))
            angle = np.float32(2.0 * math.pi) * turn
            if k < loadings.size:
                moved += loadings[k] * np.float32(radius * math.cos(angle))
            if k + 1 < loadings.size:
                moved += loadings[k + 1] * np.float32(radius * math.sin(angle))
    out[path] = moved
