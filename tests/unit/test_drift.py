"""Drift: a lasting shift of the median is told, a spell, a switch and noise are not."""

from __future__ import annotations

import asyncio
import io
import time
from collections import deque
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from core.commands.watch import watch
from core.drift import IN_A_ROW, WINDOW_CYCLES, DriftTracker
from core.experiment import WARM_UP_CYCLES
from core.records import CycleRecord, Severity
from core.session import SessionError
from core.spans import INDEX
from core.toggles import OPTIMISED
from tests.recorded_noise import recorded_ms
from tests.running_session import session_that_runs
from tests.tui.fixtures import FakeSession
from tui.alerts import alerts

FIRST = WARM_UP_CYCLES + WINDOW_CYCLES
TEMPLATE = FakeSession(seed=1, cycles=30).cycles[0]


def cycles_of(wall_ms: np.ndarray, first: int = 1, **fields: object) -> list[CycleRecord]:
    """A cycle a time, all of it in consensus."""
    found = []
    for k, ms in enumerate(wall_ms.tolist()):
        own = np.zeros_like(TEMPLATE.exclusive_ms)
        own[INDEX["quic_consensus"]] = ms
        record = replace(TEMPLATE, cycle=first + k, wall_ms=ms, exclusive_ms=own, untimed_ms=0.0, toggles=OPTIMISED)
        found.append(replace(record, **fields))
    return found


def noise(count: int, seed: int = 1) -> np.ndarray:
    return 10.0 * np.exp(0.1 * np.random.default_rng(seed).normal(size=count))


def test_a_lasting_shift_is_a_drift_after_two_windows():
    wall = noise(FIRST + 4 * WINDOW_CYCLES)
    wall[FIRST + WINDOW_CYCLES :] *= 1.25
    tracker = DriftTracker()
    said = []
    for record in cycles_of(wall):
        look = tracker.update([record])
        if look is not None and (not said or said[-1] is not look):
            said.append(look)
    assert [look.drifting for look in said] == [False, False, True, True]
    last = said[-1]
    assert last.shift.low < 1.25 < last.shift.high
    assert last.moved[0][0] == "quic_consensus"
    assert "cycle time +2" in last.text


def test_getting_faster_is_a_drift_too():
    wall = noise(FIRST + IN_A_ROW * WINDOW_CYCLES)
    wall[FIRST:] *= 0.7
    look = DriftTracker().update(cycles_of(wall))
    assert look is not None
    assert look.drifting
    assert look.shift.high < 1.0
    assert look.moved[0][1] < 0.0


def test_one_slow_spell_is_none():
    wall = noise(FIRST + 3 * WINDOW_CYCLES)
    wall[FIRST + WINDOW_CYCLES : FIRST + 2 * WINDOW_CYCLES] *= 1.5
    tracker, drifting = DriftTracker(), []
    for record in cycles_of(wall):
        look = tracker.update([record])
        drifting.append(look is not None and look.drifting)
    assert not any(drifting)


def test_a_switch_or_another_leader_starts_it_again():
    slow = noise(FIRST + 2 * WINDOW_CYCLES) * 3.0
    for change in ({"toggles": replace(OPTIMISED, batching=False)}, {"leader": 3}):
        tracker = DriftTracker()
        tracker.update(cycles_of(noise(FIRST + WINDOW_CYCLES)))
        assert tracker.look is not None
        look = tracker.update(cycles_of(slow, first=FIRST + WINDOW_CYCLES + 1, **change))
        assert look is not None
        assert not look.drifting
        assert tracker.looks == 2


def test_noise_alone_is_seldom_called_a_drift():
    """Of 40 seeded sittings of six windows each."""
    called = 0
    for seed in range(40):
        look = DriftTracker(60, seed).update(cycles_of(noise(WARM_UP_CYCLES + 7 * 60, seed)))
        assert look is not None
        called += look.drifting
    assert called == 0


