"""A session that passes for running, without a process."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest

from core.session import Session, SwarmState


def session_that_runs(directory: Path, monkeypatch: pytest.MonkeyPatch, looks: int | None = None) -> Session:
    """Until it has been looked at `looks` times; None: for ever."""
    directory.mkdir(exist_ok=True)
    session, looked = Session(directory), count(1)
    session.write_swarm(SwarmState(1, 0, "running", True))
    monkeypatch.setattr("core.session.is_alive", lambda *_: looks is None or next(looked) <= looks)
    return session
