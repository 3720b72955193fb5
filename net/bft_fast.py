"""The fast path of the Byzantine mode: one round of votes, so a block is decided two message delays after its proposal.

That n >= 5f - 1 nodes allow it is shown by Kuznetsov, Tonkikh and Zhang (arXiv 2102.12825) and by Abraham, Nayak, Ren
and Xiang, "Good-case Latency of Byzantine Broadcast" (2021): a leader that is proven to have signed two things is one
liar less among the others. Here it carries the stable leader and the chained blocks of `net.bft`, whose rules R7 and R8
hold as they are; the others become:

F1  A proposal is signed as NOTARIZE by its leader, and that is no vote: the leader FAST-votes when its vote is on disk,
    like all. A replica FAST-votes at most one digest per (view, height), only in its current view, not after its
    NULLIFY there, at ever higher heights, only blocks that carry their leader's signature and content that it accepts.
F2  Parent in the same view: its own vote before, or the decided tip where a FAST certificate of this view is known for
    it. Parent in an older view: only as its first vote of the view, and only under F5. The chain of what it votes for
    leads to its decided tip.
F3  q = n - f FAST votes are a certificate: they decide the block and all below it. Where an ancestor has no certificate
    of its own, it is FINALIZE-voted (R6); a FINALIZE vote confirms a decision and does nothing else.
F4  NULLIFY(v, N, d) is sent once a view, by everybody who leaves it, and reports the sender's last vote there: height N
    and digest d; N = 0 without one; d = 0 where N is decided at the sender. Voters of chained blocks vote for chains,
    so the block d names all that the sender voted for in v and that is not decided.
F5  The first block of view v' may extend P = (u, ·), u < v', where the receiver's votes show for every view w, u < w <
    v', that it may be left, and for u that P may be extended; a view below that of the decided tip needs no look. Of
    view w count the NULLIFY votes whose reports it can judge: it holds every block from d down to its decided tip,
    signed by their leaders and acceptable, and the first one in w stood rightly itself (F5 again, for older views).
    What lies at or below the decided height, or conflicts with the decided chain, counts as nothing. From any q of
    them:
    (a) all reports lie on one chain: its top may be extended; the view may be left where nothing is reported;
    (b) two reports do not: the leader of w signed both, so it lies, and its own vote must not be among the q. X is the
        highest block in at least n - 3f + 1 of the reported chains (2f where n = 5f - 1). A reported top whose chain
        holds X, or X itself, may be extended; where there is no X, any reported top, and the view may be left.
F6  The NULLIFY votes of others and the blocks that a first vote stands on are on disk with it, and are said again to
    all: a report that nobody can judge any more would be a vote missing for ever. A liar may give each replica another
    NULLIFY vote: an honest one stands on what the liar gave it, or what another passed on, and both are kept.

Invariants ("certified" means by FAST votes, at any time):

I1  The certified blocks of one view are one chain. Two of them share n - 3f >= 1 honest voters. Such a one voted the
    lower first (F1), and each vote above it, by F2 and induction over the height, stands on the vote before or on a
    certified block of the view that is the lower one or above it.
I2  The report of an honest voter of a certified block names a chain that holds it, or says that its height is decided:
    as in I1; restarts keep the votes (R7), the leader's too, since its vote follows its sync (F1).
I3  A certified B = (v, h) is in the chain of every block that an honest replica votes for in a later view v', by
    induction over the time of that vote. It is enough to look at a first vote of v' by k, with decided tip T = (x, c),
    an ancestor of a certified Z = (z, ·) whose votes are older. B and T are on one chain: z > v: induction. z = v: I1.
    z < v: x <= v, so k counts q NULLIFY votes of v, one of an honest voter of B that voted before; induction for its
    vote. If h <= c, done; then also if x > v, since views do not fall along a chain. Otherwise k counted view v, or the
    start in a view above v of a block that it extends, under F5: (a) q reports share at least n - 3f honest voters of
    B, so the longest holds B and the view is not left. (b) without the leader at most f - 1 of the q lie, so at least
    (n - 2f + 1) + (n - 2f) - (n - f) = n - 3f + 1 are of honest voters of B: X holds B. Any other block has at most 2f
    - 1 reports, fewer, as n >= 5f - 1; two blocks with that many reports share a reporter and so are on one chain.
I4  Two decided blocks are on one chain: I1, I3.
I5  Progress: all honest replicas leave a view with NULLIFY, n - f in all, enough for (a) and, where the leader lies,
    for (b). Their blocks, what they have decided, and what their votes stand on (F6) can be had from them, so in the
    end every honest replica can judge every honest report, and what the leader of a view may extend the others may.

The tests: `test_f1_...` to `test_f6_...` of `tests/unit/test_bft_fast.py`; the simulation checks after every event that
no two blocks of a height have the FAST votes that certify them or are decided, and I5 once the faults stop;
`tests/simulation/scripts/bft_fast_*.txt` play the good case and the attack that F5 (b) is against.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations, product

from net.bft import BftCore
from net.bft_views import NO_DIGEST
from net.bft_votes import NO_SLOT, Block, Slot
from net.certificate import entry_digest, signed_bytes
from net.consensus import Effect, Evidence, Persist
from net.durable import BlockRecord, NullifyRecord, Record, encode_record
from net.messages import Committed, Entry, EvidenceNotice, Phase, Propose, Vote

_OTHERS_PER_NODE = 2

Chain = tuple[bytes, ...]
"""Digests of a view's blocks, the lowest first."""


