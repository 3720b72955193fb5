"""A real swarm of processes on loopback: toggles, killed leaders, a killed venue, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.records import VenueState
from core.session import Session, running_sessions
from core.spans import NAMES
from core.toggles import BASELINE, FIELD_OF_KEY, pressed
from tests.integration.books import check_books
from tests.integration.swarm import BACK, RunningSwarm, running_swarm, until

pytestmark = [pytest.mark.swarm, pytest.mark.timeout(400)]


def test_every_toggle_key_takes_effect_and_decisions_stay_whole(tmp_path: Path) -> None:
    """All eleven keys in a row and back; each following record runs under what was pressed."""

    async def press_all() -> Session:
        async with running_swarm(tmp_path, toggles="optimised") as swarm:
            toggles = swarm.snapshot().toggles
            for key in [*FIELD_OF_KEY, "0", "9", *BACK, "9"]:
                answer = await swarm.client.press(key)
                toggles = pressed(toggles, key)
                assert answer.startswith(f"{key}: ")
                assert answer.endswith(f" {toggles.label()}")
                await until(lambda want=toggles: swarm.client.cycles[-1].toggles == want, 60, f"a cycle after {key}")
                record = swarm.client.cycles[-1]
                assert record.decisions_committed == 20
            return swarm.session

    session = asyncio.run(press_all())
    book = check_books(session, settled=False)
    assert book.state.cycles_done >= 22


def test_killed_leader_is_replaced_within_three_seconds_and_no_order_is_lost_or_doubled(tmp_path: Path) -> None:
    async def kill_leaders() -> Session:
        async with running_swarm(tmp_path, toggles="b,s,m=raft,p", cycles=260) as swarm:
            await swarm.cycles(20)
            for _ in range(2):
                leader = swarm.snapshot().leader
                assert leader is not None
                killed = swarm.kill(f"node-{leader}")
                took_s = await until(lambda old=leader: swarm.snapshot().leader not in (None, old), 3.0, "one leads")
                before = swarm.last_cycle  # with what the killed one had said and nobody had read yet
                took_s += await until(lambda seen=before: swarm.last_cycle > seen + 1, 3.0, "cycles go on")
                assert took_s < 3.0
                await until(lambda node=leader, old=killed: _leads_or_follows(swarm, node, old), 60, "it rejoins")
            await until(lambda: swarm.snapshot().cycles_total >= 260, 120, "the last cycle")
            await settle(swarm)
            return swarm.session

    book = check_books(asyncio.run(kill_leaders()))
    assert book.state.cycles_done == 260
    assert not book.state.open_decisions


def _leads_or_follows(swarm: RunningSwarm, node: int, old_pid: int) -> bool:
    status = next(s for s in swarm.snapshot().nodes if s.node == node)
    best = max(s.replica.commit_index for s in swarm.snapshot().nodes if s.replica)
    return (
        status.reachable
        and status.pid != old_pid
        and status.replica is not None
        and status.replica.commit_index >= best - 5
    )


async def settle(swarm: RunningSwarm) -> None:
    """Wait until every order has ended and the log has been quiet for a second: its last reports are committed."""
    await until(lambda: _settled(swarm), 30, "every order ends")
    last, quiet_since = -1, time.monotonic()
    while time.monotonic() - quiet_since < 1.0:
        newest = max(status.replica.commit_index for status in swarm.snapshot().nodes if status.replica)
        if newest != last:
            last, quiet_since = newest, time.monotonic()
        await asyncio.sleep(0.05)


def _settled(swarm: RunningSwarm) -> bool:
    snapshot = swarm.snapshot()
    total = snapshot.orders_filled_total + snapshot.orders_rejected_total
    return snapshot.orders_sent_total > 0 and snapshot.orders_sent_total == total


def test_killed_leader_in_byzantine_mode_is_replaced(tmp_path: Path) -> None:
    async def kill_leader() -> Session:
        async with running_swarm(tmp_path, toggles="b,m=bft,p", cycles=60) as swarm:
            await swarm.cycles(5)
            leader = swarm.snapshot().leader
            swarm.kill(f"node-{leader}")
            before = swarm.last_cycle
            await until(lambda: swarm.last_cycle > before + 1, 3.0, "cycles go on")
            await until(lambda: swarm.snapshot().cycles_total >= 60, 120, "the last cycle")
            await settle(swarm)
            return swarm.session

    check_books(asyncio.run(kill_leader()))


def test_killed_venue_pauses_trading_which_resumes_by_itself(tmp_path: Path) -> None:
    async def kill_venue() -> Session:
        async with running_swarm(tmp_path, toggles="optimised", cycles=150) as swarm:
            await swarm.cycles(15)
            swarm.kill("venue")
            await until(lambda: swarm.snapshot().venue is not VenueState.CONNECTED, 2.0, "the monitor shows it")
            await until(lambda: any("paused" in s.activity for s in swarm.snapshot().nodes), 3.0, "trading pauses")
            await until(lambda: swarm.snapshot().venue is VenueState.CONNECTED, 60, "the venue is back")
            await swarm.cycles(15)
            await until(lambda: swarm.snapshot().cycles_total >= 150, 120, "the last cycle")
            await settle(swarm)
            return swarm.session

    book = check_books(asyncio.run(kill_venue()))
    assert not book.state.open_decisions


def test_killed_gateway_comes_back_from_its_journal(tmp_path: Path) -> None:
    async def kill_gateway() -> Session:
        async with running_swarm(tmp_path, toggles="optimised", cycles=150) as swarm:
            await swarm.cycles(15)
            swarm.kill("gateway")
            await until(lambda: not swarm.snapshot().gateway_connected, 3.0, "the monitor shows it")
            await until(lambda: swarm.snapshot().venue is VenueState.CONNECTED, 60, "gateway and venue are back")
            await swarm.cycles(15)
            await until(lambda: swarm.snapshot().cycles_total >= 150, 120, "the last cycle")
            await settle(swarm)
            return swarm.session

    book = check_books(asyncio.run(kill_gateway()))
    assert not book.state.open_decisions


def test_run_writes_the_whole_json_and_leaves_no_process(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    command = [sys.executable, "-m", "tui.commands", "run", "--cycles", "12", "--toggles", "baseline"]
    environment = os.environ | {"TRADETUI_HOME": str(tmp_path)}
    done = subprocess.run(
        [*command, "--json", str(file)], env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(file.read_text())
    assert result["cycles"] == 12
    assert set(result["spans"]) == set(NAMES)
    for span in result["spans"].values():
        assert {
            "count",
            "total_ms",
            "p50_ms",
            "p95_ms",
            "p99_ms",
            "inclusive_ms",
            "exclusive_ms",
            "background_ms",
        } <= set(span)
    total_ms = sum(span["exclusive_ms"] for span in result["spans"].values()) + result["untimed_ms"]
    assert total_ms == pytest.approx(result["wall_s"] * 1e3, rel=0.01)
    assert result["decisions"]["committed"] == 12 * 20
    assert result["consensus"]["rounds"] >= 12 * 20
    assert result["orders"]["sent"] == result["orders"]["filled"] + result["orders"]["rejected"] >= 12 * 5
    assert result["toggles"] == BASELINE.as_dict()
    assert result["settings"]["nodes"] == 4


def test_ctrl_c_of_run_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADETUI_HOME", str(tmp_path))
    command = [sys.executable, "-m", "tui.commands", "run", "--cycles", "100000"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        pids: list[int] = []
        while len(pids) < 7 and time.monotonic() < deadline:
            time.sleep(0.2)
            states = [session.read_swarm() for session in running_sessions()]
            pids = [p.pid for state in states if state for p in state.processes if p.pid]
            pids += [state.supervisor_pid for state in states if state]
        assert len(pids) == 7
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
    finally:
        process.kill()


def test_killed_owner_takes_its_swarm_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL of `tradetui run` reaches nobody, yet no process outlives it."""
    monkeypatch.setenv("TRADETUI_HOME", str(tmp_path))
    process = subprocess.Popen(
        [sys.executable, "-m", "tui.commands", "run", "--cycles", "100000"], stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    pids: list[int] = []
    while not pids and time.monotonic() < deadline:
        time.sleep(0.2)
        pids = [s.supervisor_pid for session in running_sessions() if (s := session.read_swarm())]
    process.kill()
    process.wait()
    while running_sessions() and time.monotonic() < deadline + 60:
        time.sleep(0.2)
    assert running_sessions() == []


def test_bad_settings_are_refused_before_anything_starts(tmp_path: Path) -> None:
    environment = os.environ | {"TRADETUI_HOME": str(tmp_path)}
    for flags, words in (
        (["--nodes", "3"], "nodes"),
        (["--data", str(tmp_path / "none")], "none"),
        (["--pace", "x"], "pace"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "tui.commands", "run", "--cycles", "5", *flags],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 2
        assert words in done.stderr
    assert not (tmp_path / "sessions").exists()
