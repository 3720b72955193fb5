"""One run of a sweep, in processes of its own: a child compiles the kernels that its machine's cache lacks, trades the
cycles and writes what they took.

The child ends when whoever started it is gone: it waits for the end of its standard input. So a worker that was killed
leaves no swarm behind that would slow the others.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from core.sweep_spec import Run

TIMEOUT_S = 1_800.0


def execute(run: Run) -> dict[str, Any]:
    """The result of `tradetui run --json`, with where and how long; `error` holds what went wrong, else empty."""
    began = time.time()
    with tempfile.TemporaryDirectory(prefix="tradetui-sweep-") as folder:
        out = Path(folder) / "result.json"
        order = json.dumps({"flags": run.flags, "cycles": run.cycles, "folder": folder, "out": str(out)})
        child = subprocess.Popen(
            [sys.executable, "-m", "core.sweep_run", order],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        told = _wait(child)
        found: dict[str, Any] = {
            "error": "" if out.exists() else told.strip()[-400:] or f"exit code {child.returncode}"
        }
        if out.exists():
            found["result"] = json.loads(out.read_text())
    return found | {"host": socket.gethostname(), "pid": os.getpid(), "took_s": round(time.time() - began, 1)}


def _wait(child: subprocess.Popen[str]) -> str:
    """What it told, once it has ended. Its standard input stays open until then: `communicate` would close it."""
    assert child.stderr is not None
    assert child.stdin is not None
    deadline = threading.Timer(TIMEOUT_S, child.terminate)
    deadline.start()
    try:
        told = child.stderr.read()
        child.wait()
    finally:
        deadline.cancel()
        child.stdin.close()
        child.stderr.close()
    return told


def _end_with_owner() -> None:
    """Stop as Ctrl-C does when standard input ends."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    """Entry point of the child."""
    from rich.console import Console

    from core.commands.run import run_cycles
    from core.config import load_settings
    from core.kernel_compiling import CompilerError, all_compiled, compile_in_subprocess

    order = json.loads(sys.argv[1])
    _end_with_owner()
    settings = load_settings(**order["flags"]).model_copy(update={"recording_mb_max": 0})

    async def work() -> None:
        if not all_compiled():
            await compile_in_subprocess(lambda _: None)
        await run_cycles(
            settings, order["cycles"], Path(order["out"]), Path(order["folder"]) / "session", Console(stderr=True)
        )

    try:
        asyncio.run(work())
    except KeyboardInterrupt:
        sys.exit(130)
    except CompilerError as error:
        sys.exit(f"the kernels do not compile: {error}")


if __name__ == "__main__":
    main()
