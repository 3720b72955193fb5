"""Faults and delays put into the venue's links on purpose, the same for every front end. See `settings.Injection`."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from core.venue.settings import Injection

DELAYED_MAX: Final = 100_000
"""Answers that wait for the injected latency, of one connection; beyond it the client is cut off."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of one request."""

    acts: bool = True
    """The venue gets it."""
    answers: bool = True
    """Its answer gets out."""
    cuts: bool = False
    """The link is cut upon it."""


UNHARMED: Final = Fate()
CUT_REASON: Final = "cut by the setting disconnect_rate"


class FaultSource:
    """Draws the fate of each request and the delay of each answer."""

    def __init__(self, injection: Injection) -> None:
        self.injection = injection
        self._random = random.Random(injection.seed)
        self._faults = 0

    def fate(self) -> Fate:
        """The fate of the next request."""
        lost, cut = self._draw(self.injection.drop_rate), self._draw(self.injection.disconnect_rate)
        if not lost and not cut:
            return UNHARMED
        # Every other one before the venue acts: then the order was never there, else only its answer is missing.
        self._faults += 1
        return Fate(acts=self._faults % 2 == 0, answers=False, cuts=cut)

    def delay_s(self) -> float:
        """The delay of the next answer."""
        injection = self.injection
        jitter = injection.jitter_ms * self._random.random() if injection.jitter_ms else 0.0
        return (injection.latency_ms + jitter) / 1e3

    def delayed(
        self, send: Callable[[bytes], None], overflow: Callable[[str], None] = lambda reason: None
    ) -> DelayedWriter:
        """A writer that holds bytes back by the injected delay; `overflow` is told when too many wait."""
        return DelayedWriter(self.delay_s, send, overflow)

    def _draw(self, rate: float) -> bool:
        return rate > 0 and self._random.random() < rate


class DelayedWriter:
    """What an injected delay holds back of one connection."""

    def __init__(
        self, delay_s: Callable[[], float], send: Callable[[bytes], None], overflow: Callable[[str], None]
    ) -> None:
        self._delay_s = delay_s
        self._send = send
        self._overflow = overflow
        self._delayed: deque[tuple[float, bytes]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def send(self, data: bytes) -> None:
        """Write, now or later, never before an earlier one."""
        delay_s = self._delay_s()
        if not delay_s and not self._delayed:
            self._send(data)
            return
        loop = asyncio.get_running_loop()
        # Never before an earlier answer: jitter must not reorder a TCP stream.
        due = max(loop.time() + delay_s, self._delayed[-1][0] if self._delayed else 0.0)
        self._delayed.append((due, data))
        if len(self._delayed) > DELAYED_MAX:
            self._overflow("too many answers are waiting")
        elif self._timer is None:
            self._timer = loop.call_at(due, self._release)

    def _release(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        while self._delayed and self._delayed[0][0] <= loop.time():
            self._send(self._delayed.popleft()[1])
        if self._delayed:
            self._timer = loop.call_at(self._delayed[0][0], self._release)

    def stop(self) -> None:
        """Forget what waits."""
        if self._timer is not None:
            self._timer.cancel()
        self._delayed.clear()
