"""Pages name files, tests and commands that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tui.command_reference import reference

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
NAMED = re.compile(r"`((?:core|net|kernels|tui|tests|docs|screenshots)/[\w./-]+\.\w+)`")
COMMAND = re.compile(r"`tradetui ([a-z]+)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_and_command_that_a_page_names_exists(page):
    text = page.read_text()
    missing = [name for name in NAMED.findall(text) if not (ROOT / name).exists()]
    assert not missing
    known = set(re.findall(r"^## tradetui ([a-z]+)$", reference(), re.MULTILINE))
    assert {name for name in COMMAND.findall(text) if name not in known} == set()


def test_there_are_pages_and_the_readme_names_them():
    assert len(PAGES) >= 4
    readme = (ROOT / "README.md").read_text()
    assert all(f"docs/{page.name}" in readme for page in PAGES)
