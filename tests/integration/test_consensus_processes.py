"""Consensus in real processes over QUIC: killed at any moment, switched while it runs, brought back from far behind."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import pytest
from rich.console import Console

from core.bench.consensus import bench_consensus, cases_of
from core.bench.consensus_cluster import ClusterError, ConsensusCluster, running_cluster

pytestmark = [pytest.mark.swarm, pytest.mark.timeout(600)]

MODES = ("RAFT", "BFT", "AUTO")


async def submit(cluster: ConsensusCluster, ids: list[int], dice: random.Random) -> None:
    """Have `ids` decided, as a client that tries another node where one is gone; each counts once whatever it takes."""
    missing = ids
    for _ in range(200):
        node = dice.choice(cluster.running)
        try:
            await cluster.ask(node, do="propose", ids=missing)
            for _ in range(20):
                await asyncio.sleep(0.05)
                missing = (await cluster.ask(node, do="decided", ids=missing))["missing"]
                if not missing:
                    return
        except ClusterError:
            continue
    raise AssertionError(f"{len(missing)} of {len(ids)} payloads are not decided")


async def switch_and_kill(folder: Path, switches: int, seed: int) -> None:
    """Switch the mode `switches` times under load while nodes are killed and started again; all decide alike."""
    dice = random.Random(seed)
    settings = {"checkpoint_interval_entries": 64, "pending_limit": 4096}
    async with running_cluster(folder, 4, "RAFT", **settings) as cluster:
        submitted = 0
        switched = 0
        while switched < switches:
            mode = dice.choice(MODES)
            ids = list(range(submitted, submitted + dice.randrange(1, 20)))
            submitted += len(ids)
            load = asyncio.create_task(submit(cluster, ids, dice))
            await asyncio.sleep(dice.uniform(0, 0.02))
            before = {node: status["epoch"] for node, status in (await cluster.statuses()).items()}
            await cluster.ask(dice.choice(cluster.running), do="switch", mode=mode)
            if dice.random() < 0.1:
                victim = dice.choice(cluster.running)
                await load
                await cluster.kill(victim)
                await asyncio.sleep(dice.uniform(0, 0.3))
                await cluster.start(victim)
            else:
                await load
            after = {node: status["epoch"] for node, status in (await cluster.statuses()).items()}
            switched += max(after.values()) - max(before.values())
        await cluster.until(lambda statuses: equally_far(statuses, submitted), 60, "all nodes hold all decisions")


def equally_far(statuses: dict[int, dict[str, object]], submitted: int) -> bool:
    """Every payload on every node, in one order."""
    chains = {status["chain"] for status in statuses.values()}
    return (
        len(statuses) == 4 and len(chains) == 1 and {status["decided"] for status in statuses.values()} == {submitted}
    )


def test_modes_switch_under_load_while_nodes_are_killed(tmp_path: Path) -> None:
    asyncio.run(switch_and_kill(tmp_path / "cluster", 12, 1))


@pytest.mark.prove
@pytest.mark.timeout(3600)
def test_five_hundred_switches_under_load_while_nodes_are_killed(tmp_path: Path) -> None:
    asyncio.run(switch_and_kill(tmp_path / "cluster", 500, 2))


@pytest.mark.parametrize("mode", ["RAFT", "BFT"])
def test_a_killed_leader_is_replaced_and_comes_back(tmp_path: Path, mode: str) -> None:
    async def run() -> None:
        async with running_cluster(tmp_path / "cluster", 4, mode) as cluster:
            dice = random.Random(3)
            await submit(cluster, [1, 2, 3], dice)
            leader = await cluster.leader()
            await cluster.kill(leader)
            await submit(cluster, [4, 5, 6], dice)
            assert await cluster.leader() != leader
            await cluster.start(leader)
            await cluster.until(lambda statuses: equally_far(statuses, 6), 30, "it holds what it missed")

    asyncio.run(run())


def test_the_bench_measures_and_leaves_no_process(tmp_path: Path) -> None:
    file = tmp_path / "consensus.json"
    cases = cases_of(["RAFT", "BFT"], [4], [2], [4], [True])
    asyncio.run(bench_consensus(cases, 1, 0.3, 1, file, Console(quiet=True)))
    document = json.loads(file.read_text())
    assert [result["case"]["mode"] for result in document["results"]] == ["RAFT", "BFT"]
    for result in document["results"]:
        assert result["decisions_per_s"] > 0
        assert 0 < result["latency_ms_p50"] <= result["latency_ms_p99"]
    assert set(document["failover_s"]) == {"RAFT", "BFT"}
