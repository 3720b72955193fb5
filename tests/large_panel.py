"""A panel that does not fit into the memory that a test allows a process, and the code that runs a process so."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import duckdb

INSTRUMENTS: Final = 8
STEPS: Final = 300_000
SORT_BYTES: Final = 48_000_000
ALLOWED_BYTES: Final = 260_000_000
"""Above what the process has when its modules are loaded and its kernels compiled. The panel's columns in memory, with
what checking them takes, are 440 MB."""

LIMITED: Final = f"""
import resource
from pathlib import Path
from core import mining, mining_tasks
from core.market import partition
from kernels.warm import KERNELS
for kernel in KERNELS:
    if kernel.name in ("dtw_batch", "dtw_topk", "dtw_topk_short"):
        kernel.warm()
partition.SORT_BYTES_MAX = {SORT_BYTES}
lines = Path("/proc/self/status").read_text().splitlines()
now = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:"))
resource.setrlimit(resource.RLIMIT_DATA, (now + {ALLOWED_BYTES},) * 2)
"""
"""Python that bounds its own process; what follows it runs within the bound."""


def write_panel(path: Path) -> None:
    """Prices of two decimals, sorted by time as `load_market` wants them."""
    close = "round(100 + 20 * sin(t * (0.0003 + 0.0001 * k)) + (hash(t * 31 + k) % 1000) / 250.0, 2)"
    with duckdb.connect() as connection:
        connection.execute("SET threads = 1")
        connection.execute(
            f"COPY (SELECT (t + 1) * 1000000000 AS ts_ns, 'I' || k AS instrument, {close} AS close"
            f" FROM range({STEPS}) AS a(t), range({INSTRUMENTS}) AS b(k) ORDER BY ts_ns, instrument)"
            f" TO '{path}' (FORMAT parquet)"
        )
