"""Where numba keeps compiled kernels.

numba's own cache looks at the one file that a function stands in: an edit in an imported module, or the same home on
another processor, leaves it stale. So each state of the sources, version and processor has a directory of its own.
Loading from it runs code, so it must belong to this user alone.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from platformdirs import user_cache_path

VARIABLE: Final = "NUMBA_CACHE_DIR"
UNUSED_DAYS_MAX: Final = 7
"""Other states' directories that no process has opened for this long are removed."""

_OURS: Final = "TRADETUI_NUMBA_CACHE_DIR"
"""Marks, for child processes, a directory that this module chose and the user did not."""


def use() -> Path:
    """Set NUMBA_CACHE_DIR to a directory for this state of the kernels, unless the user set it. Returns the directory.

    The user's cache folder, or a private temporary one where that cannot be written. A child process takes over its
    parent's when it runs the same kernels.
    """
    chosen = os.environ.get(VARIABLE)
    key = _key()
    if chosen and chosen != os.environ.get(_OURS):
        return Path(chosen)
    if chosen and Path(chosen).name == key and _usable(Path(chosen)):
        return Path(chosen)
    directory = _first_usable(_candidates(), key)
    os.environ[VARIABLE] = os.environ[_OURS] = str(directory)
    loaded = sys.modules.get("numba")
    if loaded is not None:
        loaded.config.CACHE_DIR = str(directory)
    return directory


def remove_stale(now_s: float | None = None) -> list[Path]:
    """Remove the directories of other states, unused for `UNUSED_DAYS_MAX` days; returns what was removed.

    now_s: Unix time, the present by default. Nothing is removed where the user chose the directory.
    """
    current = use()
    if os.environ.get(VARIABLE) != os.environ.get(_OURS):
        return []
    oldest = (time.time() if now_s is None else now_s) - UNUSED_DAYS_MAX * 86_400.0
    removed = []
    for directory in current.parent.iterdir():
        doomed = directory.with_name(f"{directory.name}.{os.getpid()}")
        try:
            if directory == current or directory.stat().st_mtime >= oldest:
                continue
            directory.rename(doomed)
        except FileNotFoundError:
            # another process of ours, starting at the same time, has removed it
            continue
        shutil.rmtree(doomed)
        removed.append(directory)
    return removed


def mark_compiled(name: str) -> None:
    """Note that the cache holds this kernel in its present state. Raises OSError where that cannot be written."""
    directory = use()
    directory.mkdir(parents=True, exist_ok=True)
    _mark(name).touch()


def is_compiled(name: str) -> bool:
    """Whether some process has marked this kernel, in its present state, as compiled."""
    return _mark(name).exists()


def _mark(name: str) -> Path:
    # the key is in the name too: a directory that the user chose outlives an edit
    return use() / f"{_key()}.{name}.compiled"


@contextmanager
def one_compiler() -> Iterator[None]:
    """Waits until no other process that shares the cache is inside. Raises OSError as `mark_compiled`."""
    directory = use()
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "compiling.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@functools.cache
def _key() -> str:
    """Package version, hash of `kernels/*.py`, and processor."""
    digest = hashlib.sha256(_processor().encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return f"{_version()}-{digest.hexdigest()[:16]}"


def _version() -> str:
    try:
        return version("tradetui")
    except PackageNotFoundError:
        return "source"


def _processor() -> str:
    """Name and instruction sets, without loading LLVM (which takes longer than everything else here)."""
    words = [platform.machine(), platform.processor()]
    information = Path("/proc/cpuinfo")
    if information.exists():
        first = information.read_text().split("\n\n")[0].splitlines()
        words += [line for line in first if line.startswith(("model name", "flags", "Features", "CPU part"))]
    return "\n".join(words)


def _candidates() -> Iterable[Path]:
    yield user_cache_path("tradetui") / "numba"
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    yield Path(tempfile.gettempdir()) / f"tradetui-numba-{user}"


def _first_usable(roots: Iterable[Path], key: str) -> Path:
    for root in roots:
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            # a link could be turned elsewhere after the check
            directory = root.resolve() / key
            directory.mkdir(mode=0o700, exist_ok=True)
        except OSError:
            # read-only or full: the next one
            continue
        if _usable(directory):
            return directory
    directory = Path(tempfile.mkdtemp(prefix="tradetui-numba-")) / key
    directory.mkdir(mode=0o700)
    return directory


def _usable(directory: Path) -> bool:
    """Writable, and nobody else may put a file there. Notes the time of use."""
    try:
        os.utime(directory)
        owned = [path.stat() for path in (directory, directory.parent)]
    except OSError:
        return False
    if hasattr(os, "getuid") and any(s.st_uid != os.getuid() or s.st_mode & 0o022 for s in owned):
        return False
    return os.access(directory, os.W_OK)
