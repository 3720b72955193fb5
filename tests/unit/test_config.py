"""Settings: file, environment, flags; a bad value is named with what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.config import ConfigError, load_settings, write_settings


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
    assert load_settings(tmp_path / "session.toml") == settings


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


def test_injected_delays_are_captions() -> None:
    captions = load_settings(venue_latency_ms=3, durability="none", pace="20/s").captions()
    assert "venue latency 3 ms (injected)" in captions
    assert "durability none" in captions
    assert load_settings().captions() == ("sample headlines",)
