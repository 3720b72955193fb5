"""The monitor driven by a pilot over the invented session: every key, at three sizes, and every state of the swarm."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from textual.widget import Widget

from core.records import Accusation, EventRow, Severity, VenueState
from core.spans import NAMES
from core.toggles import FIELD_OF_KEY, OPTIMISED, TOGGLE_KEYS, pressed
from tests.tui.fixtures import FakeClient, FakeSession
from tui.app import MonitorApp
from tui.help import HelpScreen
from tui.quit_dialog import QuitDialog
from tui.settings_screen import SettingsScreen
from tui.widgets.chrome import KeyBar, StatusLine
from tui.widgets.panel import Panel
from tui.widgets.spans import SpansPanel

SIZES = ((80, 24), (120, 40), (200, 50))


def monitor(cycles: int = 120, owns_swarm: bool = True) -> tuple[MonitorApp, FakeClient]:
    session = FakeSession(seed=11, cycles=cycles)
    client = FakeClient(session, owns_swarm)
    return MonitorApp(client, Path("profiles"), clock_ns=lambda: session.now_ns, tick_s=0.0), client


def screen_text(app: MonitorApp) -> str:
    """The characters on the screen, line by line."""
    width, height = app.size
    lines = app.screen._compositor.render_strips()
    text = "\n".join("".join(segment.text for segment in line) for line in lines[:height])
    assert all(len(line) == width for line in text.split("\n")), "a line is not as wide as the screen"
    return text


async def settle(app: MonitorApp, pilot) -> str:
    """Let workers and layout finish, draw once more, and read the screen."""
    for _ in range(2):
        await pilot.pause()
        app.tick()
    await pilot.pause()
    return screen_text(app)


def drive(size, body, **options):
    """Run `body(app, client, pilot)` in a monitor of `size`; returns the app after it ended."""

    async def session():
        app, client = monitor(**options)
        async with app.run_test(size=size, notifications=True) as pilot:
            await settle(app, pilot)
            await body(app, client, pilot)
        return app

    return asyncio.run(session())


@pytest.mark.parametrize("size", SIZES)
def test_every_toggle_key_reaches_the_swarm_and_shows_its_new_value(size):
    async def body(app, client, pilot):
        for key in TOGGLE_KEYS:
            expected = pressed(client.session.toggles, key)
            await pilot.press(key)
            text = await settle(app, pilot)
            assert client.pressed[-1] == key
            assert client.session.toggles == expected
            assert "from the next cycle on" in text
            assert "asked…" not in text
            client.session.advance(3)
        assert client.pressed == list(TOGGLE_KEYS)
        assert client.session.toggles == OPTIMISED or client.session.toggles.batching

    drive(size, body)


@pytest.mark.parametrize("size", SIZES)
def test_the_main_screen_shows_what_it_must(size):
    async def body(app, client, pilot):
        text = await settle(app, pilot)
        for word in ("trading_cycle_total", "untimed", "quic_coordination", "order_execution", "cycles/s", "rounds/s"):
            assert word in text
        for word in ("Consensus", "bft", "view 4", "leader", "lag", "Toggles", "batching", "DTW kernel", "baseline"):
            assert word in text
        for word in ("modelled liquidity", "venue latency 0 ms", "step 3,445", "lap 1", "us-stocks", "trading"):
            assert word in text
        assert "press a key" in text
        if size != SIZES[0]:
            assert all(name in text for name in NAMES)

    drive(size, body)


def test_the_toggle_panel_says_what_pressing_does():
    async def body(app, client, pilot):
        text = await settle(app, pilot)
        assert "off → on" in text
        assert "bft → raft" in text
        await pilot.press("m")
        assert "raft → auto" in await settle(app, pilot)

    drive(SIZES[1], body)


@pytest.mark.parametrize("size", SIZES)
def test_a_change_is_counted_and_then_measured(size):
    async def body(app, client, pilot):
        await pilot.press("b")
        await settle(app, pilot)
        client.session.advance(15)
        assert "measuring 12/30 cycles" in await settle(app, pilot)
        client.session.advance(60)
        text = await settle(app, pilot)
        assert "× faster (" in text
        assert "effect of b batching off→on" in text

    drive(size, body)


def test_a_change_after_too_few_cycles_is_said_to_be_unmeasurable():
    async def body(app, client, pilot):
        await pilot.press("b")
        await settle(app, pilot)
        client.session.advance(100)
        assert "unknown: 7/30 cycles before it" in await settle(app, pilot)

    drive(SIZES[0], body, cycles=10)


def test_no_figure_mixes_two_settings():
    async def body(app, client, pilot):
        await pilot.press("b")
        assert "No cycle under these toggles yet" in await settle(app, pilot)
        client.session.advance(7)
        assert "last 7 of 200 cycles" in await settle(app, pilot)

    drive(SIZES[1], body)


@pytest.mark.parametrize("size", SIZES)
def test_space_freezes_the_view_while_data_flows_on(size):
    async def body(app, client, pilot):
        await pilot.press("space")
        before = await settle(app, pilot)
        assert "FROZEN 0 s" in before
        assert "go on" in before
        client.session.advance(200)
        after = await settle(app, pilot)
        assert "FROZEN 11 s" in after
        first, last = before.split("\n"), after.split("\n")
        assert first[2:-2] == last[2:-2], "the frozen figures moved"
        await pilot.press("b")
        assert "batching" in await settle(app, pilot)
        await pilot.press("space")
        text = await settle(app, pilot)
        assert "FROZEN" not in text
        assert "freeze" in text

    drive(size, body)


def test_history_has_no_hole_after_a_freeze():
    async def body(app, client, pilot):
        await pilot.press("space")
        client.session.advance(200)
        await settle(app, pilot)
        await pilot.press("space")
        await settle(app, pilot)
        assert sum(second.cycles for second in app._live.seconds) > 280

    drive(SIZES[0], body)


@pytest.mark.parametrize("size", SIZES[:2])
def test_tab_and_the_mouse_switch_the_pane(size):
    async def body(app, client, pilot):
        assert "filled" in await settle(app, pilot)
        await pilot.press("tab")
        assert "equity" in await settle(app, pilot)
        await pilot.press("tab")
        text = await settle(app, pilot)
        assert "supervisor" in text
        assert " orders" in text.split("\n")[-1], "the key bar names what tab shows next"
        row = next(y for y, line in enumerate(text.split("\n")) if " positions  events" in line)
        column = text.split("\n")[row].index("positions")
        await pilot.click(offset=(column + 2, row))
        assert "equity" in await settle(app, pilot)

    drive(size, body)


def test_everything_at_once_needs_no_tab():
    async def body(app, client, pilot):
        text = await settle(app, pilot)
        assert all(word in text for word in ("Orders", "Positions and profit", "Events", "supervisor", "equity"))
        assert " tab " not in text.split("\n")[-1]
        await pilot.press("tab")
        assert await settle(app, pilot) == text

    drive(SIZES[2], body)


@pytest.mark.parametrize("size", SIZES)
def test_a_click_on_a_toggle_presses_it(size):
    async def body(app, client, pilot):
        lines = (await settle(app, pilot)).split("\n")
        row = next(y for y, line in enumerate(lines) if "DTW kernel" in line)
        await pilot.click(offset=(lines[row].index("DTW kernel") + 1, row))
        await settle(app, pilot)
        assert client.pressed == ["d"]

    drive(size, body)


@pytest.mark.parametrize("size", SIZES[:1])
def test_help_explains_every_span_and_key(size):
    async def body(app, client, pilot):
        await pilot.press("question_mark")
        await pilot.pause()
        assert isinstance(app.screen, HelpScreen)
        seen = screen_text(app)
        pages = 16 if size == SIZES[0] else 6
        for _ in range(pages):
            await pilot.press("pagedown")
            await pilot.pause()
            seen += screen_text(app)
        for name in NAMES:
            assert name in seen
        assert "optimistic execution" in seen
        await pilot.press("escape")
        assert "cycles/s" in await settle(app, pilot)

    drive(size, body)


@pytest.mark.parametrize(
    ("size", "key", "stops"), [(SIZES[0], "k", False), (SIZES[1], "s", True), (SIZES[2], "k", False)]
)
def test_q_asks_whether_trading_goes_on(size, key, stops):
    async def body(app, client, pilot):
        await pilot.press("q")
        await pilot.pause()
        text = screen_text(app)
        assert all(choice in text for choice in ("keep trading", "stop the swarm", "cancel"))
        await pilot.press(key)
        await pilot.pause()

    assert drive(size, body).return_value is stops


def test_cancel_goes_back_and_enter_takes_the_harmless_choice():
    async def body(app, client, pilot):
        for key in ("c", "escape", "q"):
            await pilot.press("q")
            await pilot.pause()
            assert isinstance(app.screen, QuitDialog)
            await pilot.press(key)
            assert "cycles/s" in await settle(app, pilot)
        await pilot.press("ctrl+c")
        await pilot.pause()
        assert isinstance(app.screen, QuitDialog)
        await pilot.press("ctrl+q")
        await pilot.press("enter")
        await pilot.pause()

    assert drive(SIZES[0], body).return_value is False


def test_an_attached_monitor_offers_to_leave():
    async def body(app, client, pilot):
        assert "leave…" in await settle(app, pilot)
        await pilot.press("q")
        await pilot.pause()
        assert "l  leave" in screen_text(app)
        await pilot.press("l")
        await pilot.pause()

    assert drive(SIZES[0], body, owns_swarm=False).return_value is False


def test_a_monitor_that_only_looks_on_cannot_stop_the_swarm():
    """A page of `tradetui serve` is such a one, and nobody is asked who he is."""

    async def body(app, client, pilot):
        client.read_only, client.may_stop = True, False
        await pilot.press("q")
        await pilot.pause()
        assert "stop the swarm" not in screen_text(app)
        await pilot.press("s")
        await pilot.pause()
        assert isinstance(app.screen, QuitDialog)
        await pilot.press("l")
        await pilot.pause()

    assert drive(SIZES[0], body, owns_swarm=False).return_value is False


@pytest.mark.parametrize("size", SIZES)
def test_trouble_is_unmissable_and_vanishes(size):
    async def body(app, client, pilot):
        calm = await settle(app, pilot)
        session = client.session
        session.venue = VenueState.DOWN
        text = await settle(app, pilot)
        assert "venue is down: trading is paused; it resumes by itself when the venue is back" in text
        assert "paused" in text.split("\n")[0]
        session.venue, session.gateway_connected = VenueState.CONNECTED, False
        assert "gateway is away" in await settle(app, pilot)
        session.gateway_connected, session.unreachable = True, {1}
        assert "node 1 is unreachable: 3 of 4 go on (3 needed to agree)" in await settle(app, pilot)
        session.unreachable = {1, 3}
        assert "too few to agree" in await settle(app, pilot)
        session.unreachable, session.leader = set(), None
        assert "no leader" in await settle(app, pilot)
        session.leader = 2
        session.venue = VenueState.RECONCILING
        assert "comparing orders" in await settle(app, pilot)
        session.venue = VenueState.CONNECTED
        assert await settle(app, pilot) == calm

    drive(size, body)


@pytest.mark.parametrize("size", SIZES)
def test_the_kill_switch_acts_at_once_and_stays_unmissable_until_trading_resumes(size):
    async def body(app, client, pilot):
        calm = await settle(app, pilot)
        await pilot.press("K")
        text = await settle(app, pilot)
        assert "HALTED, from the monitor: no order leaves; `tradetui resume` ends it" in text
        assert text.split("\n")[0].rstrip().endswith("halted")
        assert client.session.trading == "halted"
        app.clear_notifications()
        app.action_trading("reducing")
        assert "only orders that reduce a position" in await settle(app, pilot)
        app.clear_notifications()
        app.action_trading("active")
        await settle(app, pilot)
        app.clear_notifications()
        assert await settle(app, pilot) == calm

    drive(size, body)


REASON = "signed two NOTARIZE votes in view 4 at height 12"


@pytest.mark.parametrize("size", SIZES)
def test_an_equivocation_names_the_culprit_and_stays(size):
    async def body(app, client, pilot):
        session = client.session
        accusation = Accusation(3, REASON, True, 1)
        session.accusations = {0: (accusation,)}
        text = await settle(app, pilot)
        assert "node 3 misbehaved: signed two NOTARIZE votes" in text
        assert "equivocated" not in text, "one node's word alone may be the lie of that node"
        session.accusations = dict.fromkeys((0, 1, 2), (replace(accusation, count=9),))
        text = await settle(app, pilot)
        assert f"node 3 equivocated: {REASON}" in text
        assert any("3 " in line and "equivocated" in line for line in text.split("\n")[3:]), "the nodes panel too"
        session.event("node 1", "something else")
        session.advance(40)
        assert f"node 3 equivocated: {REASON}" in await settle(app, pilot)

    drive(size, body)


def test_different_states_are_an_alarm_that_names_the_odd_node():
    async def body(app, client, pilot):
        client.session.disagreements = {0: ((2, 4096),), 1: ((2, 4160),), 2: ((0, 4096), (1, 4160), (3, 4096))}
        text = await settle(app, pilot)
        assert "node 2 and nodes 0, 1, 3 hold different states behind entry 4,096" in text

    drive(SIZES[1], body)


def test_gossip_tells_of_a_node_that_the_monitor_cannot_reach():
    async def body(app, client, pilot):
        client.session.unreachable = {1}
        assert "unreachable (node 0 hears it)" in await settle(app, pilot)

    drive(SIZES[2], body)


def test_strangers_that_the_nodes_turned_away_are_counted_over_all_of_them():
    async def body(app, client, pilot):
        client.session.turned_away = {
            0: (("answered with Retry", 40), ("wrong certificate", 1)),
            3: (("answered with Retry", 2),),
        }
        await pilot.press("3")
        text = await settle(app, pilot)
        assert "42 answered with Retry" in text
        assert "1 wrong certificate" in text

    drive(SIZES[0], body)


def test_silence_of_the_swarm_is_said():
    app, client = monitor()
    app._clock_ns = lambda: client.session.now_ns + 7_000_000_000

    async def session():
        async with app.run_test(size=SIZES[0]) as pilot:
            assert "no news from the swarm for 7 s" in await settle(app, pilot)

    asyncio.run(session())


@pytest.mark.parametrize("size", [*SIZES, (20, 5), (1, 1)])
def test_nothing_to_show_yet(size):
    client = FakeClient()
    app = MonitorApp(client, clock_ns=lambda: 0, tick_s=0.0)

    async def session():
        async with app.run_test(size=size) as pilot:
            text = await settle(app, pilot)
            if size in SIZES:
                assert "starting …" in text
            for key in ("space", "tab", "e"):
                await pilot.press(key)
            await settle(app, pilot)
            assert client.exports == []
            snapshot = FakeSession(seed=1).snapshot()
            nodes = tuple(replace(node, activity="replaying its log", replica=None) for node in snapshot.nodes)
            event = EventRow(0, Severity.ERROR, "node 1", "port 9001 is taken")
            phase = "starting nodes; compiling kernels 3 of 9: risk 1.49 s"
            client.fixed = replace(snapshot, nodes=nodes, events=(event,), leader=None, phase=phase)
            text = await settle(app, pilot)
            if size in SIZES:
                assert "replaying its log" in text
                assert phase in text
                assert "error: port 9001 is taken" in text
            client.fixed = FakeSession(seed=1, cycles=1).snapshot()
            text = await settle(app, pilot)
            if size in SIZES:
                assert "quic_coordination" in text

    asyncio.run(session())


PHASE = "failed: node-2 keeps dying (ended with code 1); see logs/node-2.log"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("cycles", [0, 120])
def test_a_swarm_that_failed_says_why_before_its_first_cycle_and_after(size, cycles):
    async def body(app, client, pilot):
        assert "failed" not in await settle(app, pilot)
        client.fixed = replace(client.session.snapshot(), phase=PHASE)
        text = await settle(app, pilot)
        assert f"× {PHASE}" in text
        if not cycles:
            assert "starting" not in text
            assert text.count(PHASE) == 2, "in the list of processes too"
            client.fixed = replace(client.fixed, nodes=())
            assert (await settle(app, pilot)).count(PHASE) == 2

    drive(size, body, cycles=cycles)


def test_a_monitor_that_only_looks_on_writes_no_file_of_settings():
    async def body(app, client, pilot):
        client.read_only = True
        await pilot.press("S")
        assert "no settings are written here" in await settle(app, pilot)
        assert not isinstance(app.screen, SettingsScreen)

    drive(SIZES[0], body)


@pytest.mark.parametrize("web", [True, False])
@pytest.mark.parametrize("read_only", [True, False])
def test_a_page_that_only_looks_on_writes_no_profile_on_the_server(web, read_only, monkeypatch):
    monkeypatch.setattr(MonitorApp, "is_web", web)

    async def body(app, client, pilot):
        client.read_only = read_only
        await pilot.press("e")
        text = await settle(app, pilot)
        assert ("no profile is taken from this page" in text) == (web and read_only)
        assert bool(client.exports) != (web and read_only)
        assert (" e " in text.split("\n")[-1]) != (web and read_only)

    drive(SIZES[1], body)


@pytest.mark.parametrize("size", SIZES[:2])
def test_profile_snapshot(size):
    async def body(app, client, pilot):
        client.export_gate = asyncio.Event()
        await pilot.press("e")
        text = await settle(app, pilot)
        assert "profiling 2 s…" in text
        assert " e " not in text.split("\n")[-1], "the key bar offers what cannot be done now"
        await pilot.press("e")
        assert "already" in await settle(app, pilot)
        assert len(client.exports) == 1
        client.export_gate.set()
        text = await settle(app, pilot)
        assert "profiling 2 s" not in text
        assert "profiles/20251115-143000" in text
        assert client.svg.startswith("<svg")
        assert "quic_coordination" in client.svg

    drive(size, body)


def test_a_failed_profile_snapshot_says_why():
    async def body(app, client, pilot):
        client.export_error = OSError("disk is full")
        await pilot.press("e")
        assert "disk is full" in await settle(app, pilot)

    drive(SIZES[1], body)


def test_a_refused_key_says_why_and_shows_no_change():
    async def body(app, client, pilot):
        client.refuse = "refused: bft needs 4 nodes"
        await pilot.press("m")
        text = await settle(app, pilot)
        assert "refused: bft needs 4 nodes" in text
        assert "bft → raft" in text

    drive(SIZES[1], body)


def test_a_broken_link_to_the_swarm_is_told_and_survived():
    async def body(app, client, pilot):
        async def broken(key):
            raise ConnectionResetError("swarm went away")

        client.press = broken
        await pilot.press("b")
        assert "swarm went away" in await settle(app, pilot)

    drive(SIZES[1], body)


def test_keys_are_sent_in_the_order_pressed():
    async def body(app, client, pilot):
        keys = "bsmoxzpcd90bbss"
        await pilot.press(*keys)
        await settle(app, pilot)
        assert "".join(client.pressed) == keys

    drive(SIZES[0], body)


def test_the_command_palette_has_everything():
    app, _ = monitor()

    async def session():
        async with app.run_test(size=SIZES[1]) as pilot:
            await settle(app, pilot)
            titles = " | ".join(command.title.lower() for command in app.get_system_commands(app.screen))
            for name in FIELD_OF_KEY.values():
                assert name.replace("_", " ") in titles
            for word in ("baseline", "optimised", "freeze", "help", "profile", "quit", "positions", "events"):
                assert word in titles
            await pilot.press("ctrl+p")
            await pilot.pause(0.3)
            assert "Search" in screen_text(app)

    asyncio.run(session())


def test_resizing_through_every_layout_leaves_whole_lines():
    async def body(app, client, pilot):
        for columns, rows in (
            (200, 50),
            (79, 20),
            (120, 40),
            (99, 60),
            (100, 24),
            (169, 45),
            (40, 12),
            (10, 4),
            (80, 24),
        ):
            await pilot.resize_terminal(columns, rows)
            client.session.advance(2)
            text = await settle(app, pilot)
            if columns >= 79 and rows >= 20:
                assert "untimed" in text
                assert "order_execution" in text

    drive(SIZES[0], body)


def test_text_from_other_processes_cannot_move_the_cursor():
    async def session():
        app, client = monitor()
        async with app.run_test(size=SIZES[1]) as pilot:
            await settle(app, pilot)
            client.session.event("node 1\x1b[2J", "evil \x1b]0;title\x07 text")
            await pilot.press("tab", "tab")
            text = await settle(app, pilot)
            assert "\x1b" not in text
            assert "evil" in text

    asyncio.run(session())


@pytest.mark.parametrize("theme", ["textual-light", "ansi-dark", "monokai"])
def test_other_themes_repaint(theme):
    async def body(app, client, pilot):
        before = app.export_screenshot()
        app.theme = theme
        await settle(app, pilot)
        assert app.export_screenshot() != before

    drive(SIZES[0], body)


def test_only_panels_that_changed_are_painted(monkeypatch):
    painted: list[type[Widget]] = []
    render_lines = Widget.render_lines
    strips_at = Panel.strips_at
    monkeypatch.setattr(
        Widget, "render_lines", lambda panel, crop: painted.append(type(panel)) or render_lines(panel, crop)
    )
    monkeypatch.setattr(
        Panel, "strips_at", lambda panel, *lines: painted.append(type(panel)) or strips_at(panel, *lines)
    )

    async def body(app, client, pilot):
        client.freeze_snapshot()
        await settle(app, pilot)
        painted.clear()
        for kind in (StatusLine, KeyBar):
            app.screen.query_one(kind).refresh()
        await pilot.pause()
        assert {StatusLine, KeyBar} <= set(painted)
        assert SpansPanel not in painted
        app.theme = "textual-light"
        await settle(app, pilot)
        assert SpansPanel in painted

    drive(SIZES[1], body)


def test_the_table_is_drawn_at_every_other_tick_and_at_once_when_a_key_is_pressed(monkeypatch):
    drawn: list[int] = []
    rows = SpansPanel.rows
    monkeypatch.setattr(
        SpansPanel, "rows", lambda panel, view, *size: drawn.append(view.now_ns) or rows(panel, view, *size)
    )

    async def body(app, client, pilot):
        drawn.clear()
        for _ in range(10):
            app.tick(at_once=False)
        assert len(drawn) == 5
        await pilot.press("space")
        assert len(drawn) == 6

    drive(SIZES[1], body)


def test_seven_nodes_fit_and_trouble_comes_first():
    async def body(app, client, pilot):
        snapshot = client.session.snapshot()
        seven = tuple(replace(snapshot.nodes[n % 4], node=n, reachable=n != 6) for n in range(7))
        client.fixed = replace(snapshot, nodes=seven)
        text = await settle(app, pilot)
        assert "6 unreachable" in text
        assert "more, reachable" in text

    drive(SIZES[0], body)
