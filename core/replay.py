"""A recording shown as if it were live: the same snapshots at the same moments, at any speed, from any place."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from core.attach import TradingAnswer
from core.book_ladder import BookLadder
from core.config import Settings
from core.cycle_trace import SwarmTrace
from core.faults import Fault
from core.profile_export import write_export, write_spans
from core.profile_pair import PairDiff
from core.recording import Recording
from core.records import CycleRecord, SwarmSnapshot
from core.swarm_news import CYCLES_KEPT, EVENTS_KEPT, ORDERS_KEPT
from core.toggles import Toggles
from core.trading_state import TradingState

READ_AGAIN_S = 0.1
NOTHING_CHANGES = "this is a recording: nothing can be changed"


class Replay:
    """Stands in for a link to a swarm."""

    owns_swarm = False
    may_stop = False
    seekable = True
    read_only = True

    def __init__(self, recording: Recording, speed: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`speed` 2 plays twice as fast, 0 stands still. Raises RecordingError for an empty recording."""
        self._recording = recording
        self._clock = clock
        self.first_ns, self.last_ns = recording.span_ns()
        self.speed = speed
        self._from_ns = self.first_ns
        self._since_s = clock()
        self._read_ns = -1
        self._snapshot: SwarmSnapshot | None = None

    @property
    def now_ns(self) -> int:
        """The moment that is shown, Unix time; it stops at the end of the recording."""
        return min(self.last_ns, self._from_ns + int((self._clock() - self._since_s) * self.speed * 1e9))

    def seek(self, at_ns: int) -> None:
        """Go on from `at_ns`, kept within the recording."""
        self._from_ns = min(self.last_ns, max(self.first_ns, at_ns))
        self._since_s = self._clock()
        self._read_ns = -1

    def seek_to_cycle(self, cycle: int) -> None:
        """Go on from the end of `cycle`. Raises RecordingError where it was not recorded."""
        self.seek(self._recording.end_of_cycle_ns(cycle))

    def snapshot(self) -> SwarmSnapshot:
        """What the swarm's monitors knew at `now_ns`."""
        now_ns = self.now_ns
        due = self._snapshot is None or abs(now_ns - self._read_ns) >= READ_AGAIN_S * 1e9 or now_ns == self.last_ns
        if due and now_ns != self._read_ns:
            self._snapshot = self._recording.snapshot(now_ns, CYCLES_KEPT, EVENTS_KEPT, ORDERS_KEPT)
            self._read_ns = now_ns
        assert self._snapshot is not None
        return self._snapshot

    @property
    def cycles(self) -> Sequence[CycleRecord]:
        return self.snapshot().cycles

    @property
    def operator(self) -> int | None:
        return None

    async def take_control(self) -> str:
        raise ValueError(NOTHING_CHANGES)

    async def give_up_control(self) -> str:
        raise ValueError(NOTHING_CHANGES)

    async def press(self, key: str) -> str:
        return f"{key}: {NOTHING_CHANGES}"

    async def change_trading(self, state: TradingState, reason: str) -> TradingAnswer:
        raise ValueError(NOTHING_CHANGES)

    async def set_toggles(self, toggles: Toggles) -> str:
        raise ValueError(NOTHING_CHANGES)

    async def trace(self) -> SwarmTrace:
        raise ValueError("a recording keeps each span's time, not when it ran")

    async def ladder(self, instrument: str, levels: int) -> BookLadder:
        raise ValueError("a recording keeps no book")

    async def kill_node(self, node: int) -> str:
        raise ValueError(NOTHING_CHANGES)

    async def set_fault(self, node: int, fault: Fault) -> str:
        raise ValueError(NOTHING_CHANGES)

    def keep_experiment(self, values: dict[str, object]) -> None:
        """A recording keeps nothing new."""

    async def export_profile(self, directory: Path, svg: str, seconds: float) -> Path:
        """The folder of figures as they stand; there is no process to profile."""
        snapshot = self.snapshot()
        return write_export(directory, snapshot, Settings.model_construct(None, **snapshot.settings), svg, {})

    async def export_pair(
        self,
        directory: Path,
        svg: str,
        seconds: float,
        first: Toggles,
        second: Toggles,
        tell: Callable[[str], None],
    ) -> tuple[Path, PairDiff]:
        raise ValueError("a recording has no process to profile")

    async def stop_swarm(self) -> None:
        return

    async def close(self) -> None:
        self._recording.close()


def write_csv(replay: Replay, cycle: int | None, path: Path) -> None:
    """The table of spans as of the end of `cycle` (default: of the recording), as `e` writes it while trading."""
    if cycle is None:
        replay.seek(replay.last_ns)
    else:
        replay.seek_to_cycle(cycle)
    write_spans(path, replay.snapshot())
