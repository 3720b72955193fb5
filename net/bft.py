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
    or NOTARIZE-votes there again, so what it forgot it cannot contradict.

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

The layers: `net.bft_state`, `net.bft_views`, `net.bft_voting`, and here deciding and the interface.

The tests: `test_r1_...` to `test_r7_...` of `tests/unit/test_bft.py` and, for R8,
`test_a_leader_that_restarts_gives_up_the_view_that_it_proposed_in`; the simulation checks I4 and the certificates after
every event, and I5 once the faults stop; `tests/simulation/scripts/bft_*.txt` play the attacks on a view change.

`net.bft_fast` is the same with one round of votes, for 4 or 5 nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from net import bft_repeat
from net.bft_views import NO_DIGEST
from net.bft_votes import Block, Slot
from net.bft_voting import BftVoting
from net.certificate import CertificateError, first_quorum
from net.consensus import Commit, Effect, Evidence, LeaderChanged, Persist, Refused, Send
from net.durable import CertificateRecord, InstallRecord, Record, encode_record
from net.messages import (
    DECIDING,
    Certificate,
    CertificateNotice,
    Committed,
    ConsensusMessage,
    EvidenceNotice,
    FetchBlock,
    Forward,
    Mode,
    Phase,
    Propose,
    Vote,
)
from net.payload_batch import contents_of
from net.submissions import Content

_UNCHECKED_MAX = 64


class SafetyViolation(RuntimeError):
    """Two certificates contradict each other: more than f nodes lie. The node must stop."""


class BftCore(BftVoting):
    """One replica's Byzantine state machine, of an epoch's log or of the witness log beside an AUTO epoch."""

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
        """Leader: propose these, as the window allows; past the bound the rest is left to be handed over again.

        `Refused` are those that no honest replica votes for.
        """
        for content in contents:
            if len(self._queue) >= 2 * self._settings.pending_limit:
                break
            if self._acceptable(*content, self.highest_height + 1):
                self._queue.append(content)
            else:
                self._out.append(Refused(*content))
        self._propose_where_possible(now)
        return self._take(now)

    def on_forward(self, sender: int, contents: Sequence[Content], now: float) -> list[Effect]:
        """Contents of another node: a leader proposes what is not in flight yet; others watch that it is proposed.

        What is decided already is neither, or two nodes that take each other for the leader would pass it on for ever;
        but see `net.decided` for equal bytes that are meant once more. This node itself knows what it misses.
        """
        if sender != self.node:
            contents = [each for each in contents if not self._decided.is_late(sender, each, now)]
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
        for content in contents:
            room = len(self._wanted) < self._settings.pending_limit
            # A forward that was long under way asks for what is decided already.
            if room and content not in self._decided and self._acceptable(*content):
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
        """Take the next decided entry from a peer; the replica has verified its certificate.

        No more of it: a Byzantine epoch has no witnesses, so what the peer gives for one proves nothing.
        """
        if committed.entry.index == self.committed_height + 1 and not self.sealed:
            certificate = first_quorum(committed.certificate, self.quorum)
            committed = Committed(self.epoch.number, committed.entry, certificate)
            self._out.append(Persist(encode_record(InstallRecord(committed.entry, certificate))))
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

    # -- certificates -------------------------------------------------------------------------------------------------

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
        self._remember(committed)
        self._settle(committed, block)

    def _remember(self, committed: Committed) -> None:
        """Not for a witness: each is used once, so what is ordered twice needs two."""
        if not self.witness:
            self._decided.add(contents_of(committed.entry.kind, committed.entry.payload))

    def restore(self, record: Record) -> Sequence[Committed]:
        decided = super().restore(record)
        for committed in decided:
            self._remember(committed)
        return decided

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

    # -- loss, lag and memory -----------------------------------------------------------------------------------------

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
        if (
            certificate.context != self.context
            or certificate.phase not in (self.vote_phase, Phase.FINALIZE)
            or certificate.index <= self.committed_height
        ):
            return
        if self._is_mislabelled(certificate):
            self._out.append(Evidence(sender, "passed on a certificate under another epoch or mode", b""))
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
        certificate = self._as_signed(certificate)
        slot = self._slot(certificate.term, certificate.index)
        if certificate.phase is Phase.NOTARIZE:
            self._on_notarization(slot, certificate, now)
        else:
            self._on_finalization(slot, certificate, now)
        self._vote_where_possible(now)

    def _is_mislabelled(self, certificate: Certificate) -> bool:
        """Whether the epoch or mode, which nobody signs, contradict the context, which all sign and which covers both.

        No honest node sends that on; a record of another epoch would keep this node from starting again.
        """
        return certificate.epoch != self.epoch.number or certificate.mode is not Mode.BFT

    def _as_signed(self, certificate: Certificate) -> Certificate:
        """`certificate` without what nobody signed or checked: it goes on disk, into the history and to others.

        The parent is the block's own, none where the block is not here yet; signatures past the quorum are left out.
        """
        block = self.blocks.get(certificate.digest)
        return replace(first_quorum(certificate, self.quorum), parent=NO_DIGEST if block is None else block.parent)

    def _verified_votes(self, slot: Slot | None, certificate: Certificate) -> Mapping[int, bytes]:
        """Signatures of the same statement that this node has checked already, or made, by voter."""
        if slot is None:
            return {}
        return slot.tally(certificate.phase).signatures.get(certificate.digest, {})

    def _take(self, now: float) -> list[Effect]:
        self._watch(now)
        out, self._out = self._out, []
        return out
