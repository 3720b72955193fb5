"""The snapshot folder of the `e` key: the leader's profile, the spans, the toggles, the screen."""

from __future__ import annotations

import csv
import json
import os
import platform
import re
import time
from importlib import metadata
from pathlib import Path

from core.config import Settings
from core.records import SwarmSnapshot
from core.spans import NAMES
from core.statistics import span_summary, under

FILE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
PACKAGES = ("tradetui", "textual", "numpy", "numba", "aioquic", "msgpack", "pycapnp", "pyinstrument")


def machine() -> dict[str, object]:
    """The machine that figures were measured on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        return platform.processor()
    return platform.processor()


def write_export(
    directory: Path, snapshot: SwarmSnapshot, settings: Settings, svg: str, files: dict[str, bytes]
) -> Path:
    """Write one snapshot below `directory`; returns its folder.

    `files` came from a node: plain names only. Raises ValueError for any other, OSError when the disk refuses.
    """
    for name in files:
        if not FILE_NAME.fullmatch(name):
            raise ValueError(f"the node sent a file named {name!r}")
    folder = directory / f"{time.strftime('%Y%m%d-%H%M%S')}-cycle-{snapshot.cycles_total}"
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "screen.svg").write_text(svg)
    toggles = {"toggles": snapshot.toggles.as_dict(), "label": snapshot.toggles.label()}
    (folder / "toggles.json").write_text(json.dumps(toggles, indent=1) + "\n")
    details = {
        "session": snapshot.session,
        "market": snapshot.market,
        "captions": snapshot.captions,
        "leader": snapshot.leader,
        "cycles": snapshot.cycles_total,
        "settings": settings.model_dump(),
        "machine": machine(),
    }
    (folder / "details.json").write_text(json.dumps(details, indent=1) + "\n")
    write_spans(folder / "spans.csv", snapshot)
    if any(record.toggles == snapshot.toggles for record in snapshot.cycles):
        write_spans_parquet(folder / "spans.csv", folder / "spans.parquet")
    return folder


def write_spans_parquet(csv_file: Path, path: Path) -> None:
    """The same table as Parquet. Raises duckdb.Error where it cannot be written."""
    import duckdb  # not wanted by the commands that write no snapshot

    source, target = (str(each).replace("'", "''") for each in (csv_file, path))
    with duckdb.connect() as database:
        database.sql(f"COPY (SELECT * FROM read_csv('{source}', header = true)) TO '{target}' (FORMAT parquet)")


def write_spans(path: Path, snapshot: SwarmSnapshot) -> None:
    """Span statistics over the cycles that ran under the present toggles, one row a span, `untimed` last.

    Cycles in numpy beside the compiler are left out, unless there are no others (`core.statistics.under`).
    """
    cycles = under(snapshot.cycles, snapshot.toggles, len(snapshot.cycles))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        if not cycles:
            writer.writerow(["no cycle has run under the present toggles yet"])
            return
        summary = span_summary(cycles)
        columns = list(summary[NAMES[0]])
        writer.writerow(["span", "cycles", *columns])
        for name in NAMES:
            writer.writerow([name, len(cycles), *(summary[name][column] for column in columns)])
        untimed = sum(record.untimed_ms for record in cycles)
        writer.writerow(["untimed", len(cycles), *("" if c != "exclusive_ms" else untimed for c in columns)])
