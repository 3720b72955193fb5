"""Cycles a second: right for slow cycles, and for clocks that differ."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace

import pytest

from core.records import CycleRecord
from tests.tui.fixtures import FakeSession
from tui.recent_cycles import WINDOW_MAX_S, RecentCycles

START_NS = 1_000_000_000_000


def records(count: int, wall_s: float, first: int = 1) -> list[CycleRecord]:
    """One cycle right after the other."""
    session = FakeSession(cycles=1)
    model = session.snapshot().cycles[0]
    return [
        replace(model, cycle=first + n, started_ns=START_NS + int(n * wall_s * 1e9), wall_ms=wall_s * 1e3)
        for n in range(count)
    ]


def rates(wall_s: float, *, clock_ahead_s: float = 0.0, seconds: float = 90.0, first: int = 1000) -> list[float]:
    """What a monitor shows, ten times a second, whose clock is ahead of the leader's."""
    made = records(int(seconds / wall_s), wall_s, first)
    recent, shown = RecentCycles(), []
    for tenth in range(int(seconds * 10)):
        now_ns = START_NS + tenth * 100_000_000
        known = [r for r in made if r.started_ns + r.wall_ms * 1e6 <= now_ns]
        found, span_s = recent.of(known, now_ns + int(clock_ahead_s * 1e9))
        shown.append(len(found) / span_s)
    return shown[int(len(shown) / 3) :]


@pytest.mark.parametrize("wall_s", [0.01, 0.056, 0.9, 2.2, 8.0])
def test_the_mean_rate_is_the_true_one(wall_s: float) -> None:
    assert statistics.mean(rates(wall_s)) == pytest.approx(1 / wall_s, rel=0.2)
    assert min(rates(wall_s)) > 0.0


@pytest.mark.parametrize("clock_ahead_s", [-20.0, -6.0, 1.0, 20.0])
def test_the_clocks_may_differ(clock_ahead_s: float) -> None:
    assert rates(0.056, clock_ahead_s=clock_ahead_s) == pytest.approx(rates(0.056))


def test_a_swarm_that_stopped_has_no_rate() -> None:
    made, recent = records(100, 0.05, first=7), RecentCycles()
    recent.of(made, START_NS)
    found, span_s = recent.of(made, START_NS + int(4e9))
    assert 0.0 < len(found) / span_s < 10.0
    found, _ = recent.of(made, START_NS + int((WINDOW_MAX_S + 1) * 1e9))
    assert found == []


def test_a_young_session_is_not_as_old_as_the_window() -> None:
    found, span_s = RecentCycles().of(records(10, 0.1), START_NS)
    assert len(found) == 10
    assert math.isclose(span_s, 1.0)
    assert RecentCycles().of([], START_NS)[0] == []
