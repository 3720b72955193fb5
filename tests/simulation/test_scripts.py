"""The scripted scenarios: each text file says what is done and what must come of it (`raft_script` has the words).

`python -m tests.simulation.test_scripts` writes what really happens into the files, to be read before it is believed.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulation.mutations import commit_old_terms_by_counting
from tests.simulation.raft_script import run_script

SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("raft_*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_the_script_plays_as_written(path: Path) -> None:
    assert run_script(path) == path.read_text()


def test_figure_8_shows_what_counting_old_terms_would_do(monkeypatch: pytest.MonkeyPatch) -> None:
    commit_old_terms_by_counting(monkeypatch)
    with pytest.raises(AssertionError, match="S5 decides"):
        run_script(Path(__file__).parent / "scripts" / "raft_figure_8.txt")


if __name__ == "__main__":
    for script in SCRIPTS:
        script.write_text(run_script(script))
