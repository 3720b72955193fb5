"""Planted bugs: each breaks one rule of the protocols, and the simulation must find it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from net import bft_state, certificate, raft_election
from net.auto_queue import AutoQueue
from net.bft import BftCore
from net.bft_votes import Nullifications
from net.consensus import Effect, Sync
from net.durable import VoteRecord
from net.messages import Committed, Mode
from net.raft import RaftCore
from net.raft_log import RaftLog
from net.replica import Replica
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
    patch.setattr(BftCore, "_cast_nullify", lambda self, view, height: original(self, view, 0))


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


def let_critical_entries_pass(patch: pytest.MonkeyPatch) -> None:
    """AUTO: the Raft leader does not wait for a witness, and nobody asks for one."""
    patch.setattr(AutoQueue, "ready", lambda self, critical: [self._queue.popleft() for _ in range(len(self._queue))])
    patch.setattr(Replica, "_unwrap", lambda self, raw: (raw, None, False))


def order_behind_a_switch(patch: pytest.MonkeyPatch) -> None:
    """Entries behind a switch keep their effect in the old epoch."""
    original = Replica._decide

    def decide(self: Replica, committed: Committed) -> Any:
        seen, refused, epoch = original(self, committed)
        keep = epoch is not None and self._raft is not None and self._raft.role == "leader"
        return seen, refused, None if keep else epoch

    patch.setattr(Replica, "_decide", decide)


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
    "let critical entries pass": (let_critical_entries_pass, Kind(4, Mode.AUTO)),
    "order behind a switch": (order_behind_a_switch, Kind(4, Mode.RAFT, switching=True)),
}
