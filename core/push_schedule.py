"""Who is pushed news, and how often: at tenths of a second of the wall clock, in every process the same.

A monitor then wakes once for the news of a whole swarm, and reads and acknowledges it in one go.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from core.essential import essential

PUSH_INTERVAL_S = 0.1
"""Of the node that leads: the cycles are its."""
BESIDE_INTERVAL_S = 0.4
"""Of everybody else, at the fastest: each push costs both sides."""
LAST_WORD_S = 1.0
"""So long a process that stops waits until monitors and recorder have its last push."""


class PushSchedule:
    """Calls `push(operator)` for each subscriber, each at its own interval."""

    def __init__(self, push: Callable[[int], None], leads: Callable[[], bool] = lambda: False) -> None:
        """`leads`: whether this process has cycles to tell of now."""
        self._push = push
        self._leads = leads
        self._ticks_a_push: dict[int, int] = {}
        self._new: set[int] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = essential(self._push_forever())

    async def close(self) -> None:
        """Push to everybody for the last time."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for operator in list(self._ticks_a_push):
            self._push(operator)

    def add(self, operator: int, interval_s: float) -> None:
        """At the next tenth of a second, and from then on each `interval_s`, rounded to tenths of a second. Raises
        ValueError or OverflowError for what is no finite number.
        """
        self._ticks_a_push[operator] = _ticks(interval_s)
        self._new.add(operator)

    def remove(self, operator: int) -> None:
        self._ticks_a_push.pop(operator, None)
        self._new.discard(operator)

    async def _push_forever(self) -> None:
        last = _tick_now()
        while True:
            until_next_s = (last + 1) * PUSH_INTERVAL_S - time.time()
            await asyncio.sleep(min(max(0.0, until_next_s), 2 * PUSH_INTERVAL_S))  # also where the clock was set back
            tick = _tick_now()
            at_least = 1 if self._leads() else _ticks(BESIDE_INTERVAL_S)
            for operator, ticks in list(self._ticks_a_push.items()):
                every = max(ticks, at_least)
                if tick // every != last // every or operator in self._new:  # also where ticks were missed
                    self._new.discard(operator)
                    self._push(operator)
            last = tick


def _tick_now() -> int:
    """The nearest, since a timer may fire a moment early."""
    return round(time.time() / PUSH_INTERVAL_S)


def _ticks(interval_s: float) -> int:
    return max(1, round(interval_s / PUSH_INTERVAL_S))
