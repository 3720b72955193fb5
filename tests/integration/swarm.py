"""A real swarm for tests: own session folder, real processes on loopback, bounded in time, nothing left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from core.attach import SwarmClient, stop_session
from core.commands.start import start_swarm
from core.config import load_settings
from core.kernel_compiling import all_compiled, compile_in_subprocess
from core.records import SwarmSnapshot
from core.session import Session, create_session
from core.toggles import FIELD_OF_KEY

BACK = ["d", "d", "d", *(key for key in reversed(FIELD_OF_KEY) if key != "d")]
"""Every toggle key again, the DTW kernel first: it must not stay at plain Python, where a cycle takes seconds."""


async def until(condition: Callable[[], object], timeout_s: float, what: str) -> float:
    """Wait for `condition`; returns the seconds it took. Fails with `what` after `timeout_s`."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > timeout_s:
            raise AssertionError(f"{what}: not within {timeout_s:g} s")
        await asyncio.sleep(0.02)
    return time.monotonic() - began


def process_ids(session: Session) -> dict[str, int]:
    """The processes that the supervisor started, by name."""
    state = session.read_swarm()
    assert state is not None
    return {process.name: process.pid for process in state.processes}


class RunningSwarm:
    """A started session with an attached client."""

    def __init__(self, session: Session, client: SwarmClient) -> None:
        self.session = session
        self.client = client

    def snapshot(self) -> SwarmSnapshot:
        return self.client.snapshot()

    def pid(self, name: str) -> int:
        """Process id of `venue`, `gateway` or `node-K`."""
        return process_ids(self.session)[name]

    def kill(self, name: str) -> int:
        """SIGKILL one process of this swarm; returns its pid."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        return pid

    async def cycles(self, count: int, timeout_s: float = 60) -> None:
        """Wait for `count` more cycles."""
        goal = self.last_cycle + count
        await until(lambda: self.last_cycle >= goal, timeout_s, f"cycle {goal} (events: {self.events()[-6:]})")

    @property
    def last_cycle(self) -> int:
        cycles = self.client.cycles
        return cycles[-1].cycle if cycles else 0

    def events(self) -> list[str]:
        return [f"{event.source}: {event.text}" for event in self.snapshot().events]

    async def told(self, words: str) -> None:
        """Wait for an event with these words: who does not lead pushes only two or three times a second."""
        await until(lambda: any(words in event for event in self.events()), 5, f"{words!r} ({self.events()[-6:]})")

    def pids(self) -> list[int]:
        state = self.session.read_swarm()
        assert state is not None
        return [state.supervisor_pid, *(process.pid for process in state.processes if process.pid)]


@asynccontextmanager
async def running_swarm(folder: Path, *, cold: bool = False, **flags: object) -> AsyncIterator[RunningSwarm]:
    """Start a swarm, wait for its first cycle; at the end stop it and check that nothing is left.

    Unless `cold`, its kernels are compiled before: what a test times is the swarm, not a compiler beside it.
    """
    if not cold and not all_compiled():
        await compile_in_subprocess(lambda line: None)
    session = create_session(load_settings(**flags), folder / "session")
    started = start_swarm(session.settings(), owned=True, session=session)
    client = SwarmClient(session, owns_swarm=True, keep_cycles=20_000)
    swarm = RunningSwarm(session, client)
    try:
        await client.connect()
        await until(lambda: swarm.last_cycle > 0 or client.phase.startswith("failed"), 120, "the first cycle")
        assert swarm.last_cycle > 0, swarm.events()
        yield swarm
    finally:
        pids = swarm.pids() if session.read_swarm() is not None else []
        await client.close()
        await stop_session(session)
        await asyncio.to_thread(started.supervisor.wait)
        assert running(pids) == []


def running(pids: Iterable[int]) -> list[int]:
    """Those of the processes that have not ended. A killed one may still run: it ends when its write to disk does."""
    return [pid for pid in pids if _is_running(pid)]


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"
