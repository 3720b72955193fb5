"""A test in a process of its own, which ends without unwinding: a C++ library that crashes as it stops takes nothing
else along.

QuickFIX's threads call back into Python while its `stop` tears them down, and now and then that is a segmentation
fault; it would end the whole test run.
"""

from __future__ import annotations

import functools
import importlib
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

TIMEOUT_S = 150


def in_own_process(test: Callable[[Path], None]) -> Callable[[Path], None]:
    """Run `test(tmp_path)` as `python -m tests.integration.own_process`; what it says is shown where it fails."""

    @functools.wraps(test)
    def outside(tmp_path: Path) -> None:
        command = [sys.executable, "-m", __name__, test.__module__, test.__name__, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"

    return outside


def _main(module: str, name: str, folder: str) -> None:
    code = 1
    try:
        getattr(importlib.import_module(module), name).__wrapped__(Path(folder))
        code = 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _main(*sys.argv[1:])
