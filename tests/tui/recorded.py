"""A recorded sitting of a real swarm, for the pictures of the monitor: `python -m tests.tui.recorded` records it anew.

Every figure in the pictures was measured: the baseline for a while, then the optimised preset, on the machine that the
recording names. Replaying it is deterministic.
"""

from __future__ import annotations

import asyncio
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack

from core.book_ladder import BookLadder
from core.cycle_trace import SwarmTrace
from core.faults import Fault
from core.records import CycleRecord, SwarmSnapshot
from core.snapshot_record import pack_snapshot, snapshot_from_dict
from core.telemetry_messages import cycle_from_dict, cycle_to_dict
from core.toggles import Toggles
from tests.integration.swarm import running_swarm

RECORDING = Path(__file__).with_name("sitting.msgpack.z")
BASELINE_CYCLES = 60
OPTIMISED_CYCLES = 240


def save(snapshot: SwarmSnapshot, ladder: BookLadder, folded: bytes, path: Path = RECORDING) -> None:
    """Write a snapshot with all its cycles, a book, and the leader's sampled stacks."""
    values = msgpack.unpackb(pack_snapshot(snapshot))
    values["ladder"], values["folded"] = ladder.to_dict(), folded
    values["cycles"] = [cycle_to_dict(record) for record in snapshot.cycles]
    path.write_bytes(zlib.compress(msgpack.packb(values), 9))


def load(path: Path = RECORDING) -> tuple[SwarmSnapshot, BookLadder | None, bytes | None]:
    """What `save` wrote; older recordings hold no book and no stacks."""
    values: dict[str, Any] = msgpack.unpackb(zlib.decompress(path.read_bytes()))
    book, folded = values.pop("ladder", None), values.pop("folded", None)
    cycles = tuple(cycle_from_dict(row) for row in values["cycles"])
    ladder = None if book is None else BookLadder.from_dict(book)
    return replace(snapshot_from_dict(values), cycles=cycles), ladder, folded


class RecordedClient:
    """Plays the recording to the monitor: `show(n)` makes the snapshot as of its first n cycles the present one."""

    owns_swarm = True
    may_stop = True
    seekable = False
    read_only = False

    operator: int | None = None

    def __init__(self, recording: SwarmSnapshot, ladder: BookLadder | None = None) -> None:
        self._recording = recording
        self._ladder = ladder
        self._snapshot = recording
        self.length = len(recording.cycles)

    def show(self, cycles: int) -> None:
        seen = self._recording.cycles[:cycles]
        last = seen[-1]
        self._snapshot = replace(
            self._recording,
            taken_ns=last.started_ns + round(last.wall_ms * 1e6),
            cycles=seen,
            cycles_total=last.cycle,
            toggles=last.toggles,
        )

    @property
    def now_ns(self) -> int:
        return self._snapshot.taken_ns

    def snapshot(self) -> SwarmSnapshot:
        return self._snapshot

    @property
    def cycles(self) -> Sequence[CycleRecord]:
        return self._snapshot.cycles

    async def set_toggles(self, toggles: Toggles) -> str:
        raise RuntimeError("this is a recording")

    async def ladder(self, instrument: str, levels: int) -> BookLadder:
        if self._ladder is None or self._ladder.instrument != instrument:
            raise RuntimeError("this is a recording")
        return self._ladder

    async def trace(self) -> SwarmTrace:
        raise RuntimeError("this is a recording")

    async def kill_node(self, node: int) -> str:
        raise RuntimeError("this is a recording")

    async def set_fault(self, node: int, fault: Fault) -> str:
        raise RuntimeError("this is a recording")

    def keep_experiment(self, values: dict[str, object]) -> None:
        raise RuntimeError("this is a recording")

    async def press(self, key: str) -> str:
        return f"{key}: this is a recording"

    async def export_profile(self, directory: Path, svg: str, seconds: float) -> Path:
        raise RuntimeError("this is a recording")

    async def stop_swarm(self) -> None:
        return

    async def close(self) -> None:
        return


async def record() -> None:
    """Run a swarm under the baseline, press 9, and keep what its monitor saw."""
    with tempfile.TemporaryDirectory() as folder:
        async with running_swarm(Path(folder)) as swarm:
            await swarm.cycles(BASELINE_CYCLES, 300)
            print(await swarm.client.press("9"))
            await swarm.cycles(OPTIMISED_CYCLES, 300)
            await asyncio.sleep(0.5)
            snapshot = swarm.snapshot()
            ladder = await swarm.client.ladder(snapshot.positions[0].instrument, 25)
            folded = (await swarm.client.profile(2.0))["files"]["profile.folded"]
            save(replace(snapshot, session="recording", settings={}), ladder, folded)
    print(f"{len(snapshot.cycles)} cycles in {RECORDING}, {RECORDING.stat().st_size} bytes")


if __name__ == "__main__":
    asyncio.run(record())
