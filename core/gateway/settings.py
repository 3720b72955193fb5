"""Settings of the gateway."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """All times in milliseconds."""

    directory: Path
    """Holds the order journal; made when missing."""
    synchronous: Literal["FULL", "NORMAL"] = "FULL"
    """FULL: journalled orders and reports survive a power cut. NORMAL: they survive the death of the process."""
    in_flight_max: int = 8
    """Orders that wait for the venue's answer at once, at most, whatever a caller asks."""
    queued_max: int = 10_000
    """Orders released and not yet sent."""
    prepared_max: int = 1_000
    """Orders that one node has prepared, and that nobody released yet; older ones are dropped."""
    answer_timeout_ms: float = 5_000.0
    """An order without an answer after this time is unknown, and asked after. Keep it above the venue's latency."""
    recv_window_ms: int = 2_000
    """The venue refuses a request older than this; so long may an order that is not there still arrive."""
    heartbeat_ms: float = 1_000.0
    """A silent connection is pinged after this time, and given up after three times it."""
    reconcile_interval_s: float = 30.0
    """Journal and venue are compared each so many seconds, beside every connect and change of leader; 0: only then."""
    backoff_min_ms: float = 25.0
    backoff_max_ms: float = 1_000.0
    """Time between attempts to connect; doubles from the one to the other."""

    def __post_init__(self) -> None:
        """Raises ValueError that names the bad setting."""
        if self.synchronous not in ("FULL", "NORMAL"):
            raise ValueError(f"gateway: synchronous = {self.synchronous!r}; want FULL or NORMAL")
        for name in ("in_flight_max", "queued_max", "prepared_max", "answer_timeout_ms", "heartbeat_ms"):
            if not getattr(self, name) > 0:
                raise ValueError(f"gateway: {name} = {getattr(self, name)}; want a positive number")
        if not 0 < self.recv_window_ms <= 60_000:
            raise ValueError(f"gateway: recv_window_ms = {self.recv_window_ms}; want 1 to 60,000")
        if not self.reconcile_interval_s >= 0:
            raise ValueError(f"gateway: reconcile_interval_s = {self.reconcile_interval_s}; want 0 or more")
        if not 0 < self.backoff_min_ms <= self.backoff_max_ms:
            raise ValueError(f"gateway: backoff {self.backoff_min_ms} to {self.backoff_max_ms} ms; want 0 < min <= max")
