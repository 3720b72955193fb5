"""`tradetui doctor`: can this machine run a swarm, and if not, what to do."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable
from importlib import metadata

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from core.config import ConfigError, Settings
from core.market.errors import MarketDataError
from core.market.load import load_market
from core.session import running_sessions, sessions_root
from kernels import cache
from kernels.dtw_batch import library_distances_batch, pack_patterns

Check = Callable[[Settings], str]
PACKAGES = ("textual", "numpy", "numba", "aioquic", "msgpack", "pycapnp", "pyinstrument", "duckdb", "uvloop")
FREE_BYTES_MIN = 500_000_000


class DoctorError(RuntimeError):
    """A check failed; the text says what to do."""


def _python(_: Settings) -> str:
    return f"{sys.version.split()[0]} at {sys.executable}"


def _packages(_: Settings) -> str:
    missing = [name for name in PACKAGES if not _installed(name)]
    if missing:
        raise DoctorError(f"missing: {', '.join(missing)}; run `make` in the checkout to install the locked versions")
    return ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _cores(_: Settings) -> str:
    cores = os.cpu_count() or 1
    if cores < 2:
        raise DoctorError("one core: node processes will starve each other; figures will mean little")
    return f"{cores}"


def _ports(settings: Settings) -> str:
    """Bind as many UDP sockets as a swarm needs, and send one datagram to itself."""
    sockets = []
    try:
        for _ in range(settings.nodes + 2):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sockets.append(sock)
            sock.bind(("127.0.0.1", 0))
        sockets[0].settimeout(1)
        sockets[1].sendto(b"tradetui", sockets[0].getsockname())
        if sockets[0].recv(64) != b"tradetui":
            raise DoctorError("UDP on loopback garbles datagrams")
    except OSError as error:
        raise DoctorError(f"UDP on 127.0.0.1 fails ({error}); is loopback up, is a firewall in the way?") from error
    finally:
        for sock in sockets:
            sock.close()
    return f"{settings.nodes + 2} UDP sockets on 127.0.0.1 bind and talk"


def _data(settings: Settings) -> str:
    try:
        market = load_market(settings.data)
    except (MarketDataError, OSError) as error:
        raise DoctorError(str(error)) from error
    return f"{market.spec.title}, {market.spec.steps_total} steps"


def _clock(_: Settings) -> str:
    """Wall and monotonic clock must advance alike, and finely enough to time microseconds."""
    wall, monotonic = time.time(), time.monotonic()
    ticks = {time.perf_counter_ns() for _ in range(1000)}
    if len(ticks) < 100:
        raise DoctorError("the performance counter ticks too coarsely to time a span")
    drift_ms = abs((time.time() - wall) - (time.monotonic() - monotonic)) * 1e3
    if drift_ms > 50:
        raise DoctorError(f"the wall clock jumped by {drift_ms:.0f} ms; wait until it is set")
    ordered = sorted(ticks)
    step = min(b - a for a, b in itertools.pairwise(ordered))
    return f"performance counter steps {step} ns"


def _state_directory(_: Settings) -> str:
    root = sessions_root()
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe = root / f".doctor-{os.getpid()}"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise DoctorError(f"{root} cannot be written ({error}); set TRADETUI_HOME to a folder of yours") from error
    free = shutil.disk_usage(root).free
    if free < FREE_BYTES_MIN:
        raise DoctorError(f"{root} has {free / 1e6:.0f} MB free; a session wants {FREE_BYTES_MIN / 1e6:.0f} MB")
    return f"{root}, {free / 1e9:.1f} GB free, {len(running_sessions())} swarms running"


def _kernels(_: Settings) -> str:
    from kernels.warm import compile_all

    seconds = compile_all(lambda name, done, total: None)
    return f"{len(seconds)} kernels compile or load in {sum(seconds.values()):.1f} s"


def _gpu(settings: Settings) -> str:
    """Where there is a device, it must give what the processor gives."""
    from kernels.gpu import available, library_distances_gpu

    if not available():
        asked = "gpu is set, and there is " if settings.gpu else ""
        return f"{asked}no CUDA device: the processor does everything, and everything is there"
    rows = np.random.default_rng(1).standard_normal((64, 32)).cumsum(axis=1).astype(np.float32)
    expected = library_distances_batch(rows[:4], pack_patterns(rows), len(rows), 3)
    if not np.allclose(library_distances_gpu(rows[:4], rows, 3), expected, rtol=1e-5):
        raise DoctorError("the CUDA device computes wrong distances; check its driver (nvidia-smi)")
    use = "batch DTW runs on it" if settings.gpu else "unused, set gpu to have batch DTW run on it"
    return f"a CUDA device computes the processor's distances; {use}"


CHECKS: tuple[tuple[str, Check], ...] = (
    ("python", _python),
    ("packages", _packages),
    ("cores", _cores),
    ("ports", _ports),
    ("data", _data),
    ("clock", _clock),
    ("state folder", _state_directory),
    ("kernels", _kernels),
    ("gpu", _gpu),
)


def doctor(settings: Settings, console: Console) -> bool:
    """Run every check and print a table; True when all passed."""
    table = Table(title="tradetui doctor", show_edge=False)
    table.add_column("check")
    table.add_column("")
    table.add_column("finding", overflow="fold")
    healthy = True
    for name, check in CHECKS:
        try:
            finding, mark = check(settings), "ok"
        except (DoctorError, ConfigError) as error:
            finding, mark, healthy = str(error), "[bold red]FAILED[/]", False
        table.add_row(name, mark, finding)
    console.print(table)
    return healthy


def warm(console: Console) -> None:
    """Compile every kernel, those of risk and mining too, so that nothing waits for it later; with progress."""
    from kernels.warm import KERNELS, ON_DEMAND, compile_all

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("compiling kernels")
        seconds = compile_all(
            lambda name, done, total: progress.update(task, description=name, completed=done, total=total),
            KERNELS + ON_DEMAND,
        )
    slowest = max(seconds, key=lambda name: seconds[name])
    console.print(
        f"{len(seconds)} kernels in {sum(seconds.values()):.1f} s, the longest {slowest}, {seconds[slowest]:.1f} s;"
        f" kept in {cache.use()}"
    )
