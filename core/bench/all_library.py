"""How DTW matching scales with the library, without a swarm: resampled patterns, the product's two kernels."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.bench.resampled import write_library
from core.bench.rows import ROUNDS_MIN, Row, agree, interleaved, row_of_pairs
from core.config import load_settings
from core.patterns import mined_library
from core.strategy.pattern import PatternConfig
from kernels.dtw_batch import library_distances_batch
from kernels.dtw_topk import library_topk, pack_library

WINDOWS: Final = 20
SEED: Final = 1


def library_row(patterns: int, rounds: int = ROUNDS_MIN) -> Row:
    """Row `scale.library.N.resampled`: ms for 20 windows, pruned top-k against every distance.

    Raises DisagreementError where the two do not find the same nearest distances.
    """
    settings = load_settings()
    length, band, k = settings.window_steps, settings.band_steps, PatternConfig().neighbours
    with tempfile.TemporaryDirectory(prefix="tradetui-bench-") as folder:
        path = Path(folder) / "resampled.npz"
        write_library(path, patterns + WINDOWS, length, SEED)
        every = mined_library(path, length).patterns
    windows, library = np.ascontiguousarray(every[patterns:]), np.ascontiguousarray(every[:patterns])
    packed = pack_library(library, band)

    def pruned() -> NDArray[np.float32]:
        return library_topk(windows, packed, k, band)[1]

    def batch() -> NDArray[np.float32]:
        return library_distances_batch(windows, packed.blocks, patterns, band)

    expected = np.sort(np.partition(batch(), k - 1, axis=1)[:, :k], axis=1)
    agree(f"{patterns} patterns", pruned(), expected, 0.0)
    seconds = interleaved({"pruned": pruned, "batch": batch}, rounds)
    ms = {name: [each * 1e3 for each in found] for name, found in seconds.items()}
    unit = f"ms for {WINDOWS} windows"
    return row_of_pairs(f"scale.library.{patterns}.resampled", unit, ms["pruned"], "SIMD batch", ms["batch"])
