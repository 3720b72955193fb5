"""Whom a node that lags asks for decided entries: one question at a time, in turn among those that say they are ahead.

That somebody is ahead is a mere word. Were whoever speaks first asked each time, a liar that speaks often would be
asked always, and bring nothing. So an answer that brings a full helping is followed up at once, and after any other
the next question goes to the one whose last is the longest ago. Who was asked must speak again before it is its turn
again, so that one that is gone costs one interval.
"""

from __future__ import annotations

from collections.abc import Iterable

from net.history import ENTRY_BYTES
from net.messages import CommittedEntries

FETCH_BYTES = 1 << 20
"""Payload bytes of one answer, about."""


class Fetches:
    """At most one question in `interval_s`, but for those that follow up a good answer."""

    __slots__ = ("_ahead", "_asked", "_asked_at", "_interval_s", "_questions")

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._ahead: set[int] = set()
        self._asked: dict[int, int] = {}
        self._asked_at = float("-inf")
        self._questions = 0

    def says_it_is_ahead(self, peer: int, members: Iterable[int], now: float) -> int | None:
        """`peer` says so; whom to ask now, of it and those of `members` that said so before: None is nobody yet."""
        self._ahead.add(peer)
        if now < self._asked_at + self._interval_s:
            return None
        self._ahead.intersection_update((peer, *members))
        turn = min(self._ahead, key=lambda each: (self._asked.get(each, 0), each))
        self.ask(turn, now)
        return turn

    def ask(self, peer: int, now: float) -> None:
        """`peer` is asked now."""
        self._ahead.discard(peer)
        self._questions += 1
        self._asked[peer] = self._questions
        self._asked_at = now


def is_full(answer: CommittedEntries, limit: int) -> bool:
    """Whether `answer` brought as much as it could: that of an honest peer with the same bounds does (`History.slice`).

    Entries given one by one would keep a node with a liar, however short its steps are.
    """
    if not answer.entries:
        return False
    size = sum(len(each.entry.payload) + ENTRY_BYTES for each in answer.entries)
    return len(answer.entries) >= limit or size >= FETCH_BYTES or answer.entries[-1].entry.index >= answer.commit_index
