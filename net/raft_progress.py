"""What a Raft leader knows of its followers: how far each is, and when it last proved to follow."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

_ROUNDS_DATED = 4096


@dataclass(slots=True)
class Progress:
    """One follower. `voter` is False for a learner, which counts in no quorum whatever it answers."""

    follower: int
    voter: bool
    next_index: int
    match_index: int
    heard_at: float
    """When the last reply that counts came: a leader that a majority does not answer steps down."""
    sent_at: float
    counted_index: int
    """`match_index`, but only by replies that count in a quorum."""
    sent_commit: int
    acked_round: int = 0
    """The latest round that a counting reply repeated ..."""
    acked_at: float = float("-inf")
    """... and when that round was sent."""
    probe: int | None = None
    """Where the log is being probed from, one message at a time; None once it is known to match."""
    probe_round: int = 0
    """Refusals of rounds before this one answer what was sent before the last back-up."""
    assumed_index: int = 0
    """What it is taken to hold until it tells: the window counts from here or from `match_index`."""
    needs_snapshot: bool = False
    """It lacks entries that this log no longer holds."""

    def acknowledge(self, round_: int, sent_at: float | None, now: float) -> None:
        """A counting reply to `round_` came at `now`."""
        self.heard_at = now
        if sent_at is not None and round_ > self.acked_round:
            self.acked_round, self.acked_at = round_, sent_at

    def back_up(self, index: int, round_: int) -> None:
        """Probe from `index` on; what was sent before `round_` no longer matters."""
        self.probe = self.next_index = index
        self.assumed_index = index - 1
        self.probe_round = round_


class Rounds:
    """Numbers the leader's rounds of messages and keeps their dates, so that a reply tells which date it confirms."""

    __slots__ = ("_dates", "last")

    def __init__(self) -> None:
        self.last = 0
        self._dates: deque[float] = deque(maxlen=_ROUNDS_DATED)

    def begin(self, now: float) -> int:
        """A new round: its replies prove what was so at `now` or later."""
        self.last += 1
        self._dates.append(now)
        return self.last

    def at(self, now: float) -> int:
        """The current round where it began at this very `now`, else a new one."""
        return self.last if self._dates and self._dates[-1] == now else self.begin(now)

    def sent_at(self, round_: int) -> float | None:
        """When `round_` began; None where it never did, or too long ago."""
        offset = round_ - self.last - 1
        return self._dates[offset] if -len(self._dates) <= offset < 0 else None


def quorum_value(values: Iterable[float], quorum: int) -> float:
    """The highest value that `quorum` nodes reach, the leader (not among `values`) being one that reaches any."""
    others = sorted(values, reverse=True)
    return float("inf") if quorum < 2 else others[quorum - 2]
