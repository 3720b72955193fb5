"""The supervisor's order of business at a stop."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from core.config import load_settings, write_settings
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
