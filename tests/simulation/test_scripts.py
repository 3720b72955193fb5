"""The scripted scenarios: each text file says what is done and what must come of it (`script` has the words).

`python -m tests.simulation.test_scripts` writes what really happens into the files, to be read before it is believed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from net.bft import SafetyViolation
from tests.simulation import bft_script, raft_script
from tests.simulation.mutations import (
    commit_old_terms_by_counting,
    extend_anything,
    fast_count_the_equivocator,
    start_a_view_from_the_decided,
)

FOLDER = Path(__file__).parent / "scripts"
SCRIPTS = sorted(FOLDER.glob("*.txt"))


def run_script(path: Path) -> str:
    """As its name says, of Raft or of the Byzantine protocol."""
    return (raft_script if path.name.startswith("raft_") else bft_script).run_script(path)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_the_script_plays_as_written(path: Path) -> None:
    assert run_script(path) == path.read_text()


def test_figure_8_shows_what_counting_old_terms_would_do(monkeypatch: pytest.MonkeyPatch) -> None:
    commit_old_terms_by_counting(monkeypatch)
    with pytest.raises(AssertionError, match="S5 decides"):
        run_script(FOLDER / "raft_figure_8.txt")


@pytest.mark.parametrize("plant", [extend_anything, start_a_view_from_the_decided])
def test_the_false_start_shows_what_rule_r3_is_for(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    with pytest.raises(AssertionError, match="decides"):
        run_script(FOLDER / "bft_false_start.txt")


def test_the_fast_equivocation_shows_what_rule_f5_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    fast_count_the_equivocator(monkeypatch)
    with pytest.raises(SafetyViolation, match="does not extend the log"):
        run_script(FOLDER / "bft_fast_equivocation.txt")


if __name__ == "__main__":
    for script in SCRIPTS:
        script.write_text(run_script(script))
