"""Timing one trading cycle: intervals in, one `CycleRecord`'s arrays out.

The tracer only appends (name, start, end) while a cycle runs; what they add up to is computed once, when it ends. Sends
and encodings happen on the same thread while the engine waits for votes, so their intervals lie inside waiting spans
of equal depth; see `kernels.timeline.exclusive_time` for who is given the time then.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.spans import DEPTH, INDEX, NAMES, ROOT
from kernels.timeline import exclusive_time

_ROOT: Final = INDEX[ROOT]
_COORDINATION: Final = INDEX["quic_coordination"]
_SERIALIZATION: Final = INDEX["quic_message_serialization"]
_SEND: Final = INDEX["quic_network_send"]
_DEPTH_ARRAY: Final = np.array(DEPTH, np.int64)
# Encoding and sending hold the processor while the spans beside them only wait, so they rank one level deeper.
_DEPTH_ARRAY[[_SERIALIZATION, _SEND]] += 1


@dataclass(frozen=True, slots=True)
class CycleTimes:
    """The times of one cycle, one value per span of `core.spans.NAMES`; milliseconds."""

    wall_ms: float
    untimed_ms: float
    count: NDArray[np.int64]
    inclusive_ms: NDArray[np.float64]
    exclusive_ms: NDArray[np.float64]
    background_ms: NDArray[np.float64]


class Span:
    """One open interval; close it once, by `close()` or by leaving the `with` block."""

    __slots__ = ("_index", "_start_ns", "_tracer", "count")

    def __init__(self, tracer: CycleTracer, index: int) -> None:
        self._tracer = tracer
        self._index = index
        self.count = 1
        self._start_ns = time.perf_counter_ns()

    def close(self) -> None:
        self._tracer.add(self._index, self._start_ns, time.perf_counter_ns(), self.count)

    def __enter__(self) -> Span:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Untimed(Span):
    """Stands in for a span while the timers are off: reads no clock and keeps nothing."""

    __slots__ = ()

    def __init__(self) -> None:
        self.count = 0

    def close(self) -> None:
        return


_UNTIMED: Final = _Untimed()


class CycleTracer:
    """Collects the intervals of the running cycle. One per node; not thread-safe (one event loop owns it).

    `timing` off leaves only the cycle's own start and end, so that what the timers cost can be measured.
    """

    def __init__(self) -> None:
        self.timing = True
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._spans: list[int] = []
        self._counts = [0] * len(NAMES)
        self._background_ns = [0] * len(NAMES)
        self._began_ns = 0
        self._coordinating = 0
        self._last: tuple[int, int, tuple[tuple[int, int, int], ...]] = (0, 0, ())

    def begin(self, start_ns: int | None = None) -> int:
        """Start a cycle at `start_ns` (perf_counter_ns; default now) and forget the last one. Returns the start.

        Starting where the last cycle ended puts what lies between two cycles into the next one's `untimed`.
        """
        self._starts.clear()
        self._ends.clear()
        self._spans.clear()
        self._counts = [0] * len(NAMES)
        self._began_ns = time.perf_counter_ns() if start_ns is None else start_ns
        return self._began_ns

    def span(self, name: str) -> Span:
        """Open a span by name."""
        return Span(self, INDEX[name]) if self.timing else _UNTIMED

    @contextmanager
    def coordination(self) -> Iterator[None]:
        """The `quic_coordination` span: while it is open, encoding and sending count as its children."""
        if not self.timing:
            yield
            return
        self._coordinating += 1
        span = Span(self, _COORDINATION)
        try:
            yield
        finally:
            span.close()
            self._coordinating -= 1

    def add(self, index: int, start_ns: int, end_ns: int, count: int = 1) -> None:
        """Record a closed interval; what began before the cycle did belongs to the last one and is left out."""
        if start_ns < self._began_ns:
            return
        self._starts.append(start_ns)
        self._ends.append(end_ns)
        self._spans.append(index)
        self._counts[index] += count

    def serialized(self, start_ns: int, end_ns: int) -> None:
        """Transport hook: a message was encoded or decoded."""
        if self._coordinating:
            self.add(_SERIALIZATION, start_ns, end_ns)

    def sent(self, start_ns: int, end_ns: int) -> None:
        """Transport hook: messages were handed to QUIC and the socket."""
        if self._coordinating:
            self.add(_SEND, start_ns, end_ns)

    def background(self, name: str, elapsed_ns: int) -> None:
        """Work of an earlier cycle that ended in the background; no part of any cycle's wall time."""
        self._background_ns[INDEX[name]] += elapsed_ns

    def finish(self, end_ns: int | None = None) -> tuple[int, CycleTimes]:
        """End the cycle; returns its end (perf_counter_ns) and its times."""
        if end_ns is None:
            end_ns = time.perf_counter_ns()
        starts = np.array(self._starts, np.int64)
        ends = np.minimum(np.array(self._ends, np.int64), end_ns)
        spans = np.array(self._spans, np.int64)
        exclusive_ns = exclusive_time(starts, ends, spans, _DEPTH_ARRAY)
        inclusive_ns = np.bincount(spans, weights=ends - starts, minlength=len(NAMES))
        wall_ns = end_ns - self._began_ns
        self._last = (self._began_ns, end_ns, tuple(zip(self._spans, self._starts, self._ends, strict=True)))
        inclusive_ns[_ROOT] = wall_ns
        self._counts[_ROOT] = 1
        untimed_ns = wall_ns - int(exclusive_ns.sum())
        background_ms = np.array(self._background_ns, np.float64) / 1e6
        self._background_ns = [0] * len(NAMES)
        return end_ns, CycleTimes(
            wall_ms=wall_ns / 1e6,
            untimed_ms=untimed_ns / 1e6,
            count=np.array(self._counts, np.int64),
            inclusive_ms=inclusive_ns / 1e6,
            exclusive_ms=exclusive_ns / 1e6,
            background_ms=background_ms,
        )

    @property
    def last_intervals(self) -> tuple[int, int, tuple[tuple[int, int, int], ...]]:
        """Of the cycle that was finished last: its start and end, and (span index, start, end) of each interval, ns."""
        return self._last


def timer_cost_ns(repeats: int = 2000) -> float:
    """Median cost of opening and closing one span on this machine, nanoseconds; printed beside every profile."""
    tracer = CycleTracer()
    costs = []
    for _ in range(repeats // 100):
        tracer.begin()
        start = time.perf_counter_ns()
        for _ in range(100):
            tracer.span(ROOT).close()
        costs.append((time.perf_counter_ns() - start) / 100)
    return float(np.median(costs))
