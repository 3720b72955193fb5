"""The settings screen by its keys, and the tour of a first start."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from textual import events
from textual.widgets import Input

from core.config import load_settings
from tests.tui.fixtures import FakeClient, FakeSession
from tests.tui.test_monitor import SIZES, screen_text, settle
from tui.app import MonitorApp
from tui.settings_screen import SettingsScreen
from tui.tour import TourScreen, is_first_start


def monitor(path: Path, tour: bool = False) -> tuple[MonitorApp, FakeClient]:
    session = FakeSession(seed=11, cycles=60)
    client = FakeClient(session)
    client.fixed = replace(session.snapshot(), settings=load_settings(nodes=7).model_dump())
    app = MonitorApp(client, Path("profiles"), lambda: session.now_ns, 0.0, config_file=path, tour=tour)
    return app, client


@pytest.mark.parametrize("size", SIZES)
def test_a_setting_is_explained_checked_changed_and_written(size, tmp_path):
    path = tmp_path / "swarm.toml"
    path.write_text("# mine\nnodes = 5 # five\n")

    async def session():
        app, client = monitor(path)
        async with app.run_test(size=size, notifications=True) as pilot:
            await settle(app, pilot)
            await pilot.press("S")
            await pilot.pause()
            text = screen_text(app)
            assert "nodes" in text
            assert "runs with 7" in text
            assert "Byzantine consensus tolerates one traitor" in text
            await pilot.press("enter", "end", "backspace", "3", "enter")
            await pilot.pause()
            assert "nodes = '3'" in screen_text(app), "refused, and said why"
            await pilot.press("backspace", "9", "enter")
            await pilot.pause()
            assert "1 changed, not written yet" in screen_text(app)
            assert path.read_text() == "# mine\nnodes = 5 # five\n"
            await pilot.press("down", "down", "down", "enter", *"12", "enter")
            await pilot.press("ctrl+s")
            text = await settle(app, pilot)
            assert not isinstance(app.screen, SettingsScreen)
            assert "written" in text
            assert client.pressed == [], "no key of the value reached the swarm"

    asyncio.run(session())
    settings = load_settings(path)
    assert (settings.nodes, settings.cycles) == (9, 12)
    assert path.read_text().startswith("# mine\nnodes = 9 # five\n")


def test_escape_leaves_the_value_and_then_the_screen_and_nothing_is_written(tmp_path):
    path = tmp_path / "swarm.toml"

    async def session():
        app, _ = monitor(path)
        async with app.run_test(size=SIZES[1]) as pilot:
            await settle(app, pilot)
            await pilot.press("S", "ctrl+s")
            await pilot.pause()
            assert "nothing has changed" in screen_text(app)
            await pilot.press("enter", "8", "escape")
            assert isinstance(app.screen, SettingsScreen)
            await pilot.press("escape")
            await pilot.pause()
            assert not isinstance(app.screen, SettingsScreen)

    asyncio.run(session())
    assert not path.exists()


def test_what_is_being_typed_is_written_too_and_stays_where_it_is_not_valid(tmp_path):
    path = tmp_path / "swarm.toml"
    path.write_text("nodes = 5\n")

    async def session():
        app, _ = monitor(path)
        async with app.run_test(size=SIZES[1]) as pilot:
            await settle(app, pilot)
            await pilot.press("S", "enter", "end", "backspace", "3", "ctrl+s")
            await pilot.pause()
            assert "nodes = '3'" in screen_text(app)
            assert app.screen.query_one(Input).has_focus
            assert path.read_text() == "nodes = 5\n"
            await pilot.press("backspace", "9", "ctrl+s")
            await settle(app, pilot)
            assert not isinstance(app.screen, SettingsScreen)

    asyncio.run(session())
    assert path.read_text() == "nodes = 9\n"


def test_a_change_that_the_environment_overrides_is_named(tmp_path, monkeypatch):
    path = tmp_path / "swarm.toml"
    monkeypatch.setenv("TRADETUI_NODES", "6")

    async def session():
        app, _ = monitor(path)
        async with app.run_test(size=SIZES[1], notifications=True) as pilot:
            await settle(app, pilot)
            await pilot.press("S", "enter", "end", "backspace", "8", "enter")
            await pilot.press("down", "down", "down", "enter", *"12", "ctrl+s")
            await settle(app, pilot)
            (told,) = (each.message for each in app._notifications)
            assert told.startswith("nodes, cycles written")
            assert told.endswith("but for what the environment says otherwise: TRADETUI_NODES")

    asyncio.run(session())
    assert path.read_text().count("= 8") == 1


@pytest.mark.parametrize("keys", [("S", "enter"), ("ctrl+p",)])
def test_a_capital_k_that_is_typed_pulls_no_kill_switch(keys, tmp_path):
    async def session():
        app, client = monitor(tmp_path / "swarm.toml")
        async with app.run_test(size=SIZES[1]) as pilot:
            await settle(app, pilot)
            await pilot.press(*keys)
            await pilot.press("K")
            await settle(app, pilot)
            assert app.screen.query_one(Input).value.endswith("K")
            assert client.session.trading == "active"
            await pilot.press("escape", "escape", "K")
            await settle(app, pilot)
            assert client.session.trading == "halted", "anywhere else it acts at once"

    asyncio.run(session())


def test_a_file_that_is_not_valid_is_said_to_be(tmp_path):
    path = tmp_path / "swarm.toml"
    path.write_text("nodes = 99\n")

    async def session():
        app, _ = monitor(path)
        async with app.run_test(size=SIZES[1]) as pilot:
            await settle(app, pilot)
            await pilot.press("S")
            await pilot.pause()
            assert "the file is not valid" in screen_text(app)

    asyncio.run(session())


@pytest.mark.parametrize("size", SIZES)
def test_the_tour_is_one_screen_and_any_key_closes_it(size, tmp_path):
    async def session():
        app, client = monitor(tmp_path / "x.toml", tour=True)
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            text = screen_text(app)
            assert isinstance(app.screen, TourScreen)
            assert "nothing here is made up" in text
            assert "leave; trading goes on" in text, "all of it is on the screen"
            await pilot.press("b")
            await settle(app, pilot)
            assert not isinstance(app.screen, TourScreen)
            assert client.pressed == []

    asyncio.run(session())


def test_a_second_key_that_waited_for_the_tour_leaves_the_monitor_under_it_alone(tmp_path):
    async def session():
        app, _ = monitor(tmp_path / "x.toml", tour=True)
        async with app.run_test(size=SIZES[0]) as pilot:
            await pilot.pause()
            tour = app.screen
            for key in "bs":
                tour.post_message(events.Key(key, key))
            await settle(app, pilot)
            assert not isinstance(app.screen, TourScreen)
            assert len(app.screen_stack) == 1

    asyncio.run(session())


def test_the_first_start_is_the_first_one_only(tmp_path):
    mark = tmp_path / "state" / "seen"
    assert is_first_start(mark)
    assert not is_first_start(mark)
