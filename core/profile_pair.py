"""The snapshot as a pair: the leader's profile under A and under B, and what each function costs a decision in both.

pyinstrument slows the loop, under A and B alike, so the figures are to be compared and not to be added up to the cycle
time; what a function costs is divided by the decisions that were committed meanwhile.
"""

from __future__ import annotations

import asyncio
import csv
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from core.folded_stacks import self_times_us
from core.profile_export import FILE_NAME
from core.put_back import ToggledSwarm, put_back
from core.records import CycleRecord
from core.toggles import Toggles

SETTLED_CYCLES = 10
SETTLE_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class FunctionCost:
    """Self time of one function, µs a committed decision."""

    function: str
    first_us: float
    second_us: float

    @property
    def change_us(self) -> float:
        return self.second_us - self.first_us


@dataclass(frozen=True, slots=True)
class Side:
    """One profile: the files that the leader sent, and the decisions that were committed while it was taken."""

    toggles: Toggles
    files: dict[str, bytes]
    decisions: int


@dataclass(frozen=True, slots=True)
class PairDiff:
    """Functions by how much they changed, the largest first."""

    first: Toggles
    second: Toggles
    first_decisions: int
    second_decisions: int
    functions: tuple[FunctionCost, ...]

    @property
    def total_us(self) -> tuple[float, float]:
        """Of the whole loop thread, waiting included, µs a decision."""
        return sum(f.first_us for f in self.functions), sum(f.second_us for f in self.functions)


class ProfiledSwarm(ToggledSwarm, Protocol):
    """What a pair needs of the link to a swarm."""

    @property
    def cycles(self) -> Sequence[CycleRecord]: ...

    async def profile(self, seconds: float) -> dict[str, Any]: ...


def difference(first: Side, second: Side) -> PairDiff:
    """Raises ValueError where a side committed nothing while it was sampled, or sent no stacks."""
    costs = []
    for letter, side in (("A", first), ("B", second)):
        if side.decisions < 1:
            raise ValueError(f"no decision was committed while {letter} was profiled")
        if "profile.folded" not in side.files:
            raise ValueError("the leader sent no stacks")
        costs.append({name: us / side.decisions for name, us in self_times_us(side.files["profile.folded"]).items()})
    names = costs[0].keys() | costs[1].keys()
    functions = [FunctionCost(name, costs[0].get(name, 0.0), costs[1].get(name, 0.0)) for name in names]
    functions.sort(key=lambda each: (-abs(each.change_us), each.function))
    return PairDiff(first.toggles, second.toggles, first.decisions, second.decisions, tuple(functions))


async def take_pair(
    swarm: ProfiledSwarm, first: Toggles, second: Toggles, seconds: float, tell: Callable[[str], None]
) -> tuple[Side, Side]:
    """Profile the leader for `seconds` under `first`, then under `second`; the toggles are put back, however it ends.

    Where the swarm does not go back, `tell` gets a sentence. Raises TimeoutError where the swarm does not come to run
    under a setting, and what `swarm` raises.
    """
    before = swarm.snapshot().toggles
    try:
        sides = [await _side(swarm, toggles, seconds) for toggles in (first, second)]
    finally:
        await put_back(swarm, before, tell)
    return sides[0], sides[1]


async def _side(swarm: ProfiledSwarm, toggles: Toggles, seconds: float) -> Side:
    answer = await swarm.set_toggles(toggles)
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    while not _settled(swarm.cycles, toggles):
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"no {SETTLED_CYCLES} cycles under {toggles.label()} within {SETTLE_TIMEOUT_S:g} s; the swarm's answer "
                f"to the switch: {answer}"
            )
        await asyncio.sleep(0.05)
    reply = await swarm.profile(seconds)
    return Side(toggles, reply["files"], int(reply["decisions"]))


def _settled(cycles: Sequence[CycleRecord], toggles: Toggles) -> bool:
    latest = list(islice(reversed(cycles), SETTLED_CYCLES))
    return len(latest) == SETTLED_CYCLES and all(record.toggles == toggles for record in latest)


def write_pair(folder: Path, first: Side, second: Side, diff: PairDiff) -> None:
    """Folders `a` and `b` with each side's profile, and `diff.csv`. Raises ValueError for a bad file name, OSError."""
    for name, side in (("a", first), ("b", second)):
        (folder / name).mkdir(parents=True)
        for file, data in side.files.items():
            if not FILE_NAME.fullmatch(file):
                raise ValueError(f"the node sent a file named {file!r}")
            (folder / name / file).write_bytes(data)
        toggles = {"toggles": side.toggles.as_dict(), "label": side.toggles.label(), "decisions": side.decisions}
        (folder / name / "toggles.json").write_text(json.dumps(toggles, indent=1) + "\n")
    with (folder / "diff.csv").open("w", newline="") as file_:
        writer = csv.writer(file_)
        writer.writerow(["function", "a_self_us_per_decision", "b_self_us_per_decision", "b_minus_a_us"])
        for each in diff.functions:
            writer.writerow([each.function, each.first_us, each.second_us, each.change_us])
