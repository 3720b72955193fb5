"""Toggles of a real swarm whose leader dies, or whose members change, while the mode is being switched."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from core.commands.members import add_node
from core.session import Session
from core.toggle_change import CONSENSUS_OF
from core.toggles import Consensus, Toggles
from tests.integration.books import check_books
from tests.integration.swarm import RunningSwarm, running_swarm, until

pytestmark = [pytest.mark.swarm, pytest.mark.timeout(400)]


def modes(swarm: RunningSwarm) -> set[Consensus]:
    return {CONSENSUS_OF[node.replica.mode] for node in swarm.snapshot().nodes if node.replica is not None}


async def left_half_way(swarm: RunningSwarm) -> None:
    """Interrupt the addition of a node once it is a member, before it has its vote."""

    class Interrupting(io.StringIO):
        def write(self, text: str, /) -> int:
            if "learning the log" in text:
                adding.cancel()
            return super().write(text)

    adding = asyncio.create_task(add_node(swarm.session, Console(file=Interrupting())))
    with pytest.raises(asyncio.CancelledError):
        await adding


async def runs_under(swarm: RunningSwarm, toggles: Toggles) -> None:
    """Wait for a cycle under `toggles`, in the mode that they name, on every node."""
    await until(lambda: swarm.client.cycles[-1].toggles == toggles, 60, f"a cycle under {toggles.label()}")
    await until(lambda: modes(swarm) == {toggles.consensus}, 30, f"every node in mode {toggles.consensus}")
    assert swarm.snapshot().toggles == toggles


def test_a_switch_outlives_its_leader_and_a_change_of_members(tmp_path: Path) -> None:
    async def sitting() -> Session:
        async with running_swarm(tmp_path, toggles="b,m=bft,p") as swarm:
            await swarm.cycles(3)
            before = swarm.snapshot().toggles
            raft = replace(before, consensus=Consensus.RAFT)
            asked = asyncio.create_task(swarm.client.set_toggles(raft))
            await asyncio.sleep(0.05)
            swarm.kill(f"node-{swarm.snapshot().leader}")
            await asked
            # Where the answer was lost with the leader: the same toggles once more change nothing.
            async with asyncio.timeout(60):
                while not (await swarm.client.set_toggles(raft)).startswith("now "):
                    await asyncio.sleep(0.5)
            await runs_under(swarm, raft)
            await left_half_way(swarm)
            adding = asyncio.create_task(add_node(swarm.session, Console(file=io.StringIO())))
            for consensus in (Consensus.BFT, Consensus.AUTO, Consensus.RAFT, Consensus.AUTO):
                await swarm.client.set_toggles(replace(before, consensus=consensus))
                await asyncio.sleep(0.5)
            assert await adding == 4
            await swarm.client.set_toggles(before)
            await runs_under(swarm, before)
            assert not [text for text in swarm.events() if "the cycle failed" in text]
            return swarm.session

    check_books(asyncio.run(sitting()), settled=False)
