"""What an experiment leaves behind: the setting that it found, who is told if not, and the captions it ran under."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

import core.put_back
from core.experiment_log import with_captions
from core.experiment_run import run_experiment
from core.factorial import pair_design
from core.interleaved import STRAY_CYCLES_MAX, InterleavedExperiment
from core.put_back import put_back
from core.records import CycleRecord, SwarmSnapshot
from core.session import SessionError
from core.toggles import BASELINE, OPTIMISED, Toggles
from tests.tui.fixtures import FakeSession, empty_snapshot


class SlowSwarm:
    """Takes its time to obey."""

    cycles: Sequence[CycleRecord] = ()

    def __init__(self) -> None:
        self.toggles = BASELINE
        self.asked: list[Toggles] = []
        self.leader: int | None = 0

    def snapshot(self) -> SwarmSnapshot:
        return replace(empty_snapshot(), toggles=self.toggles, leader=self.leader)

    async def set_toggles(self, toggles: Toggles) -> str:
        self.asked.append(toggles)
        await asyncio.sleep(0.02)
        self.toggles = toggles
        return "taken"


class LeaderlessSwarm(SlowSwarm):
    """Answers `refusals` times that nobody leads, in a sentence as the link does, or by raising; then it obeys."""

    def __init__(self, refusals: int, error: Exception | None = None) -> None:
        super().__init__()
        self.refusals, self.error = refusals, error

    async def set_toggles(self, toggles: Toggles) -> str:
        if len(self.asked) >= self.refusals:
            return await super().set_toggles(toggles)
        self.asked.append(toggles)
        if self.error is not None:
            raise self.error
        return "no node leads at present; try again in a moment"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core.put_back, "PUT_BACK_S", 0.1)
    monkeypatch.setattr(core.put_back, "ASK_AGAIN_S", 0.01)
    monkeypatch.setattr(core.put_back, "POLL_S", 0.005)


def test_whoever_cancels_again_and_again_waits_until_the_old_toggles_are_back() -> None:
    async def work() -> None:
        swarm, told = SlowSwarm(), list[str]()
        experiment = InterleavedExperiment(pair_design(OPTIMISED, BASELINE))
        running = asyncio.create_task(run_experiment(swarm, experiment, told.append, 0.0))
        while swarm.toggles != OPTIMISED:
            await asyncio.sleep(0)
        swarm.toggles = BASELINE
        running.cancel()
        while len(swarm.asked) < 2:
            await asyncio.sleep(0)
        for _ in range(3):
            running.cancel()
            await asyncio.sleep(0)
        assert not running.done()
        await asyncio.gather(running, return_exceptions=True)
        assert running.cancelled()
        assert swarm.toggles == OPTIMISED
        assert told == []

    asyncio.run(work())


def test_old_news_of_a_swarm_without_a_leader_is_no_word_that_it_went_back(impatient: None) -> None:
    """The change may be in the log, and take effect once somebody leads."""
    swarm, told = SlowSwarm(), list[str]()
    swarm.leader, swarm.toggles = None, OPTIMISED
    asyncio.run(put_back(swarm, OPTIMISED, told.append))
    assert len(told) == 1


@pytest.mark.parametrize("error", [None, SessionError("node 2 is in control"), KeyError("epoch")])
def test_a_swarm_that_does_not_take_the_way_back_at_once_is_asked_again(
    error: Exception | None, impatient: None
) -> None:
    swarm, told = LeaderlessSwarm(3, error), list[str]()
    asyncio.run(put_back(swarm, OPTIMISED, told.append))
    assert swarm.toggles == OPTIMISED
    assert swarm.asked == [OPTIMISED] * 4
    assert told == []


def test_a_swarm_that_does_not_go_back_is_told_of_with_its_last_answer(impatient: None) -> None:
    async def work() -> list[str]:
        told: list[str] = []
        swarm = LeaderlessSwarm(10_000)
        experiment = InterleavedExperiment(pair_design(OPTIMISED, BASELINE))
        running = asyncio.create_task(run_experiment(swarm, experiment, told.append, 0.0))
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return told

    (sentence,) = asyncio.run(work())
    assert f"does not say that it went back to {OPTIMISED.label()}" in sentence
    assert "no node leads at present" in sentence


def test_the_reason_of_a_refused_switch_is_told_with_the_cycles_that_ran_under_other_toggles() -> None:
    session = FakeSession(seed=2, cycles=STRAY_CYCLES_MAX + 1)
    experiment = InterleavedExperiment(pair_design(OPTIMISED, BASELINE))
    experiment.answered("refused: the switch is signed for another epoch")
    for record in session.cycles:
        experiment.observe(record)
    assert "cycles ran under other toggles" in experiment.failure
    assert "refused: the switch is signed for another epoch" in experiment.failure


def test_a_fault_that_was_over_before_the_end_stays_named() -> None:
    known = with_captions(("venue latency 0 ms",), ("venue latency 0 ms", "fault: node 2 sends 20 ms late"))
    assert with_captions(known, ("venue latency 0 ms",)) == ("venue latency 0 ms", "fault: node 2 sends 20 ms late")
