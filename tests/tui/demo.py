"""The monitor over the invented session, on a real terminal: `python -m tests.tui.demo [cycles/s] [report file]`.

For the pseudo-terminal tests and for measuring what the screen costs; prints the app's CPU share at the end.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

from core.records import SwarmSnapshot
from tests.tui.fixtures import FakeClient, FakeSession
from tui.app import MonitorApp

WARM_UP_S = 4.0


class MovingClient(FakeClient):
    """Advances its session in real time; counts the time that inventing data takes, which is no cost of the screen."""

    def __init__(self, cycles_per_s: float) -> None:
        super().__init__(FakeSession(seed=3))
        self.cycles_per_s = cycles_per_s
        self.start = time.time()
        self.made = 0
        self.cpu_s = 0.0
        self.mark = (time.perf_counter(), time.process_time(), 0.0)
        """Wall, CPU and invention time at the start of the measurement, after `WARM_UP_S`."""
        self.marked = False

    def snapshot(self) -> SwarmSnapshot:
        began = time.process_time()
        session = self.session
        assert session is not None
        due = int((time.time() - self.start) * self.cycles_per_s) - self.made
        for i in range(due):
            session.now_ns = int((self.start + (self.made + i) / self.cycles_per_s) * 1e9)
            session.advance(1)
        self.made += due
        snapshot = replace(session.snapshot(), taken_ns=time.time_ns())
        self.cpu_s += time.process_time() - began
        if not self.marked and time.time() - self.start > WARM_UP_S:
            self.mark = (time.perf_counter(), time.process_time(), self.cpu_s)
            self.marked = True
        return snapshot


def main() -> None:
    client = MovingClient(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0)
    stop = MonitorApp(client).run()
    wall, cpu = time.perf_counter() - client.mark[0], time.process_time() - client.mark[1]
    share = 100.0 * (cpu - client.cpu_s + client.mark[2]) / wall
    report = Path(sys.argv[2]) if len(sys.argv) > 2 else Path("/dev/stdout")
    report.write_text(f"stop={stop} cpu={share:.1f}% of a core over {wall:.1f} s, {client.made} cycles\n")


if __name__ == "__main__":
    main()
