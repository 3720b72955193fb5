"""A recorded sitting of a real swarm, for the pictures of the monitor: `python -m tests.tui.recorded` records it anew.

Every figure in the pictures was measured: the baseline for a while, then the optimised preset, on the machine that the
recording names. Replaying it is deterministic.
"""

from __future__ import annotations

import asyncio
import tempfile
import zlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgpack

from core.records import (
    EventRow,
    NodeStatus,
    OrderRow,
    OrderState,
    PeerLink,
    PositionRow,
    Severity,
    SwarmSnapshot,
    VenueState,
)
from core.telemetry_messages import cycle_from_dict, cycle_to_dict
from core.toggles import from_dict
from net.consensus import ReplicaStatus
from net.messages import Mode
from tests.integration.swarm import running_swarm

RECORDING = Path(__file__).with_name("sitting.msgpack.z")
BASELINE_CYCLES = 60
OPTIMISED_CYCLES = 240


def save(snapshot: SwarmSnapshot, path: Path = RECORDING) -> None:
    """Write a snapshot with all its cycles."""
    values = asdict(replace(snapshot, cycles=()))
    values["toggles"] = snapshot.toggles.as_dict()
    values["cycles"] = [cycle_to_dict(record) for record in snapshot.cycles]
    path.write_bytes(zlib.compress(msgpack.packb(values), 9))


def load(path: Path = RECORDING) -> SwarmSnapshot:
    """The snapshot that `save` wrote."""
    values: dict[str, Any] = msgpack.unpackb(zlib.decompress(path.read_bytes()))
    values["cycles"] = tuple(cycle_from_dict(row) for row in values["cycles"])
    values["toggles"] = from_dict(values["toggles"])
    values["venue"] = VenueState(values["venue"])
    values["nodes"] = tuple(_node(row) for row in values["nodes"])
    values["orders"] = tuple(OrderRow(**{**row, "state": OrderState(row["state"])}) for row in values["orders"])
    values["positions"] = tuple(PositionRow(**row) for row in values["positions"])
    values["events"] = tuple(EventRow(**{**row, "severity": Severity(row["severity"])}) for row in values["events"])
    values["captions"] = tuple(values["captions"])
    values["instruments"] = tuple(values["instruments"])
    return SwarmSnapshot(**values)


def _node(row: dict[str, Any]) -> NodeStatus:
    replica = row["replica"]
    matches = tuple((peer, index) for peer, index in replica["peer_match_index"])
    replica |= {"mode": Mode(replica["mode"]), "peer_match_index": matches, "evidence": tuple(replica["evidence"])}
    links = tuple(PeerLink(**link) for link in row["links"])
    return NodeStatus(**{**row, "replica": ReplicaStatus(**replica), "links": links})


class RecordedClient:
    """Plays the recording to the monitor: `show(n)` makes the snapshot as of its first n cycles the present one."""

    owns_swarm = True

    def __init__(self, recording: SwarmSnapshot) -> None:
        self._recording = recording
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
            save(replace(snapshot, session="recording", settings={}))
    print(f"{len(snapshot.cycles)} cycles in {RECORDING}, {RECORDING.stat().st_size} bytes")


if __name__ == "__main__":
    asyncio.run(record())
