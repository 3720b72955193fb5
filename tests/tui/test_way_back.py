"""The toggles that an experiment or a pair of profiles changed: put back when a person leaves, and told where not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

import core.put_back
import tui.experiment_actions
from core.profile_pair import PairDiff
from core.put_back import put_back
from core.toggles import BASELINE, OPTIMISED, Toggles, pressed
from tests.tui.fixtures import FakeClient, FakeSession
from tests.tui.test_monitor import SIZES, settle
from tests.tui.test_screens import play
from tui.app import MonitorApp
from tui.experiment_dialog import ExperimentDialog


class Swarm(FakeClient):
    """Obeys when it is let, or, once `answer` is set, not at all; answers a key when it is let."""

    def __init__(self) -> None:
        super().__init__(FakeSession(seed=11, cycles=120))
        self.answer = ""
        self.may_obey, self.may_answer = asyncio.Event(), asyncio.Event()
        self.may_obey.set()
        self.may_answer.set()

    async def set_toggles(self, toggles: Toggles) -> str:
        await self.may_obey.wait()
        return self.answer or await super().set_toggles(toggles)

    async def press(self, key: str) -> str:
        sentence = await super().press(key)
        await self.may_answer.wait()
        return sentence

    async def export_pair(
        self,
        directory: Path,
        svg: str,
        seconds: float,
        first: Toggles,
        second: Toggles,
        tell: Callable[[str], None],
    ) -> tuple[Path, PairDiff]:
        before = self.snapshot().toggles
        await self.set_toggles(second)
        try:
            await forever()
        finally:
            await put_back(self, before, tell)


async def forever() -> NoReturn:
    await asyncio.Event().wait()
    raise AssertionError


def monitor() -> tuple[MonitorApp, Swarm]:
    client = Swarm()
    assert client.session is not None
    session = client.session
    return MonitorApp(client, Path("profiles"), clock_ns=lambda: session.now_ns, tick_s=0.0), client


async def start(app: MonitorApp, client: Swarm, pilot, keys: tuple[str, ...]) -> None:
    """Press `keys`, and wait until the swarm runs under other toggles than the baseline."""
    await settle(app, pilot)
    if keys[0] == "2":
        play(app, client, ("b",))
        await pilot.press("2")
        await settle(app, pilot)
    await pilot.press(*keys)
    while client.session.toggles == BASELINE:
        client.session.advance(6)
        await pilot.pause(0.02)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core.put_back, "PUT_BACK_S", 0.1)
    monkeypatch.setattr(core.put_back, "ASK_AGAIN_S", 0.05)


EXPERIMENT, PAIR = ("a", "b", "enter"), ("2", "e")


@pytest.mark.parametrize("keys", [EXPERIMENT, PAIR], ids=["experiment", "pair"])
def test_who_leaves_waits_until_the_toggles_are_back(keys):
    async def session():
        app, client = monitor()
        async with app.run_test(size=SIZES[1]) as pilot:
            await start(app, client, pilot, keys)
            client.may_obey.clear()
            app.exit(False)
        assert client.session.toggles != BASELINE
        assert app.unsettled
        asyncio.get_running_loop().call_later(0.1, client.may_obey.set)
        assert await app.settle() == []
        assert client.session.toggles == BASELINE
        assert not app.unsettled

    asyncio.run(session())


@pytest.mark.parametrize("keys", [EXPERIMENT, PAIR], ids=["experiment", "pair"])
def test_who_leaves_is_told_where_the_toggles_are_not_back(keys, impatient):
    async def session():
        app, client = monitor()
        async with app.run_test(size=SIZES[1]) as pilot:
            await start(app, client, pilot, keys)
            client.answer = "no node leads at present"
            app.exit(False)
        (sentence,) = await app.settle()
        assert f"went back to {BASELINE.label()}" in sentence
        assert "no node leads at present" in sentence

    asyncio.run(session())


def test_who_leaves_waits_no_longer_than_is_sensible(monkeypatch):
    monkeypatch.setattr(tui.experiment_actions, "SETTLE_S", 0.05)

    async def session():
        app, client = monitor()
        async with app.run_test(size=SIZES[1]) as pilot:
            await start(app, client, pilot, EXPERIMENT)
            client.answer = "no node leads at present"
            app.exit(False)
        (sentence,) = await app.settle()
        assert "has not gone back to the toggles" in sentence

    asyncio.run(session())


def test_an_experiment_that_cannot_put_the_toggles_back_says_so_on_the_screen(impatient):
    async def session():
        app, client = monitor()
        async with app.run_test(size=SIZES[1], notifications=True) as pilot:
            await start(app, client, pilot, EXPERIMENT)
            client.answer = "no node leads at present"
            await pilot.press("a")
            while app._experiments.running is not None:
                await pilot.pause(0.02)
            assert "other toggles than before" in await settle(app, pilot)
            (told,) = (each.message for each in app._notifications if each.title == "other toggles than before")
            assert "no node leads at present" in told
            assert await app.settle() == [], "told once"

    asyncio.run(session())


def test_no_experiment_begins_before_the_key_that_was_pressed_before_it_has_come():
    async def session():
        app, client = monitor()
        async with app.run_test(size=SIZES[1]) as pilot:
            await settle(app, pilot)
            client.freeze_snapshot()  # news come later than the key takes
            client.may_answer.clear()
            await pilot.press("p", "a")
            assert "nothing is compared yet: p has no answer yet" in await settle(app, pilot)
            client.may_answer.set()
            await settle(app, pilot)
            await pilot.press("a")
            assert "the swarm has not told yet what the last key brought" in await settle(app, pilot)
            client.fixed = None
            client.session.advance(10)
            await settle(app, pilot)
            await pilot.press("a")
            assert isinstance(app.screen, ExperimentDialog)
            await pilot.press("b", "enter")
            await settle(app, pilot)
            assert app._experiments.running is not None
            assert app._experiments.running.experiment.design.cells[0] == pressed(BASELINE, "p")
            await app.settle()

    asyncio.run(session())


def test_no_pair_is_profiled_while_a_key_has_no_answer():
    async def session():
        app, client = monitor()
        async with app.run_test(size=SIZES[1]) as pilot:
            await settle(app, pilot)
            play(app, client, ("b",))
            await pilot.press("2")
            await settle(app, pilot)
            client.may_answer.clear()
            await pilot.press("9", "e")
            assert "nothing is profiled yet: 9 has no answer yet" in await settle(app, pilot)
            client.may_answer.set()
            await settle(app, pilot)
            assert client.session.toggles == OPTIMISED

    asyncio.run(session())
