"""What this node submitted and has not seen committed yet, in order."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from net.messages import EntryKind

Content = tuple[EntryKind, bytes]


class TooManySubmissions(RuntimeError):
    """The bound on submitted, uncommitted payloads is reached: wait for commits, then submit again."""


class Submissions:
    """An ordered, bounded multiset of contents.

    They are handed to a leader once; when the leader, its term or the epoch changes, all that is still here is handed
    over again. So a submission is ordered at least once; where a leader died between append and commit it may be
    ordered twice, and the state machine above must know its own decisions again.

    A node that goes on from a checkpoint cannot know what of its own was decided behind the checkpoint. All of it at
    once might drive the log so far ahead that the node falls behind it and must go on from a checkpoint again, without
    end. So it begins slowly: the oldest alone, and twice as many whenever those are seen to be decided.
    """

    __slots__ = ("_count", "_counts", "_limit", "_slow", "_under_way", "handed_to", "owes_more")

    def __init__(self, limit: int) -> None:
        self._counts: OrderedDict[Content, int] = OrderedDict()
        self._count = 0
        self._limit = limit
        self.handed_to: tuple[int, int, int] | None = None
        """Epoch, term and leader that everything here was handed to; None: hand all of it over again."""
        self.owes_more = False
        """Whether those that were under way are decided, and the next may be handed over."""
        self._slow: int | None = None
        self._under_way = 0

    def __len__(self) -> int:
        return self._count

    def add(self, contents: Iterable[Content]) -> None:
        """Append `contents`, all or none; raises `TooManySubmissions`."""
        fresh = list(contents)
        if self._count + len(fresh) > self._limit:
            raise TooManySubmissions(
                f"{self._count} payloads wait to be committed, the limit is {self._limit}; submit more later"
            )
        for content in fresh:
            self._counts[content] = self._counts.get(content, 0) + 1
        self._count += len(fresh)

    @property
    def oldest(self) -> Content | None:
        """What has waited longest: decided first, unless it was lost on its way."""
        return next(iter(self._counts), None)

    def settle(self, content: Content) -> bool:
        """Strike a committed content off; whether it was one of ours."""
        count = self._counts.get(content)
        if count is None:
            return False
        if count == 1:
            del self._counts[content]
        else:
            self._counts[content] = count - 1
        self._count -= 1
        if self._slow is not None:
            self._under_way -= 1
            if self._under_way == 0:
                self._slow *= 2
                self.owes_more = True
        if not self._count:
            self._slow = None
        return True

    def begin_slowly(self) -> None:
        """What became of everything here is not known: hand it over again, a little at a time."""
        self._slow = 1 if self._count else None
        self.handed_to = None

    @property
    def is_slow(self) -> bool:
        """Whether what is added now waits for what was there before."""
        return self._slow is not None

    def next(self) -> list[Content]:
        """What should be under way from now on: everything, or while it is slow the oldest few."""
        waiting = self.all()
        self.owes_more = False
        if self._slow is not None and self._slow >= len(waiting):
            self._slow = None
        self._under_way = len(waiting) if self._slow is None else self._slow
        return waiting[: self._under_way]

    def all(self) -> list[Content]:
        """Everything that waits, in the order of submission."""
        return [content for content, count in self._counts.items() for _ in range(count)]
