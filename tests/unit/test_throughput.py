"""The rate of cycles that benches compare."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.bench.throughput import block_means, rate_between
from core.session import SessionError
from core.toggles import Toggles
from tests.unit.test_interleaved import record

MS = 1_000_000


def test_a_rate_is_of_what_began_in_the_time_and_not_of_how_the_time_was_cut() -> None:
    cycles = [replace(record(k, 20.0, Toggles()), started_ns=k * 25 * MS) for k in range(1, 201)]
    for began_ms, ended_ms in ((0, 1_000), (3, 1_021), (999, 3_456)):
        assert rate_between(cycles, began_ms * MS, ended_ms * MS) == pytest.approx(40.0)
    assert rate_between(reversed(cycles), 0, 900 * MS) == pytest.approx(40.0), "a former leader's come behind"


def test_a_steady_drift_falls_on_both_sides_of_a_block_alike() -> None:
    """Without, with, with, without: 40, 38, 36, 34 and so on."""
    assert block_means([40.0, 34.0, 32.0, 26.0]) == block_means([38.0, 36.0, 30.0, 28.0]) == [37.0, 29.0]


def test_of_one_cycle_there_is_no_rate() -> None:
    cycles = [replace(record(1, 20.0, Toggles()), started_ns=5 * MS)]
    with pytest.raises(SessionError, match="1 cycles in 1"):
        rate_between(cycles, 0, 1_000 * MS)
