"""Nodes that were away for longer than the logs of the others reach back: down, and with a lost disk."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from rich.console import Console

from core.commands.members import add_node, remove_node
from core.records import NodeStatus
from tests.integration.swarm import RunningSwarm, running_swarm, until

pytestmark = [pytest.mark.swarm, pytest.mark.timeout(400)]

INTERVAL = 32


def status_of(swarm: RunningSwarm, node: int) -> NodeStatus:
    return next(status for status in swarm.snapshot().nodes if status.node == node)


def is_up_to_date(swarm: RunningSwarm, node: int) -> bool:
    statuses = [status.replica for status in swarm.snapshot().nodes if status.reachable and status.replica]
    best = max(replica.commit_index for replica in statuses)
    replica = status_of(swarm, node).replica
    return status_of(swarm, node).reachable and replica is not None and replica.commit_index >= best - 8


def votes(swarm: RunningSwarm, node: int) -> bool:
    replica = status_of(swarm, node).replica
    return replica is not None and replica.role not in ("learner", "removed")


async def away(swarm: RunningSwarm, node: int, lose_disk: bool) -> None:
    """Kill `node`, let the others cut their logs twice beyond what it holds, and wait until it is back."""
    swarm.kill(f"node-{node}")
    if lose_disk:
        (swarm.session.folder(f"node-{node}") / "log").unlink()
    replica = next(status.replica for status in swarm.snapshot().nodes if status.node != node)
    assert replica is not None
    killed_at = replica.commit_index
    await until(
        lambda: min(s.replica.first_index for s in swarm.snapshot().nodes if s.node != node and s.replica) > killed_at,
        60,
        f"the others cut their logs beyond {killed_at} ({swarm.events()[-5:]})",
    )
    restored = [f"node {node}: restored from the snapshot at entry" in event for event in swarm.events()].count(True)

    def is_back() -> bool:
        events = [event for event in swarm.events() if f"node {node}: restored from the snapshot" in event]
        return len(events) > restored and is_up_to_date(swarm, node)

    await until(is_back, 60, f"node {node} goes on from a snapshot ({swarm.events()[-8:]})")


@pytest.mark.parametrize("mode", ["raft", pytest.param("bft", marks=pytest.mark.prove)])
def test_a_node_that_was_down_and_one_without_its_disk_catch_up_by_snapshot(tmp_path: Path, mode: str) -> None:
    async def run() -> None:
        flags = {"checkpoint_interval_entries": INTERVAL, "restart_delay_ms": 8_000, "durability": "strict"}
        async with running_swarm(tmp_path, toggles=f"b,s,p,c,o,m={mode}", **flags) as swarm:
            await swarm.cycles(5)
            await away(swarm, 3, lose_disk=False)
            before = swarm.last_cycle
            await away(swarm, 2, lose_disk=True)
            assert swarm.last_cycle > before, "trading went on"
            await swarm.told("the log is gone")
            await until(lambda: votes(swarm, 2), 60, "node 2 votes again")
            assert not any("another state" in event for event in swarm.events())

    asyncio.run(run())


@pytest.mark.parametrize("mode", [pytest.param("raft", marks=pytest.mark.prove), "bft"])
def test_a_new_node_joins_by_snapshot_trades_and_leaves_again(tmp_path: Path, mode: str) -> None:
    async def run() -> None:
        flags = {"checkpoint_interval_entries": INTERVAL}
        console = Console(quiet=True)
        async with running_swarm(tmp_path, toggles=f"b,s,p,c,o,m={mode}", **flags) as swarm:
            await until(lambda: status_of(swarm, 0).replica.first_index > INTERVAL, 60, "logs are cut")
            before = swarm.last_cycle
            assert await add_node(swarm.session, console) == 4
            await swarm.cycles(10)
            assert swarm.last_cycle > before
            assert votes(swarm, 4)
            await swarm.told("node 4: restored from the snapshot")
            await swarm.told("counts signatures of nodes 0, 1, 2, 3, 4")
            # One of the first four may fail now, and may go for good.
            await remove_node(swarm.session, 0, console)
            await swarm.cycles(10)
            assert status_of(swarm, 4).replica.voters == (1, 2, 3, 4)
            wrong = [event for event in swarm.events() if "refused orders" in event or "another state" in event]
            assert wrong == []

    asyncio.run(run())
