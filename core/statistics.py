"""Exact statistics over cycle records: percentiles per span, and the three ways to account for time.

*Exclusive* times sum, with `untimed`, to wall time: decide by them. *Inclusive* counts a span with its children.
*Flat-sum share* divides a span's inclusive total by the sum of all 29, as the reference profile did, and counts nested
time more than once: it is there for comparison only. No figure here mixes two toggle values; the callers see to it with
`under` or `by_toggles`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.records import CycleRecord
from core.spans import DEPTH, NAMES
from core.toggles import Toggles

PERCENTILES = (50.0, 95.0, 99.0)


@dataclass(frozen=True, slots=True)
class SpanRow:
    """One span over a set of cycles. Percentiles are of its inclusive time per cycle; totals are over all cycles."""

    name: str
    depth: int
    count: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    inclusive_ms: float
    exclusive_ms: float
    background_ms: float
    exclusive_share: float
    """Of wall time, 0 to 1; the shares of all rows of a table sum to 1."""
    flat_share: float
    """Of the flat sum of all inclusive totals, 0 to 1."""


@dataclass(frozen=True, slots=True)
class SpanTable:
    """`rows` has the 29 spans in the order of `core.spans.NAMES` and, last, `untimed`: what no span covers."""

    cycles: int
    wall_ms: float
    rows: tuple[SpanRow, ...]

    @property
    def root(self) -> SpanRow:
        return self.rows[0]

    @property
    def untimed(self) -> SpanRow:
        return self.rows[-1]


def under(cycles: Sequence[CycleRecord], toggles: Toggles, limit: int) -> list[CycleRecord]:
    """The last `limit` records that ran under `toggles`, oldest first.

    Cycles in numpy beside the compiler say nothing of a kernel: they are left out, unless there are no others yet.
    """
    found: list[CycleRecord] = []
    uncompiled: list[CycleRecord] = []
    for record in reversed(cycles):
        if len(found) == limit:
            break
        if record.toggles == toggles:
            (uncompiled if record.numpy_kernels else found).append(record)
    return (found or uncompiled[:limit])[::-1]


def newer_than(cycles: Sequence[CycleRecord], cycle: int) -> list[CycleRecord]:
    """The records whose number is above `cycle`, oldest first; costs only what it returns."""
    found: list[CycleRecord] = []
    for record in reversed(cycles):
        if record.cycle <= cycle:
            break
        found.append(record)
    found.reverse()
    return found


def by_toggles(cycles: Sequence[CycleRecord]) -> dict[Toggles, list[CycleRecord]]:
    """Records grouped by the toggles that they ran under, each group in its order, groups by first appearance."""
    groups: dict[Toggles, list[CycleRecord]] = {}
    for record in cycles:
        groups.setdefault(record.toggles, []).append(record)
    return groups


def percentiles(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """p50, p95 and p99 along axis 0 of `values` (n, ...), float64; zeros where n is 0.

    Exact, from all values, with linear interpolation between order statistics (Hyndman and Fan 1996, definition 7).
    """
    if values.shape[0] == 0:
        return np.zeros((len(PERCENTILES), *values.shape[1:]))
    ordered = np.sort(values, axis=0)
    position = np.asarray(PERCENTILES) / 100.0 * (values.shape[0] - 1)
    below = position.astype(np.int64)
    above = np.minimum(below + 1, values.shape[0] - 1)
    weight = (position - below).reshape(-1, *([1] * (values.ndim - 1)))
    return np.asarray(ordered[below] * (1.0 - weight) + ordered[above] * weight)


def _table(cycles: Sequence[CycleRecord], column: str) -> NDArray[np.float64]:
    """(n, 29) float64 of one of the records' arrays."""
    if not cycles:
        return np.zeros((0, len(NAMES)))
    return np.concatenate([getattr(record, column) for record in cycles], dtype=np.float64).reshape(len(cycles), -1)


def span_table(cycles: Sequence[CycleRecord]) -> SpanTable:
    """Every span and `untimed` over `cycles`; all figures 0 when there are none. Times in ms.

    A cycle in which a span did not run counts as 0 ms for its percentiles.
    """
    inclusive = _table(cycles, "inclusive_ms")
    wall_ms = float(sum(record.wall_ms for record in cycles))
    untimed = np.array([record.untimed_ms for record in cycles], dtype=np.float64)
    per_cycle = np.column_stack([inclusive, untimed])
    p50, p95, p99 = percentiles(per_cycle).tolist()
    totals = per_cycle.sum(axis=0).tolist()
    exclusive = [*_table(cycles, "exclusive_ms").sum(axis=0).tolist(), float(untimed.sum())]
    background = [*_table(cycles, "background_ms").sum(axis=0).tolist(), 0.0]
    count = [*_table(cycles, "count").sum(axis=0).tolist(), float(len(cycles))]
    flat_sum = float(np.sum(totals[:-1]))
    rows = tuple(
        SpanRow(
            name=name,
            depth=depth,
            count=int(count[i]),
            p50_ms=p50[i],
            p95_ms=p95[i],
            p99_ms=p99[i],
            inclusive_ms=totals[i],
            exclusive_ms=exclusive[i],
            background_ms=background[i],
            exclusive_share=exclusive[i] / wall_ms if wall_ms else 0.0,
            flat_share=totals[i] / flat_sum if flat_sum and i < len(NAMES) else 0.0,
        )
        for i, (name, depth) in enumerate(zip((*NAMES, "untimed"), (*DEPTH, 1), strict=True))
    )
    return SpanTable(cycles=len(cycles), wall_ms=wall_ms, rows=rows)


def span_summary(cycles: Sequence[CycleRecord]) -> dict[str, dict[str, float]]:
    """The `spans` object of `tradetui run --json`: each of the 29 names with its figures, times in ms.

    `total_ms` and `inclusive_ms` are the same inclusive total over all calls and cycles (the first is the reference
    profile's name for it); percentiles are of inclusive time per cycle. `untimed` is not among them: see `untimed_ms`.
    """
    return {
        row.name: {
            "count": row.count,
            "total_ms": row.inclusive_ms,
            "p50_ms": row.p50_ms,
            "p95_ms": row.p95_ms,
            "p99_ms": row.p99_ms,
            "inclusive_ms": row.inclusive_ms,
            "exclusive_ms": row.exclusive_ms,
            "background_ms": row.background_ms,
        }
        for row in span_table(cycles).rows[:-1]
    }


def round_latency_ms(cycles: Sequence[CycleRecord], consensus_index: int) -> tuple[float, float]:
    """p50 and p99 over cycles of the mean time of one consensus round: inclusive time of the span / its calls, ms.

    `consensus_index` is `core.spans.INDEX["quic_consensus"]`. Cycles without a round are left out; 0, 0 if none has.
    """
    means = [
        float(record.inclusive_ms[consensus_index]) / int(record.count[consensus_index])
        for record in cycles
        if record.count[consensus_index]
    ]
    p50, _, p99 = percentiles(np.array(means, dtype=np.float64))
    return float(p50), float(p99)
