"""The how-to pages, done: what each page says is done to a copy of the tree, and its check is run there."""

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
LINES_MAX, CHARACTERS_MAX = 66, 3_500
"""One page of paper."""


def blocks(page: Path, language: str) -> list[str]:
    """What the page's blocks in `language` say."""
    return re.findall(rf"```{language}\n(.*?)```\n", page.read_text(), re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_is_a_page(page: Path) -> None:
    text = page.read_text()
    assert len(text.splitlines()) <= LINES_MAX
    assert len(text) <= CHARACTERS_MAX


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_the_page_says_can_be_done(page: Path, tmp_path: Path) -> None:
    for name in ("core", "docs", "kernels", "net", "tests", "tui"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    (check,) = blocks(page, "python")
    command = [sys.executable, "-c", check]
    before = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert before.returncode, "the check passes without the change: it checks nothing"
    for commands in blocks(page, "sh"):
        subprocess.run(["sh", "-e", "-c", commands], cwd=tmp_path, check=True)
    (change,) = blocks(page, "diff")
    patched = subprocess.run(
        ["patch", "-p1", "--no-backup-if-mismatch"], cwd=tmp_path, input=change, capture_output=True, text=True
    )
    assert not patched.returncode, patched.stdout
    after = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert not after.returncode, after.stdout + after.stderr


def test_there_are_pages() -> None:
    assert {page.stem for page in PAGES} >= {"add-strategy", "add-codec", "add-toggle", "add-venue"}
