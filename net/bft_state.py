"""What one replica of the Byzantine protocol knows and is bound to; rules R2, R3 and R7 of `net.bft`.

Everything here is a pure function of the state: it sends nothing, signs nothing and keeps no time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace

from net.bft_votes import Block, Nullifications, Slot, Tally
from net.certificate import Verifier, entry_digest
from net.durable import (
    BlockRecord,
    CertificateRecord,
    InstallRecord,
    Record,
    ViewRecord,
    VoteRecord,
    encode_record,
)
from net.epoch import Epoch
from net.messages import ENDS_EPOCH, Certificate, Committed, Entry, EntryKind, Mode, Phase, Propose, Vote
from net.quorum import byzantine_faults, byzantine_quorum
from net.settings import ConsensusSettings

RECENT_BLOCKS = 256
PAST_SLOTS = 64
"""Decided slots in which a late vote is still compared with what its voter said before."""
PROPOSED_BYTES_MAX = 64 << 20
"""Of the undecided blocks of one leader: a liar fills its own share, not the others'."""
SMALL_PAYLOAD_BYTES = 4_096
"""Blocks of so little are bounded by their number alone."""
_ORDERED = (EntryKind.DATA, EntryKind.BATCH, EntryKind.SWITCH, EntryKind.MEMBERSHIP)


