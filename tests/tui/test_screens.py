"""Every screen at three sizes against its stored text, and the keys that lead to them and through an experiment.

`UPDATE_SNAPSHOTS=1 pytest tests/tui/test_screens.py` writes the texts anew; look at what changed before keeping it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from core.interleaved import InterleavedExperiment
from core.records import InControl
from core.toggles import BASELINE, Consensus, Toggles
from tests.tui.fixtures import FakeClient, FakeSession
from tests.tui.test_monitor import SIZES, screen_text, settle
from tui.app import MonitorApp
from tui.experiment_dialog import ExperimentDialog
from tui.fault_dialog import FaultDialog
from tui.history import KEPT, ViewHistory
from tui.screens import KEY_OF_SCREEN
from tui.view import COUNTED_AT_ONCE, ViewBuilder

SNAPSHOTS = Path(__file__).with_name("snapshots")


@pytest.fixture(autouse=True)
def _utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def monitor(cycles: int = 120) -> tuple[MonitorApp, FakeClient]:
    session = FakeSession(seed=11, cycles=cycles)
    client = FakeClient(session)
    return MonitorApp(client, Path("profiles"), clock_ns=lambda: session.now_ns, tick_s=0.0), client


def play(app: MonitorApp, client: FakeClient, keys: tuple[str, ...]) -> InterleavedExperiment:
    """Run an experiment on the invented session, to its end, without waiting for a clock."""
    session = client.session
    experiment = app._experiments.start(app._live, keys, session.now_ns).experiment
    while not experiment.finished:
        session.toggles = experiment.wanted
        session.advance(1)
        experiment.observe(session.cycles[-1])
    session.toggles = experiment.design.cells[0]
    app._experiments.end(session.now_ns)
    return experiment


@pytest.mark.parametrize("size", SIZES)
def test_every_screen_is_as_it_was_looked_at(size):
    async def session():
        app, client = monitor()
        async with app.run_test(size=size) as pilot:
            await settle(app, pilot)
            for keys in (("b", "p"), ("b",)):
                play(app, client, keys)
            client.session.advance(220)
            await settle(app, pilot)
            return {mode: await show(app, pilot, key) for mode, key in KEY_OF_SCREEN.items()}

    async def show(app, pilot, key):
        await pilot.press(key)
        return await settle(app, pilot)

    for mode, text in asyncio.run(session()).items():
        is_as_stored(mode, size, text)


def test_what_a_byzantine_leader_knows_of_its_peers_is_old_and_is_not_drawn_as_missing():
    async def swarm(toggles: Toggles) -> list[str]:
        app, client = monitor()
        client.session.toggles = toggles
        client.session.advance(1)
        async with app.run_test(size=(120, 40)) as pilot:
            await settle(app, pilot)
            await pilot.press(KEY_OF_SCREEN["swarm"])
            return (await settle(app, pilot)).split("\n")

    rows = [line for line in asyncio.run(swarm(BASELINE)) if "by its last beat" in line]
    assert len(rows) == 3
    assert not any("█" in row or "·" in row for row in rows)
    rows = [line for line in asyncio.run(swarm(replace(BASELINE, consensus=Consensus.RAFT))) if " matched " in line]
    assert len(rows) == 3
    assert all("█" in row for row in rows)
    assert "·" in rows[2]


def is_as_stored(name: str, size: tuple[int, int], text: str) -> None:
    path = SNAPSHOTS / f"{name}-{size[0]}x{size[1]}.txt"
    lines = "\n".join(line.rstrip() for line in text.split("\n")) + "\n"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        SNAPSHOTS.mkdir(exist_ok=True)
        path.write_text(lines)
    assert lines == path.read_text(), f"{path.name} has changed"


@pytest.mark.parametrize("size", SIZES)
def test_a_member_that_was_never_heard_has_its_row(size):
    async def session():
        app, client = monitor()
        client.session.unheard = {3}
        async with app.run_test(size=size) as pilot:
            first = await settle(app, pilot)
            await pilot.press(KEY_OF_SCREEN["swarm"])
            return {"monitor-unheard": first, "swarm-unheard": await settle(app, pilot)}

    for name, text in asyncio.run(session()).items():
        is_as_stored(name, size, text)


def test_an_experiment_is_chosen_run_shown_kept_and_leaves_the_toggles_as_they_were():
    async def session():
        app, client = monitor()
        before = client.session.toggles
        async with app.run_test(size=SIZES[1], notifications=True) as pilot:
            await settle(app, pilot)
            await pilot.press("a")
            assert isinstance(app.screen, ExperimentDialog)
            await pilot.press("enter")
            assert isinstance(app.screen, ExperimentDialog), "nothing is chosen yet"
            await pilot.press("p", "b", "p")
            await pilot.pause()
            text = screen_text(app)
            assert "A/B" in text
            assert "quic_coordination ÷20" in text
            await pilot.press("enter")
            text = await settle(app, pilot)
            assert "experiment…" in text
            assert app.current_mode == "compare"
            await pilot.press("s")
            assert "an experiment sets the toggles" in await settle(app, pilot)
            assert client.pressed == []
            deadline = time.monotonic() + 60
            while app._experiments.running is not None:
                assert time.monotonic() < deadline
                client.session.advance(6)
                await pilot.pause(0.02)
            text = await settle(app, pilot)
            assert "Last experiment" in text
            assert "faster" in text
            assert client.session.toggles == before
            (kept,) = client.kept
            assert kept["label"] == "b batching off→on"
            assert kept["contrasts"][0]["ratio"] > 2.0
            assert len(kept["spans"]) == 30

    asyncio.run(session())


@pytest.mark.parametrize("size", SIZES[:2])
@pytest.mark.parametrize("keys", [("b",), ("9",), ("b", "p", "s")], ids="".join)
def test_an_experiment_is_told_whole_where_there_is_little_room(size, keys):
    async def session():
        app, client = monitor()
        async with app.run_test(size=size) as pilot:
            await pilot.press("2")
            said = [await settle(app, pilot)]
            running = app._experiments.start(app._live, keys, client.session.now_ns)
            said.append(await settle(app, pilot))
            running.experiment.give_up("stopped by hand")
            app._experiments.end(client.session.now_ns)
            said.append(await settle(app, pilot))
            play(app, client, keys)
            said.append(await settle(app, pilot))
            return said

    nothing, running, ended_early, ended = (first_panel(text) for text in asyncio.run(session()))
    for text in (nothing, running, ended_early, ended):
        assert "…" not in text
    assert "cannot tell" in nothing
    assert "stop it" in running
    assert "ended early: stopped by hand" in ended_early
    assert "what-if at most" in ended
    assert "quic_coordination ÷20" in ended or ("assumptions" in ended and keys != ("b",))


def first_panel(text: str) -> str:
    """What stands in the panel at the upper left, its lines joined."""
    rows = text.split("\n")[1:]
    width = rows[0].index("╮")
    inside = itertools.takewhile(lambda row: row[0] == "│", (row[:width] for row in rows[1:]))
    return " ".join(" ".join(row.strip("│ ") for row in inside).split())


def test_a_stops_an_experiment_and_puts_the_toggles_back():
    async def session():
        app, client = monitor()
        before = client.session.toggles
        async with app.run_test(size=SIZES[0], notifications=True) as pilot:
            await settle(app, pilot)
            await pilot.press("a", "d", "enter")
            for _ in range(30):
                client.session.advance(5)
                await pilot.pause(0.02)
            await pilot.press("a")
            await pilot.pause(0.1)
            text = await settle(app, pilot)
            assert "stopped by hand" in text
            assert client.session.toggles == before
            assert app._experiments.running is None
            assert client.kept[0]["failure"] == "stopped by hand"

    asyncio.run(session())


def test_a_click_on_the_key_bar_goes_through_the_screens():
    async def session():
        app, _ = monitor()
        async with app.run_test(size=SIZES[0]) as pilot:
            await settle(app, pilot)
            seen = [app.current_mode]
            for _ in KEY_OF_SCREEN:
                await pilot.click(offset=(2, SIZES[0][1] - 1))
                await settle(app, pilot)
                seen.append(app.current_mode)
            assert seen == [*KEY_OF_SCREEN, "monitor"]

    asyncio.run(session())


def test_looking_back_over_the_sitting_and_returning():
    async def session():
        app, client = monitor(cycles=10)
        async with app.run_test(size=SIZES[1]) as pilot:
            steps = re.findall(r"step ([\d,]+)", await settle(app, pilot))[:1]
            for _ in range(12):
                client.session.advance(40)
                text = await settle(app, pilot)
                steps.append(re.findall(r"step ([\d,]+)", text)[0])
            await pilot.press("left", "left", "left")
            text = await settle(app, pilot)
            assert "FROZEN" in text
            assert f"step {steps[-3]}" in text
            await pilot.press("home")
            assert f"step {steps[0]}" in await settle(app, pilot)
            await pilot.press("right")
            assert f"step {steps[1]}" in await settle(app, pilot)
            client.session.advance(40)
            assert f"step {steps[1]}" in await settle(app, pilot), "the past stands still"
            await pilot.press("end")
            assert "FROZEN" not in await settle(app, pilot)

    asyncio.run(session())


def test_the_history_of_a_long_sitting_is_bounded_and_reaches_its_start():
    session = FakeSession(seed=1, cycles=5)
    builder, history = ViewBuilder(), ViewHistory()
    first = builder.build(session.snapshot(), session.now_ns)
    for second in range(3 * KEPT):
        history.add(replace(first, now_ns=session.now_ns + second * 1_000_000_000))
    assert len(history) <= KEPT
    assert history.at(0).now_ns == session.now_ns
    assert history.at(len(history) - 1).now_ns == session.now_ns + (3 * KEPT - 1) * 1_000_000_000
    assert len(history.at(0).snapshot.cycles) == 1


def test_between_ticks_of_the_table_it_stands_unless_a_key_or_other_toggles_ask_for_it():
    session, builder = FakeSession(seed=1, cycles=5), ViewBuilder()

    def cycles_in_table(at_once: bool = False) -> int:
        session.advance(1)
        return builder.build(session.snapshot(), session.now_ns, at_once=at_once).table.cycles

    assert [cycles_in_table() for _ in range(4)] == [6, 6, 8, 8]
    assert [cycles_in_table(at_once=True) for _ in range(2)] == [10, 11]
    assert cycles_in_table() == 11
    session.press("b")
    assert cycles_in_table() == 1


def test_percentiles_are_of_every_cycle_whenever_they_are_first_shown():
    session, builder = FakeSession(seed=1), ViewBuilder()
    for _ in range(COUNTED_AT_ONCE + 20):
        session.advance(1)
        builder.build(session.snapshot(), session.now_ns)
    view = builder.build(session.snapshot(), session.now_ns, with_percentiles=True)
    assert view.histogram_cycles == COUNTED_AT_ONCE + 20
    assert view.heat is not None


def test_a_fault_from_the_keyboard_is_named_while_it_is_on():
    async def session():
        app, client = monitor()
        async with app.run_test(size=SIZES[0], notifications=True) as pilot:
            await settle(app, pilot)
            await pilot.press("k", "c")
            assert isinstance(app.screen, FaultDialog), "no node is chosen yet"
            await pilot.press("7", "3")
            await pilot.pause()
            assert "● 3" in " ".join(screen_text(app).split()).replace("●  3", "● 3")
            await pilot.press("c")
            text = await settle(app, pilot)
            assert client.faults == [(3, "cut off")]
            assert "node 3 is cut off" in text.split("\n")[0]
            assert "fault: node 3 is cut off" in text.split("\n")[-2]
            await pilot.press("k", "1", "k")
            await settle(app, pilot)
            assert client.faults[-1] == (1, "kill")
            client.fault_error = RuntimeError("no such process")
            await pilot.press("k", "0", "p")
            assert "no such process" in await settle(app, pilot)
            await pilot.press("k", "escape")
            await settle(app, pilot)
            assert len(client.faults) == 2

    asyncio.run(session())


@pytest.mark.parametrize("size", SIZES)
def test_who_is_in_control_is_shown_and_a_key_changes_it(size):
    async def session():
        app, client = monitor()
        async with app.run_test(size=size, notifications=True) as pilot:
            await settle(app, pilot)
            client.session.in_control = InControl(203, "operator-3", "bob@elsewhere", 1)
            assert "operator-3" in (await settle(app, pilot)).split("\n")[0]
            await pilot.press("C")
            assert "operator-0 (ann@desk) is in control" in await settle(app, pilot)
            client.session.now_ns += 6_000_000_000
            first = (await settle(app, pilot)).split("\n")[0]
            assert "operator" not in first
            assert ("in control" in first) == (size != SIZES[0]), "oneself is no news on a narrow screen"
            await pilot.press("C")
            await settle(app, pilot)
            assert client.session.in_control is None
            client.read_only = True
            await pilot.press("C")
            assert "only looks on" in await settle(app, pilot)

    asyncio.run(session())


@pytest.mark.parametrize("size", SIZES)
def test_a_profile_in_a_and_b_is_shown_by_function_and_as_a_flame(size, tmp_path, monkeypatch):
    async def session():
        app, client = monitor()
        app._export_directory = tmp_path
        async with app.run_test(size=size, notifications=True) as pilot:
            await settle(app, pilot)
            await pilot.press("5")
            await settle(app, pilot)
            app.action_show_tab("flame")
            assert "samples the leader's loop" in await settle(app, pilot)
            app.action_show_tab("heat")
            await pilot.press("2")
            play(app, client, ("b",))
            await settle(app, pilot)
            client.export_gate = asyncio.Event()
            await pilot.press("e")
            assert "profiling 4 s" in await settle(app, pilot)
            await pilot.press("s")
            assert "s was not sent: a profile is taken" in await settle(app, pilot)
            await pilot.press("a")
            assert "nothing is compared while" in await settle(app, pilot)
            assert client.pressed == []
            client.export_gate.set()
            await pilot.pause(0.2)
            await settle(app, pilot)
            app.clear_notifications()
            text = await settle(app, pilot)
            assert "_transmit quic.py:260" in text
            assert "-687.5" in text, "(180,000 - 620,000) µs over 640 decisions"
            await pilot.press("5")
            app.action_show_tab("flame")
            text = await settle(app, pilot)
            assert "Flame view of the leader at" in text
            assert "│_coordinate cycle.py:140" in text
            assert (tmp_path / "20251115-143000" / "diff.csv").exists()

    asyncio.run(session())


@pytest.mark.parametrize("size", SIZES)
def test_the_book_of_one_instrument_after_another(size):
    async def session():
        app, client = monitor()
        async with app.run_test(size=size, notifications=True) as pilot:
            await settle(app, pilot)
            await pilot.press("4")
            if size == SIZES[0]:
                assert "Book of" not in await settle(app, pilot)
                await pilot.press("tab")
            text = await settle(app, pilot)
            first, second = [row.instrument for row in client.snapshot().positions][:2]
            assert f"Book of {first}" in text
            assert "spread" in text
            assert "● 15" in text
            await pilot.press("]")
            assert f"Book of {second}" in await settle(app, pilot)
            await pilot.press("[", "[")
            last = client.snapshot().positions[-1].instrument
            assert f"Book of {last}" in await settle(app, pilot)

    asyncio.run(session())


@pytest.mark.parametrize("size", SIZES)
def test_the_latency_of_one_span_after_another_over_time(size):
    async def session():
        app, _ = monitor()
        async with app.run_test(size=size, notifications=True) as pilot:
            await settle(app, pilot)
            await pilot.press("5")
            text = await settle(app, pilot)
            assert "trading_cycle_total over time" in text
            assert "█" in text
            await pilot.press("]")
            assert "market_data_ingestion over time" in await settle(app, pilot)
            if size != SIZES[2]:
                await pilot.press("tab")
                text = await settle(app, pilot)
                assert "over time" not in text
                assert "Flame view" in text

    asyncio.run(session())


def test_a_factorial_result_tells_its_main_effects_and_a_fault_that_is_over():
    async def session():
        app, client = monitor()
        async with app.run_test(size=SIZES[1]) as pilot:
            await settle(app, pilot)
            started = app._experiments.start(app._live, ("b", "p"), client.session.now_ns)
            started.saw(("fault: node 2 sends 20 ms late",))
            experiment = started.experiment
            while not experiment.finished:
                client.session.toggles = experiment.wanted
                client.session.advance(1)
                experiment.observe(client.session.cycles[-1])
            client.session.toggles = experiment.design.cells[0]
            app._experiments.end(client.session.now_ns)
            await pilot.press("2")
            return experiment.result, await settle(app, pilot)

    result, text = asyncio.run(session())
    [row] = [line for line in text.split("\n") if "b × p   !" in line]
    for effect in result.main_effects:
        assert f"{effect.contrast.name} {effect.ratio.ratio:.2f}×" in row
    assert "fault: node 2 sends 20 ms late" in text
