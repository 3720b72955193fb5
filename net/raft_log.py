"""The Raft log of one epoch, in memory: entries above a base, and the hash chain over them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from operator import attrgetter

from net.certificate import entry_digest
from net.messages import Entry

_ENTRY_BYTES = 64
_TERM = attrgetter("term")


class RaftLog:
    """Entries `base_index + 1` to `last_index`.

    The base stands for all before: the sealed prefix of older epochs (term 0), or a checkpoint (§7: the log keeps the
    index and term of the last entry that the snapshot covers), with its term and the hash chain up to it.
    """

    __slots__ = ("_digests", "_entries", "base_digest", "base_index", "base_term")

    def __init__(self, base_index: int, base_digest: bytes, base_term: int = 0) -> None:
        self.base_index = base_index
        self.base_digest = base_digest
        self.base_term = base_term
        self._entries: list[Entry] = []
        self._digests: list[bytes] = []

    @property
    def last_index(self) -> int:
        return self.base_index + len(self._entries)

    @property
    def last_term(self) -> int:
        return self._entries[-1].term if self._entries else self.base_term

    def term_at(self, index: int) -> int | None:
        """The term of the entry at `index`, also at the base; None outside the log."""
        if index == self.base_index:
            return self.base_term
        offset = index - self.base_index - 1
        return self._entries[offset].term if 0 <= offset < len(self._entries) else None

    def entry_at(self, index: int) -> Entry:
        """Raises `IndexError` outside `base_index + 1` to `last_index`."""
        return self._entries[self._offset(index)]

    def digest_at(self, index: int) -> bytes:
        """The hash chain of the log up to `index`, also at the base; raises `IndexError` outside."""
        return self.base_digest if index == self.base_index else self._digests[self._offset(index)]

    def slice(self, first_index: int, limit: int, limit_bytes: int | None = None) -> tuple[Entry, ...]:
        """At most `limit` entries from `first_index` on, and about `limit_bytes` of them, but one at the least.

        () where the log does not hold `first_index`.
        """
        offset = first_index - self.base_index - 1
        if not 0 <= offset < len(self._entries):
            return ()
        found = self._entries[offset : offset + limit]
        if limit_bytes is not None:
            size = 0
            for count, entry in enumerate(found):
                size += len(entry.payload) + _ENTRY_BYTES
                if size > limit_bytes and count:
                    return tuple(found[:count])
        return tuple(found)

    def first_index_of_term(self, index: int) -> int:
        """The first index of the run of equal terms that `index` is in (§5.3, the faster back-up).

        Terms never fall along a log, so it is found by bisection: a run may be as long as the log.
        """
        offset = self._offset(index)
        return self.base_index + 1 + bisect_left(self._entries, self._entries[offset].term, 0, offset, key=_TERM)

    def put(self, first_index: int, entries: Sequence[Entry]) -> None:
        """The log from `first_index` on is now `entries`; whatever was there is cut.

        Raises `IndexError` where that would leave a gap or reach below the base.
        """
        offset = first_index - self.base_index - 1
        if not 0 <= offset <= len(self._entries):
            raise IndexError(f"entries from {first_index} do not fit a log of {self.base_index + 1}..{self.last_index}")
        if offset < len(self._entries):
            del self._entries[offset:]
            del self._digests[offset:]
        digest = self._digests[-1] if self._digests else self.base_digest
        for entry in entries:
            digest = entry_digest(digest, entry)
            self._entries.append(entry)
            self._digests.append(digest)

    def compact(self, index: int) -> None:
        """Drop everything up to `index`, which becomes the base; raises `IndexError` where the log does not hold it."""
        if index == self.base_index:
            return
        offset = self._offset(index)
        self.base_term, self.base_digest = self._entries[offset].term, self._digests[offset]
        self.base_index = index
        del self._entries[: offset + 1]
        del self._digests[: offset + 1]

    def restart(self, index: int, term: int, digest: bytes) -> None:
        """The base becomes a checkpoint of a peer at `index`; entries that follow it are kept where they fit (§7)."""
        held = self.base_index < index <= self.last_index
        if held and self.term_at(index) == term and self.digest_at(index) == digest:
            self.compact(index)
            return
        self.base_index, self.base_term, self.base_digest = index, term, digest
        self._entries.clear()
        self._digests.clear()

    def _offset(self, index: int) -> int:
        offset = index - self.base_index - 1
        if not 0 <= offset < len(self._entries):
            raise IndexError(f"index {index} is outside {self.base_index + 1}..{self.last_index}")
        return offset
