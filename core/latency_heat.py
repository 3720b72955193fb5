"""How each span's time spread out, second by second: counts of cycles by logarithmic bucket of inclusive time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.records import CycleRecord
from core.spans import NAMES

SECONDS_KEPT: Final = 240
BUCKETS_A_DECADE: Final = 10
DECADES: Final = 6
SMALLEST_MS: Final = 0.01
BUCKETS: Final = BUCKETS_A_DECADE * DECADES
COUNT_MAX: Final = 255


def bucket_ms(bucket: int) -> float:
    """The lower end of a bucket; the lowest also holds what is faster, the highest what is slower."""
    return float(SMALLEST_MS * 10 ** (bucket / BUCKETS_A_DECADE))


@dataclass(frozen=True, slots=True)
class SpanHeat:
    """One span's last seconds. `counts` is uint8 [seconds, BUCKETS], the oldest second first, capped at `COUNT_MAX`."""

    span: str
    last_second: int
    """Unix time of the last row."""
    counts: NDArray[np.uint8]


class LatencyHeat:
    """Counts every cycle once; a cycle in which a span did not run does not count for it.

    Cycles in numpy beside the compiler are counted apart, and shown only while no others are kept.
    """

    def __init__(self) -> None:
        self._counts = np.zeros((2, SECONDS_KEPT, len(NAMES), BUCKETS), np.uint8)
        """Of compiled kernels, and of numpy."""
        self._last_second = 0
        self._spans = np.arange(len(NAMES))

    def add(self, record: CycleRecord) -> None:
        """Count one cycle in the second in which it began; one that is older than all that is kept is left out."""
        second = record.started_ns // 1_000_000_000
        self._advance(second)
        if second <= self._last_second - SECONDS_KEPT:
            return
        ms = np.maximum(record.inclusive_ms, SMALLEST_MS)
        buckets = np.minimum(BUCKETS - 1, (np.log10(ms / SMALLEST_MS) * BUCKETS_A_DECADE).astype(np.int64))
        ran = record.inclusive_ms > 0.0
        row = self._counts[int(record.numpy_kernels > 0), second % SECONDS_KEPT]
        cells = (self._spans[ran], buckets[ran])
        row[cells] = np.minimum(COUNT_MAX, row[cells].astype(np.int64) + 1).astype(np.uint8)

    def _advance(self, second: int) -> None:
        """Empty the rows of the seconds that begin."""
        for fresh in range(max(self._last_second + 1, second - SECONDS_KEPT + 1), second + 1):
            self._counts[:, fresh % SECONDS_KEPT] = 0
        self._last_second = max(self._last_second, second)

    def of(self, span: str) -> SpanHeat:
        """A copy of one span's seconds. Raises KeyError for a name that is no span."""
        if span not in NAMES:
            raise KeyError(span)
        order = (np.arange(SECONDS_KEPT) + self._last_second + 1) % SECONDS_KEPT
        compiled, in_numpy = self._counts
        counts = (compiled if compiled.any() else in_numpy)[order, NAMES.index(span)]
        counts.flags.writeable = False
        return SpanHeat(span, self._last_second, counts)
