"""`tradetui bench kernels`: our kernels against plain Python, scalar numba and the peers that are installed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from core.bench import kernel_dtw, kernel_pairs, kernel_peers, kernel_risk, kernel_sliding, kernel_start
from core.bench.rows import Row, table_of, write_rows


def bench_kernels(
    groups: Sequence[str],
    rounds: int,
    with_python: bool,
    aeon_python: Path | None,
    json_file: Path | None,
    console: Console,
) -> None:
    """Measure, print and write. Raises DisagreementError where two sides give different numbers."""
    aeon = kernel_peers.AeonProcess(aeon_python) if aeon_python else None
    sources: dict[str, Callable[[], Iterator[Row]]] = {
        "batch": lambda: kernel_dtw.batch_rows(rounds, with_python),
        "nearest": lambda: kernel_dtw.nearest_rows(rounds),
        "topk": lambda: kernel_dtw.topk_rows(rounds),
        "sliding": lambda: kernel_sliding.sliding_rows(rounds),
        "pair": lambda: kernel_pairs.pair_rows(rounds, aeon),
        "path": lambda: kernel_pairs.path_rows(rounds),
        "start": lambda: kernel_start.start_rows(rounds),
        "risk": lambda: kernel_risk.risk_rows(rounds),
        "subsequence": lambda: kernel_pairs.subsequence_rows(rounds),
    }
    rows: list[Row] = []
    try:
        with console.status("") as status:
            for group in groups:
                status.update(f"{group}: preparing")
                for row in sources[group]():
                    rows.append(row)
                    status.update(f"{group}: {row.name} done, {len(rows)} rows")
    finally:
        if aeon:
            aeon.close()
    console.print(table_of("kernels, one core", rows))
    if json_file is not None:
        settings: dict[str, Any] = {
            "rounds": rounds,
            "groups": list(groups),
            "clock": "processor time of one thread",
            "peers": kernel_peers.versions() | (aeon.versions if aeon else {}),
            "ours": "float32 batch, float64 pairs; peers float64",
            "load_average": os.getloadavg()[0],
        }
        write_rows(json_file, settings, rows)
