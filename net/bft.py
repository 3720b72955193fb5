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
R7  Every vote is on disk before it leaves, and binds after a restart; but for a leader's vote in its proposal:
R8  A leader has its view on disk before it proposes in it, and gives it up when it restarts there: it never proposes
    or NOTARIZE-votes there again, so what it forgot it cannot contradict. So that vote waits for no sync, and counts at
    once; the next one, of its FINALIZE vote, brings it to disk.

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

The tests: `test_r1_...` to `test_r7_...` of `tests/unit/test_bft.py` and, for R8,
`test_a_leader_that_restarts_gives_up_the_view_that_it_proposed_in`; the simulation checks I4 and the certificates after
every event, and I5 once the faults stop; `tests/simulation/scripts/bft_*.txt` play the attacks on a view change.

`net.bft_fast` is the same with one round of votes, for 4 or 5 nodes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from net import bft_repeat
from net.bft_state import BftState
from net.bft_votes import Block, Slot
from net.certificate import CertificateError, Verifier, entry_digest, signed_bytes
from net.consensus import Commit, Effect, Evidence, LeaderChanged, Persist, Send, Sync
from net.durable import CertificateRecord, InstallRecord, ViewRecord, VoteRecord, encode_record
from net.epoch import Epoch
from net.evidence import PROOFS_PER_CULPRIT_MAX, Contradiction, EvidenceError
from net.messages import (
    DECIDING,
    Certificate,
    CertificateNotice,
    Committed,
    ConsensusMessage,
    Entry,
    EntryKind,
    EvidenceNotice,
    FetchBlock,
    Forward,
    Mode,
    Phase,
    Propose,
    Vote,
)
from net.payload_batch import contents_of, pack
from net.settings import ConsensusSettings
from net.submissions import Content

NO_DIGEST = bytes(32)
_VIEWS_AHEAD = 64
_UNCHECKED_MAX = 64


class SafetyViolation(RuntimeError):
    """Two certificates contradict each other: more than f nodes lie. The node must stop."""


