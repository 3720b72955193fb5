"""Starting a swarm's supervisor as a process of its own."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

from core.config import Settings
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
