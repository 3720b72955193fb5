"""Cycles are found rarely, and in the monitor often enough that a sitting of changing screens does not grow."""

from __future__ import annotations

import subprocess
import sys
from math import prod

import pytest

from core.garbage_collection import SCREENS

CHANGES_OF_SCREENS = """
import asyncio, gc, sys
from core.garbage_collection import SELDOM, SCREENS, tune_garbage_collection
from tests.tui.test_monitor import monitor
from tui.screens import SCREENS as MODES

async def sitting():
    app, client = monitor(cycles=20)
    async with app.run_test(size=(120, 40)) as pilot:
        tune_garbage_collection(SCREENS if sys.argv[1] == "screens" else SELDOM)
        gc.collect()
        before = len(gc.get_objects())
        most = 0
        for _ in range(25):
            for mode in MODES:
                app.action_show(mode)
                await pilot.pause()
            most = max(most, len(gc.get_objects()) - before)
    print(most)

asyncio.run(sitting())
"""


def most_objects(thresholds: str) -> int:
    """The most that lived beside the app's own, over 150 changes of the screen; in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", CHANGES_OF_SCREENS, thresholds], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_a_quarter_of_a_million_objects_wait_at_most() -> None:
    assert prod(SCREENS) <= 250_000


@pytest.mark.prove
def test_a_sitting_of_changing_screens_leaves_less_that_waits() -> None:
    assert most_objects("screens") < 0.7 * most_objects("seldom")
