"""Collecting messages into batches: up to a number of them or for a time, and at once when the pipe is idle.

Sans-I/O: items and times in, batches out. A timer alone costs its whole length at low load, because every message waits
for company that does not come; the adaptive policy waits only while something is in flight anyway.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

T = TypeVar("T")


class BatchPolicy(StrEnum):
    OFF = "off"
    """Every item is a batch of its own."""
    TIMER = "timer"
    """A batch goes when it is full or its first item has waited long enough."""
    ADAPTIVE = "adaptive"
    """As TIMER, and at once when nothing is in flight."""


class Cause(StrEnum):
    """What sent a batch off."""

    SINGLE = "single"
    FULL = "full"
    TIMER = "timer"
    IDLE = "idle"


@dataclass(frozen=True, slots=True)
class Batch(Generic[T]):
    """Items in the order in which they came."""

    items: tuple[T, ...]
    cause: Cause


@dataclass(slots=True)
class BatchStatistics:
    """Exact counts since the batcher was made."""

    items: int = 0
    batches: int = 0
    by_cause: Counter[Cause] = field(default_factory=Counter)

    @property
    def items_per_batch(self) -> float:
        return self.items / self.batches if self.batches else 0.0


class Batcher(Generic[T]):
    """Collects one stream of items."""

    def __init__(self, policy: BatchPolicy, max_items: int = 20, max_wait_s: float = 0.005) -> None:
        """Raises ValueError for a size below 1 or a negative time."""
        if max_items < 1 or max_wait_s < 0:
            raise ValueError(f"batcher: {max_items} items, {max_wait_s} s; want at least 1 and 0")
        self.policy = policy
        self.statistics = BatchStatistics()
        self._max_items = max_items
        self._max_wait_s = max_wait_s
        self._items: list[T] = []
        self._first_at = 0.0

    def __len__(self) -> int:
        """Items that wait."""
        return len(self._items)

    def add(self, item: T, now: float) -> list[Batch[T]]:
        """Take one item at time `now` (seconds, any monotonic clock); returns the batches that go now."""
        ready = self.poll(now)
        if not self._items:
            self._first_at = now
        self._items.append(item)
        if self.policy is BatchPolicy.OFF:
            ready.append(self._take(Cause.SINGLE))
        elif len(self._items) >= self._max_items:
            ready.append(self._take(Cause.FULL))
        return ready

    def poll(self, now: float) -> list[Batch[T]]:
        """The batch whose time is up, if any."""
        deadline = self.next_deadline()
        return [self._take(Cause.TIMER)] if deadline is not None and now >= deadline else []

    def pipe_idle(self, now: float) -> list[Batch[T]]:
        """Nothing is in flight: under the adaptive policy what was collected goes at once."""
        if self.policy is BatchPolicy.ADAPTIVE and self._items:
            return [self._take(Cause.IDLE)]
        return self.poll(now)

    def next_deadline(self) -> float | None:
        """When `poll` is wanted next; None while nothing waits."""
        return self._first_at + self._max_wait_s if self._items else None

    def _take(self, cause: Cause) -> Batch[T]:
        batch = Batch(tuple(self._items), cause)
        self._items = []
        self.statistics.items += len(batch.items)
        self.statistics.batches += 1
        self.statistics.by_cause[cause] += 1
        return batch
