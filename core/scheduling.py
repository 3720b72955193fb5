"""Who gives way to whom on a processor, as far as a process may say so of itself."""

from __future__ import annotations

import os


def give_way() -> None:
    """Call in a process that only looks on, before its threads start: from now on its waking interrupts nobody.

    It waits for an idle core or the scheduler's next tick (some milliseconds) and has the same share of a core as
    before (Linux, sched(7): SCHED_BATCH, which needs no privilege). Its threads and child processes are the same. Where
    the system knows no such thing, nothing changes.
    """
    if not hasattr(os, "SCHED_BATCH"):
        return
    try:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    except PermissionError:
        return  # a sandbox that forbids the call: the monitor works as well, and interrupts
