"""`tradetui experiment`: what it leaves behind when it is stopped, or fails on the way."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import core.commands.experiment
import core.put_back
from core.commands.experiment import run_experiments
from core.config import load_settings
from core.records import CycleRecord, SwarmSnapshot
from core.session import Session, SessionError
from core.toggles import BASELINE, Toggles, pressed
from tests.tui.fixtures import FakeSession


class Swarm:
    """A running swarm that obeys and trades a cycle each time it is looked at, until `fails_under`."""

    def __init__(self, fails_under: Toggles | None = None) -> None:
        self._session = FakeSession(seed=5, cycles=40)
        self._fails_under = fails_under
        self.asked: list[Toggles] = []
        self.kept: list[dict[str, Any]] = []
        self.phase = "running"
        self.closed = False

    async def connect(self) -> None: ...

    async def take_control(self) -> str:
        return "in control"

    async def close(self) -> None:
        self.closed = True

    @property
    def cycles(self) -> list[CycleRecord]:
        self._session.advance(4)
        return list(self._session.cycles)

    def snapshot(self) -> SwarmSnapshot:
        return self._session.snapshot()

    async def set_toggles(self, toggles: Toggles) -> str:
        assert not self.closed
        await asyncio.sleep(0)
        if toggles == self._fails_under:
            raise SessionError("no leader")
        self.asked.append(toggles)
        self._session.toggles = toggles
        return "set"

    def keep_experiment(self, values: dict[str, Any]) -> None:
        self.kept.append(values)


def attach(monkeypatch: pytest.MonkeyPatch, swarm: Swarm) -> None:
    monkeypatch.setattr(core.commands.experiment, "SwarmClient", lambda *_, **__: swarm)


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM"])
def test_a_stop_gives_the_swarm_its_toggles_back_before_the_link_closes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    swarm, said = Swarm(), io.StringIO()
    attach(monkeypatch, swarm)

    async def work() -> None:
        console = Console(file=said, width=200)
        running = asyncio.create_task(
            run_experiments(load_settings(), Session(tmp_path), ["b"], None, tmp_path / "out.json", console)
        )
        while len(swarm.asked) < 2:  # the other setting is on
            await asyncio.sleep(0)
        if how == "SIGTERM":
            os.kill(os.getpid(), signal.SIGTERM)
            with pytest.raises(SessionError, match="stopped by SIGTERM"):
                await running
            return
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        assert running.cancelled()

    asyncio.run(work())
    assert swarm.asked[-1] == BASELINE
    assert swarm.closed
    assert f"b: stopped; the swarm runs under {BASELINE.label()} again" in said.getvalue()
    assert not (tmp_path / "out.json").exists()


def test_what_was_finished_before_a_failure_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    swarm = Swarm(fails_under=pressed(BASELINE, "m"))
    attach(monkeypatch, swarm)
    out = tmp_path / "out.json"
    with pytest.raises(SessionError, match="no leader"):
        asyncio.run(
            run_experiments(
                load_settings(), Session(tmp_path), ["b", "m"], 12, out, Console(file=io.StringIO(), width=200)
            )
        )
    (found,) = json.loads(out.read_text())["experiments"]
    assert found["keys"] == ["b"]
    assert found["replicates"] == 12


def test_results_that_cannot_be_written_leave_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    swarm, said = Swarm(), io.StringIO()
    attach(monkeypatch, swarm)
    out = tmp_path / "gone" / "out.json"  # it was there when the command was read
    with pytest.raises(SessionError, match=f"^--json {out} cannot be written: No such file or directory$"):
        asyncio.run(run_experiments(load_settings(), Session(tmp_path), ["b"], 6, out, Console(file=said, width=200)))
    assert swarm.closed
    assert "6 replicates" in said.getvalue(), "the terminal has the result"


def said_of(keys: str, replicates_max: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    attach(monkeypatch, Swarm())
    said = io.StringIO()
    console = Console(file=said, width=200)
    asyncio.run(run_experiments(load_settings(), Session(tmp_path), [keys], replicates_max, None, console))
    return [line for line in said.getvalue().splitlines() if line.strip()]


def test_the_limit_of_toggles_together_stands_beside_no_single_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = said_of("bp", 6, tmp_path, monkeypatch)
    assert [line.split(":")[0] for line in lines[1:]] == ["b", "p", "b×p", "  b p changed together"]
    assert ["expected" in line for line in lines[1:]] == [False, False, False, True]
    (single,) = said_of("b", 6, tmp_path, monkeypatch)[1:]
    assert "× expected; " in single
    assert "6 replicates" in single, "as few as there can be"


class LaggingSwarm(Swarm):
    """Obeys at once, and tells of it some looks later, as a push does."""

    def __init__(self) -> None:
        super().__init__()
        self._told: list[SwarmSnapshot] = []

    def snapshot(self) -> SwarmSnapshot:
        self._told.append(super().snapshot())
        return self._told.pop(0) if len(self._told) > 3 else self._told[0]


def test_the_next_experiment_begins_where_the_last_one_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It took its base from news that still told of the other setting: b stayed on for all that followed."""
    swarm = LaggingSwarm()
    attach(monkeypatch, swarm)
    console = Console(file=io.StringIO(), width=200)
    asyncio.run(run_experiments(load_settings(), Session(tmp_path), ["b", "s", "p"], 6, None, console))
    assert set(swarm.asked) == {BASELINE, *(pressed(BASELINE, key) for key in "bsp")}


class LeaderlessSwarm(Swarm):
    """Nobody leads when the toggles are to go back; the link says so in a plain sentence."""

    async def set_toggles(self, toggles: Toggles) -> str:
        if toggles == BASELINE and self.snapshot().toggles != BASELINE:
            return "no node leads at present; try again in a moment"
        return await super().set_toggles(toggles)


def test_a_swarm_that_does_not_go_back_is_told_of_with_its_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core.put_back, "PUT_BACK_S", 0.05)
    attach(monkeypatch, LeaderlessSwarm())
    said = io.StringIO()
    with pytest.raises(SessionError, match="the next experiment would begin with the setting that this one left"):
        asyncio.run(
            run_experiments(load_settings(), Session(tmp_path), ["b", "s"], 6, None, Console(file=said, width=1_000))
        )
    assert f"b: the swarm does not say that it went back to {BASELINE.label()}" in said.getvalue()
    assert "its last answer: no node leads at present" in said.getvalue()
