"""Which kernels this process computes in numpy because their compiled forms are not there yet.

A process that must not wait for a compiler names them by `postpone`; each answers from numpy until `load` has its
compiled form. Nothing is postponed unless asked: a test or a benchmark compiles at first use, as numba does. This set
is the one thing that these kernels remember.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Final

TRADING: Final = (
    "dtw_batch", "timeline", "indicators", "risk", "dtw_topk", "dtw_topk_short", "dtw_sliding", "dtw_pair",
    "dtw_scalar",
)  # fmt: skip
"""Names of `kernels.warm.KERNELS`, in the order in which they are compiled, for who must not load numba for them."""

_postponed: set[str] = set()
_thread = threading.local()


def postpone(names: Iterable[str]) -> None:
    """Have these kernels (names of `kernels.warm`) answer from numpy from now on."""
    _postponed.update(names)


def postponed() -> frozenset[str]:
    """The kernels that still answer from numpy."""
    return frozenset(_postponed)


def is_compiled(name: str) -> bool:
    """Whether a call of the kernel may go to its compiled form now: what every public function asks."""
    return name not in _postponed or getattr(_thread, "loading", None) == name


def load(name: str, call: Callable[[], object]) -> None:
    """Make `call` with the compiled form, then let every thread have it.

    To be called in a thread of its own: other threads are answered from numpy meanwhile. What `call` raises leaves the
    kernel postponed.
    """
    _thread.loading = name
    try:
        call()
    finally:
        _thread.loading = None
    _postponed.discard(name)
