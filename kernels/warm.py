"""Compile every kernel, or load it from the cache, before anybody waits for it.

`python -m kernels.warm` does so in a process of its own and prints one line a kernel, `3 of 8: dtw_batch 1.93 s`: a
compile in a thread of the monitor would stall its screen.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np

from kernels import cache, dtw, dtw_batch, dtw_topk, indicator_table, risk, timeline


class Kernel(NamedTuple):
    """A compiled function, and a call of it with the types that the product uses."""

    name: str
    warm: Callable[[], object]


_WINDOW: Final = np.linspace(-1.0, 1.0, 32, dtype=np.float32)
_SHORT: Final = np.zeros((2, 8), np.float32)
_ROWS: Final = np.stack([_WINDOW, _WINDOW[::-1]])
_TIMES: Final = np.arange(2, dtype=np.int64)

KERNELS: Final[tuple[Kernel, ...]] = (
    Kernel("timeline", lambda: timeline.exclusive_time(_TIMES, _TIMES + 1, _TIMES, _TIMES)),
    Kernel("indicators", lambda: indicator_table.indicator_table(np.ones((1, 64)))),
    Kernel("risk", lambda: risk.portfolio_var_es(np.zeros((2, 1)), np.ones(1), 0.95)),
    Kernel("dtw_pair", lambda: dtw.dtw_distance(_WINDOW, _WINDOW, 1)),
    Kernel("dtw_scalar", lambda: dtw.library_distances_scalar(_WINDOW, _ROWS, 1)),
    Kernel("dtw_batch", lambda: dtw_batch.library_distances_batch(_ROWS, dtw_batch.pack_patterns(_ROWS), 2, 1)),
    Kernel("dtw_topk", lambda: dtw_topk.library_topk(_ROWS, dtw_topk.pack_library(_ROWS, 1), 1, 1)),
    Kernel("dtw_topk_short", lambda: dtw_topk.library_topk(_SHORT, dtw_topk.pack_library(_SHORT, 1), 1, 1)),
)


def compile_all(report: Callable[[str, int, int], None]) -> dict[str, float]:
    """Compile or load each of `KERNELS` and return the seconds that each took.

    report(name, done, total) is called after each one. Removes stale cache directories first.
    """
    cache.remove_stale()
    seconds = {}
    for done, kernel in enumerate(KERNELS, start=1):
        started = time.perf_counter()
        kernel.warm()
        seconds[kernel.name] = time.perf_counter() - started
        report(kernel.name, done, len(KERNELS))
    return seconds


def main() -> None:
    started = time.perf_counter()

    def print_line(name: str, done: int, total: int) -> None:
        nonlocal started
        now = time.perf_counter()
        sys.stdout.write(f"{done} of {total}: {name} {now - started:.2f} s\n")
        sys.stdout.flush()
        started = now

    compile_all(print_line)


if __name__ == "__main__":
    main()
