"""Planted bugs: each breaks one rule of the protocols, and the simulation must find it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import msgpack
import pytest

from net import bft_fast, bft_state, certificate, membership_change, mode_switch, raft_election, replica_catch_up
from net.auto_queue import AutoQueue
from net.bft import BftCore
from net.bft_fast import FastBftCore, Grounds
from net.bft_votes import Nullifications, Slot
from net.certificate import Verifier
from net.consensus import Effect, Sync
from net.durable import VoteRecord
from net.membership import Membership, MembershipError, decode_membership
from net.membership_change import MembershipChange
from net.messages import Certificate, Committed, Mode, Phase
from net.mode_switch import SwitchOrder
from net.raft import RaftCore
from net.raft_log import RaftLog
from net.raft_progress import Progress
from net.replica import Replica
from net.replica_log import ReplicaLog
from net.simulation.scenario import Kind

Mutation = Callable[[pytest.MonkeyPatch], None]


def commit_old_terms_by_counting(patch: pytest.MonkeyPatch) -> None:
    """Raft §5.4.2 left out: figure 8."""

    def advance(self: RaftCore, now: float) -> None:
        held = sorted([self.log.last_index, *self.match_index.values()], reverse=True)
        if held[self.quorum - 1] > self.commit_index:
            self._commit_to(held[self.quorum - 1])
            self._commit_push_at = now

    patch.setattr(RaftCore, "_advance_commit", advance)


def vote_twice_a_term(patch: pytest.MonkeyPatch) -> None:
    original = RaftCore._grant

    def grant(self: RaftCore, request: Any, now: float) -> bool:
        if self.role == "follower":
            self.voted_for = None
        return original(self, request, now)

    patch.setattr(RaftCore, "_grant", grant)


def skip_syncs(patch: pytest.MonkeyPatch) -> None:
    original = Replica._finish

    def finish(self: Replica, now: float) -> list[Effect]:
        return [effect for effect in original(self, now) if not isinstance(effect, Sync)]

    patch.setattr(Replica, "_finish", finish)


def raft_quorum_minus_one(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(raft_election, "majority", lambda n: n // 2)


def elect_a_stale_log(patch: pytest.MonkeyPatch) -> None:
    """Raft §5.4.1 left out: any log is up to date."""
    patch.setattr(RaftLog, "last_term", property(lambda self: 0))
    original = RaftCore._on_request_vote

    def on_request_vote(self: RaftCore, request: Any, now: float) -> None:
        original(self, replace(request, last_log_index=1 << 40, last_log_term=1 << 40), now)

    patch.setattr(RaftCore, "_on_request_vote", on_request_vote)


def append_without_matching(patch: pytest.MonkeyPatch) -> None:
    """Raft's consistency check left out: what lies before the new entries is not compared."""
    original = RaftCore._on_append

    def on_append(self: RaftCore, message: Any, now: float) -> None:
        own = self.log.term_at(message.prev_log_index)
        if own is not None:
            message = replace(message, prev_log_term=own)
        original(self, message, now)

    patch.setattr(RaftCore, "_on_append", on_append)


