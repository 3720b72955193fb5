"""Faults that an operator switches on a running swarm: each is real, named, survived, and over when it is restored."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from core.faults import Fault
from core.session import SessionError
from tests.integration.swarm import RunningSwarm, running_swarm, until

pytestmark = [pytest.mark.swarm, pytest.mark.prove]


def lag(swarm: RunningSwarm, node: int) -> int:
    """Entries that the node is behind the most advanced one."""
    replicas = {each.node: each.replica for each in swarm.snapshot().nodes if each.replica is not None}
    return max(replica.commit_index for replica in replicas.values()) - replicas[node].commit_index


def reachable(swarm: RunningSwarm, node: int) -> bool:
    return next(each.reachable for each in swarm.snapshot().nodes if each.node == node)


def test_faults_are_real_named_and_over_when_restored(tmp_path: Path) -> None:
    async def sitting() -> None:
        async with running_swarm(tmp_path, toggles="optimised") as swarm:
            client = swarm.client
            await swarm.cycles(5)
            leader = swarm.snapshot().leader
            victim = next(node for node in range(4) if node != leader)
            said = await client.set_fault(victim, Fault.CUT)
            assert said == f"node {victim} is cut off"
            await until(lambda: f"fault: node {victim} is cut off" in swarm.snapshot().captions, 5, "the caption")
            await swarm.cycles(15)
            assert lag(swarm, victim) >= 10, "nothing reaches it"
            await client.set_fault(victim, Fault.NONE)
            await until(lambda: lag(swarm, victim) < 10, 30, "it catches up")
            assert not any(caption.startswith("fault") for caption in swarm.snapshot().captions)
            memory, decided = dict(swarm.snapshot().denials).get("memory", 0), swarm.snapshot().decisions_total
            assert await client.set_fault(victim, Fault.LYING) == f"node {victim} lies about what it judges"
            await swarm.cycles(15)
            assert f"fault: node {victim} lies about what it judges" in swarm.snapshot().captions
            # It vetoes nearly all; what is denied, an honest node whose memory is a moment older or newer vetoed, too.
            denied = dict(swarm.snapshot().denials).get("memory", 0) - memory
            decided = swarm.snapshot().decisions_total - decided
            assert decided >= 200
            assert denied <= decided / 10, "one liar alone denies nothing"
            await client.set_fault(victim, Fault.PAUSED)
            await until(lambda: not reachable(swarm, victim), 5, "a paused process is unreachable")
            assert f"fault: node {victim} is paused" in swarm.snapshot().captions
            await swarm.cycles(5)
            await client.set_fault(victim, Fault.NONE)
            await until(lambda: reachable(swarm, victim), 10, "it goes on")
            pid = swarm.pid(f"node-{victim}")
            await client.kill_node(victim)
            await until(lambda: swarm.pid(f"node-{victim}") != pid and reachable(swarm, victim), 60, "started again")
            with pytest.raises(SessionError, match="node 9"):
                await client.kill_node(9)
            began = time.monotonic()
            trace = await client.trace()
            while len({work.node for work in trace.work}) < 4:
                assert time.monotonic() - began < 20, "every node says what it did, also the one that came back"
                await swarm.cycles(5)
                trace = await client.trace()
            assert trace.cycles[-1].leader == swarm.snapshot().leader
            assert all(cycle.start_ns <= a <= b for cycle in trace.cycles for _, a, b in cycle.intervals if b)
            await swarm.told("fault on purpose: is cut off")

    asyncio.run(sitting())
