"""The monitor on a real pseudo-terminal, over the invented session."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from tests.tui.terminal import Terminal

DEMO = [sys.executable, "-m", "tests.tui.demo", "60"]
HERE = {"PYTHONPATH": str(Path(__file__).parents[2])}


def showing(word: str):
    return lambda text: word in text


def demo(report: Path, columns: int, rows: int, **env: str) -> Terminal:
    return Terminal([*DEMO, str(report)], columns, rows, {**HERE, **env})


def test_a_short_sitting(tmp_path):
    with demo(tmp_path / "report", 120, 40) as terminal:
        assert terminal.pump(30, showing("cycles/s")) is not None
        assert terminal.pump(10, showing("quic_consensus")) is not None
        terminal.send(b"b")
        assert terminal.pump(10, showing("batching        on → off")) is not None
        terminal.send(b" ")
        assert terminal.pump(10, showing("FROZEN")) is not None
        terminal.resize(80, 24)
        assert terminal.pump(10, lambda text: "→off" in text and "untimed" in text) is not None
        terminal.send(b" \t")
        assert terminal.pump(10, showing("equity")) is not None
        terminal.send(b"q")
        assert terminal.pump(10, showing("keep trading")) is not None
        terminal.send(b"s")
        assert terminal.wait(15) == 0
    assert "stop=True" in (tmp_path / "report").read_text()


def hidden(terminal: Terminal) -> list[str]:
    """Characters in the colour of their background; a full block is meant to be seen as its colour."""
    cells = [terminal.screen.buffer[y][x] for y in range(24) for x in range(80)]
    return [cell.data for cell in cells if cell.data.strip() and cell.fg == cell.bg]


def lost(terminal: Terminal, word: str) -> list[str]:
    return [cell for cell in hidden(terminal) if cell.isalnum() or word != "nodes"]


@pytest.mark.parametrize(
    ("env", "few"),
    [({"TERM": "xterm", "COLORTERM": ""}, True), ({"NO_COLOR": "1"}, False)],
)
def test_legible_without_many_colours(tmp_path, env, few):
    with demo(tmp_path / "report", 80, 24, **env) as terminal:
        assert terminal.pump(30, showing("untimed")) is not None
        terminal.pump(2, showing("rounds/s"))
        assert hidden(terminal) == []
        steps = ((b"4", "filled"), (b"\t", "spread"), (b"5", "over time"), (b"S", "nodes"), (b"\x1b", "own ms"))
        for keys, word in steps:
            terminal.send(keys)
            assert terminal.pump(10, showing(word)) is not None
            # Behind a dialog the frames of the panels may fade away, words may not. A word may be seen while its
            # screen is still being drawn: then what is hidden comes with the rest.
            terminal.pump(10, lambda _, word=word: not lost(terminal, word))
            assert lost(terminal, word) == [], word
        terminal.send(b"1")
        assert terminal.pump(10, showing("rounds/s")) is not None
        colours = terminal.colours()
        if few:
            assert not any(len(colour) == 6 and all(c in "0123456789abcdef" for c in colour) for colour in colours)
        else:
            grey = [c for c in colours if len(c) == 6]
            assert all(c[0:2] == c[2:4] == c[4:6] for c in grey), grey


def test_the_harness_ends_what_it_started_and_says_how():
    with Terminal(
        [sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(600)"], 40, 5
    ) as terminal:
        assert terminal.pump(20, showing("ready")) is not None
        assert terminal.wait(0.1) is None
    assert terminal.exit_code == -15
    with pytest.raises(ChildProcessError):
        os.waitpid(terminal.pid, 0)
    assert terminal.close() == -15


def test_the_harness_reports_a_program_that_ends_by_itself():
    with Terminal([sys.executable, "-c", "print('hello'); raise SystemExit(3)"], 40, 5) as terminal:
        began = time.monotonic()
        assert terminal.pump(60, showing("never shown")) is None
        assert terminal.wait(20) == 3
        assert "hello" in terminal.text()
        assert time.monotonic() - began < 60
    with Terminal(["/no/such/program"], 40, 5) as terminal:
        assert terminal.wait(20) == 127