class BftState:
    """The slots, blocks and votes above the last decided height, and this replica's own promises."""

    vote_phase = Phase.NOTARIZE
    """What a replica votes on a proposal."""

    def __init__(
        self,
        node: int,
        epoch: Epoch,
        witness: bool,
        verifier: Verifier,
        settings: ConsensusSettings,
        validate: Callable[[EntryKind, bytes, int | None], bool],
        voting: bool,
    ) -> None:
        self.node = node
        self.nodes = epoch.membership.voters
        self.voting = voting and node in self.nodes
        self.peers = tuple(peer for peer in epoch.membership.nodes if peer != node)
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
        self.slots: dict[tuple[int, int], Slot] = {}
        self.past_slots: OrderedDict[tuple[int, int], Slot] = OrderedDict()
        self.blocks: dict[bytes, Block] = {}
        self.notarized: dict[bytes, Certificate] = {}
        self.finalized: dict[int, Certificate] = {}
        self.recent: OrderedDict[int, tuple[Propose, Certificate]] = OrderedDict()
        self.last_certificate: Certificate | None = None
        self.nullifications = Nullifications(self.quorum)
        self.finalize_top = -1
        self.voted_in_view = False
        self.tip: tuple[int, bytes] | None = None
        self.sealed = False
        self.far_behind = False
        self.led_before_restart: int | None = None
        self._verifier = verifier
        self._settings = settings
        self._validate = validate

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
        return max(self.committed_height, self.tip[0] if self.tip else 0)

    @property
    def is_behind(self) -> bool:
        """Whether something is finalized that this node cannot decide for want of its content."""
        return not self.sealed and (self.far_behind or bool(self.finalized))

    @property
    def nullified(self) -> bool:
        """Whether this node gave up the current view."""
        return self.nullifications.of(self.view, self.node) is not None

    def _acceptable(self, kind: EntryKind, payload: bytes, height: int | None = None) -> bool:
        """Whether this node would vote for it: as an entry of `height`, the lowest that it may come to stand at, where
        that is known. A witness log has heights of its own, which are no log indices.
        """
        if kind is EntryKind.NOOP:
            return payload == b""
        if kind in (EntryKind.BATCH, EntryKind.MEMBERSHIP) and self.witness:
            return False
        return kind in _ORDERED and self._validate(kind, payload, None if self.witness else height)

    def _start_parent(self) -> tuple[int, bytes] | None:
        """Height and digest of what the first block of this view must extend (R3); None while that is not known."""
        view = self.view - 1
        while view > self.committed_view:
            lowest = self.nullifications.lowest_height(view)
            if lowest is None:
                return None
            tops = [cert for cert in self.notarized.values() if cert.term == view and cert.index + 1 >= lowest]
            if tops:
                top = max(tops, key=lambda cert: cert.index)
                return (top.index, top.digest)
            if lowest > self.committed_height + 1:
                return None
            view -= 1
        tip = (self.committed_height, self.committed_digest)
        if view < self.first_view or view == self.view:
            return tip
        lowest = self.nullifications.lowest_height(view)
        if lowest is None:
            return None
        for cert in self.notarized.values():
            if cert.term == view and cert.index > tip[0]:
                tip = (cert.index, cert.digest)
        return tip if tip[0] + 1 >= lowest else None

    def _may_extend(self, block: Block) -> bool:
        """R2 and R3: whether `block` of the current view stands on a parent that it may stand on."""
        height, parent = block.entry.index, block.parent
        if height == self.committed_height + 1 and parent == self.committed_digest:
            parent_view = self.committed_view
        else:
            own = self.slots.get((self.view, height - 1))
            certificate = self.notarized.get(parent)
            if own is not None and own.voted == parent:
                parent_view = self.view
            elif certificate is not None and certificate.index == height - 1:
                parent_view = certificate.term
            else:
                return False
        if parent_view == self.view:
            return True
        # A parent of a view below the last decided block's does not stand on that block.
        if self.voted_in_view or not self.committed_view <= parent_view < self.view:
            return False
        if parent_view >= self.first_view and not self.nullifications.gives_up(parent_view, height):
            return False
        between = range(max(parent_view + 1, self.first_view), self.view)
        return all(self.nullifications.gives_up(view, self.committed_height + 1) for view in between)

    def _is_sought(self, slot: Slot, digest: bytes) -> bool:
        """Whether certificates or honest votes name this block: then its digest proves it, whoever sent it."""
        certified = [cert.digest for cert in (slot.notarization, slot.finalization) if cert is not None]
        votes = len(slot.notarize.signatures.get(digest, ())) + len(slot.finalize.signatures.get(digest, ()))
        return digest in certified or votes > self.faults

    def _has_room(self, proposal: Propose) -> bool:
        """Whether an unproven block is worth keeping. Of the views ahead each leader has one; what is dropped here and
        decided by others is fetched by its digest.
        """
        if proposal.view > self.view + len(self.nodes):
            return False
        if len(proposal.payload) <= SMALL_PAYLOAD_BYTES:
            return True
        kept = [len(each.entry.payload) for each in self.blocks.values() if each.proposal.leader == proposal.leader]
        return not kept or sum(kept) + len(proposal.payload) <= PROPOSED_BYTES_MAX

    def _is_under_way(self, slot: Slot) -> bool:
        """Whether something in `slot` must come to an end: its leader or an honest node has spoken for it.

        Votes of no more than f nodes may all be lies, and would cost an honest leader its view.
        """
        if slot.voted is not None or slot.notarization is not None or slot.finalization is not None:
            return True
        voters = slot.notarize.digest_of.keys() | slot.fast.digest_of.keys() | slot.finalize.digest_of.keys()
        return self.leader_of(slot.view) in voters or len(voters) > self.faults

    def _certificate(self, slot: Slot, phase: Phase, tally: Tally) -> Certificate | None:
        for digest, votes in tally.signatures.items():
            block = self.blocks.get(digest)
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

    def _bind(self, slot: Slot, phase: Phase, digest: bytes) -> None:
        if phase is self.vote_phase:
            slot.voted = digest
            if slot.view == self.view:
                self.voted_in_view = True
        else:
            slot.finalize_voted = digest
            if slot.view == self.view:
                self.finalize_top = max(self.finalize_top, slot.height)

    def _slot(self, view: int, height: int) -> Slot:
        slot = self.slots.get((view, height))
        if slot is None:
            slot = self.slots[view, height] = Slot(view, height)
        return slot

    def _settle(self, committed: Committed, block: Block | None) -> None:
        """The next height is decided: forget what that makes obsolete. A switch seals the log."""
        entry = committed.entry
        self._move_base(committed.certificate)
        if block is not None:
            self.recent[entry.index] = (block.proposal, committed.certificate)
            if len(self.recent) > RECENT_BLOCKS:
                self.recent.popitem(last=False)
        if not self.witness and self._ends_epoch(entry):
            self.sealed = True

    @staticmethod
    def _ends_epoch(entry: Entry) -> bool:
        """Whether nothing may be ordered behind `entry`. What was decided was acceptable to an honest quorum."""
        return entry.kind in ENDS_EPOCH

    def _move_base(self, certificate: Certificate) -> None:
        self._move_base_to(certificate.index, certificate.term, certificate.digest)
        self.last_certificate = certificate

    def _move_base_to(self, height: int, view: int, digest: bytes) -> None:
        self.committed_height, self.committed_digest, self.committed_view = height, digest, view
        self.finalized = {each: cert for each, cert in self.finalized.items() if each > height}
        for key in [each for each in self.slots if each[1] <= height]:
            self.past_slots[key] = self.slots.pop(key)
        while len(self.past_slots) > PAST_SLOTS:
            self.past_slots.popitem(last=False)
        self.blocks = {each: block for each, block in self.blocks.items() if block.entry.index > height}
        self.notarized = {each: cert for each, cert in self.notarized.items() if cert.index > height}
        self.nullifications.forget_below(view)

    # -- snapshots and recovery ------------------------------------------------------------------------------------

    def restore_snapshot(self, index: int, term: int, digest: bytes) -> None:
        """Before `start`: the log of this epoch goes on behind a checkpoint whose last entry is of view `term`."""
        if index > self.committed_height:
            self._move_base_to(index, term, digest)
            self._restore_view(term)

    def live_records(self) -> tuple[bytes, ...]:
        """What this core still needs of the durable log, as records to stand behind a checkpoint: its promises (R7).

        Read back in this order, after the records of what is decided, they make a core that contradicts none of them.
        """
        number, witness = self.epoch.number, self.witness
        records: list[Record] = [ViewRecord(number, witness, self.view, self.finalize_top, self.voted_in_view)]
        if witness and self.last_certificate is not None:
            records.append(CertificateRecord(self.last_certificate, True))
        records.extend(
            VoteRecord(number, witness, vote.phase, vote.view, vote.height, vote.digest, vote.signature)
            for vote in self.nullifications.all_of(self.node)
        )
        records.extend(self._block_record(block) for block in self.blocks.values() if block.persisted)
        records.extend(CertificateRecord(certificate, witness) for certificate in self.notarized.values())
        for slot in self.slots.values():
            records.extend(self._own_votes(slot))
        return tuple(map(encode_record, records))

    def _own_votes(self, slot: Slot) -> list[Record]:
        number, witness = self.epoch.number, self.witness
        votes = (
            (self.vote_phase, slot.voted, slot.tally(self.vote_phase)),
            (Phase.FINALIZE, slot.finalize_voted, slot.finalize),
        )
        return [
            VoteRecord(number, witness, phase, slot.view, slot.height, digest, tally.signatures[digest][self.node])
            for phase, digest, tally in votes
            if digest is not None
        ]

    def restore(self, record: Record) -> Sequence[Committed]:
        """Take a record of this node's log; what it shows to be decided."""
        match record:
            case BlockRecord(_, _, parent, entry, signature):
                digest = entry_digest(parent, entry)
                if entry.index > self.committed_height and digest not in self.blocks:
                    self.blocks[digest] = self._restored_block(entry, parent, digest, signature)
            case VoteRecord():
                self._restore_vote(record)
            case ViewRecord(_, _, view, finalize_top, voted):
                self._restore_view(view)
                if self.leader_of(view) == self.node:
                    self.led_before_restart = view
                if view == self.view:
                    self.finalize_top = max(self.finalize_top, finalize_top)
                    self.voted_in_view = self.voted_in_view or voted
            case CertificateRecord(certificate, _):
                return self._restore_certificate(certificate)
            case InstallRecord(entry, certificate):
                committed = Committed(self.epoch.number, entry, certificate)
                self._settle(committed, None)
                return (committed,)
            case _:
                raise TypeError(f"{type(record).__name__} is no Byzantine record")
        return ()

    def _block_record(self, block: Block) -> BlockRecord:
        return BlockRecord(self.epoch.number, self.witness, block.parent, block.entry)

    def _restored_block(self, entry: Entry, parent: bytes, digest: bytes, signature: bytes) -> Block:
        # Only the leader's own blocks can be proposed again: others' signatures are kept on the fast path only.
        leader = self.leader_of(entry.term)
        message = Propose(
            self.epoch.number, entry.term, entry.index, parent, entry.kind, entry.payload, leader, signature
        )
        return Block(entry, parent, digest, message, persisted=True)

    def _restore_vote(self, vote: VoteRecord) -> None:
        self._restore_view(vote.view)
        if vote.phase is Phase.NULLIFY:
            message = Vote(
                self.epoch.number, vote.phase, vote.view, vote.height, vote.digest, self.node, vote.signature
            )
            self.nullifications.add(message)
            return
        slot = Slot(vote.view, vote.height)
        if vote.height > self.committed_height:
            slot = self._slot(vote.view, vote.height)
        self._bind(slot, vote.phase, vote.digest)
        slot.tally(vote.phase).add(self.node, vote.digest, vote.signature)
        block = self.blocks.get(vote.digest)
        if vote.phase is self.vote_phase and self.leader_of(vote.view) == self.node:
            if vote.view == self.view:
                self.tip = max(self.tip or (0, b""), (vote.height, vote.digest))
            if block is not None and vote.phase is Phase.NOTARIZE:
                block.proposal = replace(block.proposal, signature=vote.signature)

    def _restore_view(self, view: int) -> None:
        if view > self.view:
            self.view = view
            self.finalize_top, self.voted_in_view, self.tip = -1, False, None

    def _restore_certificate(self, certificate: Certificate) -> Sequence[Committed]:
        if certificate.index <= self.committed_height:
            return ()
        if certificate.phase is Phase.NOTARIZE:
            self._slot(certificate.term, certificate.index).notarization = certificate
            self.notarized[certificate.digest] = certificate
            return ()
        block = self.blocks.get(certificate.digest)
        self._restore_view(certificate.term)
        if block is None or block.parent != self.committed_digest:
            self._move_base(certificate)
            return ()
        committed = Committed(self.epoch.number, block.entry, certificate)
        self._settle(committed, block)
        return (committed,)
