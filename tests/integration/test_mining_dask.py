"""Mining on a Dask cluster: a scheduler and workers as processes, one of them killed midway, the same library."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from core.mining import MiningSettings, mine
from core.mining_workers import DaskCluster, LocalProcesses, WorkersError
from kernels import cache
from tests.integration.dask_cluster import dask_cluster, free_port
from tests.large_panel import LIMITED, write_panel

distributed = pytest.importorskip("distributed", reason="Dask is not installed: pip install 'tradetui[mining]'")

SETTINGS = MiningSettings("us-stocks", window=32, patterns=60, stride=3, iterations=2)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """The scheduler's address, and two workers of one thread each, with caches of their own and bounded memory."""
    kernels = {cache.VARIABLE: str(cache.use())}
    caches = [kernels | {"XDG_CACHE_HOME": str(tmp_path / f"worker-{number}")} for number in range(2)]
    with dask_cluster(tmp_path, prelude=LIMITED, environments=caches) as running:
        yield running


@pytest.mark.swarm
def test_dask_with_a_worker_killed_midway_gives_the_same_library(
    cluster: tuple[str, list[subprocess.Popen[bytes]]], tmp_path: Path
) -> None:
    address, processes = cluster
    expected = mine(SETTINGS, LocalProcesses(1), tmp_path / "local", lambda stage, done, total: None)
    workers = DaskCluster(address)
    workers._client.wait_for_workers(2, timeout=60)
    killed: list[float] = []

    def kill_one(stage: str, done: int, total: int) -> None:
        if stage == "assign-1" and done >= 1 and not killed:
            processes[0].kill()
            killed.append(time.monotonic())

    try:
        found = mine(SETTINGS, workers, tmp_path / "dask", kill_one)
    finally:
        workers.close()
    assert killed
    for (name, one), other in zip(asdict(found).items(), asdict(expected).values(), strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)


@pytest.mark.swarm
def test_data_larger_than_a_workers_memory_is_read_by_each_and_gives_the_same_library(
    cluster: tuple[str, list[subprocess.Popen[bytes]]], tmp_path: Path
) -> None:
    path = tmp_path / "large.parquet"
    write_panel(path)
    settings = MiningSettings(str(path), window=16, patterns=20, stride=20, iterations=1)
    expected = mine(settings, LocalProcesses(1), tmp_path / "local", lambda stage, done, total: None)
    workers = DaskCluster(cluster[0])
    workers._client.wait_for_workers(2, timeout=60)
    try:
        found = mine(settings, workers, tmp_path / "dask", lambda stage, done, total: None)
    finally:
        workers.close()
    for (name, one), other in zip(asdict(found).items(), asdict(expected).values(), strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)
    # each worker had partitions of its own, within its bound: nothing of the recording came with a task
    for number in range(2):
        assert list((tmp_path / f"worker-{number}").rglob("closes.npy"))


def test_no_scheduler_is_said_so() -> None:
    with pytest.raises(WorkersError, match="no Dask scheduler answers"):
        DaskCluster(f"tcp://127.0.0.1:{free_port()}", patience_s=0.5)
