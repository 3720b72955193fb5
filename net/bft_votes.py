"""Votes of the Byzantine protocol: tallies per slot, and the record of who gave up which view from which height."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from net.messages import Certificate, Entry, Phase, Propose, Vote


@dataclass(slots=True)
class Block:
    """A proposed block: its content, its parent's digest, and the proposal to pass on."""

    entry: Entry
    parent: bytes
    digest: bytes
    proposal: Propose
    persisted: bool = False


@dataclass(slots=True)
class Tally:
    """Verified votes of one phase in one slot: each voter's first digest, and the signatures per digest."""

    digest_of: dict[int, bytes] = field(default_factory=dict)
    signatures: dict[bytes, dict[int, bytes]] = field(default_factory=dict)
    accused: set[int] = field(default_factory=set)

    def add(self, voter: int, digest: bytes, signature: bytes) -> int:
        """Count a vote; how many the digest now has."""
        self.digest_of[voter] = digest
        votes = self.signatures.setdefault(digest, {})
        votes[voter] = signature
        return len(votes)


@dataclass(slots=True)
class Slot:
    """One height of one view. `voted` and `finalize_voted` are this node's own votes: they never change."""

    view: int
    height: int
    voted: bytes | None = None
    finalize_voted: bytes | None = None
    notarize: Tally = field(default_factory=Tally)
    finalize: Tally = field(default_factory=Tally)
    notarization: Certificate | None = None
    finalization: Certificate | None = None
    fast: Tally = field(default_factory=Tally)
    late: dict[tuple[Phase, int], Vote] = field(default_factory=dict)
    """Each voter's first vote past the quorum, unverified: with a second one it proves a lie."""

    def tally(self, phase: Phase) -> Tally:
        """The votes of NOTARIZE, FINALIZE or FAST."""
        if phase is Phase.NOTARIZE:
            return self.notarize
        return self.finalize if phase is Phase.FINALIZE else self.fast

    def other_vote(self, vote: Vote) -> Vote | None:
        """A vote of the same voter and phase for another digest; None where none is kept."""
        tally = self.tally(vote.phase)
        counted = tally.digest_of.get(vote.voter)
        if counted is not None and counted != vote.digest:
            return replace(vote, digest=counted, signature=tally.signatures[counted][vote.voter])
        late = self.late.get((vote.phase, vote.voter))
        return late if late is not None and late.digest != vote.digest else None


NO_SLOT: Final = Slot(-1, -1)
"""To look into where there is none; nothing is ever put into it."""


class Nullifications:
    """NULLIFY votes by view, one per voter: vote (view, height) gives up every height from `height` on in `view`."""

    def __init__(self, quorum: int) -> None:
        self._quorum = quorum
        self._votes: dict[int, dict[int, Vote]] = {}
        self._others: dict[int, list[Vote]] = {}

    def add(self, vote: Vote) -> None:
        self._votes.setdefault(vote.view, {}).setdefault(vote.voter, vote)

    def of(self, view: int, voter: int) -> Vote | None:
        return self._votes.get(view, {}).get(voter)

    def votes(self, view: int) -> list[Vote]:
        return list(self._votes.get(view, {}).values())

    def add_other(self, vote: Vote, most: int) -> bool:
        """Keep a vote of one who signed another in that view: somebody may stand on it. At most `most` a view."""
        others = self._others.setdefault(vote.view, [])
        if vote in others or len(others) >= most:
            return False
        others.append(vote)
        return True

    def every(self, view: int) -> list[Vote]:
        """All votes of `view`, a liar's second ones included."""
        return [*self._votes.get(view, {}).values(), *self._others.get(view, ())]

    @property
    def views(self) -> list[int]:
        return sorted(self._votes)

    def reports(self) -> list[Vote]:
        """The votes that name a block (`net.bft_fast`)."""
        return [vote for view in self._votes for vote in self.every(view) if any(vote.digest)]

    def all_of(self, voter: int) -> list[Vote]:
        """The votes of `voter` in every view that is kept."""
        return [votes[voter] for votes in self._votes.values() if voter in votes]

    def count(self, view: int) -> int:
        return len(self._votes.get(view, {}))

    def lowest_height(self, view: int) -> int | None:
        """The lowest height from which on a quorum gave up `view`; None without a quorum."""
        heights = sorted(vote.height for vote in self._votes.get(view, {}).values())
        return heights[self._quorum - 1] if len(heights) >= self._quorum else None

    def gives_up(self, view: int, height: int) -> bool:
        """Whether a quorum gave up every height from `height` on in `view`: nothing there can be finalized any more."""
        lowest = self.lowest_height(view)
        return lowest is not None and lowest <= height

    def highest_view_with(self, count: int) -> int | None:
        views = [view for view, votes in self._votes.items() if len(votes) >= count]
        return max(views, default=None)

    def forget_below(self, view: int) -> None:
        for old in [each for each in self._votes if each < view]:
            del self._votes[old]
            self._others.pop(old, None)
