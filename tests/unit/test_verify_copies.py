"""What is compared of a running session was copied in an order in which every witness knows what it must; what cannot
be read is named, and is no finding."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from core import verify
from core.config import load_settings
from core.gateway.connector import Balances
from core.gateway.journal import JOURNAL_NAME, OrderJournal
from core.session import Session, SessionError, create_session
from core.venue.journal import VenueJournal
from core.venue.process import journal_path
from net.log import DurableLog


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


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Exit code 1 says that there are findings: a traceback has it too."""
    data = tmp_path / "mine.csv"
    data.write_text("date,instrument,close\n")
    session = create_session(load_settings(data=str(data)), tmp_path / "session")
    venue, journal = journal_path(session.folder("venue")), session.folder("gateway") / JOURNAL_NAME
    VenueJournal(venue).close()
    OrderJournal(journal.parent).close()
    DurableLog(session.folder("node-0") / "log", "none").close()
    with pytest.raises(SessionError, match=r"session cannot be verified: .*mine\.csv"):
        verify.verify(session)
    session.settings_file.write_text("")
    assert verify.verify(session).is_clean
    with closing(OrderJournal(journal.parent)) as orders:
        orders.write(baseline=Balances(1, (0,) * 20))
    (finding,) = verify.verify(session).findings
    assert str(finding) == "cash: the venue's account: its journal does not open it"
    for path in (venue, journal):
        sound = path.read_bytes()
        path.write_bytes(b"no journal at all" * 100)
        with pytest.raises(SessionError) as caught:
            verify.verify(session)
        said = str(caught.value)
        assert said.startswith("session cannot be verified: ")
        assert f"{path.parent.name}/{path.name}" in said
        assert "tradetui-verify-" not in said, "the copy is gone by then"
        path.write_bytes(sound)
    venue.unlink()
    with pytest.raises(SessionError, match=f"^session has no venue/{venue.name}; nothing was traded$"):
        verify.verify(session)
