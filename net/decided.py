"""What an epoch's log has decided, so that a forward which comes late does not have it ordered once more.

Payloads are opaque here. Of those of `core.payload` decisions are told apart by step and proposer, reports by their
sequence number, changes of trading and limits by the signer's clock; but toggles that come back to what they were
before are the same bytes again, and mean it. So equal bytes are not refused for good: who asks again after a while, as
`Replica` does for what it submitted and has not seen decided, gets them ordered. A copy that is merely late is not
said again, and one forward that is replayed or passed on in a circle brings at most one decision in that time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from hashlib import blake2b

from net.submissions import Content

DECIDED_KEPT = 32_768
ASKED_KEPT = 4_096
"""For each node that forwards, so that one that asks for everything takes nobody's place."""


class Decided:
    """The newest decided contents by their digest, and who asked for one of them again, and when."""

    __slots__ = ("_again_after_s", "_asked", "_digests")

    def __init__(self, again_after_s: float) -> None:
        self._again_after_s = again_after_s
        self._digests: OrderedDict[bytes, None] = OrderedDict()
        self._asked: dict[int, OrderedDict[bytes, float]] = {}

    def __contains__(self, content: Content) -> bool:
        return _digest(content) in self._digests

    def add(self, contents: Iterable[Content]) -> None:
        """These are decided."""
        for content in contents:
            digest = _digest(content)
            self._digests[digest] = None
            self._digests.move_to_end(digest)
        while len(self._digests) > DECIDED_KEPT:
            self._digests.popitem(last=False)

    def is_late(self, sender: int, content: Content, now: float) -> bool:
        """Whether `content`, forwarded by `sender`, is decided, and nothing says that it is meant once more."""
        digest = _digest(content)
        if digest not in self._digests:
            return False
        asked = self._asked.setdefault(sender, OrderedDict())
        since = asked.pop(digest, now)
        if self._again_after_s <= now - since <= 4 * self._again_after_s:
            return False
        asked[digest] = since if now - since < self._again_after_s else now
        if len(asked) > ASKED_KEPT:
            asked.popitem(last=False)
        return True


def _digest(content: Content) -> bytes:
    kind, payload = content
    return blake2b(payload, digest_size=16, salt=bytes([kind])).digest()
