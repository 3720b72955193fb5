"""The kernels' cache: one private directory a state of the sources, found again, and cleaned of old ones."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import kernels as package
from kernels import cache
from kernels.readiness import TRADING
from kernels.warm import KERNELS, ON_DEMAND, Kernel, compile_all

ROOT = Path(package.__file__).resolve().parent.parent


def environment(home: Path, **more: str) -> dict[str, str]:
    hidden = {cache.VARIABLE, "TRADETUI_NUMBA_CACHE_DIR", "XDG_CACHE_HOME"}
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    return kept | {"HOME": str(home), "TMPDIR": str(home / "tmp")} | more


def python(code: str, env: dict[str, str], where: Path = ROOT) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=where, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


CHOSEN = "import kernels, os; print(os.environ['NUMBA_CACHE_DIR'])"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "tmp").mkdir()
    return tmp_path


@pytest.mark.parametrize("kernels", [KERNELS, ON_DEMAND])
def test_every_kernel_is_compiled_and_reported(kernels: tuple[Kernel, ...]) -> None:
    seen: list[tuple[str, int, int]] = []
    seconds = compile_all(lambda name, done, total: seen.append((name, done, total)), kernels)
    names = [kernel.name for kernel in kernels]
    assert seen == [(name, place, len(names)) for place, name in enumerate(names, start=1)]
    assert list(seconds) == names
    assert all(value > 0.0 for value in seconds.values())


def test_their_names_are_known_without_loading_numba(home: Path) -> None:
    assert tuple(kernel.name for kernel in KERNELS) == TRADING
    code = "import sys, core.supervisor, core.kernel_compiling as k; print(k.all_compiled(), 'numba' in sys.modules)"
    assert python(code, environment(home)) == "False False"


def test_warming_leaves_nothing_to_compile_and_a_second_process_only_loads(home: Path) -> None:
    env = environment(home)
    first = subprocess.run(
        [sys.executable, "-m", "kernels.warm"],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    lines = first.stdout.splitlines()
    assert len(lines) == len(KERNELS)
    for place, (line, kernel) in enumerate(zip(lines, KERNELS, strict=True), start=1):
        assert line.startswith(f"{place} of {len(KERNELS)}: {kernel.name} ")
    compiled = set(home.rglob("*.nbc"))
    assert compiled
    marked = "from kernels import cache, warm; print(all(cache.is_compiled(k.name) for k in warm.KERNELS))"
    assert python(marked, env) == "True"
    assert python(marked, environment(home, NUMBA_CACHE_DIR=str(home / "elsewhere"))) == "False"
    # what the product calls, with its own sizes and types
    use = """
