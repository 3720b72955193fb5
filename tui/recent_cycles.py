"""The cycles that rates a second are made of, by the clock of whoever led them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from core.records import CycleRecord

WINDOW_S: Final = 5.0
WINDOW_MAX_S: Final = 30.0
"""Without a cycle for so long the rates are 0."""
CYCLES_MIN: Final = 3
"""The window is as long as so many of the latest cycles took, that slow ones have a rate too."""


class RecentCycles:
    """Finds them. A record comes when its cycle has ended, so ends count, not starts.

    The present on the leader's clock is the newest end and the time that the monitor has known it: the two clocks may
    be of different machines.
    """

    def __init__(self) -> None:
        self._newest = 0
        self._seen_at_ns = 0

    def of(self, cycles: Sequence[CycleRecord], taken_ns: int) -> tuple[list[CycleRecord], float]:
        """The recent ones of `cycles` (oldest first), latest first, and the seconds that they stand for."""
        if not cycles:
            return [], WINDOW_S
        if cycles[-1].cycle != self._newest:
            self._newest, self._seen_at_ns = cycles[-1].cycle, taken_ns
        newest_ns, idle_ns = _end_ns(cycles[-1]), max(0, taken_ns - self._seen_at_ns)
        present_ns, window_s = newest_ns + idle_ns, WINDOW_S
        if len(cycles) >= CYCLES_MIN and (took_ns := newest_ns - _end_ns(cycles[-CYCLES_MIN])) / 1e9 > WINDOW_S:
            # A cycle under way is no pause until it takes longer than those before.
            present_ns -= min(idle_ns, took_ns // (CYCLES_MIN - 1))
            window_s = min(WINDOW_MAX_S, (present_ns - newest_ns + took_ns) / 1e9)
        oldest_ns = present_ns - int(window_s * 1e9)
        found: list[CycleRecord] = []
        for record in reversed(cycles):
            if _end_ns(record) <= oldest_ns:
                break
            found.append(record)
        if len(found) == len(cycles) and cycles[0].cycle == 1:
            # the session is younger than the window
            window_s = min(window_s, max(0.5, (present_ns - cycles[0].started_ns) / 1e9))
        return found, window_s


def _end_ns(record: CycleRecord) -> int:
    return record.started_ns + int(record.wall_ms * 1e6)
