"""Which settings an experiment compares: A against B, or a factorial design over several toggles.

Up to three toggles every combination is run. From four on a fraction of resolution IV is (Box, Hunter and Hunter 2005,
table 6.22): main effects stay clear of interactions of two toggles, and those are aliased with one another, which
their names say. With nine toggles it is 32 combinations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

from core.toggles import FIELD_OF_KEY, Toggles, pressed

FULL_FACTORS_MAX = 3
_GENERATORS: dict[int, tuple[str, ...]] = {
    4: ("abc",),
    5: ("abcd",),
    6: ("abc", "bcd"),
    7: ("abc", "bcd", "acd"),
    8: ("bcd", "acd", "abc", "abd"),
    9: ("bcde", "acde", "abde", "abce"),
}
"""For so many factors: each further factor's column is the product of these base columns."""


@dataclass(frozen=True, slots=True)
class Contrast:
    """What is estimated: `b`, or the interaction `b×p`; aliases share one estimate, `b×p = c×d`.

    The log ratio is the sum over cells of `weights` times the log time: weights are positive where the toggle is off,
    so a ratio above 1 says that on is faster.
    """

    name: str
    weights: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Design:
    """`cells` are the settings, the baseline first; `contrasts` has the main effects in the order of `keys` first."""

    keys: tuple[str, ...]
    cells: tuple[Toggles, ...]
    contrasts: tuple[Contrast, ...]

    def visits(self, random: np.random.Generator) -> tuple[int, ...]:
        """The cells of one replicate in order: through all as drawn and back, so that a linear drift cancels.

        For two cells this is ABBA or BAAB; the draw keeps a rhythm of the machine from taking one side.
        """
        there = tuple(random.permutation(len(self.cells)).tolist())
        return there + there[::-1]


def pair_design(a: Toggles, b: Toggles) -> Design:
    """A against B, whatever differs between them. Equal settings are an A/A test of the method itself."""
    differ = tuple(key for key, name in FIELD_OF_KEY.items() if getattr(a, name) != getattr(b, name))
    return Design(differ, (a, b), (Contrast(" ".join(differ) or "A/A", (1.0, -1.0)),))


def toggle_design(base: Toggles, keys: Sequence[str]) -> Design:
    """Each of `keys` as it is in `base` against what pressing it once gives; presets (`0`, `9`) alone only.

    Raises ValueError for no key, a key twice, or a key that is no toggle.
    """
    if len(keys) == 1 and keys[0] in ("0", "9"):
        return pair_design(base, pressed(base, keys[0]))
    if not keys or len(set(keys)) != len(keys) or any(key not in FIELD_OF_KEY for key in keys):
        raise ValueError(f"an experiment needs different keys of {' '.join(FIELD_OF_KEY)}, not {' '.join(keys)!r}")
    ordered = tuple(key for key in FIELD_OF_KEY if key in keys)
    if len(ordered) == 1:
        return pair_design(base, pressed(base, ordered[0]))
    signs = _signs(len(ordered))
    cells = tuple(_cell(base, ordered, row) for row in signs)
    return Design(ordered, cells, _contrasts(ordered, signs))


def _signs(factors: int) -> NDArray[np.int64]:
    """int64 (cells, factors): 1 where the toggle is changed, -1 where it is as it was; the baseline row first."""
    if factors <= FULL_FACTORS_MAX:
        return np.array(list(product((-1, 1), repeat=factors)))
    words = _GENERATORS[factors]
    base = np.array(list(product((-1, 1), repeat=factors - len(words))))
    # The sign makes the all-low row one of the runs: the baseline is always measured.
    further = [(-1) ** (len(word) + 1) * base[:, [ord(c) - ord("a") for c in word]].prod(axis=1) for word in words]
    return np.column_stack([base, *further])


def _cell(base: Toggles, keys: Sequence[str], row: NDArray[np.int64]) -> Toggles:
    changed = {
        FIELD_OF_KEY[key]: getattr(pressed(base, key), FIELD_OF_KEY[key])
        for key, sign in zip(keys, row, strict=True)
        if sign > 0
    }
    return replace(base, **changed)


def _contrasts(keys: Sequence[str], signs: NDArray[np.int64]) -> tuple[Contrast, ...]:
    half = len(signs) / 2
    columns = [(key, signs[:, k]) for k, key in enumerate(keys)]
    columns += [(f"{keys[i]}×{keys[j]}", signs[:, i] * signs[:, j]) for i, j in combinations(range(len(keys)), 2)]
    found: dict[tuple[int, ...], str] = {}
    for name, column in columns:
        # A column and its negative are one estimate with two signs; the first name's sign is kept.
        own, negative = tuple(int(c) for c in column), tuple(int(-c) for c in column)
        known = own if own in found else negative if negative in found else None
        if known is None:
            found[own] = name
        else:
            found[known] += f" = {'' if known == own else '−'}{name}"
    return tuple(Contrast(name, tuple(-c / half for c in column)) for column, name in found.items())
