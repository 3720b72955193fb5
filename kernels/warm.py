"""Compile every kernel, or load it from the cache, before anybody waits for it.

`python -m kernels.warm` does so in a process of its own and prints one line a kernel, `3 of 8: dtw_batch 1.93 s`: a
compile in a thread of the monitor would stall its screen. What needs a kernel meanwhile has numpy
(`kernels.readiness`).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np

from kernels import (
    cache,
    dtw,
    dtw_batch,
    dtw_path,
    dtw_sliding,
    dtw_subsequence,
    dtw_topk,
    indicator_table,
    loss_tail,
    monte_carlo,
    risk,
    timeline,
)


class Kernel(NamedTuple):
    """A compiled function, and a call of it with the types that the product uses."""

    name: str
    warm: Callable[[], object]


_WINDOW: Final = np.linspace(-1.0, 1.0, 32, dtype=np.float32)
_SHORT: Final = np.zeros((2, 8), np.float32)
_ROWS: Final = np.stack([_WINDOW, _WINDOW[::-1]])
_TIMES: Final = np.arange(2, dtype=np.int64)

KERNELS: Final[tuple[Kernel, ...]] = (
    # in the order of what a trading cycle gains by it
    Kernel("dtw_batch", lambda: dtw_batch.library_distances_batch(_ROWS, dtw_batch.pack_patterns(_ROWS), 2, 1)),
    Kernel("timeline", lambda: timeline.exclusive_time(_TIMES, _TIMES + 1, _TIMES, _TIMES)),
    Kernel("indicators", lambda: indicator_table.start_indicators(np.ones((1, 64)))),
    Kernel("risk", lambda: risk.portfolio_var_es(np.zeros((2, 1)), np.ones(1), 0.95)),
    Kernel("dtw_topk", lambda: dtw_topk.library_topk(_ROWS, dtw_topk.pack_library(_ROWS, 1), 1, 1)),
    Kernel("dtw_topk_short", lambda: dtw_topk.library_topk(_SHORT, dtw_topk.pack_library(_SHORT, 1), 1, 1)),
    Kernel("dtw_sliding", lambda: dtw_sliding.slide(dtw_sliding.start_sliding(np.ones((2, 8)), 1), np.ones(2))),
    Kernel("dtw_pair", lambda: dtw.dtw_distance(_WINDOW, _WINDOW, 1)),
    Kernel("dtw_scalar", lambda: dtw.library_distances_scalar(_WINDOW, _ROWS, 1)),
)

_SERIES: Final = np.arange(64, dtype=np.float64)
_ASSETS: Final = (np.zeros(2), np.eye(2), np.ones(2))

ON_DEMAND: Final[tuple[Kernel, ...]] = (
    Kernel("dtw_path", lambda: dtw_path.dtw_path(_SERIES, _SERIES, dtw_path.sakoe_chiba(64, 64, 1))),
    Kernel("dtw_subsequence", lambda: dtw_subsequence.subsequence_search(_SERIES[:8], _SERIES, 1)),
    Kernel("monte_carlo", lambda: loss_tail.loss_tail(monte_carlo.monte_carlo_losses(*_ASSETS, 8, 1, degrees=3), 0.9)),
    Kernel("sobol", lambda: monte_carlo.monte_carlo_losses(*_ASSETS, 8, 1, degrees=3, sobol=True)),
    Kernel("scenarios", lambda: monte_carlo.scenario_var_es(np.zeros((1, 8), np.float32), np.ones(1), 0.9)),
)
"""What trading does not wait for: `tradetui risk`, `mine` and the benchmarks compile these when they need them."""


def compile_all(report: Callable[[str, int, int], None], kernels: tuple[Kernel, ...] = KERNELS) -> dict[str, float]:
    """Compile or load each of `kernels` and return the seconds that each took.

    report(name, done, total) is called after each one. Removes stale cache directories first; only one process
    compiles at a time, so that the others load. Raises OSError where the cache cannot be written.
    """
    cache.remove_stale()
    seconds = {}
    with cache.one_compiler():
        for done, kernel in enumerate(kernels, start=1):
            started = time.perf_counter()
            kernel.warm()
            seconds[kernel.name] = time.perf_counter() - started
            cache.mark_compiled(kernel.name)
            report(kernel.name, done, len(kernels))
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