def byzantine_quorum_minus_one(patch: pytest.MonkeyPatch) -> None:
    for module in (bft_state, certificate):
        patch.setattr(module, "byzantine_quorum", lambda n: (n + (n - 1) // 3 + 2) // 2 - 1)


def forget_the_finalize_lock(patch: pytest.MonkeyPatch) -> None:
    """R5 left out: a view is given up from height 0, whatever was FINALIZE-voted in it."""
    original = BftCore._cast_nullify
    patch.setattr(BftCore, "_cast_nullify", lambda self, view, height, digest: original(self, view, 0, digest))


def extend_anything(patch: pytest.MonkeyPatch) -> None:
    """R3 left out: a new view may start anywhere."""
    patch.setattr(Nullifications, "gives_up", lambda self, view, height: True)
    patch.setattr(Nullifications, "lowest_height", lambda self, view: 0)


def start_a_view_from_the_decided(patch: pytest.MonkeyPatch) -> None:
    """The new leader ignores notarized blocks, and replicas do not mind."""
    patch.setattr(Nullifications, "gives_up", lambda self, view, height: True)
    patch.setattr(BftCore, "_start_parent", lambda self: (self.committed_height, self.committed_digest))


def forget_votes_on_restart(patch: pytest.MonkeyPatch) -> None:
    """R7 left out."""
    original = BftCore.restore

    def restore(self: BftCore, record: Any) -> Sequence[Committed]:
        return () if isinstance(record, VoteRecord) else original(self, record)

    patch.setattr(BftCore, "restore", restore)


def notarize_twice(patch: pytest.MonkeyPatch) -> None:
    """R1 left out: a replica votes for whatever its view's leader proposes, a second time too."""

    def accuse(self: BftCore, slot: Any, phase: Any, culprit: int, digest: bytes, signature: bytes, now: float) -> None:
        slot.voted = None

    patch.setattr(BftCore, "_accuse", accuse)
    patch.setattr(BftCore, "_is_sought", lambda self, slot, digest: True)
    patch.setattr(BftCore, "_may_extend", lambda self, block: True)


def trust_any_certificate(patch: pytest.MonkeyPatch) -> None:
    """Catch-up takes a peer's word in a Byzantine epoch: along with the hash chain left out, anything goes."""
    original = Replica._install

    def install(self: Replica, sender: int, committed: Committed, now: float) -> bool:
        if self.mode is not Mode.BFT:
            return original(self, sender, committed, now)
        self._absorb_bft(self._byzantine.install(committed, now), now)
        return True

    patch.setattr(Replica, "_install", install)


def judge_what_is_critical_ahead_of_its_turn(patch: pytest.MonkeyPatch) -> None:
    """AUTO: entries decided in one go are judged on the state before the first of them, wherever that is on this node.

    This was so until a swarm near its soft limit held four states behind one log.
    """
    original = ReplicaLog._unwrap

    def unwrap(self: ReplicaLog, raw: Any) -> Any:
        entry, witness, refused = original(self, raw)
        return entry, witness, refused or (witness is None and self._critical(entry.payload))

    patch.setattr(ReplicaLog, "_unwrap", unwrap)


def let_critical_entries_pass(patch: pytest.MonkeyPatch) -> None:
    """AUTO: the Raft leader does not wait for a witness, and nobody asks for one."""
    patch.setattr(
        AutoQueue, "ready", lambda self, needs_witness: [self._queue.popleft() for _ in range(len(self._queue))]
    )
    patch.setattr(Replica, "_unwrap", lambda self, raw: (raw, None, False))


def order_behind_a_switch(patch: pytest.MonkeyPatch) -> None:
    """Entries behind a switch keep their effect in the old epoch."""
    original = Replica._decide

    def decide(self: Replica, committed: Committed) -> Any:
        seen, refused, epoch = original(self, committed)
        keep = epoch is not None and self._raft is not None and self._raft.role == "leader"
        return seen, refused, None if keep else epoch

    patch.setattr(Replica, "_decide", decide)


def cut_what_matches(patch: pytest.MonkeyPatch) -> None:
    """Raft §5.3: a late AppendEntries cuts the log behind its entries, though nothing conflicts."""

    def take_entries(self: RaftCore, entries: tuple[Any, ...]) -> None:
        fresh = tuple(entry for entry in entries if entry.index > self.commit_index)
        if fresh:
            self.log.put(fresh[0].index, fresh)
            self._persist_entries(fresh[0].index, fresh)

    patch.setattr(RaftCore, "_take_entries", take_entries)


def commit_what_was_not_compared(patch: pytest.MonkeyPatch) -> None:
    """Figure 2, AppendEntries 5: the leader's commit index is taken without the bound of the last new entry."""
    original = RaftCore._on_append

    def on_append(self: RaftCore, message: Any, now: float) -> None:
        original(self, message, now)
        known = min(message.leader_commit, self.log.last_index)
        if message.term == self.term and known > self.commit_index:
            self._commit_to(known, hint=True)

    patch.setattr(RaftCore, "_on_append", on_append)


def date_the_lease_by_receipt(patch: pytest.MonkeyPatch) -> None:
    """Thesis §6.4.1: the lease counts from when the answer came, not from when it was asked for."""
    original = Progress.acknowledge

    def acknowledge(self: Progress, round_: int, sent_at: float | None, now: float) -> None:
        original(self, round_, None if sent_at is None else now, now)

    patch.setattr(Progress, "acknowledge", acknowledge)


def keep_the_lease_in_a_transfer(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(RaftCore, "_lease_given_up", property(lambda self: False, lambda self, value: None), raising=False)


def read_before_an_own_entry_is_committed(patch: pytest.MonkeyPatch) -> None:
    """Thesis §6.4, step 1 left out: a new leader reads at a commit index that may be old."""
    patch.setattr(RaftCore, "is_settled_leader", property(lambda self: self.role == "leader"))
    patch.setattr(RaftCore, "_own_term_index", property(lambda self: 0, lambda self, value: None), raising=False)


def read_without_asking(patch: pytest.MonkeyPatch) -> None:
    """Thesis §6.4, step 3 left out: whoever holds itself for the leader reads."""
    patch.setattr(RaftCore, "lease_until", property(lambda self: float("inf")))


def vote_though_a_leader_is_heard(patch: pytest.MonkeyPatch) -> None:
    """Thesis §4.2.3 left out, which the lease rests on."""
    patch.setattr(RaftCore, "_may_be_deposed", lambda self, request, now: True)


def forget_the_leader_on_restart(patch: pytest.MonkeyPatch) -> None:
    """A node that comes back helps to elect another at once, while the leader counts on its silence."""
    original = RaftCore._start_election_clock

    def start(self: RaftCore, now: float) -> None:
        original(self, now)
        self._leader_heard_at = float("-inf")

    patch.setattr(RaftCore, "_start_election_clock", start)


def believe_one_checkpoint_signature(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(replica_catch_up, "check_certificate", lambda certificate, membership, verifier: None)


def let_a_lost_disk_vote(patch: pytest.MonkeyPatch) -> None:
    """A node that lost its votes with its disk votes again."""

    def entitles(self: Membership, node: int, incarnation: bytes) -> bool:
        member = self.member(node)
        return member is not None and member.voter

    patch.setattr(Membership, "entitles", entitles)


def finalize_after_giving_up(patch: pytest.MonkeyPatch) -> None:
    """R4 in part left out: a node FINALIZE-votes in a view that it gave up."""
    original = BftCore._on_notarization

    def on_notarization(self: BftCore, slot: Slot, notarization: Certificate, now: float) -> None:
        original(self, slot, notarization, now)
        if slot.view == self.view and self.nullified:
            self._finalize(slot, notarization.digest, now)

    patch.setattr(BftCore, "_on_notarization", on_notarization)


def believe_any_signature(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Verifier, "verifies", lambda self, node, message, signature: True)


def believe_the_epoch_of_a_certificate(patch: pytest.MonkeyPatch) -> None:
    """A certificate's epoch is not signed: it goes into records and histories as a liar wrote it."""
    patch.setattr(BftCore, "_is_mislabelled", lambda self, certificate: False)


def take_a_change_of_membership_of_any_type(patch: pytest.MonkeyPatch) -> None:
    """1.0 passes for node 1 as the next leader, and does not fit into the statement that is signed."""

    def decode(payload: bytes) -> MembershipChange:
        try:
            _, members, hint, author, signature = msgpack.unpackb(payload, use_list=False)
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise MembershipError(str(error)) from error
        membership = decode_membership(members)
        if hint is not None and hint not in membership.voters:
            raise MembershipError("who is to lead does not vote")
        return MembershipChange(membership, hint, author, signature)

    patch.setattr(membership_change, "decode_change", decode)


def switch_without_looking_at_the_signature(patch: pytest.MonkeyPatch) -> None:
    """Whoever says that an operator ordered it moves the log to another mode."""

    def check(order: SwitchOrder, context: bytes, mode: Mode, voters: int, authorities: Any) -> None:
        mode_switch._check_mode(mode, order.mode, voters)

    patch.setattr(mode_switch, "check_switch", check)


def switch_whenever_it_was_signed(patch: pytest.MonkeyPatch) -> None:
    """An order to switch covers no epoch: it counts once more in a later one."""
    patch.setattr(mode_switch, "_said", lambda context, mode: bytes([mode]))


def fast_ignore_reports(patch: pytest.MonkeyPatch) -> None:
    """F5 left out: a view starts from what is decided."""
    patch.setattr(Grounds, "extendable", lambda self, view: {None})


def fast_count_the_equivocator(patch: pytest.MonkeyPatch) -> None:
    """F5 (b): the report of the leader that is proven to lie counts like the others'."""
    original = bft_fast.extendable
    patch.setattr(bft_fast, "extendable", lambda reports, leader, quorum, enough: original(reports, -1, quorum, enough))


def fast_accept_fewer_reports(patch: pytest.MonkeyPatch) -> None:
    """F5 (b): after an equivocation any reported block will do."""
    original = bft_fast._after_equivocation
    patch.setattr(bft_fast, "_after_equivocation", lambda chains, enough: original(chains, len(chains) + 1))


def fast_forget_reports_on_restart(patch: pytest.MonkeyPatch) -> None:
    """R7 in part left out: a node that restarts votes for nothing else, and reports nothing."""
    original = FastBftCore.restore

    def restore(self: FastBftCore, record: Any) -> Sequence[Committed]:
        decided = original(self, record)
        if isinstance(record, VoteRecord) and record.phase is Phase.FAST:
            self.finalize_top = -1
        return decided

    patch.setattr(FastBftCore, "restore", restore)


def fast_start_anywhere(patch: pytest.MonkeyPatch) -> None:
    """F5 in part left out: replicas do not check where a view starts."""
    patch.setattr(Grounds, "may_start", lambda self, view, parent: True)


def fast_vote_after_giving_up(patch: pytest.MonkeyPatch) -> None:
    """F1 in part left out: a node FAST-votes in a view that it gave up."""
    original = FastBftCore._vote_where_possible

    def vote_where_possible(self: FastBftCore, now: float) -> None:
        with pytest.MonkeyPatch.context() as inner:
            if self.nullified:
                inner.setattr(FastBftCore, "nullified", False)
            original(self, now)

    patch.setattr(FastBftCore, "_vote_where_possible", vote_where_possible)


def fast_report_what_is_certified_only(patch: pytest.MonkeyPatch) -> None:
    """F4 left out: a node reports what it knows to be decided, as it would without the fast path."""
    patch.setattr(FastBftCore, "_report", lambda self: (0, bytes(32)))


PLANTED: dict[str, tuple[Mutation, Kind]] = {
    "vote twice a term": (vote_twice_a_term, Kind(4, Mode.RAFT)),
    "skip syncs (Raft)": (skip_syncs, Kind(4, Mode.RAFT)),
    "skip syncs (Byzantine)": (skip_syncs, Kind(4, Mode.BFT, liars=1)),
    "Raft quorum minus one": (raft_quorum_minus_one, Kind(4, Mode.RAFT)),
    "elect a stale log": (elect_a_stale_log, Kind(4, Mode.RAFT)),
    "append without matching": (append_without_matching, Kind(5, Mode.RAFT)),
    "Byzantine quorum minus one": (byzantine_quorum_minus_one, Kind(4, Mode.BFT, liars=1)),
    "forget the finalize lock": (forget_the_finalize_lock, Kind(4, Mode.BFT, liars=1)),
    "extend anything": (extend_anything, Kind(4, Mode.BFT, liars=1)),
    "start a view from the decided": (start_a_view_from_the_decided, Kind(4, Mode.BFT, liars=1)),
    "forget votes on restart": (forget_votes_on_restart, Kind(4, Mode.BFT, liars=1)),
    "notarize twice": (notarize_twice, Kind(4, Mode.BFT, liars=1)),
    "trust any certificate": (trust_any_certificate, Kind(4, Mode.BFT, liars=1)),
    "judge what is critical ahead of its turn": (judge_what_is_critical_ahead_of_its_turn, Kind(4, Mode.AUTO)),
    "let critical entries pass": (let_critical_entries_pass, Kind(4, Mode.AUTO)),
    "order behind a switch": (order_behind_a_switch, Kind(4, Mode.RAFT, switching=True)),
    "cut what matches": (cut_what_matches, Kind(5, Mode.RAFT)),
    "commit what was not compared": (commit_what_was_not_compared, Kind(5, Mode.RAFT)),
    "date the lease by receipt": (date_the_lease_by_receipt, Kind(3, Mode.RAFT, reads=True)),
    "keep the lease in a transfer": (keep_the_lease_in_a_transfer, Kind(3, Mode.RAFT, reads=True)),
    "read before an own entry is committed": (read_before_an_own_entry_is_committed, Kind(5, Mode.RAFT)),
    "read without asking": (read_without_asking, Kind(5, Mode.RAFT)),
    "vote though a leader is heard": (vote_though_a_leader_is_heard, Kind(3, Mode.RAFT, reads=True)),
    "forget the leader on restart": (forget_the_leader_on_restart, Kind(3, Mode.RAFT, reads=True)),
    "believe one checkpoint signature": (believe_one_checkpoint_signature, Kind(4, Mode.BFT, liars=1)),
    "let a lost disk vote": (let_a_lost_disk_vote, Kind(4, Mode.RAFT, switching=True, members=True)),
    "finalize after giving up": (finalize_after_giving_up, Kind(4, Mode.BFT, liars=1)),
    "fast: ignore reports": (fast_ignore_reports, Kind(4, Mode.BFT, liars=1, fast=True)),
    "fast: count the equivocator": (fast_count_the_equivocator, Kind(4, Mode.BFT, liars=1, fast=True)),
    "fast: accept fewer reports": (fast_accept_fewer_reports, Kind(4, Mode.BFT, liars=1, fast=True)),
    "fast: forget reports on restart": (fast_forget_reports_on_restart, Kind(4, Mode.BFT, liars=1, fast=True)),
    "fast: quorum minus one": (byzantine_quorum_minus_one, Kind(4, Mode.BFT, liars=1, fast=True)),
    "fast: start anywhere": (fast_start_anywhere, Kind(4, Mode.BFT, liars=1, fast=True)),
    "fast: vote after giving up": (fast_vote_after_giving_up, Kind(4, Mode.BFT, liars=1, fast=True)),
    "fast: report nothing": (fast_report_what_is_certified_only, Kind(4, Mode.BFT, liars=1, fast=True)),
    "fast: skip syncs": (skip_syncs, Kind(4, Mode.BFT, liars=1, fast=True)),
    "believe the epoch of a certificate": (believe_the_epoch_of_a_certificate, Kind(4, Mode.BFT, liars=1)),
    "take a change of any type": (take_a_change_of_membership_of_any_type, Kind(4, Mode.BFT, liars=1)),
    "believe any signature": (believe_any_signature, Kind(4, Mode.BFT, liars=1)),
    "switch without looking at the signature": (switch_without_looking_at_the_signature, Kind(4, Mode.BFT, liars=1)),
    "switch whenever it was signed": (switch_whenever_it_was_signed, Kind(4, Mode.RAFT, switching=True)),
}
