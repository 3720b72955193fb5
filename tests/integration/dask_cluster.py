"""A Dask cluster for tests: a scheduler and workers as processes on loopback, nothing left behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def dask_cluster(
    folder: Path, prelude: str = "", environments: Sequence[dict[str, str]] = ({}, {})
) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """The scheduler's address, and a worker of one thread for each of `environments`, which runs `prelude` first."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    common = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port)]
    scheduler = subprocess.Popen([*dask, "--no-dashboard"], **common)  # type: ignore[call-overload]
    main = f"import distributed.cli.dask_worker as worker\n{prelude}\nworker.main()"
    # without a nanny: a killed worker stays dead
    worker = [sys.executable, "-c", main, address, "--nthreads", "1", "--nworkers", "1", "--no-nanny", "--no-dashboard"]
    workers = [
        subprocess.Popen(
            [*worker, "--host", "127.0.0.1", "--memory-limit", "0"],
            env=os.environ | environment,
            **common,  # type: ignore[call-overload]
        )
        for environment in environments
    ]
    try:
        yield address, workers
    finally:
        for process in (*workers, scheduler):
            process.kill()
            process.wait()
