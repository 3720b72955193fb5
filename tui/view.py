"""What the screen draws: one snapshot and the figures derived from it, computed once a tick, immutable."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from core.book_ladder import BookLadder
from core.cycle_trace import SwarmTrace
from core.drift import DriftTracker
from core.experiment import Change, EffectTracker
from core.experiment_log import ExperimentState
from core.folded_stacks import FlameFrame
from core.histograms import Percentiles, SpanHistograms
from core.latency_heat import LatencyHeat, SpanHeat
from core.profile_pair import PairDiff
from core.quote_reading import QuoteReading
from core.records import CycleRecord, SwarmSnapshot
from core.spans import INDEX, ROOT
from core.statistics import SpanTable, newer_than, round_latency_ms, span_table, under
from core.toggles import Toggles
from tui.alerts import Alert, alerts
from tui.figures import bar_scale
from tui.recent_cycles import RecentCycles

WINDOW_CYCLES = 200
HISTORY_S = 600
COUNTED_AT_ONCE = 64
"""Cycles enter histograms and heat so many at a time, and before these are shown: one by one finds cold caches."""
_CONSENSUS = INDEX["quic_consensus"]


@dataclass(frozen=True, slots=True)
class Second:
    """One second of trading; `cycle_ms` is the median cycle time, None when no cycle began in it."""

    cycles: int
    cycle_ms: float | None


@dataclass(frozen=True, slots=True)
class ProfileShown:
    """A profile snapshot as screens show it."""

    title: str
    """What was sampled when, under which setting."""
    flame: FlameFrame
    pair: PairDiff | None = None
    """Where it was taken in A and in B; the flame is then B's."""


@dataclass(frozen=True, slots=True)
class View:
    """Everything that the panels draw."""

    snapshot: SwarmSnapshot
    now_ns: int
    table: SpanTable
    """Over the last `WINDOW_CYCLES` cycles that ran under the present toggles (see `under`)."""
    scale_ms: float
    """Length of the bars' axis; it holds every span's p99 but the whole cycle's."""
    cycles_per_s: float
    rounds_per_s: float
    round_p50_ms: float
    round_p99_ms: float
    decisions_per_cycle: float
    orders_per_cycle: float
    seconds: tuple[Second, ...]
    """Oldest first, the running second left out."""
    change: Change | None
    alerts: tuple[Alert, ...]
    asked: frozenset[str] = frozenset()
    """Toggle keys that were sent and not yet answered."""
    experiment: ExperimentState | None = None
    """The one that runs, or the last."""
    results: tuple[ExperimentState, ...] = ()
    """Finished experiments of this sitting, oldest first."""
    message_rates: dict[int, float] = field(default_factory=dict)
    """Consensus messages a second that each node sends and receives."""
    equity: tuple[float, ...] = ()
    """One value a second, oldest first."""
    trace: SwarmTrace | None = None
    """What the nodes did when, as of the last answer; asked for only while a screen shows it."""
    trace_note: str = ""
    """Why there is no trace."""
    instrument: str = ""
    """Whose book is shown; empty while nothing is traded."""
    ladder: BookLadder | None = None
    """As of the last answer; asked for only while a screen shows it."""
    quotes: QuoteReading | None = None
    """What the ladder's best quotes say, with those before it."""
    ladder_note: str = ""
    """Why there is none."""
    profile: ProfileShown | None = None
    """The last profile snapshot of this sitting."""
    heat: SpanHeat | None = None
    """One span's latency over time; kept only while a screen shows it."""
    histogram_cycles: int = 0
    percentiles: dict[str, Percentiles] = field(default_factory=dict)
    """By span, over the cycles of this sitting under the present toggles, without those in numpy unless there are no
    others; kept up only while a screen shows them."""

    @property
    def started(self) -> bool:
        return self.snapshot.cycles_total > 0


