"""`tradetui bench log`: an append that is on disk when it returns, by our log, by SQLite and by LMDB.

The log of a node is ours because of this: a database would have to come within 1.5 times of it.
"""

from __future__ import annotations

import importlib
import importlib.util
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from core.bench.rows import Row, interleaved, row_of_pairs, table_of, write_rows
from net.log import DurableLog

RECORD_BYTES = 256
APPENDS = 200
"""Synced appends of one measurement."""


def bench_log(rounds: int, json_file: Path | None, console: Console) -> None:
    """Measure every store in `rounds` interleaved rounds; print and write. Raises ValueError below 6 rounds."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tradetui-bench-")))
        sides = {"ours": _ours(folder, stack), "SQLite, WAL, synchronous FULL": _sqlite(folder, stack)}
        if importlib.util.find_spec("lmdb") is not None:
            sides["LMDB"] = _lmdb(folder, stack)
        seconds = interleaved(sides, rounds)
    micros = {name: [each / APPENDS * 1e6 for each in taken] for name, taken in seconds.items()}
    ours = micros.pop("ours")
    rows: list[Row] = [row_of_pairs("log.append_synced", "µs", ours, name, theirs) for name, theirs in micros.items()]
    console.print(table_of(f"an append of {RECORD_BYTES} bytes, on disk", rows))
    if json_file is not None:
        write_rows(json_file, {"rounds": rounds, "record_bytes": RECORD_BYTES, "appends": APPENDS}, rows)


def _ours(folder: Path, stack: ExitStack) -> Callable[[], None]:
    log = stack.enter_context(DurableLog(folder / "log"))
    record = bytes(range(256))

    def run() -> None:
        for _ in range(APPENDS):
            log.append(record)
            log.sync()

    return run


def _sqlite(folder: Path, stack: ExitStack) -> Callable[[], None]:
    database = sqlite3.connect(folder / "sqlite", isolation_level=None)
    stack.callback(database.close)
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        database.execute(f"PRAGMA {pragma}")
    database.execute("CREATE TABLE log (number INTEGER PRIMARY KEY, record BLOB)")
    record = bytes(range(256))

    def run() -> None:
        for _ in range(APPENDS):
            database.execute("INSERT INTO log (record) VALUES (?)", (record,))

    return run


def _lmdb(folder: Path, stack: ExitStack) -> Callable[[], None]:
    lmdb: Any = importlib.import_module("lmdb")
    environment = stack.enter_context(lmdb.open(str(folder / "lmdb"), map_size=1 << 30))
    record = bytes(range(256))
    number = 0

    def run() -> None:
        nonlocal number
        for _ in range(APPENDS):
            with environment.begin(write=True) as transaction:
                transaction.put(number.to_bytes(8, "big"), record, append=True)
            number += 1

    return run
