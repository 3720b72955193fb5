"""Who only looks on gives way: waking, it interrupts nobody."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from core.scheduling import give_way

pytestmark = pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="this system has no batch scheduling")

PROGRAM = """
import os, threading
from core.scheduling import give_way

def policy_of_thread():
    print(os.sched_getscheduler(threading.get_native_id()))

give_way()
print(os.sched_getscheduler(0))
thread = threading.Thread(target=policy_of_thread)
thread.start()
thread.join()
"""


def test_a_process_that_gives_way_is_batch_work_with_all_its_threads():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == [str(os.SCHED_BATCH)] * 2


def test_where_it_is_forbidden_the_process_goes_on(monkeypatch):
    asked = []

    def forbidden(pid: int, policy: int, param: object) -> None:
        asked.append((pid, policy))
        raise PermissionError("not in this sandbox")

    monkeypatch.setattr(os, "sched_setscheduler", forbidden)
    give_way()
    assert asked == [(0, os.SCHED_BATCH)]
