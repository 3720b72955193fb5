"""From the command to the end of the first cycle, with compiled kernels in the cache and without.

Without them the first cycles run in numpy while the kernels are compiled beside them; `start.kernels` is what a user
would have waited for otherwise.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from core.bench.rows import Row, row_of_pairs
from kernels import cache

START_TIMEOUT_S = 300


def start_rows(rounds: int) -> Iterator[Row]:
    """A whole swarm of the default settings, one cycle, its own session each time; s. Cold: an empty cache."""
    warm_s, cold_s, kernels_warm_s, kernels_cold_s = [], [], [], []
    with tempfile.TemporaryDirectory(prefix="tradetui-start-") as folder:
        kept = Path(folder) / "kept"
        kept.mkdir()
        _compile_seconds(kept)
        for turn in range(rounds):
            for side in ("cold", "warm") if turn % 2 else ("warm", "cold"):
                if side == "warm":
                    kernels_warm_s.append(_compile_seconds(kept))
                    warm_s.append(_first_cycle_s(kept, Path(folder) / f"warm-{turn}"))
                    continue
                empty = [Path(folder) / f"{what}-{turn}" for what in ("kernels", "swarm")]
                for directory in empty:
                    directory.mkdir()
                kernels_cold_s.append(_compile_seconds(empty[0]))
                cold_s.append(_first_cycle_s(empty[1], Path(folder) / f"cold-{turn}"))
    yield row_of_pairs("start.kernels", "s", kernels_warm_s, "an empty cache", kernels_cold_s)
    yield row_of_pairs("start.first_cycle", "s", warm_s, "an empty cache", cold_s)


def _compile_seconds(kernel_cache: Path) -> float:
    """What the kernels' own report adds up to."""
    done = _run([sys.executable, "-m", "kernels.warm"], kernel_cache)
    return sum(float(line.split()[-2]) for line in done.splitlines())


def _first_cycle_s(kernel_cache: Path, session: Path) -> float:
    result = session.with_suffix(".json")
    # the command that runs this benchmark
    command = [sys.executable, sys.argv[0], "run", "--cycles", "1"]
    _run([*command, "--session", str(session), "--json", str(result)], kernel_cache)
    measured = json.loads(result.read_text())
    return float(measured["startup_s"]) + float(measured["wall_s"])


def _run(command: list[str], kernel_cache: Path) -> str:
    environment = os.environ | {cache.VARIABLE: str(kernel_cache)}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True, timeout=START_TIMEOUT_S
        )
    except subprocess.CalledProcessError as error:
        raise OSError(f"{' '.join(command)} ended with code {error.returncode}: {error.stderr[-400:]}") from error
    return done.stdout
