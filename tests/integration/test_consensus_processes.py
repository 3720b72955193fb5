"""Consensus in real processes over QUIC: killed at any moment, switched while it runs, brought back from far behind."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from core.bench.consensus import bench_consensus, cases_of
from core.bench.consensus_cluster import ClusterError, ConsensusCluster, running_cluster, running_epoch
from core.session import OPERATOR_ID
from net.membership import Member, Membership
from net.membership_change import sign_change

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
            try:
                await cluster.switch(dice.choice(cluster.running), mode)
            except ClusterError as error:
                # Its epoch ended between the question and the order: nothing is switched.
                if "SwitchError" not in str(error):
                    raise
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


class Trading:
    """A load that never stops: bursts of a tenth of a second, at whoever leads."""

    def __init__(self, cluster: ConsensusCluster) -> None:
        self._cluster = cluster
        self.decided = 0
        self._stopped = False
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        first_id = 1
        while not self._stopped:
            leader = -1
            try:
                leader = await self._cluster.leader()
                run = await self._cluster.ask(
                    leader, do="load", first_id=first_id, in_flight=8, batch=16, warm_up_s=0.0, seconds=0.1
                )
                self.decided += run["decided"]
            except ClusterError as error:
                # The node that was chosen to be killed may have come to lead, or was about to answer.
                if "is gone" not in str(error):
                    raise
            first_id += 1_000_000

    async def until(self, decided: int) -> None:
        """Wait for that many decisions from now on."""
        wanted = self.decided + decided
        while self.decided < wanted:
            assert not self._task.done(), self._task
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        self._stopped = True
        await self._task


def change_that_adds(cluster: ConsensusCluster, node: int, status: dict[str, Any]) -> bytes:
    """The operator's word that `node` votes from now on."""
    key = next(entry.public_key for entry in cluster.roster.of_role("node") if entry.id == node)
    epoch = running_epoch(status)
    after = Membership((*epoch.membership.members, Member(node, key)))
    return sign_change(epoch, after, None, OPERATOR_ID, cluster.operator.sign)


async def catch_up(folder: Path, mode: str, decisions: int) -> None:
    """A node that was down, a new one and one with a wiped disk catch up by snapshot while the load goes on."""
    settings = {"checkpoint_interval_entries": 64, "batch_payloads": 16}
    async with running_cluster(folder, 4, mode, **settings) as cluster:
        leader = await cluster.leader()
        down, wiped = [node for node in range(4) if node != leader][:2]
        await submit(cluster, list(range(2_000_000_000, 2_000_000_010)), random.Random(1))
        await cluster.kill(down)
        trading = Trading(cluster)
        await trading.until(decisions)

        async def is_back(node: int, away_at: int) -> None:
            def back(statuses: dict[int, dict[str, Any]]) -> bool:
                best = max(status["commit_index"] for status in statuses.values())
                own = statuses.get(node)
                return own is not None and own["restored_at"] > away_at and own["commit_index"] > best - 64

            await cluster.until(back, 120, f"node {node} goes on from a snapshot")

        await cluster.start(down)
        await is_back(down, 0)
        await cluster.start(4)
        status = (await cluster.statuses())[leader]
        await cluster.ask(leader, do="change", change=change_that_adds(cluster, 4, status).hex())
        await is_back(4, 0)
        await cluster.until(lambda statuses: statuses[4]["voters"] == [0, 1, 2, 3, 4], 60, "node 4 votes")
        away_at = (await cluster.statuses())[wiped]["commit_index"]
        await cluster.kill(wiped)
        (folder / f"node-{wiped}" / "log").unlink()
        await trading.until(decisions // 10)
        await cluster.start(wiped)
        await is_back(wiped, away_at)
        before = trading.decided
        await trading.until(100)
        assert trading.decided > before, "trading went on"
        await trading.stop()

        def all_alike(statuses: dict[int, dict[str, Any]]) -> bool:
            return len(statuses) == 5 and len({status["chain"] for status in statuses.values()}) == 1

        await cluster.until(all_alike, 60, "all five nodes hold the same decisions in the same order")


@pytest.mark.parametrize("mode", ["RAFT", "BFT"])
def test_nodes_far_behind_catch_up_by_snapshot_while_decisions_are_made(tmp_path: Path, mode: str) -> None:
    asyncio.run(catch_up(tmp_path / "cluster", mode, 5_000))


@pytest.mark.prove
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mode", ["RAFT", "BFT"])
def test_nodes_a_hundred_thousand_decisions_behind_catch_up(tmp_path: Path, mode: str) -> None:
    asyncio.run(catch_up(tmp_path / "cluster", mode, 100_000))


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
    cases = cases_of(["RAFT", "BFT"], [4], [1], [1], [True])
    asyncio.run(bench_consensus(cases, 1, 0.3, 1, file, Console(quiet=True)))
    document = json.loads(file.read_text())
    settings = document["settings"]
    assert [result["case"]["mode"] for result in settings["results"]] == ["RAFT", "BFT"]
    for result in settings["results"]:
        assert result["decisions_per_s"] > 0
        assert 0 < result["latency_ms_p50"] <= result["latency_ms_p99"]
    assert set(settings["failover_s"]) == {"RAFT", "BFT"}
    assert [row["name"] for row in document["rows"]] == ["raft.durable.1", "bft.durable.1"]
    assert all(row["ours"] > 0 and row["ratio"] is None for row in document["rows"])
