"""Own times of every span over the cycles of a real swarm, noise for comparisons; `python -m tests.recorded_spans
SESSION` keeps those of a session."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.profile_series import CYCLES_KEPT, ROWS, load_series

RECORDING = Path(__file__).with_name("recorded_spans.npz")
STRETCH_CYCLES = 10


def recorded_own_ms() -> NDArray[np.float64]:
    """float64 (cycles, 30), ms, in the order of `core.profile_series.ROWS`, in time order."""
    with np.load(RECORDING) as recording:
        return np.asarray(recording["own_ms"], np.float64)


def drawn_own_ms(count: int, seed: int) -> NDArray[np.float64]:
    """`count` cycles: stretches of the recording put together as the seed draws them."""
    recorded = recorded_own_ms()
    starts = np.random.default_rng(seed).integers(len(recorded) - STRETCH_CYCLES, size=-(-count // STRETCH_CYCLES))
    return np.concatenate([recorded[start : start + STRETCH_CYCLES] for start in starts])[:count]


def slowed(own_ms: NDArray[np.float64], span: str, by: float) -> NDArray[np.float64]:
    """The same cycles with `span` taking `by` (0.1: a tenth) longer, and so each cycle."""
    table = own_ms.copy()
    further = table[:, ROWS.index(span)] * by
    table[:, ROWS.index(span)] += further
    table[:, 0] += further
    return table


def record(session: Path) -> None:
    """Keep the cycles of the setting that ran most."""
    series = next(iter(load_series(session).values()))
    np.savez_compressed(RECORDING, own_ms=series.own_ms.astype(np.float32))
    walls = series.own_ms[:, 0]
    print(f"{len(walls)} cycles (at most {CYCLES_KEPT}), median {np.median(walls):.2f} ms")


if __name__ == "__main__":
    record(Path(sys.argv[1]))
