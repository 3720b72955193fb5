"""Effects and interactions of a replicated factorial: least squares on logarithms, Student's t intervals.

The model has a level for each replicate (a block), every main effect and every interaction of two factors. Columns are
centred (the indicator of a level less its mean), so that in a full factorial a main effect is the average over all
levels of the others: Box, Hunter and Hunter, Statistics for Experimenters (2005), chapters 5 and 9.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class EffectEstimate:
    """`ratio` above 1: times as fast with the level as with the factor's first one.

    Of an interaction `b=on × p=on`: how many times larger the one's effect is with the other. Interval 95 %; None
    without a degree of freedom left.
    """

    name: str
    ratio: float
    low: float | None
    high: float | None


def student_t_quantile(probability: float, freedom: int) -> float:
    """The quantile of Student's t for `probability` in (0.5, 1), by integrating its density; to about 1e-6 relative.

    Raises ValueError outside that range or without a degree of freedom.
    """
    if freedom < 1 or not 0.5 < probability < 1.0:
        raise ValueError(f"student_t_quantile: {probability}, {freedom} degrees of freedom")
    # t = sqrt(freedom) tan(angle) makes the density a power of a cosine on a finite range.
    angle = np.linspace(0.0, np.pi / 2.0, 200_001)
    density = np.cos(angle) ** (freedom - 1)
    area = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2.0)])
    at = float(np.interp(2.0 * probability - 1.0, area / area[-1], angle))
    return float(np.sqrt(freedom) * np.tan(at))


def effects(
    cells: NDArray[np.int64],
    blocks: NDArray[np.int64],
    times: NDArray[np.float64],
    factors: Sequence[tuple[str, Sequence[str]]],
) -> list[EffectEstimate]:
    """Every main effect, then every interaction of two factors.

    cells: int64 (runs, factors), the place of each factor's level; blocks: int64 (runs,); times: float64 (runs,), above
    0; factors: name and words of its levels. Raises ValueError where the runs do not determine the model.
    """
    if not (np.isfinite(times).all() and (times > 0).all()):
        raise ValueError("effects: there are times that are not finite and above 0")
    names: list[str] = []
    columns: list[NDArray[np.float64]] = []
    of_factor: list[list[tuple[str, NDArray[np.float64]]]] = []
    for k, (name, levels) in enumerate(factors):
        own = []
        for place in range(1, len(levels)):
            column = (cells[:, k] == place) - 1.0 / len(levels)
            own.append((f"{name}={levels[place]}", column))
        of_factor.append(own)
        names += [each[0] for each in own]
        columns += [each[1] for each in own]
    for one, other in combinations(of_factor, 2):
        for first_name, first in one:
            for second_name, second in other:
                names.append(f"{first_name} × {second_name}")
                columns.append(first * second)
    base = [(blocks == block).astype(np.float64) for block in np.unique(blocks)]
    table = np.column_stack([*base, *columns])
    log_ms = np.log(times)
    if np.linalg.matrix_rank(table) < table.shape[1]:
        raise ValueError(
            f"effects: {len(times)} runs do not determine {table.shape[1]} coefficients; let the sweep end"
        )
    found, *_ = np.linalg.lstsq(table, log_ms, rcond=None)
    freedom = len(times) - table.shape[1]
    reach = np.zeros(table.shape[1])
    if freedom > 0:
        variance = float(np.square(log_ms - table @ found).sum()) / freedom
        spread = np.sqrt(variance * np.diag(np.linalg.inv(table.T @ table)))
        reach = student_t_quantile(0.5 + CONFIDENCE / 2.0, freedom) * spread
    estimates = []
    for k, name in enumerate(names, len(base)):
        low, high = (
            (float(np.exp(-found[k] - reach[k])), float(np.exp(-found[k] + reach[k]))) if freedom else (None, None)
        )
        estimates.append(EffectEstimate(name, float(np.exp(-found[k])), low, high))
    return estimates
