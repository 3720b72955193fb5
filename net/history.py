"""The decided prefix of the log, as far back as peers that lag may still ask for it."""

from __future__ import annotations

from net.messages import Committed

ENTRY_BYTES = 512
"""What an entry counts beside its payload where the size of an answer is bounded."""


class History:
    """Committed raw entries, contiguous up to `last_index`, at most `limit` of them.

    `digest` is the hash chain of everything decided so far, also of what is no longer kept.
    """

    __slots__ = ("_entries", "_limit", "digest", "first_index", "last_index", "last_term")

    def __init__(self, base_digest: bytes, limit: int) -> None:
        self.first_index = 1
        self.last_index = 0
        self.last_term = 0
        self.digest = base_digest
        self._entries: list[Committed] = []
        self._limit = limit

    def append(self, committed: Committed) -> None:
        """Add the next decided entry; raises `ValueError` when it does not follow on the chain."""
        certificate = committed.certificate
        if committed.entry.index != self.last_index + 1 or certificate.parent != self.digest:
            raise ValueError(
                f"decided entry {committed.entry.index} does not follow entry {self.last_index} of this node's log"
            )
        self._entries.append(committed)
        self.last_index += 1
        self.last_term = committed.entry.term
        self.digest = certificate.digest
        # Cut in steps, so that the list is moved once per many entries.
        if len(self._entries) >= self._limit + self._limit // 4 + 1:
            surplus = len(self._entries) - self._limit
            del self._entries[:surplus]
            self.first_index += surplus

    def trim(self, index: int) -> None:
        """Keep no entry up to `index`: a checkpoint stands for them. No effect past the last entry."""
        surplus = min(index, self.last_index) - self.first_index + 1
        if surplus > 0:
            del self._entries[:surplus]
            self.first_index += surplus

    def restart(self, index: int, term: int, digest: bytes) -> None:
        """The log goes on behind a checkpoint at `index`, whose last entry was of `term`."""
        self._entries.clear()
        self.first_index = index + 1
        self.last_index, self.last_term, self.digest = index, term, digest

    def between(self, first_index: int, last_index: int) -> tuple[Committed, ...]:
        """The entries from `first_index` to `last_index` that are kept."""
        start = max(0, first_index - self.first_index)
        return tuple(self._entries[start : max(0, last_index - self.first_index + 1)])

    def slice(self, first_index: int, limit: int, limit_bytes: int) -> tuple[Committed, ...]:
        """Entries from `first_index` on: at most `limit`, and about `limit_bytes` of payload; () when not kept."""
        if not self.first_index <= first_index <= self.last_index:
            return ()
        found: list[Committed] = []
        size = 0
        offset = first_index - self.first_index
        for committed in self._entries[offset : offset + limit]:
            found.append(committed)
            size += len(committed.entry.payload) + ENTRY_BYTES
            if size >= limit_bytes:
                break
        return tuple(found)