def extendable(reports: Mapping[int, Sequence[Chain]], leader: int, quorum: int, enough: int) -> set[bytes | None]:
    """What a later view may extend of a view that `leader` led (F5): digests; None where it may be left as it is.

    `reports` maps each node to the chains that its NULLIFY votes report (several: it lies, and any one of them may be
    what others stand on); `enough` is n - 3f + 1.
    """
    found: set[bytes | None] = set()
    for chosen in combinations(sorted(reports), quorum):
        for chains in product(*(reports[node] for node in chosen)):
            longest = max(chains, key=len)
            if all(longest[: len(chain)] == chain for chain in chains):
                found.add(longest[-1] if longest else None)
            elif leader not in chosen:
                found |= _after_equivocation(chains, enough)
    return found


def _after_equivocation(chains: Sequence[Chain], enough: int) -> set[bytes | None]:
    support = Counter(digest for chain in chains for digest in chain)
    held = [[digest for digest in chain if support[digest] >= enough] for chain in chains]
    highest = max(held, key=len)
    tops: set[bytes | None] = {chain[-1] for chain in chains if chain and (not highest or highest[-1] in chain)}
    tops.add(highest[-1] if highest else None)
    return tops


class FastBftCore(BftCore):
    """A replica of an epoch in which the fast path is on."""

    vote_phase = Phase.FAST

    # -- proposing and voting -----------------------------------------------------------------------------------------

    def _vote_for_own(self, slot: Slot, block: Block, signature: bytes, now: float) -> None:
        """F1: the signature on the proposal left before the sync; the vote follows it."""
        slot.notarize.add(self.node, block.digest, signature)
        self._vote(slot, block, now)

    def _bind(self, slot: Slot, phase: Phase, digest: bytes) -> None:
        """F1, F4: `finalize_top` is the height of the last FAST vote in the view."""
        if phase is not Phase.FAST:
            slot.finalize_voted = digest
            return
        slot.voted = digest
        if slot.view == self.view:
            self.voted_in_view = True
            self.finalize_top = max(self.finalize_top, slot.height)

    def _block_record(self, block: Block) -> BlockRecord:
        return BlockRecord(self.epoch.number, self.witness, block.parent, block.entry, block.proposal.signature)

    def _on_propose(self, sender: int, message: Propose, now: float) -> None:
        """Every block that is kept carries its leader's signature: a second one of a slot where somebody names it."""
        view, height, leader = message.view, message.height, message.leader
        if leader != self.leader_of(view) or not self._in_range(sender, view, height, now):
            return
        entry = Entry(height, view, message.kind, message.payload)
        digest = entry_digest(message.parent, entry)
        if digest in self.blocks:
            return
        known = self.slots.get((view, height), NO_SLOT)
        if not self._has_room(message) and not self._is_sought(known, digest):
            return
        said = signed_bytes(self.context, Phase.NOTARIZE, view, height, digest)
        if not self._verifier.verifies(leader, said, message.signature):
            if sender == leader:
                self._out.append(Evidence(sender, f"proposal of view {view} with a wrong signature", b""))
            return
        slot = self._slot(view, height)
        if slot.notarize.digest_of.get(leader, digest) == digest:
            slot.notarize.add(leader, digest, message.signature)
        else:
            self._accuse(slot, Phase.NOTARIZE, leader, digest, message.signature, now)
            if not self._is_sought(slot, digest):
                return
        self.blocks[digest] = Block(entry, message.parent, digest, message)
        self._check_quorums(slot, now)
        self._try_commit(now)
        self._vote_where_possible(now)
        self._propose_where_possible(now)

    def _is_sought(self, slot: Slot, digest: bytes) -> bool:
        if slot.finalization is not None and slot.finalization.digest == digest:
            return True
        votes = len(slot.fast.signatures.get(digest, ())) + len(slot.finalize.signatures.get(digest, ()))
        reported = any(vote.digest == digest for vote in self.nullifications.every(slot.view))
        return votes > self.faults or reported or any(block.parent == digest for block in self.blocks.values())

    def _may_extend(self, block: Block) -> bool:
        """F2 and F5."""
        height, parent = block.entry.index, block.parent
        if height <= self.finalize_top:
            return False
        if height == self.committed_height + 1 and parent == self.committed_digest:
            if self.committed_view == self.view:
                known = self.last_certificate
                return known is not None and known.digest == parent and known.phase is Phase.FAST
        elif not self._leads_to_the_decided(parent):
            return False
        own = self.slots.get((self.view, height - 1))
        if own is not None and own.voted == parent:
            return True
        return not self.voted_in_view and Grounds(self).may_start(self.view, parent)

    def _leads_to_the_decided(self, digest: bytes) -> bool:
        block = self.blocks.get(digest)
        while block is not None and block.entry.index > self.committed_height + 1:
            block = self.blocks.get(block.parent)
        return block is not None and block.parent == self.committed_digest

    def _start_parent(self) -> tuple[int, bytes] | None:
        """What the first block of this view extends (F5); None while that is not known."""
        grounds = Grounds(self)
        for view in range(self.view - 1, max(self.committed_view, self.first_view) - 1, -1):
            parents = grounds.extendable(view)
            tops = [(self.blocks[digest].entry.index, digest) for digest in parents if digest is not None]
            if tops:
                return max(tops)
            if None not in parents:
                return None
        return (self.committed_height, self.committed_digest)

    # -- certificates -------------------------------------------------------------------------------------------------

    def _check_quorums(self, slot: Slot, now: float) -> None:
        """F3."""
        for phase in (Phase.FAST, Phase.FINALIZE):
            if slot.finalization is None and (made := self._certificate(slot, phase, slot.tally(phase))):
                self._relay(made, now)
                self._on_finalization(slot, made, now)

    # -- giving up a view ---------------------------------------------------------------------------------------------

    def _report(self) -> tuple[int, bytes]:
        """F4."""
        height = max(0, self.finalize_top)
        slot = self.slots.get((self.view, height))
        return height, NO_DIGEST if slot is None or slot.voted is None else slot.voted

    def _cast_nullify(self, view: int, height: int, digest: bytes) -> None:
        """F4: of a view below the decided one the vote is forgotten, and may have said more than is known now."""
        if view >= self.committed_view:
            super()._cast_nullify(view, height, digest)

    def _on_nullify(self, sender: int, vote: Vote, now: float) -> None:
        if vote.view >= self.view or vote not in self.nullifications.every(vote.view):
            super()._on_nullify(sender, vote, now)
        elif sender == vote.voter:
            self._answer_laggard(sender, vote.view, now)

    def _keep_nullify(self, vote: Vote) -> None:
        """F6: what votes stand on is kept, as far as it may be needed to show it to others."""
        self.nullifications.add(vote)
        self._out.append(Persist(encode_record(self._nullify_record(vote))))

    def _on_second_nullify(self, sender: int, vote: Vote, now: float) -> None:
        """F6: kept where another than the liar passes it on, who may stand on it."""
        if sender != vote.voter and self.nullifications.add_other(vote, _OTHERS_PER_NODE * len(self.nodes)):
            self._out.append(Persist(encode_record(self._nullify_record(vote))))
            self._vote_where_possible(now)
            self._propose_where_possible(now)

    def _nullify_record(self, vote: Vote) -> NullifyRecord:
        number = self.epoch.number
        return NullifyRecord(number, self.witness, vote.view, vote.height, vote.digest, vote.voter, vote.signature)

    def _cast(self, slot: Slot, phase: Phase, digest: bytes, signature: bytes, block: Block | None) -> None:
        """F6: with the first vote of a view what it stands on is on disk."""
        if phase is Phase.FAST and slot.view == self.view and not self.voted_in_view:
            for each in self.blocks.values():
                if not each.persisted and each is not block:
                    each.persisted = True
                    self._out.append(Persist(encode_record(self._block_record(each))))
        super()._cast(slot, phase, digest, signature, block)

    # -- recovery -----------------------------------------------------------------------------------------------------

    def start(self, now: float) -> list[Effect]:
        """What was fetched from a peer may be of a later view than this node's own votes on disk."""
        self._restore_view(self.committed_view)
        return super().start(now)

    def live_records(self) -> tuple[bytes, ...]:
        votes = [vote for view in self.nullifications.views for vote in self.nullifications.every(view)]
        others = [encode_record(self._nullify_record(vote)) for vote in votes if vote.voter != self.node]
        return (*super().live_records(), *others)

    def restore(self, record: Record) -> Sequence[Committed]:
        if not isinstance(record, NullifyRecord):
            return super().restore(record)
        if record.view >= self.committed_view:
            vote = Vote(
                record.epoch, Phase.NULLIFY, record.view, record.height, record.digest, record.voter, record.signature
            )
            if self.nullifications.of(record.view, record.voter) in (None, vote):
                self.nullifications.add(vote)
            else:
                self.nullifications.add_other(vote, _OTHERS_PER_NODE * len(self.nodes))
        return ()

    def _on_evidence(self, sender: int, notice: EvidenceNotice) -> None:
        """A FINALIZE vote confirms what is decided (F3), in a view that was given up too: both may be signed."""
        if notice.first.phase is notice.second.phase:
            super()._on_evidence(sender, notice)


