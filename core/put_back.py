"""The way back: who changed a swarm's toggles for a while has it run under the old ones again, and is told if it does
not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from core.records import SwarmSnapshot
from core.toggles import Toggles

PUT_BACK_S = 10.0
"""A node tells of its toggles two to ten times a second, and of a change at the next cycle's start."""
ASK_AGAIN_S = 2.0
POLL_S = 0.05


class ToggledSwarm(Protocol):
    """What the way back needs of the link to a swarm."""

    def snapshot(self) -> SwarmSnapshot: ...

    async def set_toggles(self, toggles: Toggles) -> str: ...


async def put_back(swarm: ToggledSwarm, toggles: Toggles, tell: Callable[[str], None]) -> None:
    """Have the swarm run under `toggles` again. Where it does not say so within `PUT_BACK_S` after its first answer,
    although it was asked again and again meanwhile, `tell` gets a sentence with its last answer.

    Cancelled, it goes to its end all the same, however often, and raises the cancellation then.
    """
    going = asyncio.ensure_future(_go_back(swarm, toggles))
    cancelled: asyncio.CancelledError | None = None
    while not going.done():
        try:
            await asyncio.wait({going})  # which leaves `going` alone when it is cancelled
        except asyncio.CancelledError as error:
            cancelled = error
    if sentence := going.result():
        tell(sentence)
    if cancelled is not None:
        raise cancelled


async def _go_back(swarm: ToggledSwarm, toggles: Toggles) -> str:
    """Empty once the swarm says that it runs under `toggles`."""
    answer = await _ask(swarm, toggles)
    try:
        async with asyncio.timeout(PUT_BACK_S):
            while True:
                for _ in range(round(ASK_AGAIN_S / POLL_S)):
                    snapshot = swarm.snapshot()
                    if snapshot.toggles == toggles and snapshot.leader is not None:
                        return ""
                    await asyncio.sleep(POLL_S)
                answer = await _ask(swarm, toggles)
    except TimeoutError:
        return (
            f"the swarm does not say that it went back to {toggles.label()}; its last answer: {answer}. Look at its "
            "toggles, and press the keys that differ in a monitor"
        )


async def _ask(swarm: ToggledSwarm, toggles: Toggles) -> str:
    try:
        return await swarm.set_toggles(toggles)
    except Exception as error:  # whatever broke, there is time to ask again; the person is told the last of it
        return f"{type(error).__name__}: {error}"
