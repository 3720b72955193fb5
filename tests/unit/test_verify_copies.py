"""What is compared of a running session was copied in an order in which every witness knows what it must."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from core import verify
from core.gateway.journal import JOURNAL_NAME
from core.session import Session
from core.venue.process import journal_path


def test_reports_that_came_while_the_logs_were_copied_are_among_those_that_the_logs_are_held_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(tmp_path / "session")
    for path in (journal_path(session.directory / "venue"), session.directory / "node-0" / "log"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    journal = session.directory / "gateway" / JOURNAL_NAME
    journal.parent.mkdir()
    with closing(sqlite3.connect(journal)) as db:
        db.execute("CREATE TABLE reports (sequence INTEGER)")
    copy = verify.shutil.copy

    def trading_goes_on(source: Path, to: Path) -> None:
        with closing(sqlite3.connect(journal)) as live:
            live.execute("INSERT INTO reports VALUES (1)")
            live.commit()
        copy(source, to)

    monkeypatch.setattr(verify.shutil, "copy", trading_goes_on)
    copies = tmp_path / "copies"
    copies.mkdir()
    verify._copy(session, copies)
    counts = []
    for folder in ("gateway", verify.REPORTS):
        with closing(sqlite3.connect(copies / folder / JOURNAL_NAME)) as db:
            counts.append(db.execute("SELECT COUNT(*) FROM reports").fetchone()[0])
    assert counts == [1, 2]