class Grounds:
    """What a replica's NULLIFY votes and blocks, as they are now, entitle a view to (F5)."""

    def __init__(self, core: FastBftCore) -> None:
        self._core = core
        self._extendable: dict[int, set[bytes | None]] = {}

    def may_start(self, view: int, parent: bytes) -> bool:
        """Whether the first block of `view` may extend `parent`."""
        core = self._core
        last = max(core.committed_view, core.first_view)
        if parent != core.committed_digest:
            block = core.blocks.get(parent)
            if block is None or not last <= block.entry.term < view or parent not in self.extendable(block.entry.term):
                return False
            last = block.entry.term + 1
        return all(None in self.extendable(each) for each in range(last, view))

    def extendable(self, view: int) -> set[bytes | None]:
        """What a later view may extend of `view`; None: it may be left."""
        if view not in self._extendable:
            core = self._core
            reports: defaultdict[int, list[Chain]] = defaultdict(list)
            for vote in core.nullifications.every(view):
                if (chain := self._chain(vote)) is not None:
                    reports[vote.voter].append(chain)
            self._extendable[view] = extendable(reports, core.leader_of(view), core.quorum, enough_reports(core))
        return self._extendable[view]

    def _chain(self, vote: Vote) -> Chain | None:
        """What `vote` reports above the decided height; None where this replica cannot judge it, or it is a lie."""
        core = self._core
        if vote.height <= core.committed_height:
            return ()
        block = core.blocks.get(vote.digest)
        if block is None or (block.entry.term, block.entry.index) != (vote.view, vote.height):
            return None
        chain: list[bytes] = []
        start: bytes | None = None
        while True:
            if not core._acceptable(block.entry.kind, block.entry.payload, block.entry.index):
                return None
            if block.entry.term == vote.view:
                chain.append(block.digest)
                start = block.parent
            below = block.entry.index - 1
            if below == core.committed_height:
                break
            older = core.blocks.get(block.parent)
            if older is None or older.entry.index != below or older.entry.term > block.entry.term:
                return None
            block = older
        if block.parent != core.committed_digest:
            return ()
        assert start is not None
        continues = start == core.committed_digest and core.committed_view == vote.view
        if not continues and not self.may_start(vote.view, start):
            return None
        return tuple(reversed(chain))


def enough_reports(core: FastBftCore) -> int:
    """How many others report, at the least, what may be decided in a view whose leader is proven to lie."""
    return len(core.nodes) - 3 * core.faults + 1
