"""A real session is recorded beside the trading, and its replay shows what the monitor showed, byte for byte."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from core.profile_export import write_spans
from core.recorder import recording_file
from core.recording import Recording
from core.replay import Replay, write_csv
from tests.integration.swarm import running_swarm, until

pytestmark = pytest.mark.swarm


def test_replay_shows_the_figures_that_live_showed(tmp_path: Path) -> None:
    async def sitting() -> tuple[int, Path]:
        async with running_swarm(tmp_path, toggles="optimised") as swarm:
            await until(lambda: recording_file(swarm.session).exists(), 60, "the recorder")
            await swarm.cycles(40)
            os.kill(swarm.pid("recorder"), signal.SIGKILL)
            await swarm.cycles(40)
            snapshot = swarm.snapshot()
            write_spans(tmp_path / "live.csv", snapshot)
            await until(lambda: any("recorder: started again" in event for event in swarm.events()), 60, "the recorder")
            await asyncio.sleep(2.5)
            return snapshot.cycles[-1].cycle, recording_file(swarm.session)

    cycle, path = asyncio.run(sitting())
    replay = Replay(Recording(path, read_only=True), 1.0)
    write_csv(replay, cycle, tmp_path / "replayed.csv")
    assert (tmp_path / "replayed.csv").read_bytes() == (tmp_path / "live.csv").read_bytes()
    replay.seek(replay.last_ns)
    end = replay.snapshot()
    assert [record.cycle for record in end.cycles] == list(range(1, len(end.cycles) + 1)), "no cycle is missing"
    assert len(end.nodes) == 4
    assert end.orders
    assert any("leads" in event.text for event in end.events)
