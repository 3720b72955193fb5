"""Starting a swarm: its data are checked, then its supervisor runs as a process of its own."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from core.config import ConfigError, Settings
from core.live import give_leave
from core.session import Session, create_session


@dataclass(frozen=True, slots=True)
class StartedSwarm:
    """A session whose supervisor was just started. `owner_pipe` keeps an owned one alive; closing it stops it."""

    session: Session
    supervisor: subprocess.Popen[bytes]


def start_swarm(settings: Settings, *, owned: bool, session: Session | None = None, live: bool = False) -> StartedSwarm:
    """Create a session (unless one is given) and start its supervisor.

    `live`: a person has confirmed that orders go beyond this machine (`core.live.confirm_live`); without it a swarm
    whose venue is elsewhere is refused with SessionError.

    An owned swarm ends with this process, whatever ends it; one that is not owned goes on until `tradetui stop`.
    The supervisor has a process group of its own, so that Ctrl-C reaches only the command that asked for it.
    """
    if session is None:
        session = create_session(settings)
    give_leave(session, settings, live)
    command = [sys.executable, "-m", "core.supervisor", str(session.directory), *(["--owned"] if owned else [])]
    with (session.folder("log") / "supervisor.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if owned else subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    return StartedSwarm(session, process)


def check_data(settings: Settings) -> None:
    """Refuse bad data before anything starts: raises ConfigError."""
    from core.market.errors import MarketDataError
    from core.market.load import load_market
    from core.patterns import check_window, hindsight, mined_library

    try:
        data = load_market(settings.data)
        check_window(settings, data)
    except (MarketDataError, OSError, ValueError) as error:
        raise ConfigError(f"--data {settings.data}: {error}") from error
    if settings.patterns:
        try:
            hindsight(mined_library(Path(settings.patterns), settings.window_steps), data)
        except ValueError as error:
            raise ConfigError(f"--patterns: {error}") from error
