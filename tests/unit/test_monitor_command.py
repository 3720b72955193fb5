"""`tradetui` and `tradetui attach`: whose swarm the monitor shows, who started it, and with which settings."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import core.commands.start
import tui.commands
import tui.monitor_command
import tui.serve
from core.config import ConfigError, load_settings
from core.session import Session, SessionError, create_session
from tests.running_session import session_that_runs
from tui.commands import build_parser


class Shown:
    """What was started and shown in place of a swarm and a monitor."""

    def __init__(self) -> None:
        self.started: list[Path] = []
        self.monitor: dict[str, Any] = {}
        self.said = io.StringIO()

    def command(self, *words: object) -> int:
        arguments = build_parser().parse_args([str(word) for word in words])
        return tui.commands._dispatch(arguments, Console(file=self.said, width=300))


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shown:
    shown = Shown()
    monkeypatch.setenv("TRADETUI_HOME", str(tmp_path / "home"))

    def start(settings: object, *, session: Session, **_: object) -> None:
        shown.started.append(session.directory)

    async def show(session: Session, **how: Any) -> bool:
        shown.monitor = how | {"directory": session.directory}
        return False

    monkeypatch.setattr(core.commands.start, "start_swarm", start)
    monkeypatch.setattr(tui.monitor_command, "_show", show)
    return shown


def test_too_few_rounds_for_an_interval_are_refused_before_the_measurement(shown: Shown) -> None:
    with pytest.raises(ConfigError, match="--replicates 5: want 6 or more"):
        shown.command("bench", "monitor", "--replicates", 5)


@pytest.fixture
def session(shown: Shown, tmp_path: Path) -> Session:
    """Stopped."""
    return create_session(load_settings(), tmp_path / "home" / "sessions" / "one")


def test_whoever_only_looks_on_does_not_start_a_stopped_swarm(
    shown: Shown, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[Session] = []
    monkeypatch.setattr(tui.serve, "serve", lambda session, *_, **__: served.append(session))
    for words in (("attach", "--read-only"), ("serve",)):
        with pytest.raises(SessionError, match=r"^one does not run; `tradetui attach --session"):
            shown.command(*words, "--session", session.directory)
    assert (shown.started, shown.monitor, served) == ([], {}, [])
    shown.command("attach", "--session", session.directory)
    assert shown.started == [session.directory]
    assert shown.monitor["owns_swarm"], "this command started it"


def test_a_second_monitor_did_not_start_the_swarm_and_says_which_settings_are_not_applied(
    shown: Shown, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_that_runs(session.directory, monkeypatch)
    shown.command("--nodes", 7, "--fast-path", "--config", "my.toml")
    assert shown.started == []
    assert shown.monitor["directory"] == session.directory
    assert not shown.monitor["owns_swarm"]
    notice = shown.monitor["notice"]
    assert notice.startswith("not applied: --config, --fast-path, --nodes; one has its own settings")
    assert notice in shown.said.getvalue()
    shown.command()
    assert shown.monitor["notice"] == ""
    shown.command("attach", "--read-only")
    assert (shown.monitor["read_only"], shown.monitor["owns_swarm"]) == (True, False)


def test_the_first_monitor_started_the_swarm_with_the_settings_that_were_given(shown: Shown) -> None:
    shown.command("--nodes", 7)
    (directory,) = shown.started
    assert Session(directory).settings().nodes == 7
    assert shown.monitor["directory"] == directory
    assert (shown.monitor["owns_swarm"], shown.monitor["notice"]) == (True, "")


def test_a_stopped_session_whose_recording_is_gone_is_not_started(
    shown: Shown, session: Session, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    session.settings_file.write_text('data = "/none/mine.csv"\n')
    for words in (("attach", "--session"), ("pnl",)):
        monkeypatch.setattr(sys, "argv", ["tradetui", *words, str(session.directory)])
        with pytest.raises(SystemExit) as ended:
            tui.commands.main()
        assert ended.value.code == 2
        assert "/none/mine.csv: there is neither a file" in capsys.readouterr().err
    assert shown.started == []