class BftCore(BftState):
    """One replica's Byzantine state machine, of an epoch's log or of the witness log beside an AUTO epoch."""

    def __init__(
        self,
        node: int,
        epoch: Epoch,
        witness: bool,
        sign: Callable[[bytes], bytes],
        verifier: Verifier,
        settings: ConsensusSettings,
        validate: Callable[[EntryKind, bytes], bool],
        voting: bool = True,
    ) -> None:
        """`voting` is False for a learner, and for a voter whose disk is not the one that the membership names."""
        super().__init__(node, epoch, witness, verifier, settings, validate, voting)
        self._queue: deque[Content] = deque()
        self._wanted: dict[Content, None] = {}
        self._barren_views = 0
        self._leader_heard_at = 0.0
        self._waiting_since: float | None = None
        self._resend_at: float | None = None
        self._answered_at: dict[int, float] = {}
        self._held_back: list[Certificate] = []
        self._relay_at: float | None = None
        self._unchecked: list[tuple[int, Certificate]] = []
        self._check_at: float | None = None
        self._leads_on_disk = -1
        self._proofs: dict[int, set[str]] = {}
        self._beats = 0
        self._sign = sign
        self._out: list[Effect] = []

    # -- what the replica asks ----------------------------------------------------------------------------------------

    def take_rare_beat(self) -> bool:
        """True every tenth call: how often one that does not lead says how far it is."""
        self._beats += 1
        return self._beats % 10 == 0

    def heard_from(self, peer: int, height: int, now: float) -> None:
        """A sign of life that says how far `peer` is."""
        self.peer_heights[peer] = height
        if peer == self.leader:
            self._leader_heard_at = now

    # -- the interface of a core --------------------------------------------------------------------------------------

    def start(self, now: float) -> list[Effect]:
        self._leader_heard_at = now
        self._out.append(LeaderChanged(self.leader, self.view))
        if self.led_before_restart == self.view:
            self._nullify(now)
        self._vote_where_possible(now)
        self._propose_where_possible(now)
        return self._take(now)

    def step(self, sender: int, message: ConsensusMessage, now: float) -> list[Effect]:
        if self.sealed:
            return []
        if sender == self.leader:
            self._leader_heard_at = now
        match message:
            case Vote():
                self._on_vote(sender, message, now)
            case Propose():
                self._on_propose(sender, message, now)
            case CertificateNotice():
                self._on_certificate_notice(sender, message.certificate, now)
            case EvidenceNotice():
                self._on_evidence(sender, message)
            case FetchBlock():
                self._out.extend(Send(sender, answer) for answer in bft_repeat.for_fetch(self, message))
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
            for block in self.blocks.values():
                flying.update(contents_of(block.entry.kind, block.entry.payload))
            return self.propose_contents([content for content in contents if content not in flying], now)
        fresh = [content for content in contents if content not in self._wanted and self._acceptable(*content)]
        for content in fresh:
            # The sender may have left out the leader, to cost it its view.
            self._out.append(Send(self.leader, Forward(self.epoch.number, content[0], (content[1],))))
        self.want(fresh, now)
        return self._take(now)

    def want(self, contents: Iterable[Content], now: float) -> None:
        """These must be decided in time, or the leader loses its view."""
        # A forward that was long under way asks for what is decided already. Not so for a witness: each is used once,
        # so what is ordered twice needs two.
        recent = () if self.witness else self.recent.values()
        decided = {each for proposal, _ in recent for each in contents_of(proposal.kind, proposal.payload)}
        for content in contents:
            room = len(self._wanted) < self._settings.pending_limit
            if room and content not in decided and self._acceptable(*content):
                self._wanted[content] = None
        self._watch(now)

    def tick(self, now: float) -> list[Effect]:
        if self.sealed:
            return []
        if self.voting and not self.nullified:
            silent = self.leader != self.node and now >= self._silence_deadline()
            stuck = self._waiting_since is not None and now >= self._waiting_since + self._patience()
            if silent or stuck:
                self._nullify(now)
        if self._check_at is not None and now >= self._check_at:
            self._check_finalizations(now)
        if self._relay_at is not None and now >= self._relay_at:
            self._relay_held_back()
        if self._resend_at is not None and now >= self._resend_at:
            self._resend_at = now + self._settings.resend_interval_s
            for message in bft_repeat.for_everybody(self):
                self._send_all(message)
            if self.witness and self.finalized:
                self._skip_ahead(now)
        return self._take(now)

    def next_deadline(self) -> float | None:
        if self.sealed:
            return None
        due = [each for each in (self._resend_at, self._relay_at, self._check_at) if each is not None]
        if self.voting and not self.nullified:
            if self.leader != self.node:
                due.append(self._silence_deadline())
            if self._waiting_since is not None:
                due.append(self._waiting_since + self._patience())
        return min(due) if due else None

    def install(self, committed: Committed, now: float) -> list[Effect]:
        """Take the next decided entry from a peer; the replica has verified its certificate."""
        if committed.entry.index == self.committed_height + 1 and not self.sealed:
            self._out.append(Persist(encode_record(InstallRecord(committed.entry, committed.certificate))))
            self._decide(committed, None)
            self.far_behind = False
            self._after_decision(now)
        return self._take(now)

    def install_snapshot(self, index: int, term: int, digest: bytes, now: float) -> list[Effect]:
        """The log goes on behind a certified checkpoint at `index`, whose last entry is of view `term`.

        No effect at or below the decided height. Emits no Commit: the caller restores the state, and rewrites the
        durable log (`live_records`) before the node sends anything more.
        """
        if index > self.committed_height and not self.sealed:
            self._move_base_to(index, term, digest)
            self.far_behind = False
            self._after_decision(now)
        return self._take(now)

    # -- timers -------------------------------------------------------------------------------------------------------

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
        if self.sealed:
            return False
        if self._wanted or self._queue or self.finalized:
            return True
        if self.view > self.first_view and self.committed_view < self.view:
            return True
        return any(slot.view == self.view for slot in self.slots.values())

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

    # -- proposing ----------------------------------------------------------------------------------------------------

    def _propose_where_possible(self, now: float) -> None:
        if self.leader != self.node or self.nullified or self.sealed or not self.voting:
            return
        if self.tip is None:
            start = self._start_parent()
            if start is None:
                return
            self.tip = start
            if not self.in_first_view and self.committed_view < self.view:
                # A blank block of the own view decides, with itself, what was notarized before.
                self._propose_block(EntryKind.NOOP, b"", now)
        while self._queue and self.tip[0] < self.committed_height + self._settings.bft_window:
            parent = self.blocks.get(self.tip[1])
            if parent is not None and not self.witness and self._ends_epoch(parent.entry):
                return
            self._propose_block(*self._next_content(), now)

    def _next_content(self) -> Content:
        """The oldest of what waits, or a batch of the oldest; the witness log certifies payloads one by one."""
        most = 1 if self.witness else self._settings.batch_payloads
        waiting = [self._queue[at] for at in range(min(most, len(self._queue)))]
        content = pack(waiting, most)[0]
        for _ in contents_of(*content):
            self._queue.popleft()
        return content

    def _propose_block(self, kind: EntryKind, payload: bytes, now: float) -> None:
        assert self.tip is not None
        if self._leads_on_disk != self.view:
            self._leads_on_disk = self.view
            record = ViewRecord(self.epoch.number, self.witness, self.view, self.finalize_top, self.voted_in_view)
            self._out.append(Persist(encode_record(record)))
            self._out.append(Sync())
        height, parent = self.tip[0] + 1, self.tip[1]
        entry = Entry(height, self.view, kind, payload)
        digest = entry_digest(parent, entry)
        signature = self._sign(signed_bytes(self.context, Phase.NOTARIZE, self.view, height, digest))
        message = Propose(self.epoch.number, self.view, height, parent, kind, payload, self.node, signature)
        block = Block(entry, parent, digest, message)
        self.blocks[digest] = block
        self.tip = (height, digest)
        slot = self._slot(self.view, height)
        self._relay_held_back()
        self._send_all(message)
        self._vote_for_own(slot, block, signature, now)

    def _vote_for_own(self, slot: Slot, block: Block, signature: bytes, now: float) -> None:
        """The leader's signature on the proposal is its NOTARIZE vote, which need not be on disk (R8)."""
        self._cast(slot, Phase.NOTARIZE, block.digest, signature, block, sync=False)
        self._count(slot, Phase.NOTARIZE, block.digest, self.node, signature, now)

    def _on_propose(self, sender: int, message: Propose, now: float) -> None:
        if message.leader != self.leader_of(message.view) or not self._in_range(
            sender, message.view, message.height, now
        ):
            return
        entry = Entry(message.height, message.view, message.kind, message.payload)
        digest = entry_digest(message.parent, entry)
        if digest in self.blocks:
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
        self.blocks[digest] = Block(entry, message.parent, digest, message)
        if not sought:
            self._count(slot, Phase.NOTARIZE, digest, message.leader, message.signature, now)
        self._check_quorums(slot, now)
        self._try_commit(now)
        self._vote_where_possible(now)

    # -- voting -------------------------------------------------------------------------------------------------------

    def _vote_where_possible(self, now: float) -> None:
        """NOTARIZE-vote the blocks of the current view that the rules allow, lowest first."""
        if self.nullified or self.sealed or not self.voting:
            return
        view = self.view
        here = [block for block in self.blocks.values() if block.entry.term == view]
        here.sort(key=lambda block: block.entry.index)
        for block in here:
            slot = self._slot(view, block.entry.index)
            if slot.voted is not None or self.view != view or self.nullified:
                continue
            if self._may_extend(block):
                self._notarize(slot, block, now)

    def _notarize(self, slot: Slot, block: Block, now: float) -> None:
        if not self._acceptable(block.entry.kind, block.entry.payload):
            self._out.append(
                Evidence(self.leader, f"proposed {block.entry.kind.name} content that this node refuses", b"")
            )
            self._nullify(now)
            return
        self._vote(slot, block, now)

    def _vote(self, slot: Slot, block: Block, now: float) -> None:
        signature = self._sign(signed_bytes(self.context, self.vote_phase, slot.view, slot.height, block.digest))
        self._cast(slot, self.vote_phase, block.digest, signature, block)
        self._tell_vote(self.vote_phase, slot.view, slot.height, block.digest, signature)
        self._count(slot, self.vote_phase, block.digest, self.node, signature, now)

    def _finalize(self, slot: Slot, digest: bytes, now: float) -> None:
        if slot.finalization is not None or slot.finalize_voted is not None or not self.voting:
            return
        signature = self._sign(signed_bytes(self.context, Phase.FINALIZE, slot.view, slot.height, digest))
        if slot.notarization is not None:
            self._out.append(Persist(encode_record(CertificateRecord(slot.notarization, self.witness))))
        self._cast(slot, Phase.FINALIZE, digest, signature, None)
        self._tell_vote(Phase.FINALIZE, slot.view, slot.height, digest, signature)
        self._count(slot, Phase.FINALIZE, digest, self.node, signature, now)

    def _cast(
        self, slot: Slot, phase: Phase, digest: bytes, signature: bytes, block: Block | None, sync: bool = True
    ) -> None:
        """Bind this node to a vote: remember it and put it on disk, before it leaves (R7)."""
        if block is not None and not block.persisted:
            block.persisted = True
            self._out.append(Persist(encode_record(self._block_record(block))))
        self._bind(slot, phase, digest)
        vote = VoteRecord(self.epoch.number, self.witness, phase, slot.view, slot.height, digest, signature)
        self._out.append(Persist(encode_record(vote)))
        if sync:
            self._out.append(Sync())

    def _send_all(self, message: ConsensusMessage) -> None:
        self._out.extend(Send(peer, message) for peer in self.peers)

    def _tell_vote(self, phase: Phase, view: int, height: int, digest: bytes, signature: bytes) -> None:
        """A vote leaves: to the leader who makes certificates of it, or to everybody.

        That is a matter of progress alone: a certificate proves itself, and what a leader keeps to itself everybody
        says again to all (`bft_repeat`), before the view's patience ends.
        """
        vote = Vote(self.epoch.number, phase, view, height, digest, self.node, signature)
        if not self._settings.relay_votes or view != self.view:
            self._send_all(vote)
        elif self.leader != self.node:
            self._out.append(Send(self.leader, vote))

    def _relay(self, certificate: Certificate, now: float) -> None:
        """This node leads and has made a certificate of the votes that it got; everybody waits for it.

        A finalization rides with the next proposal, and goes alone where none comes soon.
        """
        if not self._settings.relay_votes or self.leader != self.node or certificate.term != self.view:
            return
        self._held_back.append(certificate)
        if certificate.phase is Phase.NOTARIZE:
            self._relay_held_back()
        elif self._relay_at is None:
            self._relay_at = now + self._settings.commit_push_delay_s

    def _relay_held_back(self) -> None:
        self._relay_at = None
        held, self._held_back = self._held_back, []
        for certificate in held:
            self._send_all(CertificateNotice(self.epoch.number, certificate))

    def _on_vote(self, sender: int, vote: Vote, now: float) -> None:
        if not self._verifier.knows(vote.voter):
            return
        if vote.phase is Phase.NULLIFY:
            self._on_nullify(sender, vote, now)
            return
        if vote.phase not in (self.vote_phase, Phase.FINALIZE):
            return
        if not self._in_range(sender, vote.view, vote.height, now):
            return
        slot = self._slot(vote.view, vote.height)
        tally = slot.tally(vote.phase)
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
        tally = slot.tally(phase)
        if culprit in tally.accused:
            return
        tally.accused.add(culprit)
        before = tally.digest_of[culprit]
        first, second = (
            Vote(self.epoch.number, phase, slot.view, slot.height, each, culprit, mark)
            for each, mark in ((before, tally.signatures[before][culprit]), (digest, signature))
        )
        self._prove(Contradiction(self.context, first, second))
        if slot.view == self.view and culprit == self.leader:
            self._nullify(now)

    def _prove(self, contradiction: Contradiction) -> None:
        """Keep a checked proof, and pass it on once: the liar may have told each of us something else."""
        proofs = self._proofs.setdefault(contradiction.culprit, set())
        if len(proofs) >= PROOFS_PER_CULPRIT_MAX or contradiction.reason in proofs:
            return
        proofs.add(contradiction.reason)
        self._out.append(Evidence(contradiction.culprit, contradiction.reason, contradiction.encode()))
        self._send_all(EvidenceNotice(self.epoch.number, self.witness, contradiction.first, contradiction.second))

    def _on_evidence(self, sender: int, notice: EvidenceNotice) -> None:
        contradiction = Contradiction(self.context, notice.first, notice.second)
        proofs = self._proofs.get(contradiction.culprit, ())
        known = contradiction.reason in proofs or contradiction.culprit == self.node
        if notice.witness is not self.witness or known:
            return
        if len(proofs) >= PROOFS_PER_CULPRIT_MAX:
            return
        try:
            contradiction.check(self._verifier)
        except EvidenceError as error:
            self._out.append(Evidence(sender, f"passed on false evidence: {error}", b""))
            return
        self._prove(contradiction)

    def _count(self, slot: Slot, phase: Phase, digest: bytes, voter: int, signature: bytes, now: float) -> None:
        tally = slot.tally(phase)
        if tally.add(voter, digest, signature) >= self.quorum:
            self._check_quorums(slot, now)

    def _check_quorums(self, slot: Slot, now: float) -> None:
        """Form the certificates that the slot's votes allow; the block must be known, for its parent."""
        if slot.notarization is None and (made := self._certificate(slot, Phase.NOTARIZE, slot.notarize)):
            self._relay(made, now)
            self._on_notarization(slot, made, now)
        if slot.finalization is None and (made := self._certificate(slot, Phase.FINALIZE, slot.finalize)):
            self._relay(made, now)
            self._on_finalization(slot, made, now)

    def _on_notarization(self, slot: Slot, certificate: Certificate, now: float) -> None:
        slot.notarization = certificate
        self.notarized[certificate.digest] = certificate
        if slot.view > self.view:
            # A quorum works in that view: it was entered rightly.
            self._enter_view(slot.view, now)
        if slot.view == self.view and not self.nullified:
            self._finalize(slot, certificate.digest, now)
            self._vote_where_possible(now)
        self._propose_where_possible(now)

    def _on_finalization(self, slot: Slot, certificate: Certificate, now: float) -> None:
        slot.finalization = certificate
        before = self.finalized.get(slot.height)
        if before is not None and before.digest != certificate.digest:
            raise SafetyViolation(
                f"two blocks are finalized at height {slot.height}: more than {self.faults} nodes lie"
            )
        self.finalized[slot.height] = certificate
        if slot.view > self.view:
            self._enter_view(slot.view, now)
        self._try_commit(now)

    # -- deciding -----------------------------------------------------------------------------------------------------

    def _try_commit(self, now: float) -> None:
        decided = False
        while not self.sealed and (certificate := self.finalized.get(self.committed_height + 1)) is not None:
            block = self.blocks.get(certificate.digest)
            if block is None:
                break
            if block.parent != self.committed_digest:
                raise SafetyViolation(f"the block finalized at height {block.entry.index} does not extend the log")
            if certificate.parent != block.parent:
                certificate = replace(certificate, parent=block.parent)
            if not block.persisted:
                self._out.append(Persist(encode_record(self._block_record(block))))
            self._out.append(Persist(encode_record(CertificateRecord(certificate, self.witness))))
            self._decide(Committed(self.epoch.number, block.entry, certificate), block)
            decided = True
        if decided:
            self._after_decision(now)
        if self.finalized and not self.sealed:
            self._confirm_ancestors(now)

    def _confirm_ancestors(self, now: float) -> None:
        """R6: what is below a finalized block is decided; vote for it so that it gets its own certificate."""
        certificate = self.finalized[min(self.finalized)]
        digest = certificate.digest
        while (block := self.blocks.get(digest)) is not None and block.entry.index > self.committed_height:
            slot = self._slot(block.entry.term, block.entry.index)
            self._finalize(slot, digest, now)
            digest = block.parent

    def _decide(self, committed: Committed, block: Block | None) -> None:
        """The next height is decided: give it out."""
        self._out.append(Commit((committed,)))
        for content in contents_of(committed.entry.kind, committed.entry.payload):
            self._wanted.pop(content, None)
        self._settle(committed, block)

    def _after_decision(self, now: float) -> None:
        self._barren_views = 0
        self._waiting_since = None
        self._resend_at = None
        if self.committed_view > self.view:
            self._enter_view(self.committed_view, now)
        if self.tip is not None and self.tip[0] < self.committed_height:
            self.tip = (self.committed_height, self.committed_digest)
        self._vote_where_possible(now)
        self._propose_where_possible(now)

    # -- giving up a view ---------------------------------------------------------------------------------------------

    def _nullify(self, now: float) -> None:
        """R5."""
        if self.nullified or self.sealed or not self.voting:
            return
        self._cast_nullify(self.view, *self._report())
        self._check_nullified(now)

    def _report(self) -> tuple[int, bytes]:
        """The height and digest of this node's NULLIFY vote in the current view."""
        return self.finalize_top + 1, NO_DIGEST

    def _cast_nullify(self, view: int, height: int, digest: bytes) -> None:
        signature = self._sign(signed_bytes(self.context, Phase.NULLIFY, view, height, digest))
        vote = Vote(self.epoch.number, Phase.NULLIFY, view, height, digest, self.node, signature)
        record = VoteRecord(self.epoch.number, self.witness, Phase.NULLIFY, view, height, digest, signature)
        self._out.append(Persist(encode_record(record)))
        self._out.append(Sync())
        self.nullifications.add(vote)
        for message in bft_repeat.nullify_messages(self, vote):
            self._send_all(message)

    def _on_nullify(self, sender: int, vote: Vote, now: float) -> None:
        if vote.view < self.committed_view or vote.view > self.view + _VIEWS_AHEAD:
            self._answer_laggard(sender, vote.view, now)
            return
        before = self.nullifications.of(vote.view, vote.voter)
        if before is None or (before.height, before.digest) != (vote.height, vote.digest):
            said = signed_bytes(self.context, Phase.NULLIFY, vote.view, vote.height, vote.digest)
            unfit = vote.digest != NO_DIGEST and self.vote_phase is Phase.NOTARIZE
            if unfit or not self._verifier.verifies(vote.voter, said, vote.signature):
                if sender == vote.voter:
                    self._out.append(Evidence(sender, "NULLIFY vote with a wrong signature", b""))
                return
            if before is not None:
                self._prove(Contradiction(self.context, before, vote))
                self._on_second_nullify(sender, vote, now)
                return
            self._keep_nullify(vote)
            self._check_nullified(now)
            self._vote_where_possible(now)
            self._propose_where_possible(now)
        if vote.view < self.view and sender == vote.voter:
            self._answer_laggard(sender, vote.view, now)

    def _keep_nullify(self, vote: Vote) -> None:
        self.nullifications.add(vote)

    def _on_second_nullify(self, sender: int, vote: Vote, now: float) -> None:
        """A voter's second NULLIFY of one view counts for nothing."""

    def _check_nullified(self, now: float) -> None:
        """f + 1 votes hold an honest one, and a leader may give itself up: join. A quorum of votes: the next view."""
        highest = self.nullifications.highest_view_with(self.quorum)
        if highest is not None and highest >= self.view:
            self._enter_view(highest + 1, now)
            return
        resigned = self.nullifications.of(self.view, self.leader) is not None
        if not self.nullified and (resigned or self.nullifications.count(self.view) > self.faults):
            self._nullify(now)

    def _enter_view(self, view: int, now: float) -> None:
        if view <= self.view:
            return
        # Without the votes of those that skip a view, a liar's vote could leave the next leader without grounds.
        for left in range(max(self.view, view - _VIEWS_AHEAD), view):
            if self.voting and self.nullifications.of(left, self.node) is None:
                self._cast_nullify(left, *(self._report() if left == self.view else (0, NO_DIGEST)))
        self.view = view
        self.elections += 1
        self._barren_views += 1
        self.finalize_top = -1
        self.voted_in_view = False
        self.tip = None
        self._waiting_since = now
        self._resend_at = now + self._settings.resend_interval_s
        self._leader_heard_at = now
        # What was queued is handed over again by those who submitted it, once the new view has decided something.
        self._queue.clear()
        self._wanted.clear()
        self._out.append(LeaderChanged(self.leader, view))
        self._vote_where_possible(now)
        self._propose_where_possible(now)

    # -- loss, lag and memory -----------------------------------------------------------------------------------------

    def _in_range(self, sender: int, view: int, height: int, now: float) -> bool:
        """Whether a slot is worth keeping (a liar must not fill the memory); peers that lag get an answer."""
        if height <= self.committed_height:
            if height < self.committed_height or view < self.view:
                self._answer_laggard(sender, view, now)
            return False
        if height > self.committed_height + 4 * self._settings.bft_window + 64:
            self.far_behind = True
            return False
        if view < self.view:
            self._answer_laggard(sender, view, now)
        return self.first_view <= view <= self.view + _VIEWS_AHEAD and view >= self.committed_view

    def _answer_laggard(self, peer: int, view: int, now: float) -> None:
        """Send what lets a peer leave an old view or height."""
        if now < self._answered_at.get(peer, float("-inf")) + self._settings.resend_interval_s / 2:
            return
        self._answered_at[peer] = now
        self._out.extend(Send(peer, message) for message in bft_repeat.for_laggard(self, view))

    def _skip_ahead(self, now: float) -> None:
        """The witness log carries no state: a finalization is enough to go on from, without what is below it."""
        certificate = self.finalized[max(self.finalized)]
        self._out.append(Persist(encode_record(CertificateRecord(certificate, True))))
        self._move_base(certificate)
        self.far_behind = False
        self._after_decision(now)
        # Who waits for a witness among the skipped must ask again.
        self._out.append(LeaderChanged(self.leader, self.view))

    def _on_certificate_notice(self, sender: int, certificate: Certificate, now: float) -> None:
        """A finalization waits until this turn's votes are out: the leader waits for those, nobody for its checking."""
        if certificate.phase in DECIDING and sender == self.leader and len(self._unchecked) < _UNCHECKED_MAX:
            self._unchecked.append((sender, certificate))
            self._check_at = now
        else:
            self._on_certificate(sender, certificate, now)

    def _check_finalizations(self, now: float) -> None:
        self._check_at = None
        unchecked, self._unchecked = self._unchecked, []
        for sender, certificate in unchecked:
            self._on_certificate(sender, certificate, now)

    def _on_certificate(self, sender: int, certificate: Certificate, now: float) -> None:
        """A notarization or finalization passed on. Its `parent` is not signed, so only the block's own counts."""
        wrong = certificate.mode is not Mode.BFT or certificate.context != self.context
        if (
            wrong
            or certificate.phase not in (self.vote_phase, Phase.FINALIZE)
            or certificate.index <= self.committed_height
        ):
            return
        slot = self.slots.get((certificate.term, certificate.index))
        if slot is not None:
            known = slot.notarization if certificate.phase is Phase.NOTARIZE else slot.finalization
            if known is not None and known.digest == certificate.digest:
                return
        try:
            self._verifier.check_quorum(certificate, self._verified_votes(slot, certificate))
        except CertificateError as error:
            self._out.append(Evidence(sender, f"passed on a false certificate: {error}", b""))
            return
        if certificate.index > self.committed_height + 4 * self._settings.bft_window + 64:
            self.far_behind = True
            if not self.witness or certificate.phase not in DECIDING:
                return
        slot = self._slot(certificate.term, certificate.index)
        if certificate.phase is Phase.NOTARIZE:
            self._on_notarization(slot, certificate, now)
        else:
            self._on_finalization(slot, certificate, now)
        self._vote_where_possible(now)

    def _verified_votes(self, slot: Slot | None, certificate: Certificate) -> Mapping[int, bytes]:
        """Signatures of the same statement that this node has checked already, or made, by voter."""
        if slot is None:
            return {}
        return slot.tally(certificate.phase).signatures.get(certificate.digest, {})

    def _take(self, now: float) -> list[Effect]:
        self._watch(now)
        out, self._out = self._out, []
        return out
