"""The kinds of clusters that `tradetui sim` runs, and what a stretch of seeds of one kind came to."""

from __future__ import annotations

import struct
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from net.certificate import CertificateError
from net.messages import Mode
from net.simulation.invariants import InvariantBroken
from net.simulation.scenario import Kind, Scenario, Step, shrink

FAMILIES: dict[str, dict[str, Kind]] = {
    "raft": {f"raft, n = {nodes}": Kind(nodes, Mode.RAFT) for nodes in (3, 4, 5, 7)},
    "reads": {f"reads, n = {nodes}": Kind(nodes, Mode.RAFT, reads=True) for nodes in (3, 4, 5)},
    "bft": {
        "bft, n = 4": Kind(4, Mode.BFT),
        "bft, n = 4, one liar": Kind(4, Mode.BFT, liars=1),
        "bft, n = 4, twins": Kind(4, Mode.BFT, twins=1),
        "bft, n = 5, one liar": Kind(5, Mode.BFT, liars=1),
        "bft, n = 7, two liars": Kind(7, Mode.BFT, liars=2),
        "bft, n = 7, a liar and twins": Kind(7, Mode.BFT, liars=1, twins=1),
    },
    "fast": {
        "fast, n = 4": Kind(4, Mode.BFT, fast=True),
        "fast, n = 4, one liar": Kind(4, Mode.BFT, fast=True, liars=1),
        "fast, n = 4, twins": Kind(4, Mode.BFT, fast=True, twins=1),
        "fast, n = 5, one liar": Kind(5, Mode.BFT, fast=True, liars=1),
        "fast, n = 4, switching": Kind(4, Mode.BFT, fast=True, switching=True),
    },
    "auto": {
        "auto, n = 4": Kind(4, Mode.AUTO),
        "auto, n = 4, one liar": Kind(4, Mode.AUTO, liars=1),
        "auto, n = 5": Kind(5, Mode.AUTO),
    },
    "switching": {
        "switching, n = 4": Kind(4, Mode.RAFT, switching=True),
        "switching, n = 5": Kind(5, Mode.BFT, switching=True),
        "switching, n = 7": Kind(7, Mode.AUTO, switching=True),
        "switching, n = 4, a forger": Kind(4, Mode.BFT, switching=True, liars=1),
        "switching, n = 5, a forger": Kind(5, Mode.RAFT, switching=True, liars=1),
    },
    "members": {
        "members, n = 4": Kind(4, Mode.RAFT, switching=True, members=True),
        "members, n = 5": Kind(5, Mode.BFT, switching=True, members=True),
    },
}
KINDS: dict[str, Kind] = {name: kind for family in FAMILIES.values() for name, kind in family.items()}
BROKEN = (
    InvariantBroken,
    CertificateError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    struct.error,
)
"""What a violation may show as: an invariant, or a core that finds itself where it can never be."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A seed that failed, the end of what happened, and the fewest steps that still fail."""

    kind: str
    seed: int
    error: str
    trace: tuple[str, ...]
    steps: tuple[str, ...]


@dataclass(slots=True)
class Tally:
    """What a stretch of seeds came to."""

    seeds: int = 0
    events: int = 0
    events_min: int = 0
    decided: int = 0
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Count another stretch in."""
        self.events_min = min(self.events_min or other.events_min, other.events_min or self.events_min)
        self.seeds += other.seeds
        self.events += other.events
        self.decided += other.decided
        self.seconds += other.seconds
        self.counts.update(other.counts)
        self.violations.extend(other.violations)


def run_seeds(name: str, first: int, count: int, events: int, trace_lines: int = 40) -> Tally:
    """Run seeds `first` to `first + count - 1` of kind `name`, at least `events` events each."""
    tally, began = Tally(), time.perf_counter()
    for seed in range(first, first + count):
        scenario = Scenario(seed, KINDS[name])
        try:
            scenario.run(events)
        except BROKEN as error:
            tally.violations.append(_violation(name, seed, scenario, error, trace_lines))
        cluster = scenario.cluster
        tally.seeds += 1
        tally.events += cluster.events
        tally.events_min = min(tally.events_min or cluster.events, cluster.events)
        tally.decided += len(cluster.truth)
        tally.counts.update(cluster.counts)
    tally.seconds = time.perf_counter() - began
    return tally


def _violation(name: str, seed: int, scenario: Scenario, error: Exception, trace_lines: int) -> Violation:
    def fails(steps: Sequence[Step]) -> bool:
        try:
            Scenario(seed, KINDS[name]).run(steps=steps)
        except BROKEN as again:
            return type(again) is type(error)
        return False

    steps = scenario.steps
    if fails(steps):
        steps = shrink(steps, fails)
    return Violation(
        name,
        seed,
        f"{type(error).__name__}: {error}",
        tuple(scenario.cluster.trace[-trace_lines:]),
        tuple(map(str, steps)),
    )
