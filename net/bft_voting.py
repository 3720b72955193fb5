"""Byzantine agreement: proposing, voting and making certificates (R1, R2, R4, R7 and R8 of `net.bft`)."""

from __future__ import annotations

from net.bft_views import BftViews
from net.bft_votes import NO_SLOT, Block, Slot
from net.certificate import entry_digest, signed_bytes
from net.consensus import Evidence, Persist, Send, Sync
from net.durable import CertificateRecord, ViewRecord, VoteRecord, encode_record
from net.evidence import Contradiction, EvidenceError
from net.messages import (
    Certificate,
    CertificateNotice,
    Entry,
    EntryKind,
    Phase,
    Propose,
    Vote,
)
from net.payload_batch import contents_of, pack
from net.submissions import Content


class BftVoting(BftViews):
    """A replica that proposes and votes."""

    def _try_commit(self, now: float) -> None:
        raise NotImplementedError

    def _on_notarization(self, slot: Slot, certificate: Certificate, now: float) -> None:
        raise NotImplementedError

    def _on_finalization(self, slot: Slot, certificate: Certificate, now: float) -> None:
        raise NotImplementedError

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
        """The leader's signature on the proposal is its NOTARIZE vote. It leaves before it is on disk, and counts here
        once it is: a leader that forgot it leads no more (R8).
        """
        self._cast(slot, Phase.NOTARIZE, block.digest, signature, block)
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
        # A slot comes into being with the first thing in it that is proven: strangers' bytes leave no trace.
        known = self.slots.get((message.view, message.height), NO_SLOT)
        sought = self._is_sought(known, digest)
        if not sought and not self._has_room(message):
            return
        if not sought and known.notarize.signatures.get(digest, {}).get(message.leader) != message.signature:
            said = signed_bytes(self.context, Phase.NOTARIZE, message.view, message.height, digest)
            if not self._verifier.verifies(message.leader, said, message.signature):
                if sender == message.leader:
                    self._out.append(Evidence(sender, f"proposal of view {message.view} with a wrong signature", b""))
                return
        slot = self._slot(message.view, message.height)
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
        if not self._acceptable(block.entry.kind, block.entry.payload, block.entry.index):
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

    def _cast(self, slot: Slot, phase: Phase, digest: bytes, signature: bytes, block: Block | None) -> None:
        """Bind this node to a vote: remember it and put it on disk, before it leaves (R7)."""
        if block is not None and not block.persisted:
            block.persisted = True
            self._out.append(Persist(encode_record(self._block_record(block))))
        self._bind(slot, phase, digest)
        vote = VoteRecord(self.epoch.number, self.witness, phase, slot.view, slot.height, digest, signature)
        self._out.append(Persist(encode_record(vote)))
        self._out.append(Sync())

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
            self._keep_late(self.past_slots.get((vote.view, vote.height)), sender, vote)
            return
        known = self.slots.get((vote.view, vote.height), NO_SLOT)
        done = known.notarization if vote.phase is Phase.NOTARIZE else known.finalization
        before = known.tally(vote.phase).digest_of.get(vote.voter)
        if before == vote.digest or (before is None and done is not None and done.digest == vote.digest):
            # Votes past the quorum stay unverified.
            self._keep_late(known, sender, vote)
            return
        said = signed_bytes(self.context, vote.phase, vote.view, vote.height, vote.digest)
        if not self._verifier.verifies(vote.voter, said, vote.signature):
            if sender == vote.voter:
                self._out.append(Evidence(sender, f"{vote.phase.name} vote with a wrong signature", b""))
            return
        slot = self._slot(vote.view, vote.height)
        if before is not None:
            self._accuse(slot, vote.phase, vote.voter, vote.digest, vote.signature, now)
            return
        if slot.late:
            self._keep_late(slot, sender, vote)
        self._count(slot, vote.phase, vote.digest, vote.voter, vote.signature, now)

    def _keep_late(self, slot: Slot | None, sender: int, vote: Vote) -> None:
        """A vote that changes nothing any more still shows a lie where its voter signed another one: else whoever votes
        last may sign what it likes. It is verified only then, and only what comes from the voter itself is kept.
        """
        if slot is None or sender != vote.voter:
            return
        other = slot.other_vote(vote)
        if other is None:
            slot.late.setdefault((vote.phase, vote.voter), vote)
            return
        contradiction = Contradiction(self.context, other, vote)
        try:
            contradiction.check(self._verifier)
        except EvidenceError:
            self._out.append(Evidence(sender, f"{vote.phase.name} vote with a wrong signature", b""))
            return
        self._prove(contradiction)

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
