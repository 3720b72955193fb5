"""Two monitors on one swarm, on real terminals; one is killed: neither the trading nor the other one takes notice."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.integration.swarm import running_swarm, until
from tests.tui.terminal import Terminal

pytestmark = [pytest.mark.swarm, pytest.mark.prove, pytest.mark.timeout(300)]
HERE = {"PYTHONPATH": str(Path(__file__).parents[2])}


def test_one_of_two_monitors_is_killed_and_trading_goes_on(tmp_path: Path) -> None:
    async def sitting() -> None:
        async with running_swarm(tmp_path, toggles="optimised") as swarm:
            attach = [sys.executable, "-m", "tui.commands", "attach", "--session", str(swarm.session.directory)]
            with Terminal(attach, 120, 40, HERE) as first, Terminal([*attach, "--read-only"], 80, 24, HERE) as second:

                def drawn() -> bool:
                    first.pump(0.05)
                    second.pump(0.05)
                    return "cycles/s" in first.text() and "READ-ONLY" in second.text() and "trading" in second.text()

                await until(drawn, 60, "both monitors draw")
                second.send(b"b")
                await until(lambda: (second.pump(0.05), "read-only" in second.text())[1], 10, "a key is refused")
                assert swarm.snapshot().toggles.batching
                os.kill(first.pid, signal.SIGKILL)
                assert first.wait(10) == -signal.SIGKILL
                await swarm.cycles(30)
                before = second.text()
                await until(lambda: (second.pump(0.05), second.text() != before)[1], 10, "the other one draws on")
                assert not any(event.startswith("supervisor") and "error" in event for event in swarm.events())
                assert all(each.reachable for each in swarm.snapshot().nodes)

    asyncio.run(sitting())
