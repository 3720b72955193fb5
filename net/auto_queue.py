"""AUTO: what the Raft leader holds until a Byzantine witness lets it pass, and which witnesses were used."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable

from net.certificate import CertificateError, Verifier, verify_witness
from net.durable import encode_witness
from net.messages import Certificate, Committed, Entry, EntryKind
from net.settings import ConsensusSettings
from net.submissions import Content

_WITNESSES_KEPT = 8192


class AutoQueue:
    """The order of one leader's contents in an AUTO epoch, and the epoch's witnesses."""

    def __init__(
        self,
        context: bytes,
        verifier: Verifier,
        settings: ConsensusSettings,
        may_pass: Callable[[EntryKind, bytes], bool] = lambda kind, payload: True,
    ) -> None:
        """`may_pass`: whether a content needs no witness, or is one that replicas give a witness to."""
        self._context = context
        self._may_pass = may_pass
        self._verifier = verifier
        self._limit = settings.pending_limit * 2
        self._queue: deque[Content] = deque()
        self._requested: dict[Content, int] = {}
        self._witnesses: OrderedDict[int, tuple[Content, Certificate]] = OrderedDict()
        self._by_content: dict[Content, list[int]] = {}
        self._used: set[int] = set()
        self._used_floor = 0

    def __len__(self) -> int:
        return len(self._queue)

    def contents(self) -> set[Content]:
        """What waits here."""
        return set(self._queue)

    def add(self, contents: Iterable[Content]) -> list[Content]:
        """Queue `contents`; past the bound they are dropped, and whoever submitted them hands them over again.

        Returns those that never get a witness. They are dropped, too: they would hold back all behind them for as long
        as this node leads.
        """
        refused = []
        for content in contents:
            if len(self._queue) >= self._limit:
                break
            if self._may_pass(*content):
                self._queue.append(content)
            else:
                refused.append(content)
        return refused

    def sift(self) -> list[Content]:
        """Drop, and return, what needed no witness when it was queued, needs one now and never gets it."""
        refused = {content for content in self._queue if not self._may_pass(*content)}
        dropped = [content for content in self._queue if content in refused]
        self._queue = deque(content for content in self._queue if content not in refused)
        return dropped

    def clear(self) -> None:
        """This node begins to lead, or its submissions are handed over again from the start."""
        self._queue.clear()
        self._requested.clear()

    def request_again(self) -> None:
        """The side log has another leader: ask for every missing witness again."""
        self._requested.clear()

    def unrequested(self, needs_witness: Callable[[EntryKind, bytes], bool]) -> list[Content]:
        """Critical contents of the queue that no witness was asked for yet; they count as asked for from now on."""
        if not self._queue:
            return []
        wanted: list[Content] = []
        needed: dict[Content, int] = {}
        for content in self._queue:
            if not needs_witness(*content):
                continue
            needed[content] = needed.get(content, 0) + 1
            have = self._requested.get(content, 0) + len(self._by_content.get(content, ()))
            if needed[content] > have:
                self._requested[content] = self._requested.get(content, 0) + 1
                wanted.append(content)
        return wanted

    def ready(self, needs_witness: Callable[[EntryKind, bytes], bool]) -> list[Content]:
        """Take from the queue's front what may be ordered now; critical contents come wrapped with their witness."""
        ready: list[Content] = []
        while self._queue:
            content = self._queue[0]
            if needs_witness(*content):
                heights = self._by_content.get(content)
                if not heights:
                    break
                height = heights.pop(0)
                if not heights:
                    del self._by_content[content]
                _, witness = self._witnesses.pop(height)
                ready.append((EntryKind.WITNESSED, encode_witness(witness, *content)))
            else:
                ready.append(content)
            self._queue.popleft()
        return ready

    def add_witnesses(self, entries: Iterable[Committed]) -> None:
        """Blocks that the side log finalized."""
        for committed in entries:
            entry = committed.entry
            if entry.kind not in (EntryKind.DATA, EntryKind.SWITCH) or entry.index in self._used:
                continue
            content = (entry.kind, entry.payload)
            asked = self._requested.get(content, 0)
            if asked > 1:
                self._requested[content] = asked - 1
            elif asked == 1:
                del self._requested[content]
            self._witnesses[entry.index] = (content, committed.certificate)
            self._by_content.setdefault(content, []).append(entry.index)
            while len(self._witnesses) > _WITNESSES_KEPT:
                self._forget(next(iter(self._witnesses)))

    def settle(self, content: Content) -> None:
        """An entry with this content was decided: on a node that does not lead, its witness is of no more use."""
        if not self._queue:
            heights = self._by_content.get(content)
            if heights:
                self._forget(heights[0])

    def use_witness(self, witness: Certificate, entry: Entry) -> bool:
        """Whether `witness` is valid for `entry` and was not used before in this epoch; it is used from now on."""
        if witness.context != self._context or witness.index in self._used or witness.index <= self._used_floor:
            return False
        try:
            verify_witness(witness, entry, self._verifier)
        except CertificateError:
            return False
        self._used.add(witness.index)
        if len(self._used) > 2 * _WITNESSES_KEPT:
            # Every node prunes at the same entry, so all judge alike.
            kept = sorted(self._used)[_WITNESSES_KEPT:]
            self._used_floor = kept[0] - 1
            self._used = set(kept)
        return True

    @property
    def used_witnesses(self) -> tuple[int, tuple[int, ...]]:
        """The floor, and the heights above it whose witness was used: the same on every node behind the same entry."""
        return self._used_floor, tuple(sorted(self._used))

    def restore_used(self, floor: int, heights: Iterable[int]) -> None:
        """What a checkpoint says was used. Witnesses that wait here and are used already are of no more use."""
        self._used_floor, self._used = floor, set(heights)
        for height in [each for each in self._witnesses if each in self._used or each <= floor]:
            self._forget(height)

    def _forget(self, height: int) -> None:
        content, _ = self._witnesses.pop(height)
        heights = self._by_content[content]
        heights.remove(height)
        if not heights:
            del self._by_content[content]
