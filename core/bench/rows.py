"""What every `tradetui bench` writes: rows of ours against theirs, both sides interleaved in one run.

Each round runs both sides once, in turn first, and gives one ratio; the row shows the median of the ratios with a 95 %
interval that assumes nothing of their distribution. So a slow spell of the machine falls on both sides alike.
"""

from __future__ import annotations

import gc
import json
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from core.profile_export import machine

ROUNDS_MIN = 6
"""With fewer no interval of order statistics covers 95 %."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a benchmark. `ours` and `theirs` are medians in `unit`, or averages of medians.

    `ratio` is how many times better ours is, `ratio_lo` to `ratio_hi` its 95 % interval; all four None, and `against`
    too, where there is no other side.
    """

    name: str
    unit: str
    ours: float
    against: str | None = None
    theirs: float | None = None
    ratio: float | None = None
    ratio_lo: float | None = None
    ratio_hi: float | None = None


def row_of_pairs(
    name: str,
    unit: str,
    ours: Sequence[float],
    against: str,
    theirs: Sequence[float],
    *,
    higher_is_better: bool = False,
) -> Row:
    """The row of interleaved measurements: ours[i] and theirs[i] were taken in the same round.

    Raises ValueError on unequal counts, fewer than `ROUNDS_MIN` rounds, or a figure that is not positive.
    """
    if len(ours) != len(theirs) or len(ours) < ROUNDS_MIN:
        raise ValueError(f"{name}: {len(ours)} and {len(theirs)} rounds; want as many on both sides, {ROUNDS_MIN} up")
    if min(*ours, *theirs) <= 0.0:
        raise ValueError(f"{name}: a figure of 0 or less has no ratio")
    ratios = [a / b if higher_is_better else b / a for a, b in zip(ours, theirs, strict=True)]
    low, high = median_interval(ratios)
    middle = statistics.median
    return Row(name, unit, middle(ours), against, middle(theirs), middle(ratios), low, high)


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """The order statistics between which the median lies with 95 % confidence or more, whatever the distribution.

    Source: Conover, Practical Nonparametric Statistics (1999), section 3.2. Raises ValueError for fewer than
    `ROUNDS_MIN` values.
    """
    n = len(values)
    if n < ROUNDS_MIN:
        raise ValueError(f"{n} values have no 95 % interval of the median; {ROUNDS_MIN} have")
    ordered = sorted(values)
    outside, below = 0.0, 0
    # each side may miss with 2.5 %
    while outside + math.comb(n, below) * 0.5**n <= 0.025:
        outside += math.comb(n, below) * 0.5**n
        below += 1
    return ordered[below - 1], ordered[n - below]


def interleaved(
    sides: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of every side in every round. Each side runs once unmeasured first; the order turns by one a round.

    The garbage collector rests meanwhile. clock: seconds; `time.thread_time` counts this thread's processor alone.
    """
    names = list(sides)
    for run in sides.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    collecting = gc.isenabled()
    gc.disable()
    try:
        for turn in range(rounds):
            start = turn % len(names)
            for name in names[start:] + names[:start]:
                run = sides[name]
                began = clock()
                run()
                seconds[name].append(clock() - began)
    finally:
        if collecting:
            gc.enable()
    return seconds


class DisagreementError(RuntimeError):
    """Two sides that should give the same numbers do not; the text names them."""


def agree(what: str, found: NDArray[Any], expected: NDArray[Any], tolerance: float) -> None:
    """Raise DisagreementError unless the numbers agree, relative to the largest of those expected."""
    worst = float(np.abs(found - expected).max() / max(float(np.abs(expected).max()), 1e-300))
    # NaN is no agreement
    if not worst <= tolerance:
        raise DisagreementError(f"{what}: the sides differ by {worst:.2g} of the largest figure")


def write_rows(path: Path, settings: Mapping[str, object], rows: Sequence[Row]) -> None:
    """The document of `--json`: machine, settings (with the time it was taken), rows. Raises OSError."""
    taken = {"taken": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    document = {"machine": machine(), "settings": taken | dict(settings), "rows": [asdict(row) for row in rows]}
    path.write_text(json.dumps(document, indent=1) + "\n")


def table_of(title: str, rows: Sequence[Row]) -> Table:
    """The rows for a person."""
    table = Table(title=title, show_edge=False)
    # Names differ in their last parts: folded where the terminal is narrow, never cut.
    table.add_column("", overflow="fold", min_width=18)
    for heading in ("unit", "ours", "against", "theirs", "ratio", "95 %"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        theirs = "" if row.theirs is None else f"{row.theirs:,.4g}"
        ratio = "" if row.ratio is None else f"{row.ratio:,.2f}"
        interval = "" if row.ratio_lo is None else f"{row.ratio_lo:,.2f} – {row.ratio_hi:,.2f}"
        table.add_row(row.name, row.unit, f"{row.ours:,.4g}", row.against or "", theirs, ratio, interval)
    return table
