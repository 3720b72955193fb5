"""Byzantine agreement in the shape of Simplex (Chan and Pass, eprint 2023/463) with a stable leader, sans-I/O.

A view has one leader, who proposes blocks at consecutive heights, several in flight. A replica NOTARIZE-votes at most
one block per (view, height); a quorum is a notarization; on it the replica FINALIZE-votes; a quorum of those decides
the block and everything below it. A silent, stuck or lying leader's view is given up with NULLIFY(view, N); a quorum
of those starts the next view. Quorums have q = ceil((n + f + 1) / 2) votes, so two of them share an honest node, and
of two sets of q - f honest voters at least one node is in both (2(q - f) > n - f). Rules of an honest replica:

R1  It NOTARIZE-votes at most one digest per (view, height), and only in its current view, not after its NULLIFY there.
R2  Parent in the same view: it voted for the parent itself or holds the parent's notarization. Parent in an older view:
    only as its first vote of the view, and only under R3.
R3  A block at (v', h) may extend a notarized P = (u, h - 1), u < v', when a quorum gave up every height >= h of view u,
    and for every view w, u < w < v', a quorum gave up every height of w above the last decided one.
R4  It FINALIZE-votes (v, h) only on a notarization, only in its current view v and not after its NULLIFY there.
R5  NULLIFY(v, N) is sent once a view, N = 1 + the highest height it FINALIZE-voted in v, or 0 without one. Who leaves
    a view for any other reason sends it too.
R6  Where a descendant is finalized, an ancestor is decided already: it FINALIZE-votes the ancestor, whatever its
    view, so that every height gets a certificate of its own. That only confirms what is true.
R7  Every vote is on disk before it leaves, and binds after a restart.

Invariants, and why they hold:

I1  One notarized digest per (view, height): two quorums share an honest node, which by R1 voted once. Likewise no other
    digest there can have q - f honest votes.
I2  The notarized blocks of a view are one chain with one start: two blocks with parents outside the view would both
    need q - f honest voters, one of whom would have cast two "first votes" (R2). Each block below a notarized one has
    q - f honest votes itself (voters hold its notarization or voted for it).
I3  A finalized B = (v, h) is in the chain of every notarized B' = (v', h') with v' > v, or v' = v and h' > h. Same
    view: I2. Later view, by induction over (v', h'): the parent P = (u, h' - 1) of B' was checked by an honest voter.
    u > v or u = v': induction. u = v: the NULLIFY quorum of R3 shares an honest node with B's FINALIZE quorum; by R5
    its N > h, by R3 N <= h', so P is at height >= h in view v: I2. u < v: R3 wants a quorum with N <= c + 1 for v,
    where c is a height decided in a view <= u; a finalized block of view v stands above c, so an honest common member
    that FINALIZE-voted (v, h) has N > h >= c + 1: impossible.
I4  No two finalized digests at one height: both are notarized, and by I3 one is in the other's chain.
I5  Progress: let H be the highest N of the honest for view v. Its sender holds the notarization of (v, H - 1) (R4) and
    sends it along. The q lowest N are at most H, so the next leader can extend it, or an older view where H = 0.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from net.bft_votes import Block, Nullifications, Slot, Tally
from net.certificate import CertificateError, Verifier, entry_digest, signed_bytes
from net.consensus import Commit, Effect, Evidence, LeaderChanged, Persist, Send, Sync
from net.durable import BlockRecord, CertificateRecord, InstallRecord, Record, VoteRecord, encode_record
from net.epoch import Epoch, decode_switch
from net.messages import (
    Certificate,
    CertificateNotice,
    Committed,
    ConsensusMessage,
    Entry,
    EntryKind,
    FetchBlock,
    Forward,
    Mode,
    Phase,
    Propose,
    Vote,
)
from net.quorum import byzantine_faults, byzantine_quorum
from net.settings import ConsensusSettings
from net.submissions import Content

_NO_DIGEST = bytes(32)
_VIEWS_AHEAD = 64
_RECENT_BLOCKS = 256
_RESENT_HEIGHTS = 16


class SafetyViolation(RuntimeError):
    """Two certificates contradict each other: more than f nodes lie. The node must stop."""


class BftCore:
    """One replica's Byzantine state machine, of an epoch's log or of the witness log beside an AUTO epoch."""

    def __init__(
        self,
        node: int,
        nodes: Sequence[int],
        epoch: Epoch,
        witness: bool,
        sign: Callable[[bytes], bytes],
        verifier: Verifier,
        settings: ConsensusSettings,
        validate: Callable[[EntryKind, bytes], bool],
    ) -> None:
        self.node = node
        self.nodes = tuple(sorted(nodes))
        self.peers = tuple(peer for peer in self.nodes if peer != node)
        self.epoch = epoch
        self.witness = witness
        self.context = epoch.witness_context if witness else epoch.context
        self.quorum = byzantine_quorum(len(self.nodes))
        self.faults = byzantine_faults(len(self.nodes))
        hint = epoch.leader_hint if epoch.leader_hint in self.nodes else self.nodes[0]
        # Views count from 1; the first is the one that the node which led before leads.
        self.first_view = self.nodes.index(hint) or len(self.nodes)
        self.view = self.first_view
        self.elections = 0
        self.committed_height = 0 if witness else epoch.base_index
        self.committed_digest = epoch.base_digest
        self.committed_view = self.first_view - 1
        self.peer_heights: dict[int, int] = {}
        self._slots: dict[tuple[int, int], Slot] = {}
        self._blocks: dict[bytes, Block] = {}
        self._notarized: dict[bytes, Certificate] = {}
        self._finalized: dict[int, Certificate] = {}
        self._recent: OrderedDict[int, tuple[Propose, Certificate]] = OrderedDict()
        self._last_certificate: Certificate | None = None
        self._nullifications = Nullifications(self.quorum)
        self._finalize_top = -1
        self._voted_in_view = False
        self._tip: tuple[int, bytes] | None = None
        self._queue: deque[Content] = deque()
        self._wanted: dict[Content, None] = {}
        self._sealed = False
        self._far_behind = False
        self._barren_views = 0
        self._leader_heard_at = 0.0
        self._waiting_since: float | None = None
        self._resend_at: float | None = None
        self._answered_at: dict[int, float] = {}
        self._beats = 0
        self._sign = sign
        self._verifier = verifier
        self._settings = settings
        self._validate = validate
        self._out: list[Effect] = []

    # -- what the replica asks -------------------------------------------------------------------------------------

    @property
    def leader(self) -> int:
        return self.leader_of(self.view)

    def leader_of(self, view: int) -> int:
        return self.nodes[view % len(self.nodes)]

    @property
    def in_first_view(self) -> bool:
        return self.view == self.first_view

    @property
    def highest_height(self) -> int:
        return max(self.committed_height, self._tip[0] if self._tip else 0)

    @property
    def is_behind(self) -> bool:
        """Whether something is finalized that this node cannot decide for want of its content."""
        return not self._sealed and (self._far_behind or bool(self._finalized))

    @property
    def nullified(self) -> bool:
        """Whether this node gave up the current view."""
        return self._nullifications.of(self.view, self.node) is not None

    def take_rare_beat(self) -> bool:
        """True every tenth call: how often one that does not lead says how far it is."""
        self._beats += 1
        return self._beats % 10 == 0

    def heard_from(self, peer: int, height: int, now: float) -> None:
        """A sign of life that says how far `peer` is."""
        self.peer_heights[peer] = height
        if peer == self.leader:
            self._leader_heard_at = now

    # -- the interface of a core -----------------------------------------------------------------------------------

    def start(self, now: float) -> list[Effect]:
        self._leader_heard_at = now
        self._out.append(LeaderChanged(self.leader, self.view))
        self._vote_where_possible(now)
        self._propose_where_possible(now)
        return self._take(now)

    def step(self, sender: int, message: ConsensusMessage, now: float) -> list[Effect]:
        if self._sealed:
            return []
        if sender == self.leader:
            self._leader_heard_at = now
        match message:
            case Vote():
                self._on_vote(sender, message, now)
            case Propose():
                self._on_propose(sender, message, now)
            case CertificateNotice():
                self._on_certificate(sender, message.certificate, now)
            case FetchBlock():
                self._on_fetch_block(sender, message)
            case _:
                raise TypeError(f"{type(message).__name__} is no Byzantine message")
        return self._take(now)

    def propose_contents(self, contents: Iterable[Content], now: float) -> list[Effect]:
        """Leader: propose these, as the window allows; past the bound the rest is left to be handed over again."""
        for content in contents:
            if len(self._queue) >= 2 * self._settings.pending_limit:
                break
            if self._acceptable(*content):
                self._queue.append(content)
        self._propose_where_possible(now)
        return self._take(now)

    def on_forward(self, contents: Sequence[Content], now: float) -> list[Effect]:
        """Contents of another node: a leader proposes what is not in flight yet; others watch that it is proposed."""
        if self.leader == self.node:
            flying = set(self._queue)
            flying.update((block.entry.kind, block.entry.payload) for block in self._blocks.values())
            return self.propose_contents([content for content in contents if content not in flying], now)
        fresh = [content for content in contents if content not in self._wanted and self._acceptable(*content)]
        for content in fresh:
            # The sender may have left out the leader, to cost it its view.
            self._out.append(Send(self.leader, Forward(self.epoch.number, content[0], (content[1],))))
        self.want(fresh, now)
        return self._take(now)

    def want(self, contents: Iterable[Content], now: float) -> None:
        """These must be decided in time, or the leader loses its view."""
        # A forward that was long under way asks for what is decided already.
        decided = {(proposal.kind, proposal.payload) for proposal, _ in self._recent.values()}
        for content in contents:
            room = len(self._wanted) < self._settings.pending_limit
            if room and content not in decided and self._acceptable(*content):
                self._wanted[content] = None
        self._watch(now)

    def tick(self, now: float) -> list[Effect]:
        if self._sealed:
            return []
        if not self.nullified:
            silent = self.leader != self.node and now >= self._silence_deadline()
            stuck = self._waiting_since is not None and now >= self._waiting_since + self._patience()
            if silent or stuck:
                self._nullify(now)
        if self._resend_at is not None and now >= self._resend_at:
            self._resend_at = now + self._settings.resend_interval_s
            self._resend(now)
        return self._take(now)

    def next_deadline(self) -> float | None:
        if self._sealed:
            return None
        due = [] if self._resend_at is None else [self._resend_at]
        if not self.nullified:
            if self.leader != self.node:
                due.append(self._silence_deadline())
            if self._waiting_since is not None:
                due.append(self._waiting_since + self._patience())
        return min(due) if due else None

    def install(self, committed: Committed, now: float) -> list[Effect]:
        """Take the next decided entry from a peer; the replica has verified its certificate."""
        if committed.entry.index == self.committed_height + 1 and not self._sealed:
            self._out.append(Persist(encode_record(InstallRecord(committed.entry, committed.certificate))))
            self._decide(committed, None)
            self._far_behind = False
            self._after_decision(now)
        return self._take(now)

    # -- timers ----------------------------------------------------------------------------------------------------

    def _stretch(self) -> float:
        """Timeouts double with every view that decided nothing, so that some view is long enough at last."""
        return float(2 ** min(self._barren_views, 6))

    def _patience(self) -> float:
        settings = self._settings
        return min(settings.progress_timeout_s * self._stretch(), settings.progress_timeout_max_s)

    def _silence_deadline(self) -> float:
        settings = self._settings
        timeout = min(settings.election_timeout_max_s * self._stretch(), settings.progress_timeout_max_s)
        return self._leader_heard_at + timeout

    def _is_waiting(self) -> bool:
        if self._sealed:
            return False
        if self._wanted or self._queue or self._finalized:
            return True
        if self.view > self.first_view and self.committed_view < self.view:
            return True
        return any(slot.view == self.view for slot in self._slots.values())

    def _watch(self, now: float) -> None:
        """Timers run while something is under way, and only then."""
        if self._is_waiting() or self.nullified:
            if self._waiting_since is None:
                self._waiting_since = now
            if self._resend_at is None:
                self._resend_at = now + self._settings.resend_interval_s
        else:
            self._waiting_since = None
            self._resend_at = None

    # -- proposing -------------------------------------------------------------------------------------------------

    def _acceptable(self, kind: EntryKind, payload: bytes) -> bool:
        if kind is EntryKind.NOOP:
            return payload == b""
        if kind is EntryKind.SWITCH and decode_switch(payload, len(self.nodes)) is None:
            return False
        return kind in (EntryKind.DATA, EntryKind.SWITCH) and self._validate(kind, payload)

    def _propose_where_possible(self, now: float) -> None:
        if self.leader != self.node or self.nullified or self._sealed:
            return
        if self._tip is None:
            start = self._start_parent()
            if start is None:
                return
            self._tip = start
            if not self.in_first_view and self.committed_view < self.view:
                # A blank block of the own view decides, with itself, what was notarized before.
                self._propose_block(EntryKind.NOOP, b"", now)
        while self._queue and self._tip[0] < self.committed_height + self._settings.bft_window:
            parent = self._blocks.get(self._tip[1])
            if parent is not None and parent.entry.kind is EntryKind.SWITCH and not self.witness:
                return
            self._propose_block(*self._queue.popleft(), now)

    def _start_parent(self) -> tuple[int, bytes] | None:
        """Height and digest of what the first block of this view must extend (R3); None while that is not known."""
        view = self.view - 1
        while view > self.committed_view:
            lowest = self._nullifications.lowest_height(view)
            if lowest is None:
                return None
            tops = [cert for cert in self._notarized.values() if cert.term == view and cert.index + 1 >= lowest]
            if tops:
                top = max(tops, key=lambda cert: cert.index)
                return (top.index, top.digest)
            if lowest > self.committed_height + 1:
                return None
            view -= 1
        tip = (self.committed_height, self.committed_digest)
        if view < self.first_view or view == self.view:
            return tip
        lowest = self._nullifications.lowest_height(view)
        if lowest is None:
            return None
        for cert in self._notarized.values():
            if cert.term == view and cert.index > tip[0]:
                tip = (cert.index, cert.digest)
        return tip if tip[0] + 1 >= lowest else None

    def _propose_block(self, kind: EntryKind, payload: bytes, now: float) -> None:
        assert self._tip is not None
        height, parent = self._tip[0] + 1, self._tip[1]
        entry = Entry(height, self.view, kind, payload)
        digest = entry_digest(parent, entry)
        signature = self._sign(signed_bytes(self.context, Phase.NOTARIZE, self.view, height, digest))
        message = Propose(self.epoch.number, self.view, height, parent, kind, payload, self.node, signature)
        block = Block(entry, parent, digest, message)
        self._blocks[digest] = block
        self._tip = (height, digest)
        slot = self._slot(self.view, height)
        # The leader's signature on the proposal is its NOTARIZE vote, so it too is on disk before it leaves.
        self._cast(slot, Phase.NOTARIZE, digest, signature, block)
        self._out.extend(Send(peer, message) for peer in self.peers)
        self._count(slot, Phase.NOTARIZE, digest, self.node, signature, now)

    def _on_propose(self, sender: int, message: Propose, now: float) -> None:
        if message.leader != self.leader_of(message.view) or not self._in_range(
            sender, message.view, message.height, now
        ):
            return
        entry = Entry(message.height, message.view, message.kind, message.payload)
        digest = entry_digest(message.parent, entry)
        if digest in self._blocks:
            return
        slot = self._slot(message.view, message.height)
        sought = self._is_sought(slot, digest)
        if not sought and slot.notarize.signatures.get(digest, {}).get(message.leader) != message.signature:
            said = signed_bytes(self.context, Phase.NOTARIZE, message.view, message.height, digest)
            if not self._verifier.verifies(message.leader, said, message.signature):
                if sender == message.leader:
                    self._out.append(Evidence(sender, f"proposal of view {message.view} with a wrong signature", b""))
                return
        other = slot.notarize.digest_of.get(message.leader, digest) != digest
        if other and not sought:
            # A second proposal is kept only where others have voted for it, so that a liar cannot fill the memory.
            self._accuse(slot, Phase.NOTARIZE, message.leader, digest, message.signature, now)
            return
        self._blocks[digest] = Block(entry, message.parent, digest, message)
        if not sought:
            self._count(slot, Phase.NOTARIZE, digest, message.leader, message.signature, now)
        self._check_quorums(slot, now)
        self._try_commit(now)
        self._vote_where_possible(now)

    def _is_sought(self, slot: Slot, digest: bytes) -> bool:
        """Whether certificates or honest votes name this block: then its digest proves it, whoever sent it."""
        certified = [cert.digest for cert in (slot.notarization, slot.finalization) if cert is not None]
        votes = len(slot.notarize.signatures.get(digest, ())) + len(slot.finalize.signatures.get(digest, ()))
        return digest in certified or votes > self.faults

    # -- voting ----------------------------------------------------------------------------------------------------

    def _vote_where_possible(self, now: float) -> None:
        """NOTARIZE-vote the blocks of the current view that the rules allow, lowest first."""
        if self.nullified or self._sealed:
            return
        view = self.view
        here = [block for block in self._blocks.values() if block.entry.term == view]
        here.sort(key=lambda block: block.entry.index)
        for block in here:
            slot = self._slot(view, block.entry.index)
            if slot.voted is not None or self.view != view or self.nullified:
                continue
            if self._may_extend(block):
                self._notarize(slot, block, now)

    def _may_extend(self, block: Block) -> bool:
        """R2 and R3: whether `block` of the current view stands on a parent that it may stand on."""
        height, parent = block.entry.index, block.parent
        if height == self.committed_height + 1 and parent == self.committed_digest:
            parent_view = self.committed_view
        else:
            own = self._slots.get((self.view, height - 1))
            certificate = self._notarized.get(parent)
            if own is not None and own.voted == parent:
                parent_view = self.view
            elif certificate is not None and certificate.index == height - 1:
                parent_view = certificate.term
            else:
                return False
        if parent_view == self.view:
            return True
        # A parent of a view below the last decided block's does not stand on that block.
        if self._voted_in_view or not self.committed_view <= parent_view < self.view:
            return False
        if parent_view >= self.first_view and not self._nullifications.gives_up(parent_view, height):
            return False
        between = range(max(parent_view + 1, self.first_view), self.view)
        return all(self._nullifications.gives_up(view, self.committed_height + 1) for view in between)

    def _notarize(self, slot: Slot, block: Block, now: float) -> None:
        if not self._acceptable(block.entry.kind, block.entry.payload):
            self._out.append(
                Evidence(self.leader, f"proposed {block.entry.kind.name} content that this node refuses", block.digest)
            )
            self._nullify(now)
            return
        signature = self._sign(signed_bytes(self.context, Phase.NOTARIZE, slot.view, slot.height, block.digest))
        self._cast(slot, Phase.NOTARIZE, block.digest, signature, block)
        self._broadcast(Phase.NOTARIZE, slot.view, slot.height, block.digest, signature)
        self._count(slot, Phase.NOTARIZE, block.digest, self.node, signature, now)

    def _finalize(self, slot: Slot, digest: bytes, now: float) -> None:
        if slot.finalization is not None or slot.finalize_voted is not None:
            return
        signature = self._sign(signed_bytes(self.context, Phase.FINALIZE, slot.view, slot.height, digest))
        if slot.notarization is not None:
            self._out.append(Persist(encode_record(CertificateRecord(slot.notarization, self.witness))))
        self._cast(slot, Phase.FINALIZE, digest, signature, None)
        self._broadcast(Phase.FINALIZE, slot.view, slot.height, digest, signature)
        self._count(slot, Phase.FINALIZE, digest, self.node, signature, now)

    def _cast(self, slot: Slot, phase: Phase, digest: bytes, signature: bytes, block: Block | None) -> None:
        """Bind this node to a vote: remember it and put it on disk, before it leaves (R7)."""
        if block is not None and not block.persisted:
            block.persisted = True
            record = BlockRecord(self.epoch.number, self.witness, block.parent, block.entry)
            self._out.append(Persist(encode_record(record)))
        self._bind(slot, phase, digest)
        vote = VoteRecord(self.epoch.number, self.witness, phase, slot.view, slot.height, digest, signature)
        self._out.append(Persist(encode_record(vote)))
        self._out.append(Sync())

    def _bind(self, slot: Slot, phase: Phase, digest: bytes) -> None:
        if phase is Phase.NOTARIZE:
            slot.voted = digest
            if slot.view == self.view:
                self._voted_in_view = True
        else:
            slot.finalize_voted = digest
            if slot.view == self.view:
                self._finalize_top = max(self._finalize_top, slot.height)

    def _broadcast(self, phase: Phase, view: int, height: int, digest: bytes, signature: bytes) -> None:
        vote = Vote(self.epoch.number, phase, view, height, digest, self.node, signature)
        self._out.extend(Send(peer, vote) for peer in self.peers)

    def _on_vote(self, sender: int, vote: Vote, now: float) -> None:
        if not self._verifier.knows(vote.voter):
            return
        if vote.phase is Phase.NULLIFY:
            self._on_nullify(sender, vote, now)
            return
        if not self._in_range(sender, vote.view, vote.height, now):
            return
        slot = self._slot(vote.view, vote.height)
        tally = slot.notarize if vote.phase is Phase.NOTARIZE else slot.finalize
        done = slot.notarization if vote.phase is Phase.NOTARIZE else slot.finalization
        before = tally.digest_of.get(vote.voter)
        if before == vote.digest or (before is None and done is not None and done.digest == vote.digest):
            # Votes past the quorum stay unverified.
            return
        said = signed_bytes(self.context, vote.phase, vote.view, vote.height, vote.digest)
        if not self._verifier.verifies(vote.voter, said, vote.signature):
            if sender == vote.voter:
                self._out.append(Evidence(sender, f"{vote.phase.name} vote with a wrong signature", b""))
            return
        if before is not None:
            self._accuse(slot, vote.phase, vote.voter, vote.digest, vote.signature, now)
            return
        self._count(slot, vote.phase, vote.digest, vote.voter, vote.signature, now)

    def _accuse(self, slot: Slot, phase: Phase, culprit: int, digest: bytes, signature: bytes, now: float) -> None:
        """Two signed votes of one node in one slot: proof that it lies. A lying leader loses its view."""
        tally = slot.notarize if phase is Phase.NOTARIZE else slot.finalize
        if culprit in tally.accused:
            return
        tally.accused.add(culprit)
        first = tally.digest_of[culprit]
        proof = b"".join(
            signed_bytes(self.context, phase, slot.view, slot.height, each) + mark
            for each, mark in ((first, tally.signatures[first][culprit]), (digest, signature))
        )
        reason = f"signed two {phase.name} votes in view {slot.view} at height {slot.height}"
        self._out.append(Evidence(culprit, reason, proof))
        if slot.view == self.view and culprit == self.leader:
            self._nullify(now)

    def _count(self, slot: Slot, phase: Phase, digest: bytes, voter: int, signature: bytes, now: float) -> None:
        tally = slot.notarize if phase is Phase.NOTARIZE else slot.finalize
        if tally.add(voter, digest, signature) >= self.quorum:
            self._check_quorums(slot, now)

    def _check_quorums(self, slot: Slot, now: float) -> None:
        """Form the certificates that the slot's votes allow; the block must be known, for its parent."""
        if slot.notarization is None and (made := self._certificate(slot, Phase.NOTARIZE, slot.notarize)):
            self._on_notarization(slot, made, now)
        if slot.finalization is None and (made := self._certificate(slot, Phase.FINALIZE, slot.finalize)):
            self._on_finalization(slot, made, now)

    def _certificate(self, slot: Slot, phase: Phase, tally: Tally) -> Certificate | None:
        for digest, votes in tally.signatures.items():
            block = self._blocks.get(digest)
            if len(votes) >= self.quorum and block is not None:
                chosen = sorted(votes)[: self.quorum]
                return Certificate(
                    Mode.BFT,
                    self.epoch.number,
                    self.context,
                    phase,
                    slot.view,
                    slot.height,
                    block.parent,
                    digest,
                    tuple(chosen),
                    tuple(votes[voter] for voter in chosen),
                )
        return None

    def _on_notarization(self, slot: Slot, certificate: Certificate, now: float) -> None:
        slot.notarization = certificate
        self._notarized[certificate.digest] = certificate
        if slot.view > self.view:
            # A quorum works in that view: it was entered rightly.
            self._enter_view(slot.view, now)
        if slot.view == self.view and not self.nullified:
            self._finalize(slot, certificate.digest, now)
            self._vote_where_possible(now)
        self._propose_where_possible(now)

    def _on_finalization(self, slot: Slot, certificate: Certificate, now: float) -> None:
        slot.finalization = certificate
        before = self._finalized.get(slot.height)
        if before is not None and before.digest != certificate.digest:
            raise SafetyViolation(
                f"two blocks are finalized at height {slot.height}: more than {self.faults} nodes lie"
            )
        self._finalized[slot.height] = certificate
        if slot.view > self.view:
            self._enter_view(slot.view, now)
        self._try_commit(now)

    # -- deciding --------------------------------------------------------------------------------------------------

    def _try_commit(self, now: float) -> None:
        decided = False
        while not self._sealed and (certificate := self._finalized.get(self.committed_height + 1)) is not None:
            block = self._blocks.get(certificate.digest)
            if block is None:
                break
            if block.parent != self.committed_digest:
                raise SafetyViolation(f"the block finalized at height {block.entry.index} does not extend the log")
            if certificate.parent != block.parent:
                certificate = replace(certificate, parent=block.parent)
            if not block.persisted:
                record = BlockRecord(self.epoch.number, self.witness, block.parent, block.entry)
                self._out.append(Persist(encode_record(record)))
            self._out.append(Persist(encode_record(CertificateRecord(certificate, self.witness))))
            self._decide(Committed(self.epoch.number, block.entry, certificate), block)
            decided = True
        if decided:
            self._after_decision(now)
        if self._finalized and not self._sealed:
            self._confirm_ancestors(now)

    def _confirm_ancestors(self, now: float) -> None:
        """R6: what is below a finalized block is decided; vote for it so that it gets its own certificate."""
        certificate = self._finalized[min(self._finalized)]
        digest = certificate.digest
        while (block := self._blocks.get(digest)) is not None and block.entry.index > self.committed_height:
            slot = self._slot(block.entry.term, block.entry.index)
            self._finalize(slot, digest, now)
            digest = block.parent

    def _decide(self, committed: Committed, block: Block | None) -> None:
        """The next height is decided: give it out and forget what it makes obsolete."""
        entry = committed.entry
        self._out.append(Commit((committed,)))
        self._move_base(committed.certificate)
        self._wanted.pop((entry.kind, entry.payload), None)
        if block is not None:
            self._recent[entry.index] = (block.proposal, committed.certificate)
            if len(self._recent) > _RECENT_BLOCKS:
                self._recent.popitem(last=False)
        if not self.witness and entry.kind is EntryKind.SWITCH and self._ends_epoch(entry.payload):
            self._sealed = True

    def _ends_epoch(self, payload: bytes) -> bool:
        return decode_switch(payload, len(self.nodes)) is not None

    def _move_base(self, certificate: Certificate) -> None:
        height = certificate.index
        self.committed_height, self.committed_digest = height, certificate.digest
        self.committed_view = certificate.term
        self._last_certificate = certificate
        self._finalized = {each: cert for each, cert in self._finalized.items() if each > height}
        for key in [each for each in self._slots if each[1] <= height]:
            del self._slots[key]
        for digest in [each for each, block in self._blocks.items() if block.entry.index <= height]:
            del self._blocks[digest]
        for digest in [each for each, cert in self._notarized.items() if cert.index <= height]:
            del self._notarized[digest]
        self._nullifications.forget_below(certificate.term)

    def _after_decision(self, now: float) -> None:
        self._barren_views = 0
        self._waiting_since = None
        self._resend_at = None
        if self.committed_view > self.view:
            self._enter_view(self.committed_view, now)
        if self._tip is not None and self._tip[0] < self.committed_height:
            self._tip = (self.committed_height, self.committed_digest)
        self._vote_where_possible(now)
        self._propose_where_possible(now)

    # -- giving up a view ------------------------------------------------------------------------------------------

    def _nullify(self, now: float) -> None:
        """R5."""
        if self.nullified or self._sealed:
            return
        self._cast_nullify(self.view, self._finalize_top + 1)
        self._check_nullified(now)

    def _cast_nullify(self, view: int, height: int) -> None:
        signature = self._sign(signed_bytes(self.context, Phase.NULLIFY, view, height, _NO_DIGEST))
        vote = Vote(self.epoch.number, Phase.NULLIFY, view, height, _NO_DIGEST, self.node, signature)
        record = VoteRecord(self.epoch.number, self.witness, Phase.NULLIFY, view, height, _NO_DIGEST, signature)
        self._out.append(Persist(encode_record(record)))
        self._out.append(Sync())
        self._nullifications.add(vote)
        self._send_nullify(vote)

    def _send_nullify(self, vote: Vote) -> None:
        """The vote, and the notarization that the next leader may have to extend because of it."""
        messages: list[ConsensusMessage] = [vote]
        slot = self._slots.get((vote.view, vote.height - 1))
        if slot is not None and slot.notarization is not None:
            messages.append(CertificateNotice(self.epoch.number, slot.notarization))
        for message in messages:
            self._out.extend(Send(peer, message) for peer in self.peers)

    def _on_nullify(self, sender: int, vote: Vote, now: float) -> None:
        if vote.view < self.committed_view or vote.view > self.view + _VIEWS_AHEAD:
            self._answer_laggard(sender, vote.view, now)
            return
        before = self._nullifications.of(vote.view, vote.voter)
        if before is None or before.height != vote.height:
            said = signed_bytes(self.context, Phase.NULLIFY, vote.view, vote.height, _NO_DIGEST)
            if vote.digest != _NO_DIGEST or not self._verifier.verifies(vote.voter, said, vote.signature):
                if sender == vote.voter:
                    self._out.append(Evidence(sender, "NULLIFY vote with a wrong signature", b""))
                return
            if before is not None:
                other = signed_bytes(self.context, Phase.NULLIFY, vote.view, before.height, _NO_DIGEST)
                proof = said + vote.signature + other + before.signature
                self._out.append(Evidence(vote.voter, f"signed two NULLIFY votes in view {vote.view}", proof))
                return
            self._nullifications.add(vote)
            self._check_nullified(now)
            self._vote_where_possible(now)
            self._propose_where_possible(now)
        if vote.view < self.view and sender == vote.voter:
            self._answer_laggard(sender, vote.view, now)

    def _check_nullified(self, now: float) -> None:
        """f + 1 votes hold an honest one: join. A quorum of votes: the next view."""
        highest = self._nullifications.highest_view_with(self.quorum)
        if highest is not None and highest >= self.view:
            self._enter_view(highest + 1, now)
        elif self._nullifications.count(self.view) > self.faults and not self.nullified:
            self._nullify(now)

    def _enter_view(self, view: int, now: float) -> None:
        if view <= self.view:
            return
        # Without the votes of those that skip a view, a liar's vote could leave the next leader without grounds.
        for left in range(max(self.view, view - _VIEWS_AHEAD), view):
            if self._nullifications.of(left, self.node) is None:
                self._cast_nullify(left, self._finalize_top + 1 if left == self.view else 0)
        self.view = view
        self.elections += 1
        self._barren_views += 1
        self._finalize_top = -1
        self._voted_in_view = False
        self._tip = None
        self._waiting_since = now
        self._resend_at = now + self._settings.resend_interval_s
        self._leader_heard_at = now
        # What was queued is handed over again by those who submitted it, once the new view has decided something.
        self._queue.clear()
        self._wanted.clear()
        self._out.append(LeaderChanged(self.leader, view))
        self._vote_where_possible(now)
        self._propose_where_possible(now)

    # -- loss, lag and memory --------------------------------------------------------------------------------------

    def _in_range(self, sender: int, view: int, height: int, now: float) -> bool:
        """Whether a slot is worth keeping (a liar must not fill the memory); peers that lag get an answer."""
        if height <= self.committed_height:
            if height < self.committed_height or view < self.view:
                self._answer_laggard(sender, view, now)
            return False
        if height > self.committed_height + 4 * self._settings.bft_window + 64:
            self._far_behind = True
            return False
        if view < self.view:
            self._answer_laggard(sender, view, now)
        return self.first_view <= view <= self.view + _VIEWS_AHEAD and view >= self.committed_view

    def _slot(self, view: int, height: int) -> Slot:
        slot = self._slots.get((view, height))
        if slot is None:
            slot = self._slots[view, height] = Slot(view, height)
        return slot

    def _answer_laggard(self, peer: int, view: int, now: float) -> None:
        """Send what lets a peer leave an old view or height."""
        if now < self._answered_at.get(peer, float("-inf")) + self._settings.resend_interval_s / 2:
            return
        self._answered_at[peer] = now
        if self._last_certificate is not None:
            self._out.append(Send(peer, CertificateNotice(self.epoch.number, self._last_certificate)))
        for old in range(max(view, self.committed_view), self.view):
            self._out.extend(Send(peer, vote) for vote in self._nullifications.votes(old))

    def _resend(self, now: float) -> None:
        """Say again what may have been lost and still matters."""
        own = self._nullifications.of(self.view, self.node)
        if own is not None:
            self._send_nullify(own)
        if self.committed_view < self.view:
            for view in range(max(self.committed_view, self.view - _RESENT_HEIGHTS), self.view):
                if (own := self._nullifications.of(view, self.node)) is not None:
                    self._send_nullify(own)
        slots = sorted(self._slots.values(), key=lambda slot: (slot.height, slot.view))
        resent = 0
        for slot in slots:
            late = slot.finalize_voted is not None
            if resent >= _RESENT_HEIGHTS or (slot.view != self.view and not late):
                continue
            resent += 1
            self._resend_slot(slot)
        if self.leader == self.node and not self.in_first_view and self.committed_view < self.view:
            self._send_grounds()
        self._seek_blocks(now)

    def _resend_slot(self, slot: Slot) -> None:
        if slot.voted is not None:
            block = self._blocks.get(slot.voted)
            signature = slot.notarize.signatures.get(slot.voted, {}).get(self.node)
            if block is not None and block.proposal.leader == self.node:
                self._out.extend(Send(peer, block.proposal) for peer in self.peers)
            elif signature is not None:
                self._broadcast(Phase.NOTARIZE, slot.view, slot.height, slot.voted, signature)
        if slot.notarization is not None:
            notice = CertificateNotice(self.epoch.number, slot.notarization)
            self._out.extend(Send(peer, notice) for peer in self.peers)
        if slot.finalize_voted is not None:
            signature = slot.finalize.signatures.get(slot.finalize_voted, {}).get(self.node)
            if signature is not None:
                self._broadcast(Phase.FINALIZE, slot.view, slot.height, slot.finalize_voted, signature)

    def _send_grounds(self) -> None:
        """The votes and the notarization that entitle the first block of this leader's view (R3)."""
        messages: list[ConsensusMessage] = []
        for view in range(max(self.committed_view, self.first_view), self.view):
            messages.extend(self._nullifications.votes(view))
        older = [cert for cert in self._notarized.values() if cert.term < self.view]
        if older:
            messages.append(CertificateNotice(self.epoch.number, max(older, key=lambda c: (c.term, c.index))))
        for message in messages:
            self._out.extend(Send(peer, message) for peer in self.peers)

    def _seek_blocks(self, now: float) -> None:
        """Ask for blocks that votes or certificates name and that never came."""
        sought: dict[bytes, int] = {}
        for slot in self._slots.values():
            for certificate in (slot.notarization, slot.finalization):
                if certificate is not None:
                    sought[certificate.digest] = slot.height
            for tally in (slot.notarize, slot.finalize):
                for digest, votes in tally.signatures.items():
                    if len(votes) > self.faults:
                        sought[digest] = slot.height
        for block in self._blocks.values():
            if block.entry.index > self.committed_height + 1:
                sought.setdefault(block.parent, block.entry.index - 1)
        missing = [(height, digest) for digest, height in sought.items() if digest not in self._blocks]
        for height, digest in sorted(missing)[:_RESENT_HEIGHTS]:
            request = FetchBlock(self.epoch.number, height, digest)
            self._out.extend(Send(peer, request) for peer in self.peers)
        if self.witness and self._finalized:
            self._skip_ahead(now)

    def _skip_ahead(self, now: float) -> None:
        """The witness log carries no state: a finalization is enough to go on from, without what is below it."""
        certificate = self._finalized[max(self._finalized)]
        self._out.append(Persist(encode_record(CertificateRecord(certificate, True))))
        self._move_base(certificate)
        self._far_behind = False
        self._after_decision(now)
        # Who waits for a witness among the skipped must ask again.
        self._out.append(LeaderChanged(self.leader, self.view))

    def _on_fetch_block(self, sender: int, message: FetchBlock) -> None:
        block = self._blocks.get(message.digest)
        if block is not None:
            self._out.append(Send(sender, block.proposal))
            return
        recent = self._recent.get(message.height)
        if recent is not None and recent[1].digest == message.digest:
            self._out.append(Send(sender, recent[0]))
            self._out.append(Send(sender, CertificateNotice(self.epoch.number, recent[1])))

    def _on_certificate(self, sender: int, certificate: Certificate, now: float) -> None:
        """A notarization or finalization passed on. Its `parent` is not signed, so only the block's own counts."""
        wrong = certificate.mode is not Mode.BFT or certificate.context != self.context
        if wrong or certificate.phase is Phase.NULLIFY or certificate.index <= self.committed_height:
            return
        slot = self._slots.get((certificate.term, certificate.index))
        if slot is not None:
            known = slot.notarization if certificate.phase is Phase.NOTARIZE else slot.finalization
            if known is not None and known.digest == certificate.digest:
                return
        try:
            self._verifier.check_quorum(certificate)
        except CertificateError as error:
            self._out.append(Evidence(sender, f"passed on a false certificate: {error}", b""))
            return
        if certificate.index > self.committed_height + 4 * self._settings.bft_window + 64:
            self._far_behind = True
            if not self.witness or certificate.phase is not Phase.FINALIZE:
                return
        slot = self._slot(certificate.term, certificate.index)
        if certificate.phase is Phase.NOTARIZE:
            self._on_notarization(slot, certificate, now)
        else:
            self._on_finalization(slot, certificate, now)
        self._vote_where_possible(now)

    # -- recovery --------------------------------------------------------------------------------------------------

    def restore(self, record: Record) -> Sequence[Committed]:
        """Take a record of this node's log; what it shows to be decided."""
        match record:
            case BlockRecord(_, _, parent, entry):
                digest = entry_digest(parent, entry)
                if entry.index > self.committed_height and digest not in self._blocks:
                    self._blocks[digest] = self._restored_block(entry, parent, digest)
            case VoteRecord():
                self._restore_vote(record)
            case CertificateRecord(certificate, _):
                return self._restore_certificate(certificate)
            case InstallRecord(entry, certificate):
                committed = Committed(self.epoch.number, entry, certificate)
                self._decide(committed, None)
                self._out.clear()
                return (committed,)
            case _:
                raise TypeError(f"{type(record).__name__} is no Byzantine record")
        return ()

    def _restored_block(self, entry: Entry, parent: bytes, digest: bytes) -> Block:
        # Only the leader's own blocks can be proposed again: others' signatures are not kept.
        leader = self.leader_of(entry.term)
        message = Propose(self.epoch.number, entry.term, entry.index, parent, entry.kind, entry.payload, leader, b"")
        return Block(entry, parent, digest, message, persisted=True)

    def _restore_vote(self, vote: VoteRecord) -> None:
        self._restore_view(vote.view)
        if vote.phase is Phase.NULLIFY:
            message = Vote(
                self.epoch.number, vote.phase, vote.view, vote.height, vote.digest, self.node, vote.signature
            )
            self._nullifications.add(message)
            return
        slot = Slot(vote.view, vote.height)
        if vote.height > self.committed_height:
            slot = self._slot(vote.view, vote.height)
        self._bind(slot, vote.phase, vote.digest)
        tally = slot.notarize if vote.phase is Phase.NOTARIZE else slot.finalize
        tally.add(self.node, vote.digest, vote.signature)
        block = self._blocks.get(vote.digest)
        if vote.phase is Phase.NOTARIZE and self.leader_of(vote.view) == self.node:
            if vote.view == self.view:
                self._tip = max(self._tip or (0, b""), (vote.height, vote.digest))
            if block is not None:
                block.proposal = replace(block.proposal, signature=vote.signature)

    def _restore_view(self, view: int) -> None:
        if view > self.view:
            self.view = view
            self._finalize_top, self._voted_in_view, self._tip = -1, False, None

    def _restore_certificate(self, certificate: Certificate) -> Sequence[Committed]:
        if certificate.index <= self.committed_height:
            return ()
        if certificate.phase is Phase.NOTARIZE:
            self._slot(certificate.term, certificate.index).notarization = certificate
            self._notarized[certificate.digest] = certificate
            return ()
        block = self._blocks.get(certificate.digest)
        self._restore_view(certificate.term)
        if block is None or block.parent != self.committed_digest:
            self._move_base(certificate)
            return ()
        committed = Committed(self.epoch.number, block.entry, certificate)
        self._decide(committed, block)
        self._out.clear()
        return (committed,)

    def _take(self, now: float) -> list[Effect]:
        self._watch(now)
        out, self._out = self._out, []
        return out
