"""The profile of a report: ranking in three accountings, the eight-step trace, QUIC and DTW in detail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from core.block_bootstrap import median_interval, quotient_intervals
from core.records import CycleRecord
from core.report.evidence import Evidence
from core.spans import INDEX, NAMES, PARENT, ROOT
from core.statistics import SpanTable, round_latency_ms, span_table
from core.toggles import Toggles
from core.what_if import family

SEED = 1
STEPS = tuple(name for name in NAMES if name != ROOT and PARENT[name] == ROOT)
"""The eight steps of a cycle, in the order in which it runs them."""


class Verdict(StrEnum):
    """Of a share of wall time; the reference profile's words with fixed limits."""

    CRITICAL = "CRITICAL"
    HIGH = "HIGH"
    MEDIUM = "MEDIUM"
    ACCEPTABLE = "ACCEPTABLE"
    NEGLIGIBLE = "NEGLIGIBLE"


LIMITS = (
    (0.10, Verdict.CRITICAL),
    (0.05, Verdict.HIGH),
    (0.03, Verdict.MEDIUM),
    (0.01, Verdict.ACCEPTABLE),
)
"""A share of at least so much has this verdict."""


def verdict_of(share: float) -> Verdict:
    """The verdict of a share of wall time, 0 to 1."""
    return next((verdict for limit, verdict in LIMITS if share >= limit), Verdict.NEGLIGIBLE)


@dataclass(frozen=True, slots=True)
class RankedSpan:
    """One operation, or `untimed`. Times are ms a cycle; shares 0 to 1; `low` and `high` a 95 % interval of
    `exclusive_share`."""

    rank: int
    name: str
    calls_per_cycle: float
    exclusive_ms: float
    inclusive_ms: float
    background_ms: float
    p50_ms: float
    p99_ms: float
    exclusive_share: float
    low: float
    high: float
    inclusive_share: float
    flat_share: float
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Step:
    """One of the eight steps with all that is nested in it, ms a cycle on the critical path, 95 % interval."""

    name: str
    ms: float
    low_ms: float
    high_ms: float
    share: float


@dataclass(frozen=True, slots=True)
class Summary:
    """Of all profiled cycles. The interval is of the median cycle time, 95 %."""

    cycles: int
    wall_s: float
    cycle_ms_mean: float
    cycle_ms_p50: float
    cycle_ms_p50_low: float
    cycle_ms_p50_high: float
    cycle_ms_p95: float
    cycle_ms_p99: float
    cycles_per_s: float
    decisions: int
    denied: int
    """Of the decisions: a vetoed proposal commits as a denial."""
    orders_sent: int
    orders_filled: int
    orders_rejected: int


@dataclass(frozen=True, slots=True)
class QuicBreakdown:
    """Where coordination goes, per cycle unless said; shares of wall time. Round trips as the leader's links saw them
    last."""

    rounds: float
    decisions_per_round: float
    round_ms_p50: float
    round_ms_p99: float
    messages: float
    datagrams: float
    bytes_on_wire: float
    bytes_per_decision: float
    serialization_ms: float
    serializations: float
    send_ms: float
    consensus_ms: float
    opinions_ms: float
    share: float
    link_round_trip_ms: dict[int, float]


@dataclass(frozen=True, slots=True)
class KernelFigure:
    """What a DTW kernel took in this session: median ns a pair over cycles."""

    kernel: str
    cycles: int
    pairs_per_cycle: float
    ns_per_pair: float
    ms_per_cycle: float


@dataclass(frozen=True, slots=True)
class SettingFigure:
    """One value of the toggles that ran in the session, in the order of cycles. Not interleaved: no comparison."""

    toggles: str
    cycles: int
    cycle_ms_p50: float
    cycle_ms_p99: float


@dataclass(frozen=True, slots=True)
class Profile:
    summary: Summary
    ranking: tuple[RankedSpan, ...]
    steps: tuple[Step, ...]
    """Eight, then `untimed`: they sum to the mean cycle."""
    quic: QuicBreakdown
    kernels: tuple[KernelFigure, ...]
    settings: tuple[SettingFigure, ...]
    table: SpanTable

    def share(self, name: str) -> float:
        """Of wall time, `name` with all that is nested in it, on the critical path."""
        own = {row.name: row.exclusive_share for row in self.table.rows}
        return sum(own[each] for each in (family(name) if name in INDEX else (name,)))


def make_profile(evidence: Evidence) -> Profile:
    """Everything that the cycles alone say."""
    cycles = evidence.cycles
    table = span_table(cycles)
    return Profile(
        summary=_summary(cycles),
        ranking=_ranking(cycles, table),
        steps=_steps(cycles),
        quic=_quic(evidence, table),
        kernels=_kernels(evidence.by_toggles),
        settings=tuple(_setting(toggles, found) for toggles, found in evidence.by_toggles.items()),
        table=table,
    )


