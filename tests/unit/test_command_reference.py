"""The command reference is what the parsers say, no more and no less."""

from __future__ import annotations

from pathlib import Path

from core.config import Settings
from tui.command_reference import reference
from tui.commands import build_parser

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_what_the_code_says():
    assert (DOCS / "commands.md").read_text() == reference(), "python -m tui.command_reference docs/commands.md"


def test_every_command_and_setting_is_in_it():
    text = reference()
    commands = next(action.choices for action in build_parser()._actions if action.dest == "command")
    assert all(f"## tradetui {name}\n" in text for name in commands)
    assert all(f"| `{name}` |" in text for name in Settings.model_fields)
    assert "%%" not in text
    assert "/root" not in text and "/home" not in text  # noqa: PT018
