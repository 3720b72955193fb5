"""The supervisor's order of business at a stop."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from core.config import load_settings, write_settings
from core.faults import Fault
from core.session import Session
from core.supervisor import Child, Supervisor


def stopped_supervisor(folder: Path, **flags: object) -> Supervisor:
    session, settings = Session(folder), load_settings(**flags)
    write_settings(settings, session.settings_file)
    return Supervisor(session, settings)


def test_the_recorder_outlives_the_gateway_whose_last_orders_it_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages: list[list[str]] = []

    async def note(self: Supervisor, children: list[Child], more_s: float = 0.0) -> None:
        stages.append([child.name for child in children])

    monkeypatch.setattr(Supervisor, "_stop_stage", note)
    supervisor = stopped_supervisor(tmp_path)
    asyncio.run(supervisor._stop_children())
    assert stages == [[f"node-{k}" for k in range(4)], ["gateway"], ["recorder"], ["venue"]]
    stages.clear()
    supervisor = stopped_supervisor(tmp_path, recording_mb_max=0, venue_address="wss://127.0.0.1:1/")
    asyncio.run(supervisor._stop_children())
    assert [name for stage in stages for name in stage] == [*(f"node-{k}" for k in range(4)), "gateway"]


def test_a_pause_does_not_outlive_the_swarm_whose_process_was_paused(tmp_path: Path) -> None:
    supervisor = stopped_supervisor(tmp_path)
    session = Session(tmp_path)
    session.set_fault(1, Fault.PAUSED)
    session.set_fault(2, Fault.SILENT)
    supervisor.stop()
    asyncio.run(supervisor.run())
    assert session.read_faults() == {2: Fault.SILENT}, "a node that starts is silent again, and never paused"