class History:
    """Cycles per second and median cycle time, a bin a second, for the last ten minutes."""

    def __init__(self) -> None:
        self._done: deque[Second] = deque(maxlen=HISTORY_S)
        self._second = 0
        self._wall_ms: list[float] = []
        self._tuple: tuple[Second, ...] = ()

    def update(self, fresh: Sequence[CycleRecord], now_ns: int) -> tuple[Second, ...]:
        """Take records newer than all before; `now_ns` closes seconds in which nothing happened."""
        for record in fresh:
            self._advance(record.started_ns // 1_000_000_000)
            self._wall_ms.append(record.wall_ms)
        self._advance(now_ns // 1_000_000_000)
        return self._tuple

    def _advance(self, second: int) -> None:
        if self._second == 0:
            self._second = second
        if second <= self._second:  # also a clock that was set back: its cycles count for the running second
            return
        self._done.append(Second(len(self._wall_ms), median(self._wall_ms) if self._wall_ms else None))
        for _ in range(min(second - self._second - 1, HISTORY_S)):
            self._done.append(Second(0, None))
        self._second, self._wall_ms = second, []
        self._tuple = tuple(self._done)


class _Rates:
    """What is known only from one second to the next: messages a second by node, equity."""

    def __init__(self) -> None:
        self._at_ns = 0
        self._counts: dict[int, int] = {}
        self._equity: deque[float] = deque(maxlen=HISTORY_S)
        self.messages: dict[int, float] = {}
        self.equity: tuple[float, ...] = ()

    def update(self, snapshot: SwarmSnapshot) -> None:
        elapsed_s = (snapshot.taken_ns - self._at_ns) / 1e9
        if elapsed_s < 1.0:
            return
        counts = {
            node.node: node.replica.messages_sent + node.replica.messages_received
            for node in snapshot.nodes
            if node.replica is not None
        }
        # A count that fell is of a process that was started again.
        self.messages = {
            node: (count - self._counts[node]) / elapsed_s
            for node, count in counts.items()
            if count >= self._counts.get(node, count + 1)
        }
        self._at_ns, self._counts = snapshot.taken_ns, counts
        if snapshot.cycles_total:
            self._equity.append(snapshot.equity)
            self.equity = tuple(self._equity)


class ViewBuilder:
    """Turns snapshots into views; keeps what outlives one snapshot: history and the effect of the last change."""

    def __init__(self) -> None:
        self._restart("")

    def _restart(self, session: str) -> None:
        self._session = session
        self._history = History()
        self._tracker = EffectTracker()
        self._drift = DriftTracker()
        self._last_cycle = 0
        self._scale_ms = 1.0
        self._table_key: tuple[int, Toggles] | None = None
        self._table_is_new = False
        self._table = span_table(())
        self._round_ms = (0.0, 0.0)
        self._uncounted: list[CycleRecord] = []
        self._histograms = SpanHistograms()
        self._heat = LatencyHeat()
        self._span_heat: SpanHeat | None = None
        self._ranks: tuple[int, dict[str, Percentiles]] = (0, {})
        self._ranked_ns = 0
        self._rates = _Rates()
        self._recent = RecentCycles()

    def build(
        self,
        snapshot: SwarmSnapshot,
        now_ns: int,
        asked: frozenset[str] = frozenset(),
        experiments: tuple[ExperimentState, ...] = (),
        trace: SwarmTrace | None = None,
        trace_note: str = "",
        profile: ProfileShown | None = None,
        book: tuple[str, BookLadder | None, str, QuoteReading | None] = ("", None, "", None),
        *,
        with_percentiles: bool = False,
        heat_of: str = ROOT,
        at_once: bool = True,
    ) -> View:
        """The view of `snapshot` at `now_ns` (Unix time). `experiments` are those of this sitting, oldest first.

        Unless `at_once`, the table is computed at every other call only, as often as it is drawn.
        """
        if snapshot.session != self._session:
            self._restart(snapshot.session)
        fresh = newer_than(snapshot.cycles, self._last_cycle)
        if fresh:
            self._last_cycle = fresh[-1].cycle
        self._uncounted += fresh
        if with_percentiles or len(self._uncounted) >= COUNTED_AT_ONCE:
            self._count()
        self._measure(snapshot, at_once)
        self._rates.update(snapshot)
        other = self._span_heat is None or self._span_heat.span != heat_of
        if with_percentiles and (snapshot.taken_ns - self._ranked_ns >= 1_000_000_000 or not self._ranks[0] or other):
            self._ranked_ns = snapshot.taken_ns
            self._span_heat = self._heat.of(heat_of)
            self._ranks = self._histograms.merged(snapshot.toggles)
        recent, span_s = self._recent.of(snapshot.cycles, snapshot.taken_ns)
        return View(
            snapshot=snapshot,
            now_ns=now_ns,
            table=self._table,
            scale_ms=self._scale_ms,
            cycles_per_s=len(recent) / span_s,
            rounds_per_s=sum(record.rounds for record in recent) / span_s,
            round_p50_ms=self._round_ms[0],
            round_p99_ms=self._round_ms[1],
            decisions_per_cycle=_mean([record.decisions_committed for record in recent]),
            orders_per_cycle=_mean([record.orders_sent for record in recent]),
            seconds=self._history.update(fresh, snapshot.taken_ns) if self._last_cycle else (),
            change=self._tracker.update(snapshot.cycles),
            alerts=alerts(snapshot, now_ns, self._drift.update(snapshot.cycles)),
            asked=asked,
            experiment=experiments[-1] if experiments else None,
            results=tuple(each for each in experiments if not each.running),
            message_rates=self._rates.messages,
            trace=trace,
            trace_note=trace_note,
            profile=profile,
            instrument=book[0],
            ladder=book[1],
            ladder_note=book[2],
            quotes=book[3],
            heat=self._span_heat if with_percentiles else None,
            equity=self._rates.equity,
            histogram_cycles=self._ranks[0],
            percentiles=self._ranks[1],
        )

    def _count(self) -> None:
        for record in self._uncounted:
            self._histograms.add(record)
            self._heat.add(record)
        self._uncounted.clear()

    def _measure(self, snapshot: SwarmSnapshot, at_once: bool) -> None:
        """Percentiles change only with the cycles; the axis only when bars leave it or fill half of it."""
        key = (self._last_cycle, snapshot.toggles)
        other_toggles = self._table_key is None or self._table_key[1] != snapshot.toggles
        is_due = at_once or other_toggles or not self._table_is_new
        self._table_is_new = is_due
        if key == self._table_key or not is_due:
            return
        self._table_key = key
        chosen = under(snapshot.cycles, snapshot.toggles, WINDOW_CYCLES)
        self._table = span_table(chosen)
        self._round_ms = round_latency_ms(chosen, _CONSENSUS)
        longest = max(row.p99_ms for row in self._table.rows[1:])
        if chosen and (longest > self._scale_ms or longest < self._scale_ms * 0.55):
            self._scale_ms = bar_scale(longest)


def _mean(values: Sequence[int]) -> float:
    return sum(values) / len(values) if values else 0.0
