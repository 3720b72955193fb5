"""`tradetui` and `tradetui attach`: whose swarm the monitor shows, and what becomes of it when the monitor is left."""

from __future__ import annotations

import argparse
import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from core.live import confirm_live
from tui.settings_flags import SETTINGS_FLAGS, settings_of

if TYPE_CHECKING:
    from core.session import Session
    from core.swarm_place import RemotePlace


def attach_elsewhere(place: RemotePlace, read_only: bool, console: Console) -> int:
    """The monitor on a swarm whose session directory is on another machine, or another user's."""
    import uvloop

    console.print(f"attaching to {place.name}", style="dim")
    uvloop.run(_show(place, owns_swarm=False, read_only=read_only))
    console.print(f"trading goes on at {place.name}")
    return 0


def open_monitor(arguments: argparse.Namespace, console: Console) -> int:
    """The monitor of the swarm that runs, or of one that is started for it; returns the exit code."""
    import uvloop

    from core.attach import stop_session
    from core.commands.start import check_data, start_swarm
    from core.session import create_session, find_session, running_sessions, sessions_root
    from tui.tour import is_first_start

    attaching = arguments.command == "attach" or (
        arguments.session is not None and (arguments.session / "session.toml").exists()
    )
    read_only = getattr(arguments, "read_only", False)
    notice = ""
    if attaching or (arguments.session is None and running_sessions()):
        session = find_session(arguments.session)
        if read_only:  # whoever only looks on, from a served page too, does not start trading
            session.must_run()
        started = session.running() is None
        if started:
            check_data(session.settings())
            confirm_live(session.settings(), arguments.live)
            start_swarm(session.settings(), owned=False, session=session, live=arguments.live)
        console.print(f"attaching to {session.directory.name}", style="dim")
        notice = _unused_settings(arguments, session)
    else:
        settings = settings_of(arguments)
        check_data(settings)
        confirm_live(settings, arguments.live)
        session = create_session(settings, arguments.session)
        start_swarm(settings, owned=False, session=session, live=arguments.live)
        started = True
    if notice:
        console.print(notice, style="yellow", markup=False, highlight=False)
    first = not attaching and is_first_start(sessions_root().parent / "tour-seen")
    config = arguments.config if not attaching else None
    shown = _show(session, owns_swarm=started, read_only=read_only, config=config, tour=first, notice=notice)
    stop = uvloop.run(shown)
    if stop and not read_only:
        console.print("stopping the swarm", style="dim")
        asyncio.run(stop_session(session))
        return 0
    console.print(f"trading goes on in {session.directory.name}; `tradetui` shows it again, `tradetui stop` ends it")
    return 0


def _unused_settings(arguments: argparse.Namespace, session: Session) -> str:
    """What to say of settings that were given for a swarm that has its own; empty where none were."""
    given = [name for name in ("config", *SETTINGS_FLAGS) if getattr(arguments, name, None) is not None]
    if not given:
        return ""
    flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
    return (
        f"not applied: {flags}; {session.directory.name} has its own settings. `tradetui --session DIR` with a new DIR "
        "starts another swarm"
    )


async def _show(
    session: Session | RemotePlace,
    *,
    owns_swarm: bool,
    read_only: bool,
    config: Path | None = None,
    tour: bool = False,
    notice: str = "",
) -> bool:
    """Run the monitor; True when the swarm is to be stopped. `notice` stands in its event log."""
    from core.attach import SwarmClient
    from core.garbage_collection import SCREENS, tune_garbage_collection
    from core.records import Severity
    from core.scheduling import give_way
    from tui.app import MonitorApp

    give_way()
    client = SwarmClient(session, owns_swarm=owns_swarm, read_only=read_only)
    await client.connect()
    if notice:
        client.add_event(Severity.WARNING, notice)
    app = MonitorApp(client, config_file=config or Path("tradetui.toml"), tour=tour)
    tune_garbage_collection(SCREENS)
    loop = asyncio.get_running_loop()
    claiming = None if client.read_only else asyncio.create_task(client.take_control_if_free())
    for number in (signal.SIGHUP, signal.SIGTERM):
        # The terminal is gone, or we are asked to go: leave, trading goes on.
        loop.add_signal_handler(number, app.exit, False)
    try:
        return bool(await app.run_async())
    finally:
        if claiming is not None:
            claiming.cancel()
        console = Console(stderr=True)
        if app.unsettled:
            console.print("waiting until the toggles are back", style="dim")
        for sentence in await app.settle():
            console.print(f"tradetui: {sentence}", style="bold red", markup=False, highlight=False)
        await client.close()
