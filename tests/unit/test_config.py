"""Settings: file, environment, flags; a bad value is named with what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.config import ConfigError, load_settings, read_settings, write_settings
from core.market.load import load_market
from core.market.shipped import SHIPPED_MARKETS
from core.session import Session


def test_flags_beat_environment_beats_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "tradetui.toml"
    file.write_text('nodes = 5\npace = "2/s"\ndata = "futures-ticks"\n')
    monkeypatch.setenv("TRADETUI_NODES", "6")
    monkeypatch.setenv("TRADETUI_PACE", "3/s")
    settings = load_settings(file, nodes=7)
    assert (settings.nodes, settings.pace, settings.data) == (7, "3/s", "futures-ticks")


def test_a_session_keeps_every_value(tmp_path: Path) -> None:
    settings = load_settings(venue_latency_ms=3, toggles="optimised", data='a "quoted" \\ name')
    write_settings(settings, tmp_path / "session.toml")
    assert read_settings(tmp_path / "session.toml") == settings


def test_a_session_names_its_own_recording_from_every_folder_and_a_shipped_one_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_settings(load_settings(data="mine.csv"), tmp_path / "session.toml")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert read_settings(tmp_path / "session.toml").data == str((tmp_path / "mine.csv").resolve())
    assert load_settings(data="~/mine.csv").data == str((Path.home() / "mine.csv").resolve())
    assert SHIPPED_MARKETS
    for name in SHIPPED_MARKETS:
        assert load_settings(data=name).data == name
        assert load_market(name).spec.name == name


def test_the_environment_of_today_does_not_change_what_a_session_resolved_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(tmp_path)
    write_settings(load_settings(toggles="baseline"), session.settings_file)
    for name, value in (("TOGGLES", "optimised"), ("PATTERN_COUNT", "7"), ("DURABILITY", "none")):
        monkeypatch.setenv(f"TRADETUI_{name}", value)
    settings = session.settings()
    assert (settings.toggles, settings.pattern_count, settings.durability) == ("baseline", 1_000, "strict")
    # An older session lacks a setting: then its default counts, not the environment.
    session.settings_file.write_text("nodes = 5\n")
    assert (session.settings().nodes, session.settings().pattern_count) == (5, 1_000)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("nodes", "3", "greater than or equal to 4"),
        ("toggles", "b,q", "'q' is unknown"),
        ("pace", "fast", "fast"),
        ("durability", "maybe", "'strict' or 'none'"),
        ("venue_latency_ms", "-1", "greater than or equal to 0"),
        ("warp", "9", "no such setting"),
    ],
)
def test_a_bad_value_is_named(name: str, value: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(**{name: value})
    assert name in str(caught.value)
    assert words in str(caught.value)


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load_settings(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("nodes = = 4")
    with pytest.raises(ConfigError, match=r"bad\.toml is no TOML"):
        load_settings(tmp_path / "bad.toml")
    with pytest.raises(ConfigError, match="does not exist"):
        read_settings(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match=r"bad\.toml is no TOML"):
        read_settings(tmp_path / "bad.toml")


def test_injected_delays_are_captions() -> None:
    captions = load_settings(venue_latency_ms=3, durability="none", pace="20/s").captions()
    assert "venue latency 3 ms (injected)" in captions
    assert "durability none" in captions
    assert load_settings().captions() == ("sample headlines",)
