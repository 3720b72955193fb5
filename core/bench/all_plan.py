"""What `tradetui bench all` measures: one swarm a task, and in it interleaved experiments of two settings each.

Every comparison is A B B A in blocks of cycles on one running swarm. The short form has the same tasks with fewer
cycles, so wider intervals, and leaves out what takes minutes a point.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from core.interleaved import Plan
from core.toggles import BASELINE, FIELD_OF_KEY, OPTIMISED, DtwKernel, Toggles, pressed

VENUE_LATENCY_MS = 3.0
LINK_DELAY_MS = 4


@dataclass(frozen=True, slots=True)
class Comparison:
    """`second` against `first` on one swarm; its rows are named `row` or `row.…`."""

    row: str
    first: Toggles
    second: Toggles
    against: str
    """What the first setting is, in words."""
    spans: bool = False
    """A row each also for QUIC, orders, serialization and DTW."""


@dataclass(frozen=True, slots=True)
class Task:
    """One swarm. `instruments` and `patterns` above the data's are resampled for it."""

    name: str
    comparisons: tuple[Comparison, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    instruments: int = 0
    patterns: int = 0
    plan: Plan = field(default_factory=Plan)
    seconds_max: float = 120.0
    """For each comparison, once it has the six replicates that an interval needs."""


QUICK = Plan(block_cycles=3, warm_up_cycles=2, replicates_min=6, replicates_max=12)
FULL = Plan(replicates_max=80)
SLOW = Plan(block_cycles=1, warm_up_cycles=1, replicates_min=6, replicates_max=12)
"""Where a cycle of the baseline may take a second."""
SLOW_FULL = Plan(block_cycles=4, replicates_max=20)


def tasks_of(short: bool) -> tuple[Task, ...]:
    """Every task, in the order in which they run: what README claims first."""
    plan, seconds = (QUICK, 8.0) if short else (FULL, 120.0)
    slow, slow_seconds = (SLOW, 16.0) if short else (SLOW_FULL, 120.0)
    venue = {"venue_latency_ms": VENUE_LATENCY_MS}
    link = f"{LINK_DELAY_MS}ms"
    claims = [
        Task("all 3 ms", (_all("all.3ms", spans=True),), venue, plan=plan, seconds_max=2 * seconds),
        Task("all 0 ms", (_all("all.0ms", spans=True),), plan=plan, seconds_max=2 * seconds),
        Task(f"all, links {link}", (_all(f"all.link{link}", spans=True),), {"link": f"delay={link}"}, plan=slow),
        Task("toggles from all off", _from_baseline(), venue, plan=plan, seconds_max=seconds),
        Task("toggles from all on", _from_optimised(), venue, plan=plan, seconds_max=seconds),
    ]
    scaling = [
        *(Task(f"{n} nodes", (_all(f"scale.nodes.{n}"),), {"nodes": n}) for n in (7, 10)),
        *(Task(f"{n} proposals", (_all(f"scale.proposals.{n}.resampled"),), instruments=n) for n in (64, 256)),
        Task("10,000 patterns", (_pruned(10_000),), patterns=10_000),
        *(Task(f"links {ms} ms", (_all(f"scale.link.{ms}ms"),), {"link": f"delay={ms}ms"}) for ms in (1, 10)),
    ]
    claims[2] = replace(claims[2], seconds_max=slow_seconds)
    # They start with everything on: where a cycle of the baseline takes seconds, the first ones need not be such.
    start = {"toggles": "optimised"}
    return (
        *claims,
        *(replace(t, settings=start | t.settings, plan=slow, seconds_max=slow_seconds) for t in scaling),
    )


def _all(row: str, *, spans: bool = False) -> Comparison:
    return Comparison(row, BASELINE, OPTIMISED, "all off", spans)


def _pruned(patterns: int) -> Comparison:
    first, second = OPTIMISED, replace(OPTIMISED, dtw_kernel=DtwKernel.TOPK)
    return Comparison(f"scale.patterns.{patterns}.resampled", first, second, "SIMD batch; ours pruned top-k")


def _from_baseline() -> tuple[Comparison, ...]:
    """Each toggle as one press of its key changes it, all others off."""
    return tuple(
        Comparison(f"toggle.{key}", BASELINE, pressed(BASELINE, key), _word(BASELINE, name))
        for key, name in FIELD_OF_KEY.items()
    )


def _from_optimised() -> tuple[Comparison, ...]:
    """Each toggle off, all others on, against all on. The DTW kernel is the same at both ends: the pruned one."""
    found = []
    for key, name in FIELD_OF_KEY.items():
        if key == "d":
            first, second = OPTIMISED, pressed(OPTIMISED, "d")
        else:
            first, second = replace(OPTIMISED, **{name: getattr(BASELINE, name)}), OPTIMISED
        found.append(Comparison(f"toggle.{key}.others_on", first, second, _word(first, name)))
    return tuple(found)


def _word(toggles: Toggles, name: str) -> str:
    value = toggles.as_dict()[name]
    return f"{name.replace('_', ' ')} {'off' if value is False else value}"
