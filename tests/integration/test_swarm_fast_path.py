"""The Byzantine fast path in a real swarm: a killed leader, a switch of modes and back, a liar."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from core.config import ConfigError, load_settings
from core.session import Session
from net.durable import CertificateRecord, decode_record
from net.log import DurableLog
from net.messages import Phase
from tests.integration.books import check_books
from tests.integration.swarm import running_swarm, until
from tests.integration.test_swarm import settle
from tui.alerts import accused

pytestmark = [pytest.mark.swarm, pytest.mark.timeout(300)]


def test_a_swarm_on_the_fast_path_survives_its_leader_a_switch_and_a_liar(tmp_path: Path) -> None:
    culprit = 2

    async def sitting() -> Session:
        flags = {"toggles": "b,m=bft,p", "fast_path": True, "fault_equivocate_node": culprit, "cycles": 120}
        async with running_swarm(tmp_path, **flags) as swarm:
            assert "Byzantine fast path" in swarm.snapshot().captions
            await until(lambda: culprit in accused(swarm.snapshot()), 30, "the liar is named")
            leader = swarm.snapshot().leader
            assert leader is not None
            swarm.kill(f"node-{leader}")
            await swarm.cycles(5)
            for wanted in ("raft", "auto", "bft"):
                await swarm.client.press("m")
                await until(lambda mode=wanted: swarm.client.cycles[-1].toggles.consensus == mode, 60, f"mode {wanted}")
                await swarm.cycles(3)
            await until(lambda: swarm.snapshot().cycles_total >= 120, 150, "the last cycle")
            await settle(swarm)
            return swarm.session

    session = asyncio.run(sitting())
    check_books(session)
    records = map(decode_record, DurableLog(session.folder("node-1") / "log", "none").read_all())
    phases = {each.certificate.phase for each in records if isinstance(each, CertificateRecord)}
    assert Phase.FAST in phases
    assert Phase.NOTARIZE not in phases


def test_the_fast_path_is_refused_where_the_nodes_do_not_allow_it() -> None:
    with pytest.raises(ConfigError, match="fast_path needs 4 or 5 nodes, there are 7"):
        load_settings(nodes=7, fast_path=True)
