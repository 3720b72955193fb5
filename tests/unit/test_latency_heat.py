"""The heat of spans over time: every cycle in its second and bucket, old seconds forgotten, never more than is kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from core.latency_heat import BUCKETS, COUNT_MAX, SECONDS_KEPT, LatencyHeat, SpanHeat, bucket_ms
from core.records import CycleRecord
from core.spans import INDEX, NAMES, ROOT
from tests.tui.fixtures import FakeSession
from tui.widgets.heat import SHADES, heat_lines

RECORD = FakeSession(seed=1, cycles=1).cycles[0]


def record(second: int, ms: float, span: str = ROOT) -> CycleRecord:
    inclusive = np.zeros(len(NAMES))
    inclusive[INDEX[span]] = ms
    return replace(RECORD, started_ns=second * 1_000_000_000 + 5, inclusive_ms=inclusive)


def test_a_cycle_is_counted_in_its_second_and_bucket() -> None:
    heat = LatencyHeat()
    for ms in (1.0, 1.01, 40.0):
        heat.add(record(1_000, ms))
    heat.add(record(1_002, 0.0))
    found = heat.of(ROOT)
    assert found.last_second == 1_002
    assert found.counts[-3].sum() == 3
    assert found.counts[-2].sum() == found.counts[-1].sum() == 0, "a span that did not run does not count"
    low, high = np.flatnonzero(found.counts[-3])
    assert found.counts[-3][low] == 2
    assert bucket_ms(int(low)) <= 1.0 < bucket_ms(int(low) + 1)
    assert bucket_ms(int(high)) <= 40.0 < bucket_ms(int(high) + 1)
    assert heat.of("quic_consensus").counts.sum() == 0
    with pytest.raises(KeyError):
        heat.of("no_span")


def test_what_is_off_the_scale_is_counted_at_its_ends() -> None:
    heat = LatencyHeat()
    heat.add(record(5_000, 1e-6))
    heat.add(record(5_000, 1e9))
    assert heat.of(ROOT).counts[-1][0] == heat.of(ROOT).counts[-1][BUCKETS - 1] == 1


def test_old_seconds_go_and_late_cycles_do_not_come_back() -> None:
    heat = LatencyHeat()
    heat.add(record(1_000, 1.0))
    heat.add(record(1_000 + SECONDS_KEPT - 1, 1.0))
    assert heat.of(ROOT).counts.sum() == 2
    heat.add(record(1_000 + SECONDS_KEPT, 1.0))
    assert heat.of(ROOT).counts.sum() == 2
    heat.add(record(1_000, 1.0))
    assert heat.of(ROOT).counts.sum() == 2
    heat.add(record(9_000_000, 1.0))
    assert heat.of(ROOT).counts.sum() == 1


def test_counts_are_capped_and_a_copy_stands_still() -> None:
    heat = LatencyHeat()
    for _ in range(COUNT_MAX + 50):
        heat.add(record(1_000, 1.0))
    found = heat.of(ROOT)
    assert found.counts.max() == COUNT_MAX
    heat.add(record(1_001, 1.0))
    assert found.last_second == 1_000
    assert found.counts[-1].max() == COUNT_MAX


def test_cycles_in_numpy_are_shown_only_while_no_others_are_kept() -> None:
    heat = LatencyHeat()
    heat.add(replace(record(1_000, 40.0), numpy_kernels=9))
    assert heat.of(ROOT).counts.sum() == 1
    heat.add(record(1_001, 1.0))
    heat.add(replace(record(1_002, 40.0), numpy_kernels=9))
    found = heat.of(ROOT)
    assert found.last_second == 1_002, "the seconds go on"
    assert found.counts.sum() == 1
    (bucket,) = np.flatnonzero(found.counts[-2])
    assert bucket_ms(int(bucket)) <= 1.0 < bucket_ms(int(bucket) + 1)
    heat.add(replace(record(1_001 + SECONDS_KEPT, 40.0), numpy_kernels=9))
    assert heat.of(ROOT).counts.sum() == 2, "the compiled one is too old"


@pytest.mark.parametrize("height", [1, 2, 5, 40])
def test_lines_are_as_wide_as_asked_and_the_darkest_is_the_most(height: int) -> None:
    counts = np.zeros((SECONDS_KEPT, BUCKETS), np.uint8)
    counts[-1, 10], counts[-1, 20] = 9, 1
    lines = heat_lines(SpanHeat(ROOT, 0, counts), 30, height)
    assert len(lines) <= height
    assert all(len(cells) == 30 for _, cells in lines)
    assert lines[-1][1][-1] == SHADES[4]
    if height > 1:
        assert lines[0][1][-1] == SHADES[1], "a tenth"
