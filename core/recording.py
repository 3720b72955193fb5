"""The recording of a session: cycles, states, events and orders in one DuckDB file, bounded on disk.

Cycles are plain columns, one a span and kind of time: SQL and Parquet readers need nothing of ours. The state of the
swarm (nodes, consensus, positions, totals) is kept once a second as MessagePack, for replay.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import msgpack
import numpy as np

from core.records import CycleRecord, EventRow, OrderRow, SwarmSnapshot
from core.snapshot_record import event_from_dict, order_from_dict, pack_snapshot, snapshot_from_dict
from core.spans import NAMES
from core.toggles import from_dict

SCALARS = (
    "cycle", "step", "lap", "leader", "epoch", "term", "started_ns", "wall_ms", "untimed_ms", "rounds", "messages",
    "datagrams", "bytes_on_wire", "decisions_committed", "decisions_denied", "orders_sent", "orders_filled",
    "orders_rejected", "numpy_kernels",
)  # fmt: skip
ARRAYS = ("count", "inclusive_ms", "exclusive_ms", "background_ms")
_ENDED_NS = "started_ns + CAST(floor(wall_ms * 1e6) AS BIGINT)"
TABLES = {"cycles": "started_ns", "states": "taken_ns", "events": "time_ns", "orders": "seen_ns"}
"""Each table with its column of Unix time, ns."""
WRITER_MEMORY_MB = 128
WAL, HALF = ".wal", ".half"
"""Beside the file: DuckDB's log of what is not in it yet, and the newer half while it is copied."""


class RecordingError(RuntimeError):
    """The file is no recording, or cannot be opened; the text says why."""


def _cycle_columns() -> list[str]:
    wide = [f"{name}_{array}" for array in ARRAYS for name in NAMES]
    return [*SCALARS, "toggles", *wide]


def _type(column: str) -> str:
    if column == "toggles":
        return "VARCHAR"
    return "DOUBLE" if column.endswith("_ms") else "BIGINT"


@dataclass(frozen=True, slots=True)
class _Shown:
    """The cycles of the last snapshot that was read, with what it was asked for."""

    at_ns: int
    keep: int
    cycles: tuple[CycleRecord, ...]


@dataclass(frozen=True, slots=True)
class Moment:
    """A state of the swarm, and what is new with it; the state's own cycles, events and orders are left out."""

    state: SwarmSnapshot
    cycles: tuple[CycleRecord, ...] = ()
    events: tuple[EventRow, ...] = ()
    orders: tuple[OrderRow, ...] = ()


