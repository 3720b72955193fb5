"""One node of a real swarm misbehaves, by a named fault setting: the others see it, say so, and go on trading."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from core.payload import DecisionBatch, decode
from core.session import Session
from net.messages import EntryKind
from tests.integration.books import check_books
from tests.integration.swarm import RunningSwarm, running_swarm, until
from tests.integration.test_swarm import settle
from tui.alerts import accused, alerts

pytestmark = [pytest.mark.swarm, pytest.mark.timeout(200)]


def texts(swarm: RunningSwarm) -> list[str]:
    snapshot = swarm.snapshot()
    return [alert.text for alert in alerts(snapshot, snapshot.taken_ns)]


def test_every_honest_node_keeps_proof_of_an_equivocation_and_the_monitor_names_the_culprit(tmp_path: Path) -> None:
    culprit, honest = 2, [0, 1, 3]

    async def equivocate() -> Session:
        async with running_swarm(tmp_path, toggles="b,m=bft,p", fault_equivocate_node=culprit) as swarm:
            await until(lambda: accused(swarm.snapshot()).get(culprit) == honest, 30, "all honest nodes accuse it")
            assert list(accused(swarm.snapshot())) == [culprit]
            assert any(text.startswith(f"node {culprit} equivocated: signed two") for text in texts(swarm))
            assert f"fault: node {culprit} equivocates" in swarm.snapshot().captions
            # What a node keeps outlives its process.
            swarm.kill("node-3")
            await until(lambda: not _reachable(swarm, 3), 10, "node 3 is away")
            await until(lambda: _reachable(swarm, 3), 60, "node 3 is back")
            assert accused(swarm.snapshot())[culprit] == honest
            await swarm.cycles(5)
            assert not any(status.disagreements for status in swarm.snapshot().nodes)
            await until(lambda: {news.node for news in swarm.snapshot().nodes[0].news} == {1, 2, 3}, 15, "news of all")
            return swarm.session

    session = asyncio.run(equivocate())
    for node in honest:
        rows = [json.loads(line) for line in (session.folder(f"node-{node}") / "evidence.jsonl").open()]
        assert {row["culprit"] for row in rows} == {culprit}
        assert any(row["proof"] and row["reason"].startswith("signed two") for row in rows)
    check_books(session, settled=False)


def _reachable(swarm: RunningSwarm, node: int) -> bool:
    return any(status.node == node and status.reachable for status in swarm.snapshot().nodes)


def test_a_leader_that_proposes_beyond_the_limits_is_replaced_and_nothing_of_it_is_placed(tmp_path: Path) -> None:
    culprit = 0  # leads the first view

    async def propose_too_much() -> Session:
        async with running_swarm(tmp_path, toggles="b,m=bft,p", fault_overlimit_node=culprit, cycles=30) as swarm:
            assert swarm.snapshot().leader != culprit
            misbehaved = "misbehaved: proposed DATA content"
            await until(lambda: any(misbehaved in text for text in texts(swarm)), 5, "who saw it says so")
            await until(lambda: swarm.snapshot().cycles_total >= 30, 120, "the last cycle")
            await settle(swarm)
            return swarm.session

    session = asyncio.run(propose_too_much())
    book = check_books(session)
    batches = [decode(entry.payload) for _, entry in book.entries.values() if entry.kind is EntryKind.DATA]
    proposers = {batch.proposer for batch in batches if isinstance(batch, DecisionBatch)}
    assert proposers
    assert culprit not in proposers
