"""A session is one directory however it is spelled, and one supervisor holds it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.config import load_settings, write_settings
from core.session import (
    Session,
    SessionError,
    SwarmState,
    create_session,
    find_session,
    running_sessions,
    sessions_root,
)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Session]:
    """A session under `tmp_path/home`, and a process that has its directory on its command line, as a supervisor."""
    session = Session((tmp_path / "home" / "sessions" / "one").resolve())
    session.directory.mkdir(parents=True)
    write_settings(load_settings(), session.settings_file)
    process = subprocess.Popen(["sh", "-c", "read line", "sh", str(session.directory)], stdin=subprocess.PIPE)
    session.write_swarm(SwarmState(process.pid, 0, "running", True))
    yield session
    process.communicate()


def test_a_running_session_is_found_by_any_spelling_of_its_directory(
    running: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "link"
    link.symlink_to(running.directory)
    monkeypatch.chdir(tmp_path)
    for spelling in (running.directory, link, Path("home/sessions/../sessions/one"), Path("link")):
        found = find_session(spelling)
        assert found.running() is not None, spelling
        assert found == running


def test_a_running_session_below_a_relative_home_is_found_and_not_dropped_as_old(
    running: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRADETUI_HOME", "home")
    monkeypatch.setattr("core.session.KEPT_SESSIONS", 1)
    assert sessions_root().is_absolute()
    assert running_sessions() == [running]
    os.utime(running.directory, (0, 0))
    newer = sessions_root() / "two"
    newer.mkdir()
    write_settings(load_settings(), newer / "session.toml")
    create_session(load_settings())
    assert running.settings_file.exists()


def test_a_session_that_is_made_through_a_link_is_known_by_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    assert create_session(load_settings(), tmp_path / "link" / "one").directory == (tmp_path / "there/one").resolve()


def test_a_second_supervisor_of_a_session_ends_with_a_sentence_and_leaves_the_first_ones_word(tmp_path: Path) -> None:
    session = Session(tmp_path.resolve())
    write_settings(load_settings(), session.settings_file)
    told = SwarmState(1, 0, "running", True)
    session.write_swarm(told)
    with session.supervised():
        with pytest.raises(SessionError, match="has a supervisor already"), session.supervised():
            pass
        ended = subprocess.run(
            [sys.executable, "-m", "core.supervisor", str(session.directory)], capture_output=True, text=True
        )
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"supervisor: {session.directory} has a supervisor already; `tradetui attach")
    assert session.read_swarm() == told
    assert not (session.directory / "log").exists(), "no process was started"
    with session.supervised():
        """The first one is gone."""
