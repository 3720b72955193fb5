"""Cycle times of a real swarm, noise for experiments; `python -m tests.recorded_noise` records them."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.integration.swarm import running_swarm

RECORDING = Path(__file__).with_name("recorded_noise.npz")
SECONDS = 120.0
STRETCH_CYCLES = 200
WARM_UP_CYCLES = 20


def recorded_ms() -> NDArray[np.float64]:
    """float64 (cycles,), ms, in time order, of a swarm under the optimised preset."""
    with np.load(RECORDING) as recording:
        return np.asarray(recording["optimised"], np.float64)


def drawn_ms(count: int, seed: int) -> NDArray[np.float64]:
    """`count` cycle times: stretches of the recording put together as the seed draws them, so that repeats differ."""
    recorded = recorded_ms()
    starts = np.random.default_rng(seed).integers(len(recorded) - STRETCH_CYCLES, size=-(-count // STRETCH_CYCLES))
    return np.concatenate([recorded[start : start + STRETCH_CYCLES] for start in starts])[:count]


async def record() -> None:
    """Run a swarm for a while and keep the wall time of its cycles."""
    with tempfile.TemporaryDirectory() as folder:
        async with running_swarm(Path(folder), toggles="optimised") as swarm:
            await asyncio.sleep(SECONDS)
            cycles = [record for record in swarm.client.cycles if record.cycle > WARM_UP_CYCLES]
    values = np.array([record.wall_ms for record in cycles], np.float32)
    np.savez_compressed(RECORDING, optimised=values)
    print(f"{len(values)} cycles, median {np.median(values):.2f} ms, 95 % {np.quantile(values, 0.95):.2f} ms")


if __name__ == "__main__":
    asyncio.run(record())
