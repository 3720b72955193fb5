"""The how-to pages, done: each page's change is made to a copy of the tree, and its check is run there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("add-*.md"))
LINES_MAX = 150
"""A page; that of a venue, which is a whole module, is somewhat more."""


def block(page: Path, language: str) -> str:
    """The page's one block in `language`."""
    (found,) = re.findall(rf"```{language}\n(.*?)```\n", page.read_text(), re.DOTALL)
    return str(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_the_page_says_can_be_done(page: Path, tmp_path: Path) -> None:
    assert len(page.read_text().splitlines()) <= LINES_MAX
    for name in ("core", "kernels", "net", "tests", "tui"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    check = [sys.executable, "-c", block(page, "python")]
    before = subprocess.run(check, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert before.returncode, "the check passes without the change: it checks nothing"
    patched = subprocess.run(
        ["patch", "-p1", "--no-backup-if-mismatch"],
        cwd=tmp_path,
        input=block(page, "diff"),
        capture_output=True,
        text=True,
    )
    assert not patched.returncode, patched.stdout
    after = subprocess.run(check, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert not after.returncode, after.stdout + after.stderr


def test_there_are_pages() -> None:
    assert {page.stem for page in PAGES} >= {"add-strategy", "add-codec", "add-toggle", "add-venue"}
