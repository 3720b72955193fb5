"""Editing a configuration file: only the values change, and only to a whole that is valid."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.config import ConfigError, Settings, load_settings
from core.config_file import settings_of, with_text, write_changes

WRITTEN = """# my swarm

nodes = 4   # enough
headlines = "https://news.example/a#b" # a feed
  venue_latency_ms=3.0
# pace = "1/s"
"""


def test_comments_order_and_everything_else_stay(tmp_path: Path) -> None:
    path = tmp_path / "swarm.toml"
    path.write_text(WRITTEN)
    path.chmod(0o640)
    write_changes(path, {"nodes": 7, "headlines": "a#b", "venue_latency_ms": 0.5, "pace": "20/s"})
    lines = path.read_text().splitlines()
    assert lines[0] == "# my swarm"
    assert lines[2] == "nodes = 7   # enough"
    assert lines[3] == 'headlines = "a#b" # a feed'
    assert lines[4] == "venue_latency_ms = 0.5"
    assert lines[5] == '# pace = "1/s"'
    assert lines[-1] == 'pace = "20/s"'
    assert path.stat().st_mode & 0o777 == 0o640
    settings = load_settings(path)
    assert (settings.nodes, settings.headlines, settings.venue_latency_ms, settings.pace) == (7, "a#b", 0.5, "20/s")


def test_a_file_that_is_missing_is_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "swarm.toml"
    write_changes(path, {"venue_cancel_on_disconnect": True})
    assert tomllib.loads(path.read_text()) == {"venue_cancel_on_disconnect": True}
    assert path.read_text().startswith("# The venue cancels")
    assert settings_of(tmp_path / "none.toml") == load_settings()


@pytest.mark.parametrize(
    ("written", "changes"),
    [
        ("nodes = 99\n", {"pace": "max"}),
        ("nodes = 4\n", {"nodes": 3}),
        ('headlines = """\nnodes = 5\n"""\n', {"nodes": 7}),
        ("this is no toml\n", {"nodes": 7}),
        ("[table]\nx = 1\n", {"nodes": 7}),
    ],
)
def test_what_would_not_be_valid_is_refused_and_the_file_stays(
    tmp_path: Path, written: str, changes: dict[str, object]
) -> None:
    path = tmp_path / "swarm.toml"
    path.write_text(written)
    with pytest.raises(ConfigError):
        write_changes(path, changes)
    assert path.read_text() == written
    assert list(tmp_path.iterdir()) == [path], "nothing is left behind"


def test_a_typed_value_is_checked_as_a_person_typed_it() -> None:
    settings = load_settings()
    assert with_text(settings, "nodes", " 7 ").nodes == 7
    assert with_text(settings, "venue_latency_ms", "2.5").venue_latency_ms == 2.5
    assert with_text(settings, "venue_cancel_on_disconnect", "true").venue_cancel_on_disconnect is True
    with pytest.raises(ConfigError, match="nodes = 'many'"):
        with_text(settings, "nodes", "many")
    with pytest.raises(ConfigError, match="toggles"):
        with_text(settings, "toggles", "nonsense=1")
    with pytest.raises(ConfigError, match="no such setting"):
        with_text(settings, "colour", "red")


@given(st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=30), st.sampled_from(["", "  # why", " #"]))
def test_any_text_comes_back_as_it_was_typed(tmp_path_factory: pytest.TempPathFactory, text: str, comment: str) -> None:
    path = tmp_path_factory.mktemp("config") / "swarm.toml"
    path.write_text(f'headlines = "old"{comment}\nnodes = 4\n')
    write_changes(path, {"headlines": text})
    assert tomllib.loads(path.read_text()) == {"headlines": text, "nodes": 4}
    assert path.read_text().splitlines()[0].endswith(comment)


def test_every_setting_can_be_written_and_read(tmp_path: Path) -> None:
    settings = load_settings()
    path = tmp_path / "all.toml"
    write_changes(path, {name: getattr(settings, name) for name in Settings.model_fields})
    assert load_settings(path) == settings
