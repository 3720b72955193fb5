"""A node's host stops answering: a monitor on a real terminal says so within two seconds, and when it is back."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from core.push_schedule import PUSH_INTERVAL_S
from core.swarm_news import STALE_AFTER_S
from core.transport import monitor_transport_settings
from tests.integration.swarm import running_swarm, until
from tests.tui.terminal import Terminal
from tui.app import TICK_S

HERE = {"PYTHONPATH": str(Path(__file__).parents[2])}
SHOWN_WITHIN_S = 2.0


def test_the_limits_add_up_to_less_than_two_seconds() -> None:
    """A link is closed by the first sweep past `dead_after_s`; a node that is linked and mute is stale after more."""
    settings = monitor_transport_settings(PUSH_INTERVAL_S)
    assert settings.dead_after_s + settings.heartbeat_s / 2 + TICK_S < SHOWN_WITHIN_S
    assert STALE_AFTER_S + TICK_S < SHOWN_WITHIN_S
    assert settings.unanswered_dial_s + settings.redial_max_s < SHOWN_WITHIN_S, "and so it comes back"


@pytest.mark.swarm
@pytest.mark.prove
@pytest.mark.timeout(300)
def test_an_unreachable_node_is_shown_within_two_seconds_and_comes_back_by_itself(tmp_path: Path) -> None:
    async def sitting() -> None:
        async with running_swarm(tmp_path, toggles="optimised") as swarm:
            attach = [sys.executable, "-m", "tui.commands", "attach", "--session", str(swarm.session.directory)]
            with Terminal(attach, 120, 40, HERE) as monitor:

                def shows(word: str, on: Terminal = monitor) -> Callable[[], bool]:
                    return lambda: (on.pump(0.02), word in on.text())[1]

                await until(shows("cycles/s"), 60, "the monitor draws")
                victim = next(node for node in range(4) if node != swarm.snapshot().leader)
                pid = swarm.pid(f"node-{victim}")
                before = swarm.last_cycle
                os.kill(pid, signal.SIGSTOP)  # nothing answers, nothing is closed: as when its host is gone
                try:
                    gone_s = await until(shows(f"node {victim} is unreachable"), 10, "it is said")
                    await swarm.cycles(10)
                    with Terminal([*attach, "--read-only"], 120, 40, HERE) as late:
                        unheard = shows(f"node {victim} is unreachable", late)
                        await until(unheard, 30, "who attaches now is told of a node that it never heard")
                        await until(shows("never heard", late), 5, "and in its row, too")
                finally:
                    os.kill(pid, signal.SIGCONT)
                began = time.monotonic()
                await until(lambda: not shows(f"node {victim} is unreachable")(), 20, "it is back")
                back_s = time.monotonic() - began
                print(f"unreachable shown after {gone_s:.2f} s, back after {back_s:.2f} s")
                assert swarm.last_cycle > before + 10
                assert gone_s <= SHOWN_WITHIN_S

    asyncio.run(sitting())
