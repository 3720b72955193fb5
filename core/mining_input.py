"""What mining reads: the library's part of a recording, memory-mapped, from a folder that each machine makes itself.

A worker on another machine reads the recording there and partitions it there: nothing of it is sent. Folders lie in the
user's cache, are shared by the processes of a machine, and go when nothing has opened them for a week.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
import warnings
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Final

import duckdb
import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_path

from core.market.load import load_market, panel_file
from core.market.partition import Partitions, open_partitions, partition_panel, write_partitions
from core.market.shipped import SHIPPED_MARKETS

UNUSED_DAYS_MAX: Final = 7
_FORMAT: Final = 2


def closes_of(source: str, digest: str = "") -> NDArray[np.float64]:
    """Closes of the library's part of a recording, float64 [instruments, rows], memory-mapped; trading rows are not
    in it.

    digest: of the recording that is meant, empty for any. Raises MarketDataError for one that is refused, ValueError
    where this machine has another one under that name, OSError where the cache cannot be written.
    """
    found = partitions_of(source)
    if digest and found.digest != digest:
        raise ValueError(
            f"{source} is another recording on {os.uname().nodename} than where mining was started: give every machine"
            " the same file"
        )
    return found.closes


def partitions_of(source: str) -> Partitions:
    """The recording's partitions on this machine, made now where they are not there yet. Raises as `closes_of`."""
    return _partitions(source, _key(source))


@lru_cache(maxsize=2)
def _partitions(source: str, key: str) -> Partitions:
    root = _root()
    folder = root / key
    with (root / f"{key}.lock").open("w") as lock:
        # the first process of this machine makes them, the others wait
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            _remove_unused(root)
            partial = Path(tempfile.mkdtemp(prefix=f"{key}.part-", dir=root))
            try:
                _make(source, partial)
                partial.rename(folder)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
        os.utime(folder)
        return open_partitions(folder)


def _make(source: str, folder: Path) -> None:
    with duckdb.connect() as connection:
        panel = None if source in SHIPPED_MARKETS else panel_file(connection, source)
    if panel is not None:
        partition_panel(*panel, folder)
        return
    data = load_market(source)
    rows = data.layout.library_rows
    span_ns = int(data.ts_ns[0]), int(data.ts_ns[rows - 1])
    write_partitions(data.closes(0, rows), data.spec.symbols, span_ns, folder)


def _key(source: str) -> str:
    """Of the source as it is now."""
    digest = hashlib.sha256(f"{_FORMAT} {version('tradetui')} {source}".encode())
    path = Path(source).expanduser()
    if source not in SHIPPED_MARKETS and path.exists():
        files = [path, *sorted(path.iterdir())] if path.is_dir() else [path]
        for file in files:
            about = file.stat()
            digest.update(f"{file.resolve()} {about.st_size} {about.st_mtime_ns}".encode())
    return digest.hexdigest()[:24]


def _root() -> Path:
    root = user_cache_path("tradetui") / "partitions"
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(root, os.W_OK):
            return root
        reason = "permission denied"
    except OSError as error:
        reason = error.strerror or type(error).__name__
    warnings.warn(f"{root} cannot be written ({reason}): this process makes partitions of its own", stacklevel=2)
    return Path(_private_folder().name)


@lru_cache(maxsize=1)
def _private_folder() -> tempfile.TemporaryDirectory[str]:
    """Where the cache cannot be written: of this process alone, and gone with it."""
    return tempfile.TemporaryDirectory(prefix="tradetui-partitions-")


def _remove_unused(root: Path) -> None:
    oldest = time.time() - UNUSED_DAYS_MAX * 86_400.0
    for folder in root.iterdir():
        if folder.is_dir() and folder.stat().st_mtime < oldest:
            shutil.rmtree(folder, ignore_errors=True)
