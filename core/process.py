"""The body of every process of a swarm: `python -m core.process NAME SESSION [MEGABYTES]`.

A supervised process ends when its standard input closes, so nothing outlives the supervisor however that ended.
"""

from __future__ import annotations

import asyncio
import functools
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from core.garbage_collection import tune_garbage_collection
from core.session import Session
from core.supervisor import stop_when_closed

Ready = Callable[[], None]


def run_process(
    name: str, session: Session, *, owned: bool, listen: str | None = None, recording_mb_max: int | None = None
) -> None:
    """Run `venue`, `gateway`, `recorder` or `node-K` until SIGTERM (or SIGINT, or, when owned, until standard input
    closes).

    `listen` is what the user asked for; see `core.transport.listen_address`, which raises SessionError. A recorder
    keeps to `recording_mb_max` where it is given, else to the session's.
    """
    uvloop.run(_run(name, session, owned, listen, recording_mb_max))


async def _run(name: str, session: Session, owned: bool, listen: str | None, recording_mb_max: int | None) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    if owned:
        stop_when_closed(loop, stopping.set)
    await _body(name, listen, owned, recording_mb_max)(session, stopping, _ready)


def _ready() -> None:
    tune_garbage_collection()
    print("ready", flush=True)


def _body(
    name: str, listen: str | None, owned: bool, recording_mb_max: int | None
) -> Callable[[Session, asyncio.Event, Ready], Awaitable[None]]:
    if name == "venue":
        from core.venue_process import run_venue_process

        return run_venue_process
    if name == "gateway":
        from core.gateway.process import run_gateway_process

        return functools.partial(run_gateway_process, listen=listen)
    if name == "recorder":
        from core.recorder import run_recorder_process

        return functools.partial(run_recorder_process, mb_max=recording_mb_max)
    from core.node import run_node_process

    node = int(name.removeprefix("node-"))

    async def run(session: Session, stopping: asyncio.Event, ready: Ready) -> None:
        await run_node_process(node, session, stopping, ready, listen, compiles=not owned)

    return run


if __name__ == "__main__":
    run_process(
        sys.argv[1],
        Session(Path(sys.argv[2])),
        owned=True,
        recording_mb_max=int(sys.argv[3]) if len(sys.argv) > 3 else None,
    )
