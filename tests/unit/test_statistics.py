"""Percentiles and accounting of spans over cycle records."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from core.spans import INDEX, NAMES, PARENT, ROOT
from core.statistics import (
    by_toggles,
    newer_than,
    percentiles,
    round_latency_ms,
    span_summary,
    span_table,
    under,
)
from core.toggles import BASELINE, OPTIMISED
from tests.tui.fixtures import FakeSession

KEYS = {"count", "total_ms", "p50_ms", "p95_ms", "p99_ms", "inclusive_ms", "exclusive_ms", "background_ms"}


@pytest.fixture(scope="module")
def cycles():
    return FakeSession(seed=3, cycles=400).snapshot().cycles


def test_percentiles_agree_with_numpy():
    values = np.random.default_rng(1).lognormal(size=(257, 5))
    assert np.allclose(percentiles(values), np.percentile(values, (50, 95, 99), axis=0))


def test_percentiles_of_nothing_and_of_one():
    assert percentiles(np.zeros((0, 4))).shape == (3, 4)
    assert percentiles(np.array([7.0])).tolist() == [7.0, 7.0, 7.0]


def test_exclusive_and_untimed_sum_to_wall_time(cycles):
    table = span_table(cycles)
    assert sum(row.exclusive_ms for row in table.rows) == pytest.approx(table.wall_ms)
    assert sum(row.exclusive_share for row in table.rows) == pytest.approx(1.0)
    assert table.root.exclusive_ms == 0.0
    assert table.rows[-1].name == "untimed"


def test_flat_shares_count_nested_time_again(cycles):
    table = span_table(cycles)
    assert sum(row.flat_share for row in table.rows) == pytest.approx(1.0)
    consensus = table.rows[INDEX["quic_consensus"]]
    assert consensus.flat_share < consensus.inclusive_ms / table.wall_ms


def test_percentiles_are_of_inclusive_time_per_cycle(cycles):
    row = span_table(cycles).rows[INDEX["order_execution"]]
    values = [record.inclusive_ms[INDEX["order_execution"]] for record in cycles]
    assert row.p95_ms == pytest.approx(np.percentile(values, 95))
    assert row.inclusive_ms == pytest.approx(sum(values))


def test_summary_has_the_29_names_and_the_agreed_keys(cycles):
    summary = span_summary(cycles)
    assert tuple(summary) == NAMES
    assert all(set(figures) == KEYS for figures in summary.values())
    assert summary[ROOT]["total_ms"] == pytest.approx(sum(record.wall_ms for record in cycles))
    assert summary["quic_consensus"]["inclusive_ms"] == summary["quic_consensus"]["total_ms"]
    for name, parent in PARENT.items():
        assert summary[name]["inclusive_ms"] <= summary[parent]["inclusive_ms"] * (1 + 1e-9)


def test_summary_of_no_cycles_is_zeros():
    summary = span_summary([])
    assert tuple(summary) == NAMES
    assert {value for figures in summary.values() for value in figures.values()} == {0.0}


def test_under_takes_the_last_matching_records_in_order(cycles):
    mixed = [replace(record, toggles=OPTIMISED if record.cycle % 3 else BASELINE) for record in cycles]
    found = under(mixed, BASELINE, 10)
    assert [record.cycle for record in found] == [r.cycle for r in mixed if r.toggles == BASELINE][-10:]
    groups = by_toggles(mixed)
    assert sum(len(group) for group in groups.values()) == len(mixed)
    assert all(record.toggles == toggles for toggles, group in groups.items() for record in group)


def test_under_leaves_out_what_ran_in_numpy_once_there_is_more(cycles):
    early = [replace(record, toggles=BASELINE, numpy_kernels=8) for record in cycles[:20]]
    assert under(early, BASELINE, 10) == early[-10:], "nothing else to show yet"
    compiled = [replace(record, toggles=BASELINE) for record in cycles[20:25]]
    assert under([*early, *compiled], BASELINE, 10) == compiled
    again = [replace(cycles[25], toggles=BASELINE, numpy_kernels=1), replace(cycles[26], toggles=BASELINE)]
    assert under([*compiled, *again], BASELINE, 2) == [compiled[-1], again[-1]]


def test_newer_than(cycles):
    assert [record.cycle for record in newer_than(cycles, cycles[-4].cycle)] == [r.cycle for r in cycles[-3:]]
    assert newer_than(cycles, cycles[-1].cycle) == []
    assert len(newer_than(cycles, 0)) == len(cycles)


def test_round_latency_is_per_call_and_skips_cycles_without_rounds(cycles):
    index = INDEX["quic_consensus"]
    means = [r.inclusive_ms[index] / r.count[index] for r in cycles if r.count[index]]
    assert round_latency_ms(cycles, index)[0] == pytest.approx(np.median(means))
    silent = [replace(record, count=np.zeros(len(NAMES), dtype=np.int64)) for record in cycles[:5]]
    assert round_latency_ms(silent, index) == (0.0, 0.0)
