"""`tradetui serve`: the monitor in a browser, by textual-serve; each page is a monitor of its own."""

from __future__ import annotations

import shlex
import sys

from rich.console import Console
from textual_serve.server import Server

from core.session import Session


def serve(session: Session, host: str, port: int, *, control: bool, console: Console) -> None:
    """Serve until Ctrl-C. Nobody is asked who he is, so pages are read-only unless `control` is given."""
    command = [sys.executable, "-m", "tui.commands", "attach", "--session", str(session.directory)]
    if not control:
        command.append("--read-only")
    allowed = "whoever opens it controls the swarm" if control else "read-only"
    console.print(f"http://{host}:{port} shows {session.directory.name}, {allowed}; Ctrl-C ends it", highlight=False)
    Server(shlex.join(command), host=host, port=port, title="tradetui").serve()