def test_forty_per_cent_slower_are_found_on_recorded_noise():
    """The recorded cycles of a busy machine, in stretches as drawn. A quarter slower is found in 14 of these 20."""
    recorded = recorded_ms()
    found = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        starts = random.integers(len(recorded) - 10, size=(FIRST + 2 * WINDOW_CYCLES) // 10 + 1)
        wall = np.concatenate([recorded[start : start + 10] for start in starts])[: FIRST + 2 * WINDOW_CYCLES].copy()
        wall[FIRST:] *= 1.40
        look = DriftTracker(seed=seed).update(cycles_of(wall))
        assert look is not None
        found += look.drifting
    assert found >= 19


def test_the_monitor_warns_while_it_drifts():
    session = FakeSession(seed=1, cycles=50)
    wall = noise(FIRST + IN_A_ROW * WINDOW_CYCLES)
    wall[FIRST:] *= 1.5
    look = DriftTracker().update(cycles_of(wall))
    snapshot = session.snapshot()
    told = [alert for alert in alerts(snapshot, snapshot.taken_ns, look) if alert.text.startswith("drift: ")]
    assert [alert.severity for alert in told] == [Severity.WARNING]
    assert "quic_consensus" in told[0].text
    assert not [alert for alert in alerts(snapshot, snapshot.taken_ns, None) if alert.text.startswith("drift")]


def test_the_end_of_computing_in_numpy_is_no_drift():
    slow = cycles_of(1.6 * noise(FIRST), numpy_kernels=8)
    look = DriftTracker().update(slow + cycles_of(noise(FIRST + 3 * WINDOW_CYCLES), first=FIRST + 1))
    assert look is not None
    assert not look.drifting
    assert abs(look.shift.ratio - 1.0) < 0.05


class Swarm:
    """Tells of the cycles that it kept from before, then of all the further ones at once."""

    def __init__(self, kept: list[CycleRecord], further: list[CycleRecord]) -> None:
        self._further = further
        self.cycles = deque(kept)
        self.closed = False

    async def connect(self) -> None: ...

    async def close(self) -> None:
        self.closed = True

    def come(self) -> None:
        self.cycles.extend(self._further)


def test_watch_begins_with_the_next_cycles_and_has_a_line_for_each_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    past = cycles_of(3.0 * noise(FIRST + 4 * WINDOW_CYCLES), started_ns=time.time_ns() - 10**12)
    wall = noise(FIRST + 3 * WINDOW_CYCLES, seed=2)
    wall[FIRST + WINDOW_CYCLES :] *= 1.5
    swarm = Swarm(past, cycles_of(wall, first=len(past) + 1, started_ns=time.time_ns() + 10**12))
    monkeypatch.setattr("core.attach.SwarmClient", lambda *_, **__: swarm)
    session = session_that_runs(tmp_path, monkeypatch)
    said = io.StringIO()

    async def work() -> int:
        asyncio.get_running_loop().call_soon(swarm.come)
        return await watch(session, WINDOW_CYCLES, 3, Console(file=said, width=200))

    code = asyncio.run(work())
    lines = [line for line in said.getvalue().splitlines() if "  cycle " in line]
    ends = [f"cycle {len(past) + FIRST + k * WINDOW_CYCLES:,} " for k in (1, 2, 3)]
    assert [end in line for end, line in zip(ends, lines, strict=True)] == [True] * 3
    assert ["steady" in line or "moved" in line for line in lines] == [True, True, False]
    assert "DRIFT" in lines[2]
    assert code == 1


def test_watch_says_so_where_the_swarm_does_not_run_or_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.commands.watch.POLL_S", 0.0)
    swarm = Swarm([], [])
    monkeypatch.setattr("core.attach.SwarmClient", lambda *_, **__: swarm)
    session = session_that_runs(tmp_path / "session", monkeypatch, looks=3)
    console = Console(file=io.StringIO(), width=200)
    with pytest.raises(SessionError, match=r"^session does not run; `tradetui attach --session .*` starts it$"):
        asyncio.run(watch(session, WINDOW_CYCLES, 0, console))
    assert swarm.closed
    said = console.file = io.StringIO()
    with pytest.raises(SessionError, match=r"^session does not run"):
        asyncio.run(watch(session, WINDOW_CYCLES, 0, console))
    assert said.getvalue() == "", "it never began"
