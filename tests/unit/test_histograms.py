"""HDR histograms: merged over nodes by counts, within 1 % of the exact percentiles, apart by setting."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from core.histograms import SETTINGS_KEPT, SPANS, SpanHistograms
from core.toggles import BASELINE, OPTIMISED
from tests.tui.fixtures import FakeSession


def test_merged_percentiles_are_those_of_all_cycles_together():
    records = list(FakeSession(seed=4, cycles=900).cycles)
    # The second node is ten times as slow: the mean of two medians would be far from the median of all.
    slow = [replace(r, leader=1, inclusive_ms=r.inclusive_ms * 10.0) for r in records[:300]]
    histograms = SpanHistograms()
    for record in [*records, *slow]:
        histograms.add(record)
    cycles, found = histograms.merged(BASELINE)
    assert cycles == 1200
    values = np.array([[*r.inclusive_ms, r.untimed_ms] for r in [*records, *slow]])
    for k, name in enumerate(SPANS):
        exact = np.percentile(values[:, k], (50, 90, 99, 99.9, 100), method="inverted_cdf")
        got = found[name]
        measured = (got.p50_ms, got.p90_ms, got.p99_ms, got.p999_ms, got.max_ms)
        assert measured == pytest.approx(exact, rel=0.012, abs=0.002), name


def test_settings_are_apart_and_bounded():
    histograms = SpanHistograms()
    (record,) = FakeSession(seed=4, cycles=1).cycles
    assert histograms.merged(OPTIMISED) == (0, {})
    for n in range(SETTINGS_KEPT + 3):
        toggles = replace(BASELINE, batching=bool(n & 1), zero_rtt=bool(n & 2), parallel_orders=bool(n & 4))
        histograms.add(replace(record, toggles=replace(toggles, async_confirmation=bool(n & 8))))
    assert histograms.merged(BASELINE) == (0, {}), "the one that ran longest ago went"
    assert len(histograms._by_setting) == SETTINGS_KEPT


def test_cycles_in_numpy_count_only_while_there_are_no_others():
    compiled = list(FakeSession(seed=4, cycles=40).cycles)
    in_numpy = [replace(r, numpy_kernels=9, inclusive_ms=r.inclusive_ms * 50.0) for r in compiled]
    mixed, clean, uncompiled = SpanHistograms(), SpanHistograms(), SpanHistograms()
    for record in in_numpy[:20]:
        mixed.add(record)
        uncompiled.add(record)
    assert mixed.merged(BASELINE)[0] == 20
    assert mixed.merged(BASELINE) == uncompiled.merged(BASELINE)
    for record in compiled:
        mixed.add(record)
        clean.add(record)
    for record in in_numpy[20:]:
        mixed.add(record)
    assert mixed.merged(BASELINE) == clean.merged(BASELINE)
