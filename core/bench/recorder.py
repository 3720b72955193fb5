"""What recording costs: throughput with and without the recorder process, interleaved on one swarm. A ratio of 0.98
is a cost of 2 %.

The recorder is the supervised one's program, started and stopped here. Whoever counts the cycles is attached all the
time and asks for news once a second, on both sides.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from pathlib import Path

from rich.console import Console

from core.attach import SwarmClient, stop_session
from core.bench.processor import processor_s
from core.bench.rows import Row, table_of, write_rows
from core.bench.throughput import COUNTING_PUSH_S, Throughput, throughput_of
from core.commands.start import start_swarm
from core.config import Settings
from core.recorder import recording_file
from core.session import Session, SessionError, create_session

SETTLE_S = 8.0
"""A recorder that starts first takes in the cycles that the nodes still keep."""
START_TIMEOUT_S = 180.0


class RecorderProcess:
    """The recorder of a session whose supervisor starts none."""

    def __init__(self, session: Session, mb_max: int) -> None:
        self._session = session
        self._mb_max = mb_max
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Returns once it records. Raises SessionError when it does not come up."""
        pipe = asyncio.subprocess.PIPE
        with (self._session.folder("log") / "recorder.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "core.process", "recorder", str(self._session.directory), str(self._mb_max),
                stdin=pipe, stdout=pipe, stderr=log,
            )  # fmt: skip
        assert self._process.stdout is not None
        if (await self._process.stdout.readline()).strip() != b"ready":
            raise SessionError(f"the recorder did not start; see {self._session.folder('log') / 'recorder.log'}")

    def cpu_s(self) -> float:
        """Processor time that it has used, user and system."""
        assert self._process is not None
        return processor_s(self._process.pid)

    async def stop(self) -> None:
        """As the supervisor does; safe to call twice."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()


async def bench_recorder(
    settings: Settings, replicates: int, seconds: float, json_file: Path | None, console: Console
) -> None:
    """`replicates` times segments of `seconds` without, with, with, without recording. Prints and writes the rows.

    Raises SessionError when swarm or recorder does not start.
    """
    without = settings.model_copy(update={"recording_mb_max": 0})
    session = create_session(without)
    started = start_swarm(without, owned=True, session=session)
    client = SwarmClient(session, owns_swarm=True, push_interval_s=COUNTING_PUSH_S)
    recorder = RecorderProcess(session, settings.recording_mb_max or 500)
    cpu_share: list[float] = []
    try:
        await client.connect()
        await _first_cycles(client)
        throughput = throughput_of(session, client)
        for _ in range(replicates):
            await _segment(throughput, seconds)
            await recorder.start()
            await asyncio.sleep(SETTLE_S)
            cpu_share += [await _segment(throughput, seconds, recorder) for _ in range(2)]
            await recorder.stop()
            await asyncio.sleep(1.0)
            await _segment(throughput, seconds)
        recorded_mb = recording_file(session).stat().st_size / 1e6
    finally:
        await recorder.stop()
        await client.close()
        await stop_session(session)
        await asyncio.to_thread(started.supervisor.wait)
    rows = [
        *throughput.rows("recorder", "not recording"),
        Row("recorder.cpu_share", "of a core", statistics.median(cpu_share)),
        Row("recorder.file_mb", "MB", recorded_mb),
    ]
    console.print(table_of(f"recording at pace {settings.pace}", rows))
    if json_file is not None:
        write_rows(json_file, settings.model_dump(), rows)


async def _first_cycles(client: SwarmClient) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while client.snapshot().cycles_total < 20:
        if client.phase.startswith("failed") or time.monotonic() > deadline:
            raise SessionError(f"no 20 cycles yet: {client.phase or 'no word from the swarm'}")
        await asyncio.sleep(0.2)


async def _segment(throughput: Throughput, seconds: float, recorder: RecorderProcess | None = None) -> float:
    """One segment; the recorder's share of a core in it, 0 where there is none."""
    beginning = throughput.begin()
    cpu_s = recorder.cpu_s() if recorder is not None else 0.0
    await asyncio.sleep(seconds)
    used_s = recorder.cpu_s() - cpu_s if recorder is not None else 0.0
    elapsed_s = time.perf_counter() - beginning.at_s
    await throughput.end(beginning, present=recorder is not None)
    return used_s / elapsed_s
