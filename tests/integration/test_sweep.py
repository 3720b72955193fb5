"""A sweep on real swarms: here and on a Dask cluster of which one worker is killed, the same cells."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.mining_workers import DaskCluster
from core.sweep import OneAfterAnother, SweepFile, sweep
from core.sweep_run import execute
from core.sweep_spec import Run, read_spec, runs_of
from tests.integration.dask_cluster import dask_cluster

pytestmark = [pytest.mark.swarm, pytest.mark.timeout(1_800)]

SPEC = """
cycles = 10
replicates = 1
[settings]
toggles = "optimised"
[factors]
b = ["on", "off"]
p = ["on", "off"]
venue_latency_ms = [0, 1]
"""


@pytest.mark.prove
def test_two_by_two_by_two_here_and_on_dask_with_a_worker_killed(tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="Dask is not installed: pip install 'tradetui[mining]'")
    path = tmp_path / "spec.toml"
    path.write_text(SPEC)
    spec = read_spec(path)
    here = SweepFile(tmp_path / "here.duckdb", spec)
    assert sweep(spec, here, OneAfterAnother(), lambda done, of: None) == []
    there = SweepFile(tmp_path / "dask.duckdb", spec)
    with dask_cluster(tmp_path) as (address, processes):
        workers = DaskCluster(address, run=execute)
        workers._client.wait_for_workers(2, timeout=60)
        killed: list[float] = []

        def kill_one(done: int, of: int) -> None:
            if done >= 1 and not killed:
                processes[0].kill()
                killed.append(time.monotonic())

        try:
            assert sweep(spec, there, workers, kill_one) == []
        finally:
            workers.close()
    assert killed
    one, other = here.finished(), there.finished()
    assert [each.cell for each in one] == [each.cell for each in other] == list(spec.cells())
    assert {each.decisions for each in one + other} == {10 * 20}
    assert len(there.write_effects()) == len(here.write_effects()) == 6
    here.close()
    there.close()


def test_a_run_ends_with_whoever_started_it(tmp_path: Path) -> None:
    """The starter is killed while the run trades; the run stops its swarm and goes."""
    path = tmp_path / "spec.toml"
    path.write_text(SPEC.replace("cycles = 10", "cycles = 100000"))
    run: Run = runs_of(read_spec(path))[0]
    code = f"import sys; from core.sweep_run import execute; from core.sweep_spec import Run; execute({run!r})"
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    starter = subprocess.Popen([sys.executable, "-c", code], env=environment)
    try:
        _until(lambda: _processes(tmp_path, "core.process"), 120, "the swarm")
        assert _processes(tmp_path, "core.sweep_run")
    finally:
        starter.kill()
        starter.wait()
    _until(lambda: not _processes(tmp_path, "core."), 60, "the end of every process")


def _processes(folder: Path, module: str) -> list[int]:
    """Running processes whose command line names the module and something in `folder`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().decode(errors="replace")
            state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if module in command and str(folder) in command and state != "Z":
            found.append(int(entry.name))
    return found


def _until(condition, timeout_s: float, what: str) -> None:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < timeout_s, f"{what}: not within {timeout_s:g} s"
        time.sleep(0.1)
