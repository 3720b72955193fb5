"""Arguments of `tradetui bench kernels`, `risk` and `mine`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from core.commands.output_file import output_file

GROUPS: Final = ("batch", "nearest", "topk", "sliding", "pair", "path", "subsequence", "risk")

ONE_THREAD: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Without them numpy's matrix products have a thread a core."""


def add_kernel_bench(subjects: Any) -> None:
    """Add it to the subjects of `tradetui bench`; it sets `run`."""
    kernels = subjects.add_parser("kernels", help="DTW and risk kernels against peers, on one core")
    kernels.add_argument(
        "--groups",
        nargs="+",
        choices=(*GROUPS, "start"),
        default=list(GROUPS),
        metavar="GROUP",
        help=f"of {', '.join(GROUPS)}; or start, which starts whole swarms and takes minutes",
    )
    kernels.add_argument("--rounds", type=int, default=15, help="interleaved; medians are shown, at least 6")
    kernels.add_argument("--no-python", action="store_true", help="leave out plain Python, which takes minutes")
    kernels.add_argument(
        "--aeon-python", type=Path, metavar="PYTHON", help="interpreter of an environment with aeon, which pins numba"
    )
    kernels.add_argument("--json", type=output_file, metavar="FILE")
    kernels.set_defaults(run=run_kernel_bench)


def add_kernel_commands(commands: Any) -> None:
    """Add `risk` and `mine` to the commands of `tradetui`; each sets `run`."""
    _risk_flags(commands)
    _mine_flags(commands)


def run_kernel_bench(arguments: argparse.Namespace, console: Console) -> int:
    """Exit code 1 where two sides disagree or aeon's process fails, 2 for too few rounds."""
    if any(os.environ.get(name) != "1" for name in ONE_THREAD):
        # numpy reads them when it is loaded, and it may be loaded already: begin again, in the same process
        environment = os.environ | dict.fromkeys(ONE_THREAD, "1")
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
    from core.bench.kernels import bench_kernels
    from core.bench.rows import ROUNDS_MIN, DisagreementError

    if arguments.rounds < ROUNDS_MIN:
        console.print(f"tradetui: --rounds {arguments.rounds}: want at least {ROUNDS_MIN}", style="bold red")
        return 2
    try:
        bench_kernels(
            arguments.groups,
            arguments.rounds,
            not arguments.no_python,
            arguments.aeon_python,
            arguments.json,
            console,
        )
    except (DisagreementError, OSError) as error:
        console.print(f"tradetui: {error}", style="bold red", markup=False, highlight=False)
        return 1
    return 0


def _risk_flags(commands: Any) -> None:
    risk = commands.add_parser("risk", help="value at risk of a recording by every method, each with its backtest")
    risk.add_argument("--data", default="us-stocks", metavar="SOURCE", help="a shipped market or a path")
    risk.add_argument("--level", type=float, default=0.99, help="of confidence, above 0.5")
    risk.add_argument("--steps", type=int, default=250, help="of the backtest")
    risk.add_argument("--gpu", action="store_true", help="draw on a CUDA device, where there is one")
    risk.add_argument("--json", type=output_file, metavar="FILE")
    risk.set_defaults(run=run_risk)


def run_risk(arguments: argparse.Namespace, console: Console) -> int:
    """Exit code 2 where the recording or an argument is refused."""
    from core.commands.risk import show_risk
    from core.market.errors import MarketDataError

    try:
        show_risk(arguments.data, arguments.level, arguments.steps, arguments.json, console, gpu=arguments.gpu)
    except (MarketDataError, ValueError, OSError) as error:
        console.print(f"tradetui: {error}", style="bold red", markup=False, highlight=False)
        return 2
    return 0


def _mine_flags(commands: Any) -> None:
    mine = commands.add_parser("mine", help="build a pattern library from history, and judge it out of sample")
    mine.add_argument("--data", default="us-stocks", metavar="SOURCE", help="a shipped market or a path")
    mine.add_argument("--out", type=Path, default=Path("patterns.npz"), metavar="FILE")
    mine.add_argument("--window", type=int, default=64, help="steps of a pattern")
    mine.add_argument("--k", type=int, default=1_000, help="patterns")
    mine.add_argument("--horizon", type=int, default=1, help="steps of the return that follows")
    mine.add_argument("--stride", type=int, default=1, help="steps between candidates")
    mine.add_argument("--iterations", type=int, default=5, help="of the clustering, at most")
    mine.add_argument("--seed", type=int, default=1, help="of the shuffled returns")
    mine.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    mine.add_argument(
        "--scheduler", metavar="ADDRESS", help="of a Dask cluster, tcp://host:port, in place of processes"
    )
    mine.set_defaults(run=run_mine)


def run_mine(arguments: argparse.Namespace, console: Console) -> int:
    """Exit code 2 where the recording or an argument is refused, 1 where workers cannot be had."""
    from core.commands.mine import mine_library
    from core.market.errors import MarketDataError
    from core.mining import MiningSettings
    from core.mining_workers import WorkersError

    settings = MiningSettings(
        source=arguments.data,
        window=arguments.window,
        patterns=arguments.k,
        horizon=arguments.horizon,
        stride=arguments.stride,
        iterations=arguments.iterations,
        seed=arguments.seed,
    )
    try:
        mine_library(settings, arguments.processes, arguments.scheduler, arguments.out, console)
    except (MarketDataError, ValueError, OSError, WorkersError) as error:
        console.print(f"tradetui: {error}", style="bold red", markup=False, highlight=False)
        return 1 if isinstance(error, WorkersError) else 2
    return 0
