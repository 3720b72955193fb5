"""Linearizable reads without a log entry: ReadIndex (thesis §6.4). Bounded queues at the leader and at a follower."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PendingRead:
    """A read that waits for a round of replies. `requester` is the node whose read it is."""

    requester: int
    request_id: int
    index: int
    round: int


class PendingReads:
    """The leader's reads, in order of arrival, so that one round answers all that came before it."""

    __slots__ = ("_limit", "_reads", "asked_round")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._reads: deque[PendingRead] = deque()
        self.asked_round = 0
        """The latest round that was sent to everybody for reads."""

    def __len__(self) -> int:
        return len(self._reads)

    @property
    def is_full(self) -> bool:
        return len(self._reads) >= self._limit

    @property
    def wants_round(self) -> bool:
        """Whether the oldest read waits and no round for it is on its way."""
        return bool(self._reads) and self._reads[0].round > self.asked_round

    def add(self, read: PendingRead) -> None:
        self._reads.append(read)

    def take(self, confirmed_round: float) -> list[PendingRead]:
        """The reads that a quorum's replies to `confirmed_round` answer."""
        taken: list[PendingRead] = []
        while self._reads and self._reads[0].round <= confirmed_round:
            taken.append(self._reads.popleft())
        return taken


class ForwardedReads:
    """A follower's reads that its leader was asked for, each with the time at which it is given up."""

    __slots__ = ("_deadlines", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._deadlines: dict[int, float] = {}

    @property
    def is_full(self) -> bool:
        return len(self._deadlines) >= self._limit

    def add(self, request_id: int, deadline: float) -> None:
        self._deadlines[request_id] = deadline

    def settle(self, request_id: int) -> bool:
        """Whether the read waited here; it no longer does."""
        return self._deadlines.pop(request_id, None) is not None

    def next_deadline(self) -> float | None:
        # All wait equally long, so the oldest is due first.
        return next(iter(self._deadlines.values()), None)

    def take_due(self, now: float) -> list[int]:
        """The reads that are given up at `now`."""
        due = [request_id for request_id, deadline in self._deadlines.items() if deadline <= now]
        for request_id in due:
            del self._deadlines[request_id]
        return due
