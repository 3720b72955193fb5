"""A monkey at the keyboard, and a window that changes its size all the time: no traceback, whole lines."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from textual import events
from textual.keys import _character_to_key
from textual.widgets import OptionList

import tui.app
from tests.tui.fixtures import FakeClient, FakeSession
from tests.tui.test_monitor import screen_text
from tui.app import MonitorApp

KEYS = [
    *"bsmoxzpcd0123456789aekq?[]lrnyABC", "space", "tab", "shift+tab", "escape", "escape", "escape", "enter", "left",
    "right", "shift+left", "home", "end", "up", "down", "pageup", "pagedown", "backspace", "ctrl+p", "ctrl+c", "f1",
]  # fmt: skip


class Unleavable(MonitorApp):
    """Answers to the quit dialog are taken and do nothing: the monkey is to stay."""

    CSS_PATH = Path(tui.app.__file__).with_name("theme.tcss")
    left = 0

    def exit(self, *args: object, **options: object) -> None:
        self.left += 1


def play(presses: int, seed: int, sizes: bool) -> Unleavable:
    """So many random keys, each a tick later; with `sizes` the terminal is resized now and then."""

    async def session() -> Unleavable:
        monkey = random.Random(seed)
        swarm = FakeSession(seed=seed, cycles=40)
        client = FakeClient(swarm)
        app = Unleavable(client, Path("profiles"), clock_ns=lambda: swarm.now_ns, tick_s=0.0)
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            for _ in range(presses // 10):
                for key in monkey.choices(KEYS, k=10):
                    # As the terminal's driver does; the pilot's own press waits for the screen after each key.
                    name = _character_to_key(key) if len(key) == 1 else key
                    app.post_message(events.Key(name, key if len(key) == 1 else None))
                    await asyncio.sleep(0.002)
                if sizes:
                    await pilot.resize_terminal(monkey.randint(1, 220), monkey.randint(1, 60))
                swarm.advance(monkey.randint(0, 5))
                app.tick(at_once=monkey.random() < 0.5)
                await pilot.pause()
            assert all(len(line) == app.size.width for line in screen_text(app).split("\n"))
            for _ in range(4):
                await pilot.press("escape")
            await app.settle()
            MonitorApp.exit(app, False)
        assert app.return_value is False
        return app

    return asyncio.run(session())


@pytest.mark.parametrize("key", ["pageup", "pagedown"])
@pytest.mark.parametrize("opens", ["q", "ctrl+p"])
def test_page_keys_in_a_list_before_its_first_layout(key, opens):
    async def session():
        swarm = FakeSession(seed=1, cycles=5)
        app = MonitorApp(FakeClient(swarm), Path("profiles"), clock_ns=lambda: swarm.now_ns, tick_s=0.0)
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press(opens)
            listed = app.screen.query_one(OptionList)
            while not listed.option_count:  # the palette gathers its commands first
                await pilot.pause(0.02)
            listed.highlighted = 1
            listed.styles.max_height = 0
            await pilot.pause()
            await pilot.press(key, key)
            assert listed.highlighted == 1
            listed.styles.max_height = None
            await pilot.pause()
            await pilot.press(key)
            assert listed.highlighted != 1

    asyncio.run(session())


@pytest.mark.parametrize("opens", ["q", "ctrl+p"])
def test_an_option_list_in_a_window_of_no_width(opens):
    async def session():
        swarm = FakeSession(seed=1, cycles=5)
        app = MonitorApp(FakeClient(swarm), Path("profiles"), clock_ns=lambda: swarm.now_ns, tick_s=0.0)
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press(opens)
            while not app.screen.query_one(OptionList).option_count:
                await pilot.pause(0.02)
            for width in range(12, 0, -1):
                await pilot.resize_terminal(width, 20)
                await pilot.pause()
                assert all(len(line) == width for line in screen_text(app).split("\n"))

    asyncio.run(session())


def test_a_palette_that_is_still_closing_does_not_stop_the_next():
    async def session():
        swarm = FakeSession(seed=1, cycles=5)
        app = MonitorApp(FakeClient(swarm), Path("profiles"), clock_ns=lambda: swarm.now_ns, tick_s=0.0)
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("ctrl+p")
            app.pop_screen()
            app.action_command_palette()
            await pilot.pause()
            assert len(app.screen_stack) == 2

    asyncio.run(session())


def test_a_command_that_is_chosen_twice_at_once_closes_the_palette_once():
    async def session():
        swarm = FakeSession(seed=1, cycles=5)
        app = MonitorApp(FakeClient(swarm), Path("profiles"), clock_ns=lambda: swarm.now_ns, tick_s=0.0)
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("ctrl+p")
            palette = app.screen
            while not palette.query_one(OptionList).option_count:
                await pilot.pause(0.02)
            palette.dismiss()
            palette.dismiss()
            await pilot.pause()
            assert len(app.screen_stack) == 1

    asyncio.run(session())


def test_three_hundred_random_keys():
    play(300, seed=1, sizes=False)


def test_a_storm_of_sizes():
    play(80, seed=2, sizes=True)


@pytest.mark.prove
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(5))
def test_a_thousand_random_keys_each_of_five_monkeys(seed):
    assert play(1_000, seed=10 + seed, sizes=seed % 2 == 1).left > 0
