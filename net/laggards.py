"""Peers that a checkpoint is on its way to, and what must be kept until they can follow the log.

Checkpoints may come faster than one travels. Were each replaced under way by the next, or the entries behind it cut
before its receiver asks for them, a node that lags would begin anew for ever. So the one that was begun is kept until
its receiver has come as far as the log is kept anyway, or falls silent.

Not for long, as it stands: one that was begun is forgotten at the first cut behind it. Kept longer, it brings its
receiver back to an older state, and then most of what that node waits for is decided twice.
"""

from __future__ import annotations

from dataclasses import dataclass

from net.snapshot_transfer import CertifiedCheckpoint


@dataclass(slots=True)
class _Laggard:
    checkpoint: CertifiedCheckpoint
    reached: int
    heard_at: float
    asked_at: float
    """When the last piece went to it: a lost one is offered again, however often the peer is heard otherwise."""


class Laggards:
    """At most `limit` transfers at a time; one is over when nothing was heard of its receiver for `silence_s`."""

    __slots__ = ("_laggards", "_limit", "_silence_s")

    def __init__(self, limit: int, silence_s: float) -> None:
        self._limit = limit
        self._silence_s = silence_s
        self._laggards: dict[int, _Laggard] = {}

    def __contains__(self, peer: int) -> bool:
        return peer in self._laggards

    def is_busy(self, peer: int, now: float) -> bool:
        """Whether `peer` was sent a piece so lately that an offer would only double each one on its way."""
        laggard = self._laggards.get(peer)
        return laggard is not None and now < laggard.asked_at + self._silence_s / 2

    def checkpoint_for(
        self, peer: int, stable: CertifiedCheckpoint, first_index: int, now: float
    ) -> CertifiedCheckpoint:
        """What to send to `peer`: what was begun, where the log still holds all behind it, else `stable`."""
        laggard = self._laggards.get(peer)
        if laggard is not None and laggard.checkpoint.index + 1 >= first_index:
            laggard.heard_at = laggard.asked_at = now
            return laggard.checkpoint
        self._forget_silent(now)
        if len(self._laggards) < self._limit or peer in self._laggards:
            self._laggards[peer] = _Laggard(stable, stable.index, now, now)
        return stable

    def has_reached(self, peer: int, index: int, now: float) -> None:
        """`peer` holds everything up to `index`."""
        laggard = self._laggards.get(peer)
        if laggard is not None:
            laggard.heard_at = now
            laggard.reached = max(laggard.reached, index)

    def kept_from(self, index: int, now: float) -> int:
        """Where the log may be cut that would otherwise be cut up to `index`; who has come that far is forgotten."""
        self._forget_silent(now)
        self._laggards = {peer: each for peer, each in self._laggards.items() if each.reached < index}
        return min((each.reached for each in self._laggards.values()), default=index)

    def _forget_silent(self, now: float) -> None:
        self._laggards = {peer: each for peer, each in self._laggards.items() if now < each.heard_at + self._silence_s}