class Recording:
    """One open file. Not thread-safe: one thread at a time."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Opens or (unless `read_only`) makes the file. Raises RecordingError."""
        if read_only and not path.is_file():
            raise RecordingError(f"{path} does not exist")
        self.path = path
        self._shown: _Shown | None = None
        try:
            self._db = self._connect(read_only=read_only)
            if not read_only:
                self._remove_half()
                self._make_tables()
            self._db.execute("SELECT cycle, toggles FROM cycles LIMIT 1")
        except duckdb.IOException as error:
            raise RecordingError(f"{path} cannot be opened (a running session still writes it?): {error}") from None
        except duckdb.Error as error:
            raise RecordingError(f"{path} is no recording: {error}") from None

    def _connect(self, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
        """Without a limit DuckDB keeps in memory what it ever wrote, up to most of the machine's."""
        if read_only:
            return duckdb.connect(str(self.path), read_only=True)
        return duckdb.connect(str(self.path), config={"memory_limit": f"{WRITER_MEMORY_MB} MB"})

    def _make_tables(self) -> None:
        columns = ", ".join(f'"{column}" {_type(column)}' for column in _cycle_columns())
        self._db.execute(f"CREATE TABLE IF NOT EXISTS cycles ({columns})")
        # a session begun under an older build
        self._db.execute("ALTER TABLE cycles ADD COLUMN IF NOT EXISTS numpy_kernels BIGINT DEFAULT 0")
        self._db.execute("CREATE TABLE IF NOT EXISTS states (taken_ns BIGINT, state BLOB)")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS events (time_ns BIGINT, severity VARCHAR, source VARCHAR, text VARCHAR)"
        )
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS orders (seen_ns BIGINT, client_order_id VARCHAR, step BIGINT,"
            " instrument VARCHAR, side VARCHAR, quantity DOUBLE, limit_price DOUBLE, state VARCHAR,"
            " filled_quantity DOUBLE, average_price DOUBLE, fee DOUBLE, reason VARCHAR)"
        )

    def close(self) -> None:
        self._db.close()

    def newest_cycles(self, count: int) -> set[int]:
        """The numbers of the newest `count` cycles that it holds."""
        found = self._db.execute("SELECT cycle FROM cycles ORDER BY cycle DESC LIMIT ?", (count,)).fetchall()
        return {int(cycle) for (cycle,) in found}

    def cycle_count(self) -> int:
        """Cycles that it holds."""
        return int(self._one("SELECT count(*) FROM cycles"))

    def events_between(self, first_ns: int, last_ns: int) -> frozenset[EventRow]:
        """The events of this time (Unix, both ends included) that it holds."""
        found = self._rows("SELECT * FROM events WHERE time_ns BETWEEN ? AND ?", first_ns, last_ns)
        return frozenset(event_from_dict(row) for row in found)

    def _one(self, query: str, *values: object) -> Any:
        row = self._db.execute(query, values).fetchone()
        assert row is not None
        return row[0]

    def append(self, moments: Sequence[Moment]) -> None:
        """Write all of them or, where it raises, none."""
        self._shown = None
        cycles = [record for moment in moments for record in moment.cycles]
        orders = [order for moment in moments for order in moment.orders]
        self._db.begin()
        if cycles:
            self._insert("cycles", _columns_of(cycles))
        for moment in moments:
            state = replace(moment.state, cycles=(), events=(), orders=())
            self._db.execute("INSERT INTO states VALUES (?, ?)", (state.taken_ns, pack_snapshot(state)))
            for event in moment.events:
                self._db.execute("INSERT INTO events VALUES (?, ?, ?, ?)", tuple(asdict(event).values()))
        if orders:
            seen_ns = np.repeat([moment.state.taken_ns for moment in moments], [len(m.orders) for m in moments])
            self._insert("orders", {"seen_ns": seen_ns} | _order_columns(orders))
        self._db.commit()

    def _insert(self, table: str, columns: dict[str, Any]) -> None:
        """All columns at once: row by row DuckDB takes ten times as long."""
        self._db.register("fresh", columns)
        self._db.execute(f"INSERT INTO {table} BY NAME SELECT * FROM fresh")
        self._db.unregister("fresh")

    def bytes_on_disk(self) -> int:
        """Of the file and its log; the log is taken into the file at 16 MB."""
        return sum(path.stat().st_size for path in (self.path, self._beside(WAL)) if path.exists())

    def _beside(self, ending: str) -> Path:
        return self.path.with_name(self.path.name + ending)

    def drop_older_half(self) -> int:
        """Forget the older half, cycles and states counted alike; returns how many cycles went.

        By cycles alone, the states that a halted swarm's recorder wrote since the last one would never go.

        The newer half goes to a file of its own, which then takes the place of the old one: a file of DuckDB's does not
        shrink when rows are deleted. While it is copied both are on disk, half as much again as before.
        """
        self._shown = None
        before = self.cycle_count()
        times = "SELECT started_ns AS at_ns FROM cycles UNION ALL SELECT taken_ns FROM states"
        middle_ns = int(self._one(f"SELECT coalesce(CAST(median(at_ns) AS BIGINT), 0) FROM ({times})"))
        self._remove_half()
        self._db.execute("CHECKPOINT")
        self._db.execute(f"ATTACH {_quoted(self._beside(HALF))} AS half")
        for table, time in TABLES.items():
            self._db.execute(f"CREATE TABLE half.{table} AS SELECT * FROM {table} WHERE {time} >= {middle_ns}")
        self._db.execute("CHECKPOINT half")
        self._db.execute("DETACH half")
        self._db.close()
        os.replace(self._beside(HALF), self.path)
        self._db = self._connect()
        return before - self.cycle_count()

    def _remove_half(self) -> None:
        """What a recorder that was killed while it copied has left."""
        for ending in (HALF, HALF + WAL):
            self._beside(ending).unlink(missing_ok=True)

    def export_parquet(self, directory: Path) -> list[Path]:
        """Each table as a Parquet file in `directory`."""
        directory.mkdir(parents=True, exist_ok=True)
        paths = []
        for table in TABLES:
            path = directory / f"{table}.parquet"
            self._db.execute(f"COPY {table} TO {_quoted(path)} (FORMAT parquet)")
            paths.append(path)
        return paths

    # Reading back.

    def span_ns(self) -> tuple[int, int]:
        """Unix time of the end of the first cycle, or of the first state before it, and of the last state.

        A recorder that was killed before its first write takes in cycles older than the first state. Raises
        RecordingError for an empty recording.
        """
        first, last, cycle = self._db.execute(
            f"SELECT min(taken_ns), max(taken_ns), (SELECT min({_ENDED_NS}) FROM cycles) FROM states"
        ).fetchall()[0]
        if first is None or cycle is None:
            raise RecordingError(f"{self.path} holds no cycle")
        return min(int(first), int(cycle)), int(last)

    def captions(self, since_ns: int) -> list[tuple[int, tuple[str, ...]]]:
        """Of the state that stood at `since_ns` and of each one after it, in order of time (Unix, ns)."""
        found = self._db.execute(
            "SELECT taken_ns, state FROM states WHERE taken_ns >="
            " coalesce((SELECT max(taken_ns) FROM states WHERE taken_ns <= ?), 0) ORDER BY taken_ns",
            (since_ns,),
        ).fetchall()
        return [(int(taken_ns), tuple(msgpack.unpackb(state)["captions"])) for taken_ns, state in found]

    def end_of_cycle_ns(self, cycle: int) -> int:
        """When the cycle ended. Raises RecordingError where it was not recorded."""
        found = self._one(f"SELECT max({_ENDED_NS}) FROM cycles WHERE cycle = ?", cycle)
        if found is None:
            raise RecordingError(f"{self.path} does not hold cycle {cycle}")
        return int(found)

    def snapshot(self, at_ns: int, keep_cycles: int, keep_events: int, keep_orders: int) -> SwarmSnapshot:
        """The swarm as it was known at `at_ns` (Unix time); the first state for a time before it."""
        packed = self._db.execute(
            "SELECT state FROM states WHERE taken_ns <= greatest(?, (SELECT min(taken_ns) FROM states))"
            " ORDER BY taken_ns DESC LIMIT 1",
            (at_ns,),
        ).fetchone()
        assert packed is not None
        state = snapshot_from_dict(msgpack.unpackb(packed[0]))
        cycles = self._cycles(at_ns, keep_cycles)
        events = self._rows(
            "SELECT * FROM events WHERE time_ns <= ? ORDER BY time_ns DESC, rowid DESC LIMIT ?", at_ns, keep_events
        )
        orders = self._rows(
            "SELECT * EXCLUDE (seen_ns, last) FROM (SELECT *, rowid AS place, row_number() OVER (PARTITION BY"
            " client_order_id ORDER BY seen_ns DESC, rowid DESC) AS last FROM orders WHERE seen_ns <= ?) WHERE last = 1"
            " ORDER BY place DESC LIMIT ?",
            at_ns,
            keep_orders,
        )
        for row in orders:
            del row["place"]
        return replace(
            state,
            taken_ns=at_ns,
            cycles=cycles,
            cycles_total=cycles[-1].cycle if cycles else 0,
            toggles=cycles[-1].toggles if cycles else state.toggles,
            events=tuple(event_from_dict(row) for row in reversed(events)),
            orders=tuple(order_from_dict(row) for row in orders),
        )

    def _cycles(self, at_ns: int, keep: int) -> tuple[CycleRecord, ...]:
        """The last `keep` that had ended at `at_ns`. Those of the call before are kept: a replay asks ten times a
        second, and mostly for a few cycles more."""
        shown = self._shown
        if shown is None or shown.keep != keep:
            found = self._read_cycles("ended_ns <= ?", at_ns, keep=keep)
        elif at_ns >= shown.at_ns:
            newer = self._read_cycles("ended_ns > ? AND ended_ns <= ?", shown.at_ns, at_ns, keep=keep)
            found = sorted((*shown.cycles, *newer), key=_number)[-keep:]
        else:
            found = [record for record in shown.cycles if _ended_ns(record) <= at_ns]
            if len(shown.cycles) == keep:
                first, room = shown.cycles[0].cycle, keep - len(found)
                found = self._read_cycles("ended_ns <= ? AND cycle < ?", at_ns, first, keep=room) + found
        self._shown = _Shown(at_ns, keep, tuple(found))
        return self._shown.cycles

    def _read_cycles(self, condition: str, *values: int, keep: int) -> list[CycleRecord]:
        """The last `keep` cycles of which `condition` holds, in order."""
        columns = self._db.execute(
            f"SELECT * EXCLUDE ended_ns FROM (SELECT *, {_ENDED_NS} AS ended_ns FROM cycles) WHERE {condition}"
            " ORDER BY cycle DESC LIMIT ?",
            (*values, keep),
        ).fetchnumpy()
        return _cycles_of(columns)[::-1]

    def _rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        found = self._db.execute(query, values)
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def _quoted(path: Path) -> str:
    """As a text of SQL: where it wants a path, it takes no parameter."""
    return "'{}'".format(str(path).replace("'", "''"))


