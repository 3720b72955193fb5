"""Markets and pattern libraries larger than the data: seeded resampling of its own returns, and labelled so.

Blocks of consecutive days are drawn with wrap-around (Politis and Romano 1992), so that what is short-lived in the data
stays in it: they measure speed. Nothing is learned from them about markets.
"""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
from numpy.typing import NDArray

from core.market.load import load_market
from kernels.dtw import z_normalise

BLOCK_STEPS = 20
SOURCE = "us-stocks"
STEPS = 2_000
"""Of a resampled market: the library's 40 %, the history, and more steps than a benchmark trades."""
_CHUNK = 50_000


def _log_returns() -> NDArray[np.float64]:
    """float64 (20, steps - 1): of every instrument of the shipped market."""
    data = load_market(SOURCE)
    return np.diff(np.log(data.closes(0, data.layout.steps_total)), axis=1)


def _drawn(returns: NDArray[np.float64], rows: int, steps: int, random: np.random.Generator) -> NDArray[np.float64]:
    """float64 (rows, steps): returns in blocks, each row of one instrument."""
    blocks = -(-steps // BLOCK_STEPS)
    instrument = random.integers(0, len(returns), size=rows)
    starts = random.integers(0, returns.shape[1], size=(rows, blocks, 1))
    index = ((starts + np.arange(BLOCK_STEPS)) % returns.shape[1]).reshape(rows, -1)[:, :steps]
    return np.asarray(returns[instrument[:, None], index])


def write_market(path: Path, instruments: int, seed: int) -> None:
    """A panel of `instruments` and 2,000 days as Parquet, which `--data` takes."""
    returns = _drawn(_log_returns(), instruments, STEPS, np.random.default_rng(seed))
    # Beyond a factor of a hundred a price would outgrow the integer ticks.
    level = np.clip(np.cumsum(returns, axis=1), -np.log(100.0), np.log(100.0))
    close = np.round(100.0 * np.exp(level), 4)
    days = np.repeat(np.arange(STEPS), instruments)
    names = np.array([f"R{number:03d}" for number in range(instruments)], object)
    columns = {"day": days, "instrument": np.tile(names, STEPS), "close": np.ascontiguousarray(close.T).ravel()}
    with duckdb.connect() as connection:
        connection.register("columns", columns)
        target = str(path).replace("'", "''")
        connection.execute(
            "COPY (SELECT DATE '2000-01-03' + CAST(day AS INTEGER) AS date, instrument, close FROM columns"
            f" ORDER BY day, instrument) TO '{target}' (FORMAT parquet)"
        )


def write_library(path: Path, patterns: int, length: int, seed: int) -> None:
    """`patterns` windows of `length` steps with the return that follows, as `tradetui mine` writes them."""
    returns, random = _log_returns(), np.random.default_rng(seed)
    windows = np.empty((patterns, length), np.float32)
    following = np.empty(patterns)
    for first in range(0, patterns, _CHUNK):
        rows = min(_CHUNK, patterns - first)
        drawn = _drawn(returns, rows, length, random)
        path_level = np.cumsum(drawn, axis=1)
        windows[first : first + rows] = z_normalise(np.exp(path_level - path_level[:, :1]))
        following[first : first + rows] = np.expm1(_drawn(returns, rows, 1, random)[:, 0])
    np.savez(
        path,
        patterns=windows,
        forward_return=following,
        instrument=np.arange(patterns, dtype=np.int64) % len(returns),
        end_row=np.arange(patterns, dtype=np.int64),
        horizon=np.int64(1),
    )
