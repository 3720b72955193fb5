"""A panel larger than memory as one memory-mapped array: closes by instrument, of which a reader takes what it needs.

DuckDB sorts the recording by instrument and time within a bound on its memory, spilling to disk; one instrument at a
time is then checked, counted in ticks and written. The numbers are those of `core.market.load.load_market`.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
from numpy.typing import NDArray

from core.market.errors import MarketDataError
from core.market.layout import STEPS_LEAST, layout_of
from core.market.spec import PLACES_MOST, exact_places, scaled, tick_size_of_parts
from core.market.table import Kind, Source, Table, first_true, open_source

SORT_BYTES_MAX: Final = 256_000_000
"""Memory of the sort; what does not fit goes to disk."""
CLOSES: Final = "closes.npy"
_ABOUT: Final = "about.json"


@dataclass(frozen=True, slots=True, eq=False)
class Partitions:
    """Closes of the library's part of a recording, on disk."""

    closes: NDArray[np.float64]
    """[instruments, rows], memory-mapped, read-only."""
    digest: str
    """SHA-256 of shape and closes, shortened: two machines with the same recording have the same."""
    symbols: tuple[str, ...]
    """Names of the instruments."""
    span_ns: tuple[int, int]
    """Unix time of the first and of the last row."""


def write_partitions(
    closes: NDArray[np.float64], symbols: Sequence[str], span_ns: tuple[int, int], folder: Path
) -> None:
    """Closes that are in memory, [instruments, rows], as partitions in an empty folder. Raises OSError."""
    out = _new_file(folder, *closes.shape)
    out[:] = closes
    _finish(out, symbols, span_ns, folder)


def open_partitions(folder: Path) -> Partitions:
    """What `write_partitions` or `partition_panel` left. Raises OSError or ValueError for anything else."""
    about = json.loads((folder / _ABOUT).read_text())
    first_ns, last_ns = about["span_ns"]
    closes = np.load(folder / CLOSES, mmap_mode="r")
    return Partitions(closes, str(about["digest"]), tuple(about["symbols"]), (int(first_ns), int(last_ns)))


def partition_panel(path: Path, time: str, folder: Path) -> None:
    """The library's part of a panel file, whose time column is `time`, as partitions in an empty folder.

    The rows may come in any order. Raises MarketDataError for what `load_market` refuses otherwise, OSError.
    """
    with tempfile.TemporaryDirectory(dir=folder) as spill, duckdb.connect() as connection:
        connection.execute(f"SET memory_limit = '{SORT_BYTES_MAX // 1_000_000}MB'")
        connection.execute("SET temp_directory = ?", [spill])
        connection.execute("SET preserve_insertion_order = false")
        connection.execute("SET threads = 1")
        # it would draw over ours
        connection.execute("SET enable_progress_bar = false")
        panel = _Panel(open_source(connection, path), time, Path(spill) / "sorted.parquet")
        _write(panel, folder)


