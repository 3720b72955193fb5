"""Random faults on a real swarm that trades at full load: `verify` is clean after each."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest

from core.session import Session
from core.verify import verify
from tests.integration.books import check_books
from tests.integration.swarm import RunningSwarm, running_swarm

pytestmark = [pytest.mark.swarm, pytest.mark.timeout(900), pytest.mark.prove]

FAULTS_EACH = 25
TOGGLES = ("optimised", "b,m=bft,p", "b,m=raft,p,c,o", "optimised")


async def one_fault(swarm: RunningSwarm, source: random.Random) -> str:
    """Kill one process, two at once, or press keys meanwhile; the swarm must then trade on."""
    kind = source.choice(["venue", "gateway", "leader", "follower", "both ends", "venue"])
    leader = swarm.snapshot().leader
    nodes = [status.node for status in swarm.snapshot().nodes]
    if kind == "both ends":
        swarm.kill("venue")
        swarm.kill("gateway")
    elif kind in ("leader", "follower"):
        victims = [node for node in nodes if (node == leader) == (kind == "leader")] or nodes
        swarm.kill(f"node-{source.choice(victims)}")
    else:
        swarm.kill(kind)
    await asyncio.sleep(source.uniform(0, 0.5))
    return kind


@pytest.mark.parametrize("seed", range(8))
def test_random_faults(tmp_path: Path, seed: int) -> None:
    source = random.Random(seed)
    kinds: Counter[str] = Counter()

    async def work() -> Session:
        flags = {
            "toggles": TOGGLES[seed % len(TOGGLES)],
            "venue_drop_rate": 0.002,
            "venue_disconnect_rate": 0.002,
            "venue_reject_rate": 0.02,
            "venue_jitter_ms": 1.0,
            "restart_delay_ms": 100,
            "kill_after_link_loss_s": 0,  # a busy machine may take longer to start a venue; this is not about that
        }
        async with running_swarm(tmp_path, **flags) as swarm:
            for _ in range(FAULTS_EACH):
                kinds[await one_fault(swarm, source)] += 1
                await swarm.cycles(2, timeout_s=90)
                verdict = await asyncio.to_thread(verify, swarm.session)
                assert verdict.findings == []
            # Stopped under full load, right after a fault: the stop itself must leave nothing in doubt.
            return swarm.session

    session = asyncio.run(work())
    assert sum(kinds.values()) == FAULTS_EACH
    check_books(session, settled=False)