def _summary(cycles: Sequence[CycleRecord]) -> Summary:
    wall = np.array([record.wall_ms for record in cycles])
    low, high = median_interval(wall, SEED)
    p50, p95, p99 = np.quantile(wall, (0.5, 0.95, 0.99)).tolist()
    return Summary(
        cycles=len(cycles),
        wall_s=float(wall.sum()) / 1e3,
        cycle_ms_mean=float(wall.mean()),
        cycle_ms_p50=p50,
        cycle_ms_p50_low=low,
        cycle_ms_p50_high=high,
        cycle_ms_p95=p95,
        cycle_ms_p99=p99,
        cycles_per_s=len(cycles) / float(wall.sum()) * 1e3,
        decisions=sum(record.decisions_committed for record in cycles),
        denied=sum(record.decisions_denied for record in cycles),
        orders_sent=sum(record.orders_sent for record in cycles),
        orders_filled=sum(record.orders_filled for record in cycles),
        orders_rejected=sum(record.orders_rejected for record in cycles),
    )


def _ranking(cycles: Sequence[CycleRecord], table: SpanTable) -> tuple[RankedSpan, ...]:
    """By exclusive share, the root last: its own time is 0 by definition."""
    own = np.array([[*record.exclusive_ms, record.untimed_ms] for record in cycles])
    wall = np.array([record.wall_ms for record in cycles])
    low, high = quotient_intervals(own, wall, SEED)
    n = len(cycles)
    order = sorted(range(len(table.rows)), key=lambda k: (table.rows[k].name == ROOT, -table.rows[k].exclusive_share))
    found = []
    for rank, k in enumerate(order, 1):
        row = table.rows[k]
        found.append(
            RankedSpan(
                rank=rank,
                name=row.name,
                calls_per_cycle=row.count / n,
                exclusive_ms=row.exclusive_ms / n,
                inclusive_ms=row.inclusive_ms / n,
                background_ms=row.background_ms / n,
                p50_ms=row.p50_ms,
                p99_ms=row.p99_ms,
                exclusive_share=row.exclusive_share,
                low=float(low[k]),
                high=float(high[k]),
                inclusive_share=row.inclusive_ms / table.wall_ms,
                flat_share=row.flat_share,
                verdict=verdict_of(row.exclusive_share),
            )
        )
    return tuple(found)


def _steps(cycles: Sequence[CycleRecord]) -> tuple[Step, ...]:
    own = np.array([record.exclusive_ms for record in cycles])
    columns = [own[:, [INDEX[each] for each in family(name)]].sum(axis=1) for name in STEPS]
    columns.append(np.array([record.untimed_ms for record in cycles]))
    parts = np.column_stack(columns)
    wall = sum(record.wall_ms for record in cycles)
    low, high = quotient_intervals(parts, np.ones(len(cycles)), SEED)
    return tuple(
        Step(name, float(parts[:, k].mean()), float(low[k]), float(high[k]), float(parts[:, k].sum()) / wall)
        for k, name in enumerate((*STEPS, "untimed"))
    )


def _quic(evidence: Evidence, table: SpanTable) -> QuicBreakdown:
    cycles, n = evidence.cycles, len(evidence.cycles)
    rows = {row.name: row for row in table.rows}
    rounds = sum(record.rounds for record in cycles)
    decisions = sum(record.decisions_committed for record in cycles)
    bytes_on_wire = sum(record.bytes_on_wire for record in cycles)
    p50, p99 = round_latency_ms(cycles, INDEX["quic_consensus"])
    links = {
        link.peer: link.round_trip_ms
        for node in evidence.end.nodes
        if node.node == evidence.end.leader
        for link in node.links
        if link.connected
    }
    own = {name: rows[name].exclusive_ms / n for name in family("quic_coordination")}
    return QuicBreakdown(
        rounds=rounds / n,
        decisions_per_round=decisions / rounds if rounds else 0.0,
        round_ms_p50=p50,
        round_ms_p99=p99,
        messages=sum(record.messages for record in cycles) / n,
        datagrams=sum(record.datagrams for record in cycles) / n,
        bytes_on_wire=bytes_on_wire / n,
        bytes_per_decision=bytes_on_wire / decisions if decisions else 0.0,
        serialization_ms=own["quic_message_serialization"],
        serializations=rows["quic_message_serialization"].count / n,
        send_ms=own["quic_network_send"],
        consensus_ms=own["quic_consensus"],
        opinions_ms=own["quic_coordination"],
        share=sum(own.values()) * n / table.wall_ms,
        link_round_trip_ms=links,
    )


def _kernels(groups: dict[Toggles, tuple[CycleRecord, ...]]) -> tuple[KernelFigure, ...]:
    index = INDEX["pattern_matching_dtw_single"]
    by_kernel: dict[str, list[CycleRecord]] = {}
    for toggles, cycles in groups.items():
        by_kernel.setdefault(str(toggles.dtw_kernel), []).extend(cycles)
    found = []
    for kernel, ran_under in by_kernel.items():
        pairs = np.array([record.count[index] for record in ran_under], np.float64)
        took_ms = np.array([record.inclusive_ms[index] for record in ran_under])
        ran = pairs > 0
        if ran.any():
            per_pair = float(np.median(took_ms[ran] / pairs[ran])) * 1e6
            found.append(
                KernelFigure(
                    kernel, int(ran.sum()), float(np.median(pairs[ran])), per_pair, float(np.median(took_ms[ran]))
                )
            )
    return tuple(found)


def _setting(toggles: Toggles, cycles: Sequence[CycleRecord]) -> SettingFigure:
    p50, p99 = np.quantile([record.wall_ms for record in cycles], (0.5, 0.99)).tolist()
    return SettingFigure(toggles.label(), len(cycles), p50, p99)
