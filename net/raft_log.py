"""The Raft log of one epoch, in memory: entries, and the hash chain over them."""

from __future__ import annotations

from collections.abc import Sequence

from net.certificate import entry_digest
from net.messages import Entry


class RaftLog:
    """Entries `base_index + 1` to `last_index`. The base stands for the sealed prefix, with term 0."""

    __slots__ = ("_digests", "_entries", "base_digest", "base_index")

    def __init__(self, base_index: int, base_digest: bytes) -> None:
        self.base_index = base_index
        self.base_digest = base_digest
        self._entries: list[Entry] = []
        self._digests: list[bytes] = []

    @property
    def last_index(self) -> int:
        return self.base_index + len(self._entries)

    @property
    def last_term(self) -> int:
        return self._entries[-1].term if self._entries else 0

    def term_at(self, index: int) -> int | None:
        """The term of the entry at `index`, 0 at the base, None outside the log."""
        if index == self.base_index:
            return 0
        offset = index - self.base_index - 1
        return self._entries[offset].term if 0 <= offset < len(self._entries) else None

    def entry_at(self, index: int) -> Entry:
        return self._entries[self._offset(index)]

    def digest_at(self, index: int) -> bytes:
        """The hash chain of the log up to `index`."""
        return self.base_digest if index == self.base_index else self._digests[self._offset(index)]

    def slice(self, first_index: int, limit: int) -> tuple[Entry, ...]:
        """At most `limit` entries from `first_index` on."""
        offset = first_index - self.base_index - 1
        return tuple(self._entries[offset : offset + limit])

    def first_index_of_term(self, index: int) -> int:
        """The first index of the run of equal terms that `index` is in (§5.3, the faster back-up)."""
        term = self.term_at(index)
        while index - 1 > self.base_index and self.term_at(index - 1) == term:
            index -= 1
        return index

    def put(self, first_index: int, entries: Sequence[Entry]) -> None:
        """The log from `first_index` on is now `entries`; whatever was there is cut."""
        offset = first_index - self.base_index - 1
        if not 0 <= offset <= len(self._entries):
            raise IndexError(f"entries from {first_index} leave a gap after {self.last_index}")
        if offset < len(self._entries):
            del self._entries[offset:]
            del self._digests[offset:]
        digest = self._digests[-1] if self._digests else self.base_digest
        for entry in entries:
            digest = entry_digest(digest, entry)
            self._entries.append(entry)
            self._digests.append(digest)

    def _offset(self, index: int) -> int:
        offset = index - self.base_index - 1
        if not 0 <= offset < len(self._entries):
            raise IndexError(f"index {index} is outside {self.base_index + 1}..{self.last_index}")
        return offset
