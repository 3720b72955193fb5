"""The command reference, generated from the parsers: `python -m tui.command_reference docs/commands.md` writes it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from core.config import ENVIRONMENT_PREFIX, Settings
from tui.commands import build_parser


def reference() -> str:
    """Markdown: every command with its arguments, as the parsers have them."""
    lines = [
        "# Commands",
        "",
        "Generated from the code by `python -m tui.command_reference docs/commands.md`; a test holds the two together.",
    ]
    for parser in _parsers(build_parser()):
        lines += ["", f"## {parser.prog}", ""]
        description = parser.description or _help_of(parser)
        if description:
            lines += [f"{_sentence(description)}", ""]
        lines += _arguments(parser)
    lines += ["", "## Settings", "", _SETTINGS, "", "| setting | default | |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        text = (field.description or "").replace("|", "\\|")
        lines.append(f"| `{name}` | `{field.default!s}` | {text} |")
    return "\n".join(lines).rstrip() + "\n"


_SETTINGS = (
    f"Each can stand in a TOML file (`--config`) or in the environment, such as `{ENVIRONMENT_PREFIX}NODES`; flags come"
    " first, then the environment, then the file."
)
_HELP: dict[str, str] = {}


def _parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """This parser and all below it, in the order in which they were added."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for choice in action._choices_actions:
                child = action.choices[choice.dest]
                _HELP[child.prog] = choice.help or ""
                yield from _parsers(child)


def _help_of(parser: argparse.ArgumentParser) -> str:
    return _HELP.get(parser.prog, "")


def _sentence(text: str) -> str:
    text = text.replace("%%", "%").strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?")) else ".")


def _arguments(parser: argparse.ArgumentParser) -> list[str]:
    rows = []
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        if isinstance(action, argparse._SubParsersAction):
            names = ", ".join(f"`{name}`" for name in action.choices)
            rows.append(f"| {action.metavar} | one of {names} |")
            continue
        help_text = (action.help or "").replace("%%", "%").replace("|", "\\|")
        rows.append(f"| `{_usage(action)}` | {help_text}{_default(action)} |")
    return ["| argument | |", "|---|---|", *rows] if rows else []


def _usage(action: argparse.Action) -> str:
    value = action.metavar or (f"{{{','.join(map(str, action.choices))}}}" if action.choices else "")
    if not action.option_strings:
        name = str(value or action.dest)
        return f"{name}..." if action.nargs == "+" else f"[{name}]" if action.nargs == "?" else name
    flag = action.option_strings[-1]
    if action.nargs == 0:
        return flag
    return f"{flag} {value or action.dest.upper()}{'...' if action.nargs == '+' else ''}"


def _default(action: argparse.Action) -> str:
    if action.default in (None, "", argparse.SUPPRESS) or action.nargs == 0 or "default" in (action.help or ""):
        return ""
    # The number of processors is that of the machine which writes the page.
    if action.dest in ("jobs", "processes"):
        return " (default: the processors of the machine)"
    value = " ".join(map(str, action.default)) if isinstance(action.default, list) else str(action.default)
    return f" (default: `{value}`)"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference())