class _Panel:
    """A panel file, sorted by instrument and time into another."""

    def __init__(self, source: Source, time: str, sorted_file: Path) -> None:
        self.path = source.path
        self._connection = source.connection
        kinds = {time: Kind.DATE if time == "date" else Kind.INTEGER, "instrument": Kind.TEXT, "close": Kind.FLOAT}
        for name in kinds:
            if name not in source.columns:
                problem = f"the column is missing; the file has {', '.join(source.columns)}"
                raise MarketDataError(self.path, problem, "Add or rename it", column=name)
        columns = [kind.value.format(source.columns[name]) for name, kind in kinds.items()]
        named = ", ".join(f"{sql} AS {name}" for sql, name in zip(columns, ("t", "instrument", "close"), strict=True))
        if source.beyond is not None:
            found = source.query(f"SELECT count(*) FROM {{}} WHERE {source.beyond} IS NOT NULL").fetchone()
            if found and found[0]:
                problem = f"{found[0]} rows have more values than the header has columns"
                raise MarketDataError(self.path, problem, "Correct them")
        target = str(sorted_file).replace("'", "''")
        source.query(f"CREATE TEMP VIEW panel AS SELECT {named} FROM {{}}", literal=True)
        self._run(f"COPY (SELECT * FROM panel ORDER BY instrument, t) TO '{target}' (FORMAT parquet)")
        self._sorted = f"read_parquet('{target}')"
        self._check_values(time)
        rows = self._run(f"SELECT instrument, count(*) FROM {self._sorted} GROUP BY instrument ORDER BY instrument")
        self.counts: dict[str, int] = dict(rows.fetchall())

    def _run(self, sql: str, *values: object) -> duckdb.DuckDBPyConnection:
        try:
            return self._connection.execute(sql, list(values))
        except duckdb.Error as error:
            said = " ".join(str(error).split())[:300]
            remedy = "Correct the file; or is there no room on the disk?"
            raise MarketDataError(self.path, f"it cannot be read or sorted: {said}", remedy) from error

    def _check_values(self, time: str) -> None:
        for name, column in ((time, "t"), ("instrument", "instrument"), ("close", "close")):
            missing = self._run(f"SELECT count(*) FROM {self._sorted} WHERE {column} IS NULL").fetchone()
            if missing and missing[0]:
                problem = f"{missing[0]} values are missing or are of another kind"
                raise MarketDataError(self.path, problem, "Correct the rows or remove them", column=name)
        bad = self._run(
            f"SELECT instrument, t, close FROM {self._sorted} WHERE NOT (close > 0 AND isfinite(close)) LIMIT 1"
        ).fetchone()
        if bad:
            problem = f"{bad[2]} of {bad[0]} at {bad[1]} is not a finite number above 0"
            raise MarketDataError(self.path, problem, "Correct the row or remove it", column="close")

    def extremes(self) -> tuple[float, float]:
        """The lowest and the highest close."""
        found = self._run(f"SELECT min(close), max(close) FROM {self._sorted}").fetchone()
        assert found is not None
        return float(found[0]), float(found[1])

    def each(self) -> Iterator[tuple[str, NDArray[np.int64], NDArray[np.float64]]]:
        """Each instrument by name: its times, sorted, and closes."""
        for name in self.counts:
            sql = f"SELECT t, close FROM {self._sorted} WHERE instrument = ? ORDER BY t"
            columns: dict[str, Any] = self._run(sql, name).fetchnumpy()
            yield name, np.asarray(columns["t"], np.int64), np.asarray(columns["close"], np.float64)


def _write(panel: _Panel, folder: Path) -> None:
    steps = max(panel.counts.values(), default=0)
    if steps < STEPS_LEAST:
        problem = f"{steps} steps are too few: the pattern library and the warm-up need {STEPS_LEAST}"
        raise MarketDataError(panel.path, problem, "Give a longer recording")
    lowest, highest = panel.extremes()
    exact = np.ones(PLACES_MOST + 1, np.bool_)
    times: NDArray[np.int64] | None = None
    for name, t, closes in panel.each():
        _check_times(panel.path, name, t, times)
        times = t if times is None else times
        exact &= exact_places(closes)
    tick_size = tick_size_of_parts(exact, lowest, highest)
    rows = layout_of(steps).library_rows
    out = _new_file(folder, len(panel.counts), rows)
    for place, (_, _, closes) in enumerate(panel.each()):
        ticks = Table(str(panel.path), {"close": closes}).units("close", tick_size)
        out[place] = scaled(ticks[:rows], tick_size)
    assert times is not None
    _finish(out, tuple(panel.counts), (int(times[0]), int(times[rows - 1])), folder)


def _check_times(path: Path, name: str, times: NDArray[np.int64], expected: NDArray[np.int64] | None) -> None:
    """No time twice, and every instrument at every time."""
    twice = first_true(times[1:] == times[:-1])
    if twice is not None:
        raise MarketDataError(path, f"{name} has two rows at {times[twice]}", "Remove one of the rows")
    if expected is not None and not np.array_equal(times, expected):
        some = np.setxor1d(times, expected)[0]
        problem = f"at {some} {name} or another instrument has no row"
        raise MarketDataError(path, problem, "Fill the gap, or leave that time or the instrument out")


def _new_file(folder: Path, instruments: int, rows: int) -> Any:
    return np.lib.format.open_memmap(folder / CLOSES, mode="w+", dtype=np.float64, shape=(instruments, rows))


def _finish(out: Any, symbols: Sequence[str], span_ns: tuple[int, int], folder: Path) -> None:
    digest = hashlib.sha256(repr(out.shape).encode())
    for row in out:
        digest.update(np.ascontiguousarray(row).tobytes())
    out.flush()
    about = {"digest": digest.hexdigest()[:32], "symbols": list(symbols), "span_ns": list(span_ns)}
    (folder / _ABOUT).write_text(json.dumps(about))
