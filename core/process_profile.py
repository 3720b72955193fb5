"""Sampling a node's own event loop with pyinstrument, on request of a monitor.

pyinstrument slows the loop 2-5 times while it samples, so the node leaves the cycles that ran meanwhile, and while the
profile was rendered, out of every statistic.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from pyinstrument import Profiler
from pyinstrument.renderers import ConsoleRenderer, HTMLRenderer, SpeedscopeRenderer
from pyinstrument.session import Session as ProfileSession

from core.folded_stacks import fold

INTERVAL_S = 0.001
SECONDS_MAX = 60.0


async def profile_loop(seconds: float, description: str) -> ProfileSession:
    """Sample the thread of the running event loop for `seconds`.

    Starts and stops on that very thread, as pyinstrument asks. Raises ValueError for a duration out of bounds.
    """
    if not 0 < seconds <= SECONDS_MAX:
        raise ValueError(f"profile for {seconds} s: want more than 0 and at most {SECONDS_MAX:g}")
    profiler = Profiler(interval=INTERVAL_S, async_mode="disabled")
    profiler.start(target_description=description)
    try:
        await asyncio.sleep(seconds)
    finally:
        session = profiler.stop()
    return session


def render(session: ProfileSession) -> dict[str, bytes]:
    """HTML, speedscope, text, folded stacks and session files by name. Takes seconds: call it off the event loop."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "profile.pyisession"
        session.save(str(path))
        saved = path.read_bytes()
    # Without this option speedscope would lose every frame under 0.2 % of the time.
    speedscope = SpeedscopeRenderer(processor_options={"filter_threshold": 0})
    return {
        "profile.html": HTMLRenderer().render(session).encode(),
        "profile.speedscope.json": speedscope.render(session).encode(),
        "profile.txt": ConsoleRenderer(unicode=True, color=False).render(session).encode(),
        "profile.pyisession": saved,
        "profile.folded": fold(session.frame_records),
    }
