"""The tutorial's commands, run as written; `python -m tests.tutorial` writes what they print into the page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "tutorial.md"
BLOCK = re.compile(r"```sh\n(?P<command>.*?)```\n(?:\n```text\n(?P<output>.*?)```\n)?", re.DOTALL)
COLUMNS = 110


@dataclass(frozen=True)
class Ran:
    """A command, what it printed and its exit code."""

    command: str
    output: str
    code: int


def commands(page: str) -> list[str]:
    """Every command of the page, in order."""
    return [match["command"].strip() for match in BLOCK.finditer(page)]


def run_all(page: str, folder: Path) -> list[Ran]:
    """Run the commands one after another in `folder`, with sessions of their own; stops at the first that fails."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TRADETUI_HOME": str(folder / "home"),
        "COLUMNS": str(COLUMNS),
        "TERM": "dumb",
    }
    done = []
    for command in commands(page):
        ran = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        lines = [line.rstrip() for line in ran.stdout.splitlines() if line.strip()]
        done.append(Ran(command, "\n".join(lines), ran.returncode))
        if ran.returncode:
            break
    return done


def written(page: str, ran: list[Ran]) -> str:
    """The page with each command's output behind it."""
    outputs = iter(ran)

    def block(match: re.Match[str]) -> str:
        found = next(outputs)
        assert found.command == match["command"].strip()
        return f"```sh\n{match['command']}```\n\n```text\n{found.output}\n```\n"

    return BLOCK.sub(block, page)


def main() -> None:
    """Run everything in a folder of its own and write the page."""
    page = PAGE.read_text()
    with tempfile.TemporaryDirectory() as folder:
        ran = run_all(page, Path(folder))
    failed = [each for each in ran if each.code]
    if failed:
        sys.exit(f"{failed[0].command}: exit code {failed[0].code}\n{failed[0].output}")
    PAGE.write_text(written(page, ran))


if __name__ == "__main__":
    main()
