"""Reading a recording's columns with DuckDB, and refusing what cannot be played, by file, row and column."""

from __future__ import annotations

import csv
import glob
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final, NoReturn

import duckdb
import numpy as np
from numpy.typing import NDArray

from core.market.errors import MarketDataError

FORMATS: Final = (".parquet", ".csv")
_CSV_FORMAT: Final = "delim = ',', quote = '\"', escape = '\"', null_padding = true"
_MOST_UNITS: Final = 1 << 53
"""Ticks and lots stay whole numbers in float64."""


class Kind(Enum):
    """How a column is read; the value is the SQL over the quoted column name."""

    INTEGER = "TRY_CAST({} AS BIGINT)"
    FLOAT = "TRY_CAST({} AS DOUBLE)"
    TEXT = "CAST({} AS VARCHAR)"
    DATE = "epoch_ns(TRY_CAST({} AS TIMESTAMP_NS))"
    """Nanoseconds of midnight UTC."""


_EXPECTED: Final = {
    Kind.INTEGER: "a whole number",
    Kind.FLOAT: "a number",
    Kind.TEXT: "a text",
    Kind.DATE: "a date such as 2024-12-31",
}


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Columns of one file, in file order, each with one value a row and none missing."""

    file: str
    columns: dict[str, NDArray[Any]]

    def __getitem__(self, column: str) -> NDArray[Any]:
        return self.columns[column]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def refuse(self, index: int, column: str, problem: str, remedy: str) -> NoReturn:
        """Raise for the row at `index`, counted from 0."""
        raise MarketDataError(self.file, problem, remedy, row=index + 1, column=column)

    def check_sorted(self, column: str) -> None:
        """Times may repeat and must not go back."""
        values = self[column]
        found = first_true(values[1:] < values[:-1])
        if found is not None:
            self.refuse(found + 1, column, "time goes back from the row before", "Sort the file by time")

    def check_above(self, column: str, *, zero_allowed: bool = False) -> None:
        """Prices are above 0 and finite; a depth level's quantity may be 0."""
        values = self[column]
        good = np.isfinite(values) & ((values >= 0.0) if zero_allowed else (values > 0.0))
        found = first_true(~good)
        if found is not None:
            wanted = "0 or a finite number above" if zero_allowed else "a finite number above 0"
            self.refuse(found, column, f"{values[found]} is not {wanted}", "Correct the row or remove it")

    def check_one_of(self, column: str, allowed: tuple[int, ...]) -> None:
        found = first_true(~np.isin(self[column], allowed))
        if found is not None:
            wanted = " or ".join(map(str, allowed))
            self.refuse(found, column, f"{self[column][found]} is not {wanted}", "Correct the row or remove it")

    def check_unique(self, column: str, keys: NDArray[np.int64], what: str) -> None:
        """No key occurs twice. keys: int64 [rows]; `what` names it in the message."""
        found = first_repeat(keys)
        if found is not None:
            later, earlier = found
            self.refuse(later, column, f"duplicate {what}, first seen in row {earlier + 1}", "Remove one of the rows")

    def units(self, column: str, unit: float) -> NDArray[np.int64]:
        """A price column as ticks, or a quantity column as lots, int64 [rows].

        Refuses values that round to nothing (a 0 stays 0) or that leave float64's whole numbers.
        """
        values = self[column]
        counts = np.rint(values * round(1.0 / unit)) if unit <= 1.0 else np.rint(values / unit)
        found = first_true(((counts < 1.0) & (values > 0.0)) | (counts > _MOST_UNITS))
        if found is not None:
            problem = f"{values[found]} cannot be counted in units of {unit:g}"
            self.refuse(
                found, column, problem, "The values of this column differ too much in size; rescale or split them"
            )
        return counts.astype(np.int64)


def first_true(mask: NDArray[np.bool_]) -> int | None:
    """Index of the first True, or None. mask: bool [n]."""
    if not mask.size:
        return None
    index = int(np.argmax(mask))
    return index if mask[index] else None


def first_repeat(keys: NDArray[np.int64]) -> tuple[int, int] | None:
    """The first row whose key an earlier row has, and the nearest such earlier row; None if all differ.

    keys: int64 [n].
    """
    order = np.argsort(keys, kind="stable")
    repeats = np.flatnonzero(keys[order[1:]] == keys[order[:-1]])
    if not repeats.size:
        return None
    pick = repeats[np.argmin(order[repeats + 1])]
    return int(order[pick + 1]), int(order[pick])


def column_names(connection: duckdb.DuckDBPyConnection, path: Path) -> list[str]:
    """The file's columns. Raises MarketDataError for a file that is no parquet or CSV, or cannot be read."""
    return list(open_source(connection, path).columns)


