"""Trading does not wait for a compiler: a process of its own compiles, numpy answers meanwhile, then each kernel is
switched over as its compiled form lies in the cache.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Final

from kernels import cache, readiness

CAPTION: Final = "numpy kernels"
"""How the caption begins that stands beside everything computed meanwhile."""
POLL_S: Final = 0.2
LAST_WORDS: Final = 300
"""Characters of what a compiler that failed said last."""


class CompilerError(RuntimeError):
    """The process that compiles failed; the text is its last line."""


def all_compiled() -> bool:
    """Whether the cache holds every kernel of the trading loop in its present state."""
    return all(cache.is_compiled(name) for name in readiness.TRADING)


async def compile_in_subprocess(say: Callable[[str], None]) -> None:
    """Compile the kernels of the trading loop into the cache; `say` has its progress, `3 of 8: dtw_topk 1.93 s`.

    The subprocess is killed where the caller is cancelled. Raises CompilerError.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "kernels.warm",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    last = ""
    try:
        async for line in process.stdout:
            last = line.decode(errors="replace").strip()
            say(last)
        if await process.wait() != 0:
            raise CompilerError(last[-LAST_WORDS:])
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


class KernelSwitch:
    """Has a process trade on numpy until each kernel is compiled. One a process: what it switches is the process's."""

    def __init__(self) -> None:
        """Loads what the cache holds, before anything waits for this process, and postpones the rest."""
        # here, so that the supervisor does not load numba for it
        from kernels.warm import KERNELS

        self._missing = [kernel for kernel in KERNELS if not cache.is_compiled(kernel.name)]
        readiness.postpone(kernel.name for kernel in self._missing)
        for kernel in KERNELS:
            if kernel not in self._missing:
                kernel.warm()

    @property
    def missing(self) -> int:
        """Kernels that answer from numpy."""
        return len(self._missing)

    @property
    def captions(self) -> tuple[str, ...]:
        """What must stand beside every figure made now."""
        if not self._missing:
            return ()
        of = len(readiness.TRADING)
        return (f"{CAPTION}: {of - len(self._missing)} of {of} compiled",)

    async def run(self) -> None:
        """Switch each kernel over once it is in the cache, loading it in a thread; returns after the last."""
        while self._missing:
            for kernel in [kernel for kernel in self._missing if cache.is_compiled(kernel.name)]:
                await asyncio.to_thread(readiness.load, kernel.name, kernel.warm)
                self._missing.remove(kernel)
            if self._missing:
                await asyncio.sleep(POLL_S)
