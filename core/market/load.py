"""Loading a recording: a shipped one by name, or the user's own by path; all of it is checked before any is used."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import duckdb

from core.market.capture import capture_part, load_capture
from core.market.errors import MarketDataError
from core.market.events import MarketData
from core.market.panel import load_panel
from core.market.recording import Recording
from core.market.shipped import SHIPPED_MARKETS
from core.market.table import FORMATS, column_names
from core.market.ticks import load_ticks

DATA_DIRECTORY: Final = Path(__file__).parent / "data"
_PACKAGE: Final = "package"
_SHIPPED: Final[dict[str, tuple[str, Recording]]] = {
    "us-stocks": (
        "us_stocks_daily.parquet",
        Recording("us-stocks", _PACKAGE, tick_size=0.0001, lot_size=1.0, annualisation=252.0),
    ),
    "futures-ticks": (
        "futures_ticks.parquet",
        Recording("futures-ticks", _PACKAGE, tick_size=0.25, lot_size=1.0, symbol="ES"),
    ),
}


def load_market(source: str | Path) -> MarketData:
    """A market by name (`us-stocks`, `futures-ticks`) or the path of the user's own recording.

    A path is a file, or a directory with one panel or tick file, or with a capture's trades, quotes and depth. A panel
    has the columns `date` or `ts_ns`, `instrument`, `close`; ticks have `ts_ns`, `price`, `quantity`; a capture's files
    are named as `spot_btcusdt_trades.parquet`. Each is .parquet or .csv.

    Raises MarketDataError that names file, row and column.
    """
    with duckdb.connect() as connection:
        if isinstance(source, str) and source in _SHIPPED:
            return _load_shipped(connection, *_SHIPPED[source])
        path, files = _files_of(source)
        recording = Recording(path.stem if path.is_file() else path.resolve().name, str(path))
        if _is_capture(connection, files):
            return load_capture(connection, files, recording)
        return _load_file(connection, _only(path, files), recording)


def panel_file(connection: duckdb.DuckDBPyConnection, source: str | Path) -> tuple[Path, str] | None:
    """The file of the user's own panel and the name of its time column; None where `source` is no panel.

    Raises MarketDataError as `load_market`.
    """
    path, files = _files_of(source)
    if _is_capture(connection, files):
        return None
    file = _only(path, files)
    columns = set(column_names(connection, file))
    return (file, _time_column(columns)) if columns & {"instrument", "close"} else None


def _files_of(source: str | Path) -> tuple[Path, list[Path]]:
    path = Path(source).expanduser()
    if not path.exists():
        problem = "there is neither a file or directory of this name nor a shipped market"
        raise MarketDataError(path, problem, f"Give a path, or one of {', '.join(SHIPPED_MARKETS)}")
    return path, [path] if path.is_file() else _files_in(path)


def _is_capture(connection: duckdb.DuckDBPyConnection, files: list[Path]) -> bool:
    return any(capture_part(file) for file in files) and not _is_tick_file(connection, files)


def _only(path: Path, files: list[Path]) -> Path:
    if len(files) > 1:
        named = ", ".join(file.name for file in files[:5])
        problem = f"the directory has {len(files)} files and none is part of a capture: {named}"
        raise MarketDataError(path, problem, "Give the path of one of them")
    return files[0]


def _time_column(columns: set[str]) -> str:
    return "ts_ns" if "ts_ns" in columns and "date" not in columns else "date"


def verify_checksum(path: Path) -> None:
    """Raise MarketDataError unless `SHA256SUMS` beside the file has its SHA-256."""
    sums = path.parent / "SHA256SUMS"
    remedy = "The installation is damaged; install tradetui again"
    if not path.is_file() or not sums.is_file():
        raise MarketDataError(path, "the file or its SHA256SUMS is missing", remedy)
    expected = {name: digest for digest, name in (line.split() for line in sums.read_text("utf-8").splitlines())}
    if path.name not in expected:
        raise MarketDataError(path, f"{sums.name} has no line for it", remedy)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected[path.name]:
        raise MarketDataError(path, f"its SHA-256 is {found}, not {expected[path.name]}", remedy)


def _load_shipped(connection: duckdb.DuckDBPyConnection, file: str, recording: Recording) -> MarketData:
    path = DATA_DIRECTORY / file
    verify_checksum(path)
    return _load_file(connection, path, recording)


def _load_file(connection: duckdb.DuckDBPyConnection, path: Path, recording: Recording) -> MarketData:
    """A panel or ticks, whichever the columns say."""
    columns = set(column_names(connection, path))
    if columns & {"price", "quantity"} and not columns & {"instrument", "close"}:
        return load_ticks(connection, path, recording)
    if columns & {"instrument", "close"}:
        return load_panel(connection, path, recording, _time_column(columns))
    problem = f"the columns {', '.join(sorted(columns))} are neither a panel's nor ticks"
    remedy = "A panel has date (or ts_ns), instrument, close; ticks have ts_ns, price, quantity"
    raise MarketDataError(path, problem, remedy)


def _is_tick_file(connection: duckdb.DuckDBPyConnection, files: list[Path]) -> bool:
    """A single file may be called `es_trades.csv` and hold ticks: its columns decide."""
    return len(files) == 1 and {"price", "quantity"} <= set(column_names(connection, files[0]))


def _files_in(directory: Path) -> list[Path]:
    files = sorted(file for file in directory.iterdir() if file.suffix.lower() in FORMATS and file.is_file())
    if not files:
        raise MarketDataError(directory, "the directory has no .parquet or .csv file", "Put the recording there")
    return files
