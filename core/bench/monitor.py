"""What the monitor costs: throughput with and without it, interleaved on one swarm; its share of a core; frames; keys.

The monitor runs as a user runs it, on a pseudo-terminal of its own. Who counts the cycles is attached all the time and
asks for news once a second only, on both sides.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import statistics
import struct
import sys
import termios
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from core.attach import SwarmClient, stop_session
from core.bench.processor import processor_s
from core.bench.rows import Row, row_of_pairs, table_of, write_rows
from core.bench.throughput import COUNTING_PUSH_S, Throughput, throughput_of
from core.commands.start import start_swarm
from core.config import Settings
from core.session import Session, SessionError, create_session

COLUMNS, ROWS = 120, 40
FRAME = b"\x1b[?2026h"
"""Textual begins every repaint with this where the terminal says that it knows synchronised output."""
QUERY, ANSWER = b"\x1b[?2026$p", b"\x1b[?2026;2$y"
SETTLE_S = 6.0
KEY_INTERVAL_S = 0.37
KEY_TIMEOUT_S = 3.0
FIRST_CYCLES = 20
START_TIMEOUT_S = 180.0
SOAK_SAMPLE_S = 5.0
SOAK_S_MIN = 30 * SOAK_SAMPLE_S
SOAK_KEYS = (b"2", b"3", b"4", b"5", b"6", b"1")
"""Every screen, and back."""


@dataclass(slots=True)
class Screen:
    """A monitor on a pseudo-terminal, read as fast as it writes."""

    session: Session
    pid: int = 0
    frames: int = 0
    _fd: int = -1
    _tail: bytes = b""
    _waiting: list[tuple[bytes, asyncio.Future[float]]] = field(default_factory=list)

    def start(self) -> None:
        command = [sys.executable, "-m", "tui.commands", "attach", "--session", str(self.session.directory)]
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.environ.update({"TERM": "xterm-256color", "COLORTERM": "truecolor"})
            os.execv(command[0], command)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        os.set_blocking(self._fd, False)
        asyncio.get_running_loop().add_reader(self._fd, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, 1 << 16)
        except OSError:
            asyncio.get_running_loop().remove_reader(self._fd)
            return
        if QUERY in data:
            os.write(self._fd, ANSWER)
        seen = self._tail + data
        self.frames += seen.count(FRAME) - self._tail.count(FRAME)
        for word, future in list(self._waiting):
            if word in seen and not future.done():
                future.set_result(time.perf_counter())
        self._tail = seen[-32:]

    async def key(self, key: bytes, until: bytes) -> float:
        """Press `key`; milliseconds until `until` is written. Raises TimeoutError."""
        future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        entry = (until, future)
        self._waiting.append(entry)
        began = time.perf_counter()
        os.write(self._fd, key)
        try:
            async with asyncio.timeout(KEY_TIMEOUT_S):
                return (await future - began) * 1e3
        finally:
            self._waiting.remove(entry)

    def cpu_s(self) -> float:
        """Processor time that the monitor has used, user and system."""
        return processor_s(self.pid)

    def press(self, key: bytes) -> None:
        """Press `key`, whatever comes of it."""
        os.write(self._fd, key)

    async def stop(self) -> None:
        """End it as a closed terminal does."""
        asyncio.get_running_loop().remove_reader(self._fd)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, 15)
        for _ in range(100):
            with contextlib.suppress(OSError):
                os.read(self._fd, 1 << 16)
            if os.waitpid(self.pid, os.WNOHANG)[0]:  # noqa: ASYNC222 (it does not wait)
                break
            await asyncio.sleep(0.05)
        else:
            os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)  # noqa: ASYNC222 (it was killed)
        os.close(self._fd)


@dataclass(slots=True)
class Cost:
    """Of all segments with the monitor."""

    cpu_share: list[float] = field(default_factory=list)
    frames_per_s: list[float] = field(default_factory=list)
    key_ms: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)


async def bench_monitor(
    settings: Settings, replicates: int, seconds: float, json_file: Path | None, console: Console
) -> None:
    """`replicates` times segments of `seconds` without, with, with, without the monitor. Prints and writes the rows."""
    cost = Cost()
    async with _counted_swarm(settings) as (session, client):
        throughput = throughput_of(session, client)
        for _ in range(replicates):
            await _segment(throughput, seconds, cost, None)
            screen = Screen(session)
            screen.start()
            await asyncio.sleep(SETTLE_S)
            for _ in range(2):
                await _segment(throughput, seconds, cost, screen)
            await screen.stop()
            await asyncio.sleep(1.0)
            await _segment(throughput, seconds, cost, None)
    rows = throughput.rows("monitor", "headless") + _rows(cost)
    console.print(table_of(f"the monitor at pace {settings.pace}", rows))
    if json_file is not None:
        write_rows(json_file, {**settings.model_dump(), "columns": COLUMNS, "rows": ROWS}, rows)


@asynccontextmanager
async def _counted_swarm(settings: Settings) -> AsyncIterator[tuple[Session, SwarmClient]]:
    """A swarm that trades, and who counts its cycles. Raises SessionError when it does not come to trade."""
    session = create_session(settings)
    started = start_swarm(settings, owned=True, session=session)
    client = SwarmClient(session, owns_swarm=True, push_interval_s=COUNTING_PUSH_S)
    try:
        await client.connect()
        deadline = time.monotonic() + START_TIMEOUT_S
        while client.snapshot().cycles_total < FIRST_CYCLES:
            if client.phase.startswith("failed") or time.monotonic() > deadline:
                raise SessionError(f"no {FIRST_CYCLES} cycles yet: {client.phase or 'no word from the swarm'}")
            await asyncio.sleep(0.2)
        yield session, client
    finally:
        await client.close()
        await stop_session(session)
        await asyncio.to_thread(started.supervisor.wait)


async def soak_monitor(settings: Settings, seconds: float, json_file: Path | None, console: Console) -> None:
    """One monitor attached for so long, keys pressed now and then: its memory and the nodes', as time goes by.

    Caches and histories fill first: the rows compare the second quarter with the last one. Raises SessionError when
    the swarm does not come to trade, or `seconds` are too few to have quarters.
    """
    if seconds < SOAK_S_MIN:
        raise SessionError(f"a soak of {seconds:g} s has no quarters to compare; want {SOAK_S_MIN:g} s or more")
    samples: dict[str, list[float]] = {}
    async with _counted_swarm(settings) as (session, client):
        screen = Screen(session)
        screen.start()
        await asyncio.sleep(SETTLE_S)
        first, ends_at = client.snapshot().cycles_total, time.monotonic() + seconds
        state = session.running()
        assert state is not None
        pids = {"monitor": screen.pid, **{each.name: each.pid for each in state.processes if each.pid}}
        while time.monotonic() < ends_at:
            for name, pid in pids.items():
                samples.setdefault(name, []).append(resident_mb(pid))
            for key in SOAK_KEYS:
                screen.press(key)
            await asyncio.sleep(SOAK_SAMPLE_S)
        cycles = client.snapshot().cycles_total - first
        await screen.stop()
    rows = [Row("soak.cycles", "cycles", cycles)]
    for name, mb in samples.items():
        quarter = len(mb) // 4
        late, early = mb[-quarter:], mb[quarter : 2 * quarter]
        rows.append(row_of_pairs(f"soak.{name}", "MB, last quarter", late, "second quarter", early))
    console.print(table_of(f"attached at full rate for {seconds:g} s", rows))
    if json_file is not None:
        write_rows(json_file, {**settings.model_dump(), "soak_s": seconds}, rows)


async def _segment(throughput: Throughput, seconds: float, cost: Cost, screen: Screen | None) -> None:
    """One segment; with a screen, keys are pressed after it."""
    beginning = throughput.begin()
    if screen is None:
        await asyncio.sleep(seconds)
    else:
        cpu, frames = screen.cpu_s(), screen.frames
        await asyncio.sleep(seconds)
        elapsed = time.perf_counter() - beginning.at_s
        cost.cpu_share.append((screen.cpu_s() - cpu) / elapsed)
        cost.frames_per_s.append((screen.frames - frames) / elapsed)
    await throughput.end(beginning, present=screen is not None)
    if screen is not None:
        cost.memory_mb.append(resident_mb(screen.pid))
        for _ in range(6):
            for key, word in ((b" ", b"FROZEN"), (b" ", b"freeze")):
                cost.key_ms.append(await screen.key(key, word))
                await asyncio.sleep(KEY_INTERVAL_S)


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def _rows(cost: Cost) -> list[Row]:
    return [
        Row("monitor.cpu_share", "of a core", statistics.median(cost.cpu_share)),
        Row("monitor.frames_per_s", "1/s", statistics.median(cost.frames_per_s)),
        Row("monitor.key_ms_p50", "ms", statistics.median(cost.key_ms)),
        Row("monitor.memory_mb", "MB", statistics.median(cost.memory_mb)),
    ]
