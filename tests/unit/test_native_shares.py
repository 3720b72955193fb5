"""Samples of perf by the file that code came from, and beside the spans of compiled kernels."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.bench.native_shares import (
    GROUPS,
    NativeSamples,
    PerfError,
    ScheduledTime,
    explained_native,
    group_of,
    native_rows,
    parse_samples,
    sample_native,
    scheduled_time,
    waits_of,
)
from core.spans import INDEX, NAMES
from tests.tui.fixtures import FakeSession

CYCLE = FakeSession(seed=1, cycles=30).cycles[0]
# As perf 6.1 prints `-F time,period,ip,dso`.
SCRIPT = """\
25345.500000:    1003009      7f571a98d444 (/tmp/perf-19544.map)
25345.501000:    1003009      7f571a98d4d1 (/tmp/perf-19544.map)
25345.502000:    1003009      7ff8207aee25 (/opt/python/lib/libpython3.11.so.1.0)
25345.503000:    1003009  ffffffff81234567 ([kernel.kallsyms])
25345.510000:    1003009      7ff8207aee35 (/opt/a folder/_sodium.abi3.so (deleted))
"""


@pytest.mark.parametrize(
    ("file", "group"),
    [
        ("[JIT] tid 19544", "numba"),
        ("//anon", "numba"),
        ("[guest.kernel.kallsyms]", "kernel"),
        ("/usr/lib/x86_64-linux-gnu/libcrypto.so.3", "crypto"),
        ("/site-packages/cryptography/hazmat/bindings/_rust.abi3.so", "crypto"),
        ("/usr/bin/python3.11", "interpreter"),
        ("/site-packages/numpy/_core/_multiarray_umath.cpython-311-x86_64-linux-gnu.so", "numpy"),
        ("/site-packages/python3_helper/uvloop.so", "other"),
        ("[unknown]", "other"),
    ],
)
def test_code_is_grouped_by_the_file_it_came_from(file: str, group: str) -> None:
    assert group_of(file) == group


def test_samples_are_added_up_by_group() -> None:
    found = parse_samples(SCRIPT)
    assert found.seconds == pytest.approx(0.01)
    assert tuple(found.ms) == GROUPS
    assert found.ms["numba"] == pytest.approx(2.006018)
    assert {group for group, ms in found.ms.items() if ms} == {"numba", "interpreter", "kernel", "crypto"}
    with pytest.raises(PerfError, match="took 0 samples"):
        parse_samples("nothing of a sample\n")


def test_processor_time_is_a_cycles_and_the_wait_for_a_processor_is_taken_out_of_the_spans() -> None:
    own = np.zeros(len(NAMES))
    own[INDEX["pattern_matching_dtw_single"]], own[INDEX["risk_var_calculation"]] = 3.0, 1.0
    own[INDEX["quic_consensus"]] = 50.0
    cycles = [replace(CYCLE, started_ns=at * 100_000_000, exclusive_ms=own) for at in range(11)]
    samples = NativeSamples(2.0, dict.fromkeys(GROUPS, 0.0) | {"numba": 36.0, "crypto": 10.0})
    waits = waits_of(ScheduledTime(1_000, 500), ScheduledTime(2_000, 1_500))
    assert waits == 2.0
    rows = {row.name: row for row in native_rows(samples, cycles, waits)}
    assert len(rows) == len(GROUPS)
    numba = rows["timers.native.numba"]
    assert (numba.ours, numba.theirs, numba.ratio) == (pytest.approx(2.0), pytest.approx(1.8), None)
    assert rows["timers.native.crypto"].ours == pytest.approx(0.5)
    said = explained_native(numba, waits)[0]
    assert "2.00 ms by the spans of its kernels, 1.80 by perf" in said
    assert "wall time is 4.00 ms: the leader's loop took 2.00 times" in said


def test_without_perf_it_is_said_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PerfError, match="not on PATH"):
        asyncio.run(sample_native(1, 0.1))
    refusing = tmp_path / "perf"
    refusing.write_text("#!/bin/sh\necho 'No permission to enable cpu-clock event.' >&2\nexit 255\n")
    refusing.chmod(0o755)
    with pytest.raises(PerfError, match="perf record ended with code 255: No permission"):
        asyncio.run(sample_native(1, 0.1))
    with pytest.raises(PerfError, match="schedstat"):
        scheduled_time(0)
