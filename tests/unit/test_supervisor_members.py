"""The supervisor's processes as members come and go; small shell scripts stand in for nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from core.config import load_settings, write_settings
from core.session import Session, SwarmState
from core.supervisor import QUICK_DEATHS_MAX, Supervisor

NODE = """#!/bin/sh
# python -m core.process NAME DIRECTORY
{body}
"""
OBEYS = "echo ready; exec cat"


def supervised(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> tuple[Session, Supervisor]:
    """A running swarm whose processes run `body`; those of nodes 0 to 3 are not started."""
    session, settings = Session(folder / "session"), load_settings(restart_delay_ms=0)
    session.directory.mkdir()
    write_settings(settings, session.settings_file)
    script = folder / "node.sh"
    script.write_text(NODE.format(body=body))
    script.chmod(0o700)
    monkeypatch.setattr("core.supervisor.sys.executable", str(script))
    monkeypatch.setattr("core.supervisor.GATEWAY_BACK_S", 0.0)
    supervisor = Supervisor(session, settings)
    supervisor._ready = True
    return session, supervisor


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


def told(session: Session) -> SwarmState:
    state = session.read_swarm()
    assert state is not None
    return state


def states_of(session: Session, name: str) -> list[str]:
    return [process.state for process in told(session).processes if process.name == name]


def test_a_node_that_is_wanted_twice_is_one_process(tmp_path: Path) -> None:
    session = Session(tmp_path)
    write_settings(load_settings(), session.settings_file)
    session.want_nodes((4, *session.wanted_nodes(), 4))
    assert session.nodes_file.read_text() == "[0, 1, 2, 3, 4]"
    session.nodes_file.write_text("[0, 1, 2, 3, 4, 4]")  # as an earlier version left it
    names = [child.name for child in Supervisor(session, session.settings())._children]
    assert names == ["venue", "gateway", *(f"node-{k}" for k in range(5)), "recorder"]


def test_a_node_that_was_given_up_is_started_when_it_is_wanted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = f"[ -e {tmp_path}/sound ] || exit 3\n{OBEYS}"
    session, supervisor = supervised(tmp_path, monkeypatch, body)

    async def work() -> None:
        session.want_nodes((*session.wanted_nodes(), 4))
        supervisor.look_again()
        await until(lambda: told(session).phase.startswith("failed: node-4 keeps dying (ended with code 3)"))
        assert states_of(session, "node-4") == ["stopped"]
        (tmp_path / "sound").touch()
        supervisor.look_again()
        await until(lambda: states_of(session, "node-4") == ["running"])
        assert told(session).phase == "running"
        await supervisor._stop_children()

    asyncio.run(work())
    deaths = [event for event in session.read_events()[0] if event.text.startswith("ended with code 3")]
    assert len(deaths) == QUICK_DEATHS_MAX


def test_a_swarm_has_not_failed_for_a_node_that_is_no_longer_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, supervisor = supervised(tmp_path, monkeypatch, "exit 3")

    async def work() -> None:
        session.want_nodes((*session.wanted_nodes(), 4))
        supervisor.look_again()
        await until(lambda: told(session).phase.startswith("failed: node-4"))
        session.want_nodes((0, 1, 2, 3))
        supervisor.look_again()
        assert told(session).phase == "running"

    asyncio.run(work())


@pytest.mark.parametrize("body", ["trap '' TERM; echo ready; exec sleep 600", "echo ready; kill -STOP $$; exec cat"])
def test_a_removed_node_that_hangs_or_is_paused_is_gone_when_the_swarm_has_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    monkeypatch.setattr("core.supervisor.STOP_GRACE_S", 0.2)
    session, supervisor = supervised(tmp_path, monkeypatch, body)

    async def work() -> None:
        session.want_nodes((*session.wanted_nodes(), 4))
        supervisor.look_again()
        await until(lambda: states_of(session, "node-4") == ["running"])
        process = supervisor._children[-1].process
        assert process is not None
        session.want_nodes((0, 1, 2, 3))
        supervisor.look_again()
        assert states_of(session, "node-4") == []
        await supervisor._stop_children()
        gone = process.returncode
        if gone is None:
            process.kill()
        assert gone is not None

    asyncio.run(work())


def test_a_node_that_is_wanted_again_waits_until_its_last_process_has_let_go_of_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = tmp_path / "held"
    body = f"mkdir {held} || exit 3\ntrap 'sleep 0.1; rmdir {held}; exit 0' TERM; echo ready; read line"
    session, supervisor = supervised(tmp_path, monkeypatch, body)

    async def work() -> None:
        for wanted in ((0, 1, 2, 3, 4), (0, 1, 2, 3), (0, 1, 2, 3, 4)):
            session.want_nodes(wanted)
            supervisor.look_again()
            if 4 in wanted:
                await until(lambda: states_of(session, "node-4") == ["running"])
        await supervisor._stop_children()

    asyncio.run(work())
    assert [event.text for event in session.read_events()[0] if event.source == "node-4"] == []


def test_a_killed_process_is_not_said_to_have_died_of_what_an_earlier_one_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = f"[ -e {tmp_path}/again ] && kill -KILL $$\ntouch {tmp_path}/again; echo 'disk is full' >&2; exit 3"
    session, supervisor = supervised(tmp_path, monkeypatch, body)

    async def work() -> None:
        session.want_nodes((*session.wanted_nodes(), 4))
        supervisor.look_again()
        await until(lambda: states_of(session, "node-4") == ["stopped"])

    asyncio.run(work())
    causes = [event.text for event in session.read_events()[0] if event.source == "node-4"]
    assert causes == ["ended with code 3: disk is full", *["killed by SIGKILL"] * (QUICK_DEATHS_MAX - 1)]
