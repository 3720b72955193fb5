"""The tutorial's commands, as written: each one does what the page says, and what it prints is on the page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.tutorial import BLOCK, PAGE, commands, run_all

pytestmark = [pytest.mark.swarm, pytest.mark.timeout(600)]
SHOWN = {
    "tradetui run": r"100 cycles in \S+ s: \S+ cycles/s, 2000 decisions, (\d+) of \1 orders filled",
    "tradetui verify": r"clean: every decision has its order or denial, and every unit of cash is found",
    "tradetui pnl": r"largest drawdown",
    "tradetui report": r"cycles of first",
    "tradetui compare": r"slower by 5% or more: .*order_placement|no span is surely slower by 5% or more",
    "tradetui experiment": r"b batching on→off: \w+",
    "tradetui export": r"cycles\.parquet",
}
"""What each prints, here and on the page."""


def test_every_command_runs_as_written(tmp_path: Path) -> None:
    page = PAGE.read_text()
    ran = run_all(page, tmp_path)
    last = ran[-1]
    assert not last.code, f"{last.command}\n{last.output}"
    assert [each.command for each in ran] == commands(page)
    for each in ran:
        pattern = next((text for name, text in SHOWN.items() if each.command.startswith(name)), None)
        assert pattern is None or re.search(pattern, " ".join(each.output.split())), f"{each.command}\n{each.output}"
    assert json.loads((tmp_path / "first.json").read_text())["cycles"] == 100
    assert (tmp_path / "first.html").read_text().startswith("<!doctype html>")
    assert (tmp_path / "parquet" / "cycles.parquet").stat().st_size > 0
    assert (tmp_path / "spans.csv").read_text().startswith("span,cycles,count")


def test_the_page_shows_what_each_command_prints() -> None:
    for match in BLOCK.finditer(PAGE.read_text()):
        pattern = next((text for name, text in SHOWN.items() if match["command"].startswith(name)), None)
        if pattern is not None:
            assert match["output"], match["command"]
            assert re.search(pattern, " ".join(match["output"].split())), match["command"]