def _columns_of(cycles: Sequence[CycleRecord]) -> dict[str, Any]:
    """One 1-D array a column, in the order of the table."""
    table: dict[str, Any] = {}
    for name in SCALARS:
        kind = np.float64 if _type(name) == "DOUBLE" else np.int64
        table[name] = np.array([getattr(record, name) for record in cycles], kind)
    table["toggles"] = np.array([json.dumps(record.toggles.as_dict()) for record in cycles], object)
    for array in ARRAYS:
        values = np.array([getattr(record, array) for record in cycles])
        for k, name in enumerate(NAMES):
            table[f"{name}_{array}"] = np.ascontiguousarray(values[:, k])
    return table


def _order_columns(orders: Sequence[OrderRow]) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for name in OrderRow.__slots__:
        found = [getattr(order, name) for order in orders]
        values = [str(value) if isinstance(value, str) else value for value in found]
        columns[name] = np.array(values, object if isinstance(values[0], str) else None)
    return columns


def _number(record: CycleRecord) -> int:
    return record.cycle


def _ended_ns(record: CycleRecord) -> int:
    """As SQL computes it."""
    return record.started_ns + math.floor(record.wall_ms * 1e6)


def _cycles_of(columns: dict[str, Any]) -> list[CycleRecord]:
    """The records of whole columns: a dictionary a row took 150 ms for a screen's 2,000."""
    count = len(columns["cycle"])
    # recordings of older builds lack the newest column
    scalars = [columns[name].tolist() if name in columns else [0] * count for name in SCALARS]
    texts = columns["toggles"].tolist()
    toggles = {text: from_dict(json.loads(text)) for text in set(texts)}
    arrays = {
        array: np.column_stack([columns[f"{name}_{array}"] for name in NAMES]).astype(
            np.int64 if array == "count" else np.float64
        )
        for array in ARRAYS
    }
    return [
        CycleRecord(
            **dict(zip(SCALARS, values, strict=True)),
            toggles=toggles[texts[k]],
            **{array: table[k] for array, table in arrays.items()},
        )
        for k, values in enumerate(zip(*scalars, strict=True))
    ]
