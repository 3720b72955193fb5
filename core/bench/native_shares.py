"""Where a process spends processor time by native code, sampled by `perf`: a check of the spans from outside Python.

CPython 3.11 tells perf nothing of Python's functions (3.12 has `-X perf`), so samples are grouped by the file that the
code was mapped from. Machine code that comes from no file is what numba compiled.
"""

from __future__ import annotations

import asyncio
import math
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final

from core.bench.rows import Row
from core.records import CycleRecord
from core.spans import INDEX
from core.what_if import family

HZ: Final = 997
"""Not a multiple of what timers do."""
NUMBA: Final = "numba"
NUMBA_SPANS: Final = (*family("pattern_matching_dtw"), "risk_var_calculation", "strategy_indicators")
"""Those that are hardly more than calls of compiled kernels."""
_GROUPS: Final = (
    (NUMBA, re.compile(r"^perf-\d+\.map$|^\[JIT\]|^//anon")),
    ("kernel", re.compile(r"^\[(guest\.)?kernel")),
    ("crypto", re.compile(r"^_sodium|^libsodium|^_rust\.|^_crypto\.|^libcrypto|^libssl")),
    ("interpreter", re.compile(r"^(lib)?python3")),
    ("numpy", re.compile(r"^_multiarray|^_umath|openblas")),
)
OTHER: Final = "other"
GROUPS: Final = (*(name for name, _ in _GROUPS), OTHER)
_SAMPLE: Final = re.compile(r"^\s*(?P<time>[\d.]+):\s+(?P<ns>\d+)\s+[0-9a-f]+\s+\((?P<file>.*)\)\s*$", re.MULTILINE)


class PerfError(RuntimeError):
    """perf cannot be used here; the text says why."""


@dataclass(frozen=True, slots=True)
class NativeSamples:
    """`ms` of processor time by group (`GROUPS`), in `seconds` from the first sample to the last."""

    seconds: float
    ms: dict[str, float]


@dataclass(frozen=True, slots=True)
class ScheduledTime:
    """How long a process's main thread ran, and how long it was ready and had no processor, ns since its start."""

    ran_ns: int
    waited_ns: int


async def sample_native(pid: int, seconds: float) -> NativeSamples:
    """Sample all threads of `pid` for `seconds`. Raises PerfError."""
    if shutil.which("perf") is None:
        raise PerfError("perf is not on PATH")
    with tempfile.TemporaryDirectory(prefix="tradetui-perf-") as folder:
        data = str(Path(folder) / "perf.data")
        chosen = ("-e", "cpu-clock", "-F", str(HZ), "-p", str(pid), "-o", data)
        await _perf("record", "--no-buildid-cache", *chosen, "--", "sleep", f"{seconds:g}")
        return parse_samples(await _perf("script", "-i", data, "-F", "time,period,ip,dso"))


async def _perf(*arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        "perf", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, errors = await process.communicate()
    if process.returncode:
        said = " ".join(errors.decode(errors="replace").split())
        raise PerfError(f"perf {arguments[0]} ended with code {process.returncode}: {said[:300]}")
    return out.decode(errors="replace")


def parse_samples(text: str) -> NativeSamples:
    """What `perf script -F time,period,ip,dso` prints of cpu-clock samples. Raises PerfError below two of them."""
    ms = dict.fromkeys(GROUPS, 0.0)
    times = []
    for found in _SAMPLE.finditer(text):
        times.append(float(found["time"]))
        ms[group_of(found["file"])] += int(found["ns"]) / 1e6
    if len(times) < 2:
        raise PerfError(f"perf took {len(times)} samples: the process did not run, or perf may not see it")
    return NativeSamples(max(times) - min(times), ms)


def group_of(file: str) -> str:
    """The group of the file that code was mapped from, as perf names it."""
    name = file if file.startswith("//") else PurePath(file).name
    return next((group for group, pattern in _GROUPS if pattern.search(name)), OTHER)


def scheduled_time(pid: int) -> ScheduledTime:
    """Raises PerfError where the process is gone or the kernel keeps no such account."""
    try:
        ran, waited, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
    except (OSError, ValueError) as error:
        raise PerfError(f"/proc/{pid}/schedstat cannot be read: {error}") from None
    return ScheduledTime(int(ran), int(waited))


def waits_of(before: ScheduledTime, after: ScheduledTime) -> float:
    """How many times as long the thread took as it ran, while it was ready: 1 where it never waited for a processor."""
    return 1.0 + (after.waited_ns - before.waited_ns) / max(1, after.ran_ns - before.ran_ns)


def native_rows(samples: NativeSamples, cycles: Sequence[CycleRecord], waits: float) -> list[Row]:
    """Processor ms a cycle by group; of numba beside the spans in `NUMBA_SPANS`, with no ratio: neither is better.

    `cycles`, two or more, ran meanwhile. Spans are wall time: their own times are divided by `waits` (`waits_of`).
    """
    period_s = (cycles[-1].started_ns - cycles[0].started_ns) / 1e9 / (len(cycles) - 1)
    a_cycle = {group: ms / samples.seconds * period_s for group, ms in samples.ms.items()}
    wall = math.fsum(float(record.exclusive_ms[INDEX[span]]) for record in cycles for span in NUMBA_SPANS) / len(cycles)
    unit = "ms of processor a cycle"
    rows = [Row(f"timers.native.{NUMBA}", unit, wall / waits, "perf", a_cycle.pop(NUMBA))]
    return rows + [Row(f"timers.native.{group}", f"{unit}, by perf", ms) for group, ms in a_cycle.items()]


def explained_native(numba: Row, waits: float) -> list[str]:
    """What is behind the difference in the row of numba, and why the other groups have no span beside them."""
    assert numba.theirs is not None
    return [
        f"numba: {numba.ours:.2f} ms by the spans of its kernels, {numba.theirs:.2f} by perf. Calls from Python and"
        " numpy beside the kernels are in the spans alone; kernels in no such span are in perf's figure alone. The"
        f" spans' wall time is {numba.ours * waits:.2f} ms: the leader's loop took {waits:.2f} times as long as it ran,"
        " for want of a processor",
        "crypto, kernel: no span is theirs alone. Signatures and QUIC's ciphers are within the quic spans and between"
        " cycles; the wait for the disk is in quic_consensus and takes no processor, so perf sees none of it",
    ]
