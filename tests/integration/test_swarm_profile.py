"""The leader of a real swarm, sampled under two settings while it trades."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from core.folded_stacks import flame
from core.toggles import BASELINE, OPTIMISED
from tests.integration.swarm import running_swarm

pytestmark = [pytest.mark.swarm, pytest.mark.prove]


def test_a_pair_of_profiles_names_functions_and_puts_the_toggles_back(tmp_path: Path) -> None:
    async def sitting() -> None:
        async with running_swarm(tmp_path, toggles="optimised") as swarm:
            await swarm.cycles(5)
            told: list[str] = []
            folder, diff = await swarm.client.export_pair(
                tmp_path / "profiles", "<svg/>", 1.0, BASELINE, OPTIMISED, told.append
            )
            assert told == []
            assert swarm.client.snapshot().toggles == OPTIMISED
            names = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
            assert names >= {
                "a/profile.folded",
                "b/profile.html",
                "diff.csv",
                "spans.csv",
                "spans.parquet",
                "screen.svg",
            }
            assert diff.first_decisions > 0
            assert diff.second_decisions > 0
            assert any("cycle.py" in each.function for each in diff.functions)
            sampled = flame((folder / "b" / "profile.folded").read_bytes())
            assert sampled.total_us >= 300_000
            await swarm.cycles(3)
            assert swarm.client.cycles[-1].toggles == OPTIMISED
            print([(f.function, round(f.first_us), round(f.second_us)) for f in diff.functions[:8]])

    asyncio.run(sitting())
