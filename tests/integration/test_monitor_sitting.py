"""A whole sitting at a real terminal: start, every toggle key and back, freeze, a profile, leave, come back, stop."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core.attach import SwarmClient, stop_session
from core.session import Session, running_sessions
from core.toggles import BASELINE, FIELD_OF_KEY, Toggles, pressed
from tests.integration.swarm import BACK, process_ids
from tests.tui.terminal import Terminal

pytestmark = [pytest.mark.swarm, pytest.mark.timeout(400)]
MONITOR = [sys.executable, "-m", "tui.commands"]


class Watcher:
    """A second monitor without a screen, on a thread of its own: what the swarm itself says of its cycles."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._stop = threading.Event()
        self._client: SwarmClient | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    async def _run(self) -> None:
        self._client = SwarmClient(self._session, owns_swarm=False)
        await self._client.connect()
        while not self._stop.is_set():
            await asyncio.sleep(0.02)
        await self._client.close()

    def last_toggles(self) -> Toggles | None:
        return self._client.cycles[-1].toggles if self._client and self._client.cycles else None

    def last_cycle(self) -> int:
        return self._client.cycles[-1].cycle if self._client and self._client.cycles else 0

    @contextmanager
    def watching(self) -> Iterator[Watcher]:
        self._thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            self._thread.join(10)


def wait(terminal: Terminal, condition: Callable[[], object], timeout_s: float, what: str) -> None:
    """Keep drawing until `condition` holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}\n{terminal.text()}"
        terminal.pump(0.1)


def gives_way(pid: int) -> bool:
    return os.sched_getscheduler(pid) == os.SCHED_BATCH


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home of its own. A sitting that fails halfway leaves a swarm that nobody owns: it is stopped here."""
    monkeypatch.setenv("TRADETUI_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for session in running_sessions():
        asyncio.run(stop_session(session))


def test_a_whole_sitting(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    terminal = Terminal(MONITOR, columns=120, rows=40)
    try:
        wait(terminal, lambda: "in one screen" in terminal.text(), 60, "the tour of a first start")
        terminal.send(b" ")
        wait(terminal, lambda: "in one screen" not in terminal.text(), 10, "any key closes it")
        wait(terminal, lambda: "cycles/s" in terminal.text() and "leads" in terminal.text(), 120, "the first cycles")
        (session,) = running_sessions()
        assert gives_way(terminal.pid), "the monitor interrupts nobody"
        wait(terminal, lambda: gives_way(process_ids(session)["recorder"]), 30, "so does the recorder, once it runs")
        assert [name for name, pid in process_ids(session).items() if gives_way(pid)] == ["recorder"]
        with Watcher(session).watching() as watcher:
            toggles = BASELINE
            wait(terminal, lambda: watcher.last_toggles() == toggles, 60, "the first record")
            for key in [*FIELD_OF_KEY, "0", "9", *BACK, "9"]:
                toggles = pressed(toggles, key)
                terminal.send(key.encode())
                wait(terminal, lambda want=toggles: watcher.last_toggles() == want, 60, f"a cycle after {key}")
            terminal.send(b" ")
            wait(terminal, lambda: "FROZEN" in terminal.text(), 10, "the view freezes")
            before = watcher.last_cycle()
            wait(terminal, lambda: watcher.last_cycle() > before + 5, 30, "data flows on")
            terminal.send(b" ")
            wait(terminal, lambda: "FROZEN" not in terminal.text(), 10, "the view goes on")
            terminal.send(b"?")
            wait(terminal, lambda: "batching" in terminal.text().lower(), 10, "the help")
            terminal.send(b"\x1b")
            terminal.pump(1.0)
            terminal.send(b"e")
            wait(terminal, lambda: list(home.glob("profiles/*/spans.csv")), 60, "the profile folder")
            (folder,) = home.glob("profiles/*")
            names = {path.name for path in folder.iterdir()}
            assert names >= {"profile.html", "profile.speedscope.json", "profile.pyisession", "spans.csv", "screen.svg"}
            terminal.send(b"q")
            wait(terminal, lambda: "keep trading" in terminal.text(), 10, "the question")
            terminal.send(b"k")
            assert terminal.wait(20) == 0
            before = watcher.last_cycle()
            deadline = time.monotonic() + 20
            while watcher.last_cycle() <= before + 5:
                assert time.monotonic() < deadline, "trading goes on without a monitor"
                time.sleep(0.05)
    finally:
        terminal.close()
    again = Terminal(MONITOR, columns=80, rows=24)
    try:
        wait(again, lambda: "cycles/s" in again.text(), 60, "the running swarm is shown again")
        again.send(b"q")
        wait(again, lambda: "stop the swarm" in again.text(), 10, "the question")
        again.send(b"s")
        deadline = time.monotonic() + 40
        while running_sessions():
            assert time.monotonic() < deadline, "the swarm stops"
            again.pump(0.1)
    finally:
        again.close()
    state = session.read_swarm()
    assert state is not None
    assert [p.name for p in state.processes if Path(f"/proc/{p.pid}").exists()] == []
