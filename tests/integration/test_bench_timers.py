"""`tradetui bench timers` on a real swarm, cut short."""

from __future__ import annotations

import asyncio

import pytest
from rich.console import Console

from core.bench.timers import FUNCTIONS, bench_timers
from core.config import load_settings

pytestmark = [pytest.mark.swarm, pytest.mark.timeout(240)]


@pytest.mark.prove
def test_the_timers_of_a_running_swarm_go_off_and_on_again(tmp_path, monkeypatch):
    monkeypatch.setenv("TRADETUI_HOME", str(tmp_path))
    settings = load_settings(toggles="optimised", recording_mb_max=0)
    work = bench_timers(settings, 1, 5, 3.0, tmp_path / "timers.json", Console(quiet=True))
    rows = {row.name: row for row in asyncio.run(work)}
    assert rows["timers.spans_per_cycle"].ours > 29
    assert 0.0 < rows["timers.expected_share"].ours < 0.2
    assert rows["otlp.off_order_ns"].ours > 0
    assert rows["otlp.request_bytes"].ours > 1_000, "traces of whole cycles were exported"
    for side in ("ours", "theirs"):
        assert sum(getattr(rows[f"timers.share.{span}"], side) for span in FUNCTIONS) == pytest.approx(1.0)
    assert rows["timers.share.pattern_matching_dtw"].theirs > 0.05
