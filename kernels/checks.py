"""What every kernel's wrapper refuses: wrong type, dtype, rank, shape, or numbers out of range."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

LARGEST: Final = 1e15
"""Squared differences of larger numbers would overflow float32."""

_RANK: Final = {1: "one dimension", 2: "two dimensions", 3: "three dimensions"}


def checked(name: str, array: Any, dtype: type[np.generic], rank: int) -> NDArray[Any]:
    """The array itself, C-contiguous (copied if it was not).

    Raises ValueError when it is no numpy array of that dtype and rank, or holds NaN, infinity or a magnitude above
    `LARGEST`.
    """
    values = shaped(name, array, dtype, rank)
    # NaN fails both comparisons
    if values.size and not (values.max() <= LARGEST and values.min() >= -LARGEST):
        bad = np.argwhere(~(np.abs(values) <= LARGEST))[0]
        where = ", ".join(str(i) for i in bad)
        raise ValueError(f"{name}[{where}] is {values[tuple(bad)]}: only finite numbers up to {LARGEST:g} are allowed")
    return values


def shaped(name: str, array: Any, dtype: type[np.generic], rank: int) -> NDArray[Any]:
    """As `checked`, without looking at the values: for arrays that a checked function made."""
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{name} must be a numpy array of {dtype.__name__}, got {type(array).__name__}")  # noqa: TRY004
    if array.dtype != dtype:
        raise ValueError(f"{name} must have dtype {dtype.__name__}, got {array.dtype}")
    if array.ndim != rank:
        raise ValueError(f"{name} must have {_RANK[rank]}, got shape {array.shape}")
    return np.ascontiguousarray(array)


def checked_series(name: str, values: Any) -> NDArray[np.float64]:
    """A series as float64 [m], m >= 1. Raises ValueError as `checked` for float32 or float64, and when it is empty."""
    dtype = np.float32 if getattr(values, "dtype", None) == np.float32 else np.float64
    series = checked(name, values, dtype, 1).astype(np.float64)
    if not series.size:
        raise ValueError(f"{name} must have 1 step or more")
    return series


def checked_band(band: int) -> int:
    """A Sakoe-Chiba half width. Raises ValueError when it is no whole number or negative."""
    if isinstance(band, bool) or not isinstance(band, (int, np.integer)) or band < 0:
        raise ValueError(f"band must be a whole number of steps, 0 or more, got {band!r}")
    return int(band)


def checked_level(level: float) -> float:
    """A confidence level. Raises ValueError outside (0.5, 1)."""
    if not 0.5 < level < 1.0:
        raise ValueError(f"level must lie between 0.5 and 1 (0.95 is 95 %), got {level!r}")
    return float(level)
