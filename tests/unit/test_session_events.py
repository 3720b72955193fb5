"""The event file of a session: what is damaged costs one line, and where it ends it says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from core import session as session_module
from core.records import Severity
from core.session import Session


def test_a_torn_line_of_the_events_costs_that_line_alone(tmp_path: Path) -> None:
    session = Session(tmp_path)
    session.add_event(Severity.INFO, "monitor", "before")
    with session.events_file.open("ab") as file:
        file.write(b'{"time_ns": 1, "seve')
    session.add_event(Severity.INFO, "monitor", "lost with it")
    session.add_event(Severity.INFO, "monitor", "after")
    events, offset = session.read_events()
    assert [event.text for event in events] == ["before", "after"]
    assert offset == session.events_file.stat().st_size


def test_events_that_end_say_so_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "EVENTS_BYTES_MAX", 1_000)
    session = Session(tmp_path)
    for number in range(100):
        session.add_event(Severity.INFO, "supervisor", f"event {number}")
    events, offset = session.read_events()
    assert [event.text for event in events[:-1]] == [f"event {number}" for number in range(len(events) - 1)]
    assert 5 < len(events) < 100
    assert events[-1].severity is Severity.WARNING
    assert events[-1].text.startswith("events end here: events.jsonl has reached")
    Session(tmp_path).add_event(Severity.INFO, "monitor", "too late")
    assert session.read_events(offset) == ([], offset)
