"""`--json`: a file that cannot be written is refused before the work, by every command that writes one."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.commands.output_file import output_file
from tui.commands import build_parser


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from parsers(child)


def test_every_command_looks_at_its_output_file_before_it_begins() -> None:
    found = [(p.prog, a.type) for p in parsers(build_parser()) for a in p._actions if "--json" in a.option_strings]
    assert "tradetui run" in dict(found)
    assert [prog for prog, kind in found if kind is not output_file] == []


def test_a_run_is_refused_before_it_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args(["run", "--cycles", "100000", "--json", str(tmp_path / "none" / "out.json")])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert f"argument --json: {tmp_path}/none/out.json: there is no folder {tmp_path}/none; make it first" in said


def test_what_can_be_written_is_let_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.json").write_text("{}")
    for text in ("new.json", "old.json", str(tmp_path / "new.json"), "/dev/null"):
        assert output_file(text) == Path(text)
    with pytest.raises(argparse.ArgumentTypeError, match="is a folder"):
        output_file(str(tmp_path))
    asked = []
    monkeypatch.setattr(os, "access", lambda path, mode: asked.append((path, mode)))
    for text in ("new.json", "old.json"):
        with pytest.raises(argparse.ArgumentTypeError, match=f"{text} cannot be written"):
            output_file(text)
    assert asked == [(Path(), os.W_OK), (Path("old.json"), os.W_OK)]
