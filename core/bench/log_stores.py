"""The stores of `tradetui bench log`, each as one call that appends a record and returns once it is on disk, and the
process that appends by them when told."""

from __future__ import annotations

import importlib
import importlib.util
import sqlite3
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from net.log import DurableLog

RECORD: Final = bytes(range(256))
OURS: Final = "ours"
Append = Callable[[], object]


def open_stores(folder: Path, stack: ExitStack) -> dict[str, Append]:
    """Every store that is installed, with files of its own in `folder`, ours first; `stack` closes them."""
    stores: dict[str, Append] = {OURS: _ours(folder, stack), "SQLite, WAL, synchronous FULL": _sqlite(folder, stack)}
    if importlib.util.find_spec("lmdb") is not None:
        stores["LMDB"] = _lmdb(folder, stack)
    return stores


def serve_appends(folder: Path, link: Connection) -> None:
    """The body of one of several processes: answers with the names of its stores, then to each (name, seconds) with
    the records a second that it appended in that time; ends at None."""
    with ExitStack() as stack:
        stores = open_stores(folder, stack)
        link.send(list(stores))
        while (told := link.recv()) is not None:
            name, seconds = told
            link.send(_rate(stores[name], seconds))


def _rate(append: Append, seconds: float) -> float:
    count, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < seconds:
        append()
        count += 1
    return count / took


def _ours(folder: Path, stack: ExitStack) -> Append:
    log = stack.enter_context(DurableLog(folder / "log"))

    def append() -> None:
        log.append(RECORD)
        log.sync()

    return append


def _sqlite(folder: Path, stack: ExitStack) -> Append:
    database = sqlite3.connect(folder / "sqlite", isolation_level=None)
    stack.callback(database.close)
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        database.execute(f"PRAGMA {pragma}")
    database.execute("CREATE TABLE log (number INTEGER PRIMARY KEY, record BLOB)")
    return lambda: database.execute("INSERT INTO log (record) VALUES (?)", (RECORD,))


def _lmdb(folder: Path, stack: ExitStack) -> Append:
    lmdb: Any = importlib.import_module("lmdb")
    environment = stack.enter_context(lmdb.open(str(folder / "lmdb"), map_size=1 << 30))
    number = 0

    def append() -> None:
        nonlocal number
        with environment.begin(write=True) as transaction:
            transaction.put(number.to_bytes(8, "big"), RECORD, append=True)
        number += 1

    return append
