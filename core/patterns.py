"""The pattern library: windows of the past, and the return that followed each.

Library and trading never share a row: the library takes the first 40 % of a recording, the feed plays the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from core.config import Settings
from core.market.events import MarketData
from kernels.dtw import z_normalise

PATTERNS: Final = 1_000
PATTERN_STEPS: Final = 64
UNDATED: Final = "patterns of unknown dates, perhaps of the time traded"
HINDSIGHT: Final = "patterns of the time traded or later"
_SEED: Final = 64


@dataclass(frozen=True, slots=True, eq=False)
class PatternLibrary:
    """`count` windows, ordered by instrument and then time. Read-only arrays."""

    patterns: NDArray[np.float32]
    """[count, length], each row z-normalised."""
    forward_return: NDArray[np.float64]
    """[count], simple return over the `horizon` steps that followed the window."""
    instrument: NDArray[np.int64]
    """[count], index into `MarketSpec.instruments`."""
    end_row: NDArray[np.int64]
    """[count], the row of the recording with the window's last close."""
    horizon: int
    symbols: tuple[str, ...] = ()
    """Of the recording that a mined library is of."""
    span_ns: tuple[int, int] | None = None
    """Unix time of the first and of the last row that a mined library was read from; None where nobody knows."""

    def __len__(self) -> int:
        return len(self.end_row)


def build_library(
    data: MarketData, count: int = PATTERNS, length: int = PATTERN_STEPS, horizon: int = 1, seed: int = _SEED
) -> PatternLibrary:
    """Windows from the first 40 % of the data and all its instruments, spread evenly over both.

    A window and the return that followed it both end inside that part. Each instrument gives the same number of
    windows (the first ones one more where it does not divide), at equal distances; the seed only shifts each
    instrument's grid, so that not all share their dates. A recording too short for `count` different windows gives
    every window it has. Raises ValueError where it has none, or for a count, length or horizon below 1.
    """
    if min(count, length, horizon) < 1:
        raise ValueError(f"count {count}, length {length} and horizon {horizon} must be at least 1")
    rows = data.layout.library_rows
    if rows < length + horizon:
        raise ValueError(
            f"no pattern fits: the library has the first 40 % of the recording, {rows} rows, and a window of {length}"
            f" with the return over the next {horizon} needs {length + horizon}. Make the window or the horizon"
            " shorter, or give a longer recording"
        )
    closes = data.closes(0, rows)
    instrument, end_row = _choose(count, len(closes), first=length - 1, stop=rows - horizon, seed=seed)
    steps = np.arange(-length + 1, 1)
    windows = closes[instrument[:, None], end_row[:, None] + steps]
    library = PatternLibrary(
        patterns=z_normalise(windows),
        forward_return=closes[instrument, end_row + horizon] / closes[instrument, end_row] - 1.0,
        instrument=instrument,
        end_row=end_row,
        horizon=horizon,
    )
    for array in (library.patterns, library.forward_return, library.instrument, library.end_row):
        array.setflags(write=False)
    return library


def mined_library(path: Path, length: int) -> PatternLibrary:
    """The library that `tradetui mine` wrote, its patterns `length` steps long.

    Raises ValueError that says what is wrong with the file, and what to do.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in ("patterns", "forward_return", "instrument", "end_row")}
            horizon = int(stored["horizon"])
            # files of earlier versions do not say
            symbols = tuple(stored["symbols"].tolist()) if "symbols" in stored else ()
            span_ns = (int(stored["span_ns"][0]), int(stored["span_ns"][1])) if "span_ns" in stored else None
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); write a library with tradetui mine") from error
    except (KeyError, ValueError, IndexError, TypeError, EOFError, BadZipFile) as error:
        raise ValueError(f"{path} is no library of patterns; write one with tradetui mine") from error
    patterns = arrays["patterns"]
    count = len(patterns) if patterns.ndim == 2 else 0
    if count == 0 or patterns.dtype != np.float32 or not np.isfinite(patterns).all():
        raise ValueError(f"{path} holds no usable patterns; write it anew with tradetui mine")
    if patterns.shape[1] != length or horizon != 1:
        raise ValueError(
            f"{path} has patterns of {patterns.shape[1]} steps and returns after {horizon}; trading wants"
            f" {length} (window_steps) and 1: mine with --window {length} --horizon 1, or set window_steps"
        )
    returns = arrays["forward_return"]
    if any(len(array) != count for array in arrays.values()) or not np.isfinite(returns).all():
        raise ValueError(f"{path} is damaged: its arrays do not belong together; write it anew with tradetui mine")
    for array in arrays.values():
        array.setflags(write=False)
    return PatternLibrary(
        patterns=patterns,
        forward_return=returns.astype(np.float64),
        instrument=arrays["instrument"],
        end_row=arrays["end_row"],
        horizon=horizon,
        symbols=symbols,
        span_ns=span_ns,
    )


def hindsight(library: PatternLibrary, data: MarketData) -> str:
    """The caption for a mined library that knows more than one could when trading began, or may; empty where not.

    Raises ValueError where it has the very returns that are traded: the swarm would trade by its own future.
    """
    if library.span_ns is None:
        return UNDATED
    first_ns, last_ns = library.span_ns
    if last_ns < data.ts_ns[data.layout.first_trading_row]:
        return ""
    shared = [symbol for symbol in data.spec.symbols if symbol in library.symbols]
    if not shared or first_ns > data.ts_ns[-1]:
        return HINDSIGHT
    dates = [str(np.datetime64(int(ns), "ns").astype("datetime64[s]")) for ns in (first_ns, last_ns)]
    raise ValueError(
        f"the patterns were mined from {dates[0]} to {dates[1]}, a time that {data.spec.name} trades, with {shared[0]}"
        " in both: the returns of its own future. Mine the recording that is traded (its first 40 % alone is read), or"
        " one that ends before"
    )


def check_window(settings: Settings, data: MarketData) -> None:
    """Raises ValueError where the live window of these settings is longer than what the feed remembers."""
    most = data.layout.history_rows
    if settings.window_steps > most:
        raise ValueError(
            f"window_steps {settings.window_steps} is too long for {data.spec.name}: of its {data.layout.steps_total}"
            f" steps the feed keeps {most}. Set window_steps to {most} or less, or give a longer recording"
        )


def library_of(settings: Settings, data: MarketData) -> PatternLibrary:
    """The library that a swarm of these settings trades by.

    Raises ValueError as `check_window`, `build_library`, `mined_library`.
    """
    check_window(settings, data)
    if settings.patterns:
        return mined_library(Path(settings.patterns), settings.window_steps)
    return build_library(data, count=settings.pattern_count, length=settings.window_steps)


def _choose(
    count: int, instruments: int, first: int, stop: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Instrument and last row of each window; last rows lie in [first, stop)."""
    available = stop - first
    phases = np.random.default_rng(seed).random(instruments)
    chosen = []
    for index, phase in enumerate(phases):
        quota = min(available, count // instruments + (index < count % instruments))
        # Distances are at least one row, so no window comes twice.
        offsets = ((np.arange(quota) + phase) * available / quota).astype(np.int64) if quota else np.arange(0)
        chosen.append(np.column_stack((np.full(quota, index), first + offsets)))
    table = np.concatenate(chosen).astype(np.int64)
    return np.ascontiguousarray(table[:, 0]), np.ascontiguousarray(table[:, 1])
