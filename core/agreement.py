"""Waiting for payloads to commit: between the cycle, which proposes, and the log, which decides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from core.applied import Applied
from net.messages import Committed

PENDING_MAX = 4_096

Decided = tuple[Committed, Applied]


class LeadershipLostError(ConnectionError):
    """This node does not lead any more; the log or the next leader finishes what it began."""


class RefusedError(RuntimeError):
    """The voters of the running epoch do not vote for what this node proposed: it must be made anew."""


class PendingCommits:
    """Payloads that this node proposed and that are not committed yet, each with who waits for it."""

    def __init__(self) -> None:
        self._futures: dict[bytes, asyncio.Future[Decided]] = {}

    async def agree(self, payloads: list[bytes], propose: Callable[[list[bytes]], None]) -> list[Decided]:
        """Propose and wait until every payload is committed and applied.

        Raises LeadershipLostError when the lead goes to another node first, RefusedError for what the voters do not
        vote for, RuntimeError for too many at once.
        """
        if len(self._futures) + len(payloads) > PENDING_MAX:
            raise RuntimeError(f"more than {PENDING_MAX} payloads wait for consensus")
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Decided]] = [loop.create_future() for _ in payloads]
        self._futures.update(zip(payloads, futures, strict=True))
        try:
            propose(payloads)
            return [await future for future in futures]
        finally:
            for payload in payloads:
                self._futures.pop(payload, None)

    def committed(self, payload: bytes, decided: Decided) -> None:
        future = self._futures.pop(payload, None)
        if future is not None and not future.done():
            future.set_result(decided)

    def refused(self, payload: bytes, reason: str) -> None:
        """This payload will not be decided, whoever leads."""
        _end(self._futures.pop(payload, None), RefusedError(reason))

    def fail(self, reason: str) -> None:
        """Nobody will hear of these payloads under this lead."""
        for future in self._futures.values():
            _end(future, LeadershipLostError(reason))
        self._futures.clear()


def _end(future: asyncio.Future[Decided] | None, error: Exception) -> None:
    if future is not None and not future.done():
        future.set_exception(error)
        future.exception()  # one that nobody awaits any more is not "never retrieved"
