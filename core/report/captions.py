"""What a swarm's captions were at each moment of its recording: a fault that was switched off again still counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.records import CycleRecord


@dataclass(frozen=True, slots=True)
class CaptionHistory:
    """The captions of each recorded state, in order of time."""

    taken_ns: NDArray[np.int64]
    captions: tuple[tuple[str, ...], ...]

    def during(self, cycles: Sequence[CycleRecord]) -> tuple[str, ...]:
        """Every caption that stood while one of `cycles` ran, each once, the first to appear first.

        States are a second apart: of a cycle the last one before it and the first one after it count too.
        """
        started = np.array([record.started_ns for record in cycles], np.int64)
        took = np.array([record.wall_ms * 1e6 for record in cycles], np.float64).astype(np.int64)
        first = np.maximum(np.searchsorted(self.taken_ns, started, "right") - 1, 0)
        last = np.minimum(np.searchsorted(self.taken_ns, started + took, "left"), len(self.taken_ns) - 1)
        covering = {k for a, b in set(zip(first.tolist(), last.tolist(), strict=True)) for k in range(a, b + 1)}
        return tuple(dict.fromkeys(each for k in sorted(covering) for each in self.captions[k]))
