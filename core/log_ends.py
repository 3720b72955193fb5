"""Where the logs of a swarm ended, tenth of a second by tenth: two nodes can only be compared as of one moment.

The leader is heard more often than the others. Its log of now beside theirs of then would show a lag that is none.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from core.records import LogEnd, NodeStatus
from core.telemetry_messages import NodeReport

PUSHES_KEPT = 20
"""Of each node: a node that was silent for longer than these take is unreachable."""


class LogEnds:
    """Remembers what nodes told of their logs, and when."""

    def __init__(self) -> None:
        self._told: dict[int, deque[tuple[int, LogEnd]]] = {}

    def hear(self, report: NodeReport) -> None:
        replica = report.status.replica
        if replica is not None:
            end = LogEnd(replica.commit_index, replica.last_index)
            self._told.setdefault(report.status.node, deque(maxlen=PUSHES_KEPT)).append((report.told_ns, end))

    def beside_leader(self, report: NodeReport, leader: int | None) -> NodeStatus:
        """The status told, with the log that the leader told of at the time nearest to it."""
        told = self._told.get(leader, ()) if leader is not None else ()
        nearest = min(told, key=lambda each: abs(each[0] - report.told_ns), default=None)
        return replace(report.status, leader_log=nearest[1] if nearest is not None else None)