import numpy as np
from kernels import dtw, dtw_batch, dtw_topk, indicator_table, risk
rows = dtw.z_normalise(np.random.default_rng(0).standard_normal((40, 64)))
library = dtw_topk.pack_library(rows[:30], 6)
dtw_batch.library_distances_batch(rows[30:], library.blocks, 30, 6)
dtw_topk.library_topk(rows[30:], library, 5, 6)
dtw.library_distances_scalar(rows[0], rows, 6)
indicator_table.indicator_table(np.ones((20, 100)))
risk.portfolio_var_es(np.zeros((100, 20)), np.ones(20), 0.99)
called = (dtw._each_pair, dtw_batch._batch, dtw_topk._search)
called += (indicator_table._advance, risk._portfolio)
print([sum(f.stats.cache_misses.values()) for f in called], [sum(f.stats.cache_hits.values()) for f in called])
"""
    assert python(use, env) == "[0, 0, 0, 0, 0] [1, 1, 1, 1, 1]"
    assert set(home.rglob("*.nbc")) == compiled


def test_directory_follows_the_sources_and_is_private(home: Path) -> None:
    env = environment(home)
    chosen = Path(python(CHOSEN, env))
    assert chosen.is_relative_to(home)
    assert chosen.stat().st_mode & 0o077 == 0
    assert python(CHOSEN, env) == str(chosen)
    copy = home / "copy"
    shutil.copytree(ROOT / "kernels", copy / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    env["PYTHONPATH"] = str(copy)
    assert python(CHOSEN, env, copy) == str(chosen)
    with (copy / "kernels" / "simd.py").open("a") as source:
        source.write("# edited\n")
    edited = Path(python(CHOSEN, env, copy))
    assert edited.parent == chosen.parent
    assert edited != chosen


def test_a_mark_of_other_sources_counts_for_nothing_in_a_directory_that_the_user_set(home: Path) -> None:
    env = environment(home, NUMBA_CACHE_DIR=str(home / "theirs"))
    asked = "from kernels import cache; print(cache.is_compiled('risk'))"
    python("from kernels import cache; cache.mark_compiled('risk')", env)
    assert python(asked, env) == "True"
    copy = home / "copy"
    shutil.copytree(ROOT / "kernels", copy / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    with (copy / "kernels" / "simd.py").open("a") as source:
        source.write("# edited\n")
    assert python(asked, env | {"PYTHONPATH": str(copy)}, copy) == "False"


def test_child_takes_over_its_parents_directory(home: Path) -> None:
    code = "import kernels, os, subprocess, sys; print(os.environ['NUMBA_CACHE_DIR'], flush=True);"
    code += f"subprocess.run([sys.executable, '-c', {CHOSEN!r}], check=True)"
    parent, child = python(code, environment(home)).splitlines()
    assert parent == child


def test_directory_that_the_user_set_is_kept(home: Path) -> None:
    assert python(CHOSEN, environment(home, NUMBA_CACHE_DIR="/some/where")) == "/some/where"


def test_home_that_cannot_be_written_falls_back_to_a_private_temporary_folder(home: Path) -> None:
    blocked = home / "file"
    blocked.write_text("no folder")
    env = environment(home, HOME=str(blocked))
    chosen = Path(python(CHOSEN, env))
    assert chosen.is_relative_to(home / "tmp")
    assert chosen.stat().st_mode & 0o077 == 0
    # somebody else could have written here: not to be loaded from
    chosen.parent.chmod(0o777)
    other = Path(python(CHOSEN, env))
    assert other.is_relative_to(home / "tmp")
    assert other.parent != chosen.parent


def test_numba_imported_first_still_gets_the_directory(home: Path) -> None:
    code = "import numba, kernels, os; print(numba.config.CACHE_DIR == os.environ['NUMBA_CACHE_DIR'])"
    assert python(code, environment(home)) == "True"


def test_old_directories_of_other_states_are_removed(home: Path) -> None:
    env = environment(home)
    chosen = Path(python(CHOSEN, env))
    old, recent = chosen.parent / "0.0-old", chosen.parent / "0.0-recent"
    for directory in (old, recent):
        directory.mkdir()
        (directory / "kernel.nbc").write_bytes(b"x")
    age_s = (cache.UNUSED_DAYS_MAX + 1) * 86_400
    for directory in (old, chosen):
        os.utime(directory, (directory.stat().st_atime - age_s,) * 2)
    removed = python("from kernels import cache; print(*cache.remove_stale())", env)
    assert removed == str(old)
    assert not old.exists()
    assert sorted(path.name for path in chosen.parent.iterdir()) == sorted([recent.name, chosen.name])


def test_nothing_is_removed_from_a_directory_that_the_user_set(home: Path) -> None:
    theirs = home / "theirs" / "cache"
    theirs.mkdir(parents=True)
    neighbour = home / "theirs" / "other"
    neighbour.mkdir()
    os.utime(neighbour, (0, 0))
    code = "from kernels import cache; print(cache.remove_stale())"
    assert python(code, environment(home, NUMBA_CACHE_DIR=str(theirs))) == "[]"
    assert neighbour.exists()