def read_table(connection: duckdb.DuckDBPyConnection, path: Path, kinds: dict[str, Kind]) -> Table:
    """The named columns of a parquet or CSV file, in file order.

    Raises MarketDataError for a missing column, an unreadable file, no rows, a row with more values than columns, or a
    value that is missing or is not of its column's kind.
    """
    source = open_source(connection, path)
    for name in kinds:
        if name not in source.columns:
            problem = f"the column is missing; the file has {', '.join(source.columns)}"
            raise MarketDataError(path, problem, "Add or rename it", column=name)
    selected = ", ".join(f'{kind.value.format(source.columns[name])} AS "{name}"' for name, kind in kinds.items())
    table = Table(str(path), dict(source.query(f"SELECT {selected} FROM {{}}").fetchnumpy()))
    if not len(table):
        raise MarketDataError(path, "the file has no rows", "Give a recording with data")
    if source.beyond is not None:
        _check_no_value_beyond(source, source.beyond)
    for name, kind in kinds.items():
        found = first_true(np.ma.getmaskarray(table[name]))
        if found is not None:
            text = source.query(f"SELECT {source.columns[name]} FROM {{}} LIMIT 1 OFFSET {found}").fetchone()
            value = (
                "the value is missing" if text is None or text[0] is None else f"{text[0]!r} is not {_EXPECTED[kind]}"
            )
            table.refuse(found, name, value, "Correct the row or remove it")
    return Table(table.file, {name: np.ma.getdata(values) for name, values in table.columns.items()})


@dataclass(frozen=True, slots=True)
class Source:
    """One file as SQL reads it; made by `open_source`."""

    connection: duckdb.DuckDBPyConnection
    path: Path
    scan: str
    columns: dict[str, str]
    """Name in the file to the SQL identifier."""
    beyond: str | None
    """Identifier of a column that takes what a CSV row has beyond the header's columns."""

    def query(self, sql: str, *, literal: bool = False) -> duckdb.DuckDBPyConnection:
        """Run `sql` with {} standing for the file. Raises MarketDataError.

        literal: the path stands in the text, for statements that take no parameter.
        """
        if not literal:
            return _query(self.connection, self.path, sql.format(self.scan))
        path = glob.escape(str(self.path)).replace("'", "''")
        scan = self.scan.replace("?", f"'{path}'", 1)
        return _query(self.connection, self.path, sql.format(scan), with_path=False)


def open_source(connection: duckdb.DuckDBPyConnection, path: Path) -> Source:
    """The file as SQL reads it. Raises MarketDataError for a file that is no parquet or CSV, or cannot be read."""
    if path.suffix.lower() not in FORMATS:
        raise MarketDataError(path, "the file is neither .parquet nor .csv", "Convert it")
    if path.suffix.lower() == ".parquet":
        described = _query(connection, path, "SELECT * FROM read_parquet(?) LIMIT 0").description or ()
        names = [str(row[0]) for row in described]
        return Source(connection, path, "read_parquet(?)", {name: _quoted(name) for name in names}, None)
    # Columns are given by place and as text: SQL's names know no case, and a type guess would fail without a row.
    names = _csv_header(path)
    identifiers = [f"c{index}" for index in range(len(names) + 1)]
    struct = ", ".join(f"{identifier}: 'VARCHAR'" for identifier in identifiers)
    scan = f"read_csv(?, columns = {{{struct}}}, auto_detect = false, header = true, {_CSV_FORMAT})"
    columns = dict(zip(names, identifiers, strict=False))
    if len(columns) < len(names):
        twice = next(name for index, name in enumerate(names) if name in names[:index])
        raise MarketDataError(path, "two columns have this name", "Rename or remove one", column=twice)
    return Source(connection, path, scan, columns, beyond=identifiers[-1])


def _csv_header(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return next(csv.reader(file), [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MarketDataError(path, f"the file cannot be read: {error}", "Give a CSV in UTF-8") from error


def _check_no_value_beyond(source: Source, beyond: str) -> None:
    """A comma too many, as in an unquoted 1,234.50, would move values into other columns."""
    places = source.query(f"SELECT {beyond} IS NOT NULL AS beyond FROM {{}}").fetchnumpy()["beyond"]
    found = first_true(np.asarray(places, dtype=np.bool_))
    if found is not None:
        problem = f"the row has more values than the header's {len(source.columns)} columns"
        raise MarketDataError(source.path, problem, "Correct the row or remove it", row=found + 1)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _query(
    connection: duckdb.DuckDBPyConnection, path: Path, sql: str, *, with_path: bool = True
) -> duckdb.DuckDBPyConnection:
    try:
        return connection.execute(sql, [glob.escape(str(path))] if with_path else [])
    except (duckdb.Error, UnicodeDecodeError) as error:
        first_line = str(error).splitlines()[0]
        raise MarketDataError(path, f"the file cannot be read: {first_line}", "Check that it is intact") from error
