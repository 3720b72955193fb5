"""Sampled stacks as text: one line a stack, frames joined by `;` from the outermost, then its µs of self time.

The format is Brendan Gregg's (FlameGraph, `stackcollapse`), which flame graph tools read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

FRAMES_MAX = 200
SEPARATOR = "\x00"
ATTRIBUTES = "\x01"


@dataclass(frozen=True, slots=True)
class FlameFrame:
    """A function where it was called from: `total_us` with everything below it, `self_us` without."""

    name: str
    total_us: int
    self_us: int
    below: tuple[FlameFrame, ...] = ()
    """Largest first."""


def frame_name(identifier: str) -> str:
    """`judge trader.py:120` of pyinstrument's `judge\\0/path/core/trader.py\\0120\\1…`: file names without folders."""
    function, file, line = (*identifier.partition(ATTRIBUTES)[0].split(SEPARATOR), "", "")[:3]
    place = f"{PurePath(file).name}:{line}" if file and not file.startswith("<") else ""
    return f"{function} {place}".strip().replace(";", ",")


def fold(records: Sequence[tuple[Sequence[str], float]]) -> bytes:
    """The samples of a pyinstrument session (`frame_records`: identifiers from the outermost, seconds) as text."""
    counts: Counter[str] = Counter()
    for stack, seconds in records:
        counts[";".join(frame_name(frame) for frame in stack[:FRAMES_MAX])] += round(seconds * 1e6)
    return "".join(f"{stack} {us}\n" for stack, us in sorted(counts.items()) if us > 0).encode()


def stacks(folded: bytes) -> list[tuple[list[str], int]]:
    """Each stack with its µs. Raises ValueError for anything else."""
    found = []
    for number, line in enumerate(folded.decode(errors="replace").splitlines(), 1):
        stack, _, us = line.rpartition(" ")
        if not stack or not us.isdecimal():
            raise ValueError(f"line {number} is no folded stack: {line[:80]!r}")
        found.append((stack.split(";"), int(us)))
    return found


def self_times_us(folded: bytes) -> dict[str, int]:
    """µs that each function spent by itself. Raises ValueError."""
    found: Counter[str] = Counter()
    for stack, us in stacks(folded):
        found[stack[-1]] += us
    return dict(found)


def flame(folded: bytes) -> FlameFrame:
    """All stacks as one tree under `all`. Raises ValueError."""
    return _grown("all", stacks(folded), 0)


def _grown(name: str, rows: list[tuple[list[str], int]], depth: int) -> FlameFrame:
    groups: dict[str, list[tuple[list[str], int]]] = {}
    self_us = 0
    for stack, us in rows:
        if len(stack) == depth:
            self_us += us
        else:
            groups.setdefault(stack[depth], []).append((stack, us))
    below = [_grown(each, group, depth + 1) for each, group in groups.items()]
    below.sort(key=lambda frame: (-frame.total_us, frame.name))
    return FlameFrame(name, self_us + sum(frame.total_us for frame in below), self_us, tuple(below))
