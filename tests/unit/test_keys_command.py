"""`tradetui keys`, and the rule for listening beyond loopback."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from core.session import SessionError
from core.transport import listen_address
from net.identity import Identity, Roster, RosterEntry
from tui.commands import main


def tradetui(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["tradetui", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_a_key_is_made_once_shown_and_put_into_a_roster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key_file, roster_file = tmp_path / "node.key", tmp_path / "roster.toml"
    assert tradetui(monkeypatch, "keys", "new", str(key_file)) == 0
    public_key = capsys.readouterr().out.strip()
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert public_key == Identity.load_or_create(key_file, 0).public_key.hex()
    assert tradetui(monkeypatch, "keys", "new", str(key_file)) == 2, "an existing key is not replaced"
    assert "a key that is replaced is lost" in capsys.readouterr().err
    assert tradetui(monkeypatch, "keys", "show", str(key_file)) == 0
    assert capsys.readouterr().out.strip() == public_key
    added = ("--add", "node-3", "--id", "3", "--public-key", public_key, "--address", "192.0.2.1:7000")
    assert tradetui(monkeypatch, "keys", "roster", str(roster_file), *added, "--expires", "2030-01-01T00:00:00Z") == 0
    entry = Roster.load(roster_file).get(3)
    assert entry == RosterEntry(3, "node-3", "node", bytes.fromhex(public_key), ("192.0.2.1", 7_000), 1_893_456_000.0)
    assert tradetui(monkeypatch, "keys", "roster", str(roster_file)) == 0
    assert public_key[:16] in capsys.readouterr().out.replace("\n", "")
    assert tradetui(monkeypatch, "keys", "roster", str(roster_file), "--remove", "3") == 2, "it would be empty"
    other = ("--add", "desk", "--id", "200", "--role", "operator", "--public-key", "11" * 32)
    assert tradetui(monkeypatch, "keys", "roster", str(roster_file), *other) == 0
    assert tradetui(monkeypatch, "keys", "roster", str(roster_file), "--remove", "3") == 0
    assert [entry.name for entry in Roster.load(roster_file)] == ["desk"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("show", "missing.key"), "tradetui keys new"),
        (("roster", "missing.toml"), "cannot read the roster"),
        (("roster", "new.toml", "--add", "x"), "wants --id and --public-key"),
        (("roster", "new.toml", "--add", "x", "--id", "1", "--public-key", "zz"), "not hexadecimal"),
        (("roster", "new.toml", "--add", "x", "--id", "1", "--public-key", "00"), "32 bytes"),
        (("roster", "new.toml", "--add", "x", "--id", "1", "--public-key", "0" * 64, "--expires", "1"), "no time"),
        (("roster", "new.toml", "--add", "x", "--id", "1", "--public-key", "0" * 64, "--address", "x"), "host:port"),
    ],
)
def test_bad_input_is_refused_whole(
    arguments: tuple[str, ...],
    problem: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert tradetui(monkeypatch, "keys", *arguments) == 2
    assert problem in capsys.readouterr().err.replace("\n", " ")
    assert not list(tmp_path.iterdir())


def test_listening_beyond_loopback_wants_the_flag_and_the_roster() -> None:
    local = RosterEntry(0, "node-0", "node", b"k" * 32, ("127.0.0.1", 7_000))
    public = RosterEntry(0, "node-0", "node", b"k" * 32, ("192.0.2.1", 7_000))
    assert listen_address(local, None) == ("127.0.0.1", 7_000)
    assert listen_address(local, "[::1]:7001") == ("::1", 7_001)
    assert listen_address(public, "0.0.0.0:7000") == ("0.0.0.0", 7_000)
    for entry, listen, problem in (
        (public, None, "--listen 192.0.2.1:7000"),
        (local, "0.0.0.0:7000", "tradetui keys roster"),
        (local, "7000", "host:port"),
        (RosterEntry(0, "node-0", "node", b"k" * 32), None, "no address"),
    ):
        with pytest.raises(SessionError, match=problem):
            listen_address(entry, listen)
