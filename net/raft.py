"""Raft (Ongaro and Ousterhout 2014; section numbers are the paper's) for one epoch, sans-I/O.

Invariants, and where they are held (the simulation checks them after every event):

1. Election safety: one leader a term. A node votes once a term, and the vote is on disk before it leaves (`_grant`).
2. Leader append-only: a leader never cuts its own log (`_append_own` only appends).
3. Log matching: an entry is taken only behind a matching predecessor (`_on_append`).
4. Leader completeness: only an up-to-date log gets a vote (§5.4.1); only entries of the leader's own term commit by
   counting (§5.4.2), older ones with them (`_advance_commit`).
5. State-machine safety: committed entries are never cut; `_on_append` raises on an attempt.
6. A follower acknowledges after its sync. A leader's AppendEntries leave before its own sync; its own copy counts
   because the shell finishes that sync before the Commit that follows (`net.consensus`).

Beside the paper: pre-vote and check-quorum (Ongaro's thesis §9.6, §6.2), pipelined AppendEntries in a bounded window
(§10.2.1). A commit index rides on the next message and is sent alone when none comes; such a push gets no reply.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from net.certificate import leader_word_bytes
from net.consensus import Commit, Effect, LeaderChanged, Persist, Send, Sync
from net.durable import AppendRecord, CommitIndexRecord, HardState, encode_record
from net.epoch import Epoch
from net.messages import (
    AppendEntries,
    AppendEntriesReply,
    Certificate,
    Committed,
    ConsensusMessage,
    Entry,
    EntryKind,
    Phase,
    RequestVote,
    RequestVoteReply,
)
from net.quorum import majority
from net.raft_log import RaftLog
from net.settings import ConsensusSettings


class RaftCore:
    """One node's Raft state machine of one epoch: a `net.consensus.ProtocolCore` that never forwards."""

    def __init__(
        self,
        node: int,
        epoch: Epoch,
        sign: Callable[[bytes], bytes],
        random: Random,
        settings: ConsensusSettings,
        voting: bool = True,
    ) -> None:
        """`voting` is False for a learner, and for a voter whose disk is not the one that the membership names."""
        self.node = node
        self.epoch = epoch
        self.voting = voting
        self.peers = tuple(peer for peer in epoch.membership.voters if peer != node)
        self.quorum = majority(len(epoch.membership.voters))
        self.term = 0
        self.voted_for: int | None = None
        self.role = "follower"
        self.leader: int | None = None
        self.log = RaftLog(epoch.base_index, epoch.base_digest)
        self.commit_index = epoch.base_index
        self.elections = 0
        self.next_index: dict[int, int] = {}
        self.match_index: dict[int, int] = {}
        self._votes: set[int] = set()
        self._heard_at: dict[int, float] = {}
        self._sent_at: dict[int, float] = {}
        self._sent_commit: dict[int, int] = {}
        self._probe: dict[int, int] = {}
        self._leader_heard_at = float("-inf")
        self._election_at = 0.0
        self._quorum_check_at = 0.0
        self._commit_push_at: float | None = None
        self._own_term_index = 0
        self._sign = sign
        self._random = random
        self._settings = settings
        self._out: list[Effect] = []

    # -- recovery --------------------------------------------------------------------------------------------------

    def restore_hard_state(self, term: int, voted_for: int | None) -> None:
        self.term, self.voted_for = term, voted_for

    def restore_entries(self, first_index: int, entries: Sequence[Entry]) -> None:
        self.log.put(first_index, entries)

    def restore_commit_index(self, commit_index: int) -> tuple[Committed, ...]:
        """What became committed by the recovered `commit_index`."""
        first = self.commit_index + 1
        self.commit_index = max(self.commit_index, min(commit_index, self.log.last_index))
        return tuple(self._committed(index) for index in range(first, self.commit_index + 1))

    # -- the interface of a core -----------------------------------------------------------------------------------

    def start(self, now: float) -> list[Effect]:
        self._reset_election_timer(now)
        # The node that led before the switch campaigns at once; nobody has a leader to disturb yet.
        hinted = self.epoch.leader_hint == self.node and self.term == 0
        if hinted or not self.peers:
            self._campaign(now)
        return self._take()

    def step(self, sender: int, message: ConsensusMessage, now: float) -> list[Effect]:
        match message:
            case AppendEntries():
                if message.leader == sender:
                    self._on_append(message, now)
            case AppendEntriesReply():
                if message.follower == sender:
                    self._on_append_reply(message, now)
            case RequestVote():
                if message.candidate == sender:
                    self._on_request_vote(message, now)
            case RequestVoteReply():
                if message.voter == sender:
                    self._on_vote_reply(message, now)
            case _:
                raise TypeError(f"{type(message).__name__} is no Raft message")
        return self._take()

    def tick(self, now: float) -> list[Effect]:
        if self.role == "leader":
            self._tick_leader(now)
        elif now >= self._election_at:
            self._pre_campaign(now)
        return self._take()

    def propose(self, payloads: Sequence[bytes], now: float) -> list[Effect]:
        return self.propose_entries([(EntryKind.DATA, payload) for payload in payloads], now)

    def propose_entries(self, contents: Sequence[tuple[EntryKind, bytes]], now: float) -> list[Effect]:
        """Append `contents` as entries of the current term, in one message per follower. Leader only."""
        if self.role != "leader":
            raise RuntimeError(f"node {self.node} does not lead term {self.term}")
        self._append_own(contents, now)
        return self._take()

    def next_deadline(self) -> float | None:
        if self.role != "leader":
            return self._election_at
        due = self._quorum_check_at
        if self._commit_push_at is not None:
            due = min(due, self._commit_push_at)
        if self._sent_at:
            due = min(due, min(self._sent_at.values()) + self._settings.heartbeat_interval_s)
        return due

    @property
    def is_settled_leader(self) -> bool:
        """Whether this node leads and an entry of its own term is committed, so that it knows what came before it."""
        return self.role == "leader" and self.commit_index >= self._own_term_index

    def push_commit(self, now: float) -> list[Effect]:
        """Tell every follower the commit index now (before this core is dropped by a switch)."""
        if self.role == "leader":
            for peer in self.peers:
                self._send_append(peer, now, even_if_empty=True)
        return self._take()

    def install(self, entries: Sequence[Entry], now: float) -> list[Effect]:
        """Take entries that are committed beyond doubt (catch-up), contiguous from `commit_index + 1` at the latest."""
        fresh = tuple(entry for entry in entries if entry.index > self.commit_index)
        if fresh and fresh[0].index == self.commit_index + 1:
            if self.role != "follower":
                self._become_follower(self.term, None, now)
            self._take_entries(fresh)
            self._commit_to(fresh[-1].index, with_word=False)
        return self._take()

    # -- elections (§5.2, §5.4.1; thesis §9.6) ---------------------------------------------------------------------

    def _reset_election_timer(self, now: float) -> None:
        low, high = self._settings.election_timeout_min_s, self._settings.election_timeout_max_s
        self._election_at = now + self._random.uniform(low, high)

    def _pre_campaign(self, now: float) -> None:
        """Ask whether an election could be won, without disturbing anybody's term."""
        self.role = "pre-candidate"
        self._set_leader(None)
        self._votes = {self.node}
        self._reset_election_timer(now)
        if len(self._votes) >= self.quorum:
            self._campaign(now)
            return
        self._request_votes(self.term + 1, pre_vote=True)

    def _campaign(self, now: float) -> None:
        self.role = "candidate"
        self.elections += 1
        self._set_leader(None)
        self._set_term(self.term + 1, self.node)
        self._votes = {self.node}
        self._reset_election_timer(now)
        self._out.append(Sync())
        if len(self._votes) >= self.quorum:
            self._lead(now)
            return
        self._request_votes(self.term, pre_vote=False)

    def _request_votes(self, term: int, pre_vote: bool) -> None:
        request = RequestVote(self.epoch.number, term, self.node, self.log.last_index, self.log.last_term, pre_vote)
        self._out.extend(Send(peer, request) for peer in self.peers)

    def _on_request_vote(self, request: RequestVote, now: float) -> None:
        # A node that hears a leader does not help to depose it (thesis §6.2, §4.2.3).
        heard_lately = now < self._leader_heard_at + self._settings.election_timeout_min_s
        up_to_date = (request.last_log_term, request.last_log_index) >= (self.log.last_term, self.log.last_index)
        undisturbed = self.role != "leader" and (not heard_lately or self.leader == request.candidate)
        if request.pre_vote:
            granted = undisturbed and up_to_date and request.term > self.term
            term = request.term if granted else self.term
            self._reply_vote(request.candidate, term, granted, pre_vote=True)
            return
        if request.term > self.term and (undisturbed or self.leader is None):
            self._become_follower(request.term, None, now)
        if request.term == self.term and up_to_date and self._grant(request, now):
            self._reply_vote(request.candidate, self.term, True, pre_vote=False)
            return
        self._reply_vote(request.candidate, self.term, False, pre_vote=False)

    def _grant(self, request: RequestVote, now: float) -> bool:
        if self.role == "leader" or self.voted_for not in (None, request.candidate):
            return False
        self.role = "follower"
        if self.voted_for is None:
            self._set_term(self.term, request.candidate)
        self._out.append(Sync())
        self._reset_election_timer(now)
        return True

    def _reply_vote(self, candidate: int, term: int, granted: bool, pre_vote: bool) -> None:
        reply = RequestVoteReply(self.epoch.number, term, self.node, granted, pre_vote)
        self._out.append(Send(candidate, reply))

    def _on_vote_reply(self, reply: RequestVoteReply, now: float) -> None:
        if not reply.granted:
            if reply.term > self.term:
                self._become_follower(reply.term, None, now)
            return
        if reply.pre_vote:
            if self.role == "pre-candidate" and reply.term == self.term + 1:
                self._votes.add(reply.voter)
                if len(self._votes) >= self.quorum:
                    self._campaign(now)
        elif self.role == "candidate" and reply.term == self.term:
            self._votes.add(reply.voter)
            if len(self._votes) >= self.quorum:
                self._lead(now)

    def _lead(self, now: float) -> None:
        self.role = "leader"
        self._set_leader(self.node)
        self.next_index = dict.fromkeys(self.peers, self.log.last_index + 1)
        self.match_index = dict.fromkeys(self.peers, self.epoch.base_index)
        self._probe = {}
        self._heard_at = dict.fromkeys(self.peers, now)
        self._sent_at = dict.fromkeys(self.peers, now)
        self._sent_commit = dict.fromkeys(self.peers, self.epoch.base_index)
        self._quorum_check_at = now + self._settings.election_timeout_max_s
        self._commit_push_at = None
        self._own_term_index = self.log.last_index + 1
        self._append_own([(EntryKind.NOOP, b"")], now)

    def _become_follower(self, term: int, leader: int | None, now: float) -> None:
        if term > self.term:
            self._set_term(term, None)
            self._out.append(Sync())
        if self.role != "follower":
            self.role = "follower"
            self._reset_election_timer(now)
        self._set_leader(leader)

    def _set_term(self, term: int, voted_for: int | None) -> None:
        self.term, self.voted_for = term, voted_for
        self._out.append(Persist(encode_record(HardState(self.epoch.number, term, voted_for))))

    def _set_leader(self, leader: int | None) -> None:
        if leader != self.leader:
            self.leader = leader
            self._out.append(LeaderChanged(leader, self.term))

    # -- the leader's replication (§5.3) ---------------------------------------------------------------------------

    def _append_own(self, contents: Sequence[tuple[EntryKind, bytes]], now: float) -> None:
        first = self.log.last_index + 1
        entries = tuple(
            Entry(first + offset, self.term, kind, payload) for offset, (kind, payload) in enumerate(contents)
        )
        self.log.put(first, entries)
        for peer in self.peers:
            self._send_append(peer, now)
        self._out.append(Persist(encode_record(AppendRecord(self.epoch.number, first, entries))))
        self._out.append(Sync())
        self._advance_commit(now)

    def _send_append(self, peer: int, now: float, even_if_empty: bool = False) -> None:
        """Send what `peer` lacks, as far as its window allows, in messages of bounded size.

        While its log is being probed, one message at a time: again at a back-up or heartbeat (`even_if_empty`).
        """
        settings = self._settings
        probing = peer in self._probe
        if probing:
            if not even_if_empty:
                return
            self.next_index[peer] = self._probe[peer]
        while True:
            first = self.next_index[peer]
            room = self.match_index[peer] + settings.window_entries + 1 - first
            limit = min(room, settings.message_entries, self.log.last_index + 1 - first)
            if limit <= 0 and not even_if_empty:
                return
            entries = self.log.slice(first, limit) if limit > 0 else ()
            previous_term = self.log.term_at(first - 1)
            if previous_term is None:
                raise IndexError(f"node {peer} needs index {first - 1}, which this log does not hold")
            message = AppendEntries(
                self.epoch.number, self.term, self.node, first - 1, previous_term, self.commit_index, 0, entries
            )
            self._out.append(Send(peer, message))
            self._sent_at[peer] = now
            self._sent_commit[peer] = self.commit_index
            self.next_index[peer] = first + len(entries)
            even_if_empty = False
            if probing:
                return

    def _on_append_reply(self, reply: AppendEntriesReply, now: float) -> None:
        if reply.term > self.term:
            self._become_follower(reply.term, None, now)
            return
        if self.role != "leader" or reply.term < self.term:
            return
        peer = reply.follower
        self._heard_at[peer] = now
        if reply.success:
            if reply.match_index > self.match_index[peer]:
                self.match_index[peer] = reply.match_index
                self.next_index[peer] = max(self.next_index[peer], reply.match_index + 1)
                self._advance_commit(now)
            if reply.match_index + 1 >= self._probe.get(peer, 0):
                self._probe.pop(peer, None)
            if self.role == "leader":
                self._send_append(peer, now)
            return
        # The run of equal terms that the follower names may begin below what is known to match.
        back_up_to = max(reply.conflict_index, self.match_index[peer] + 1)
        if back_up_to < self._probe.get(peer, self.next_index[peer]):
            # Back up, and send one message at a time until one fits: else every answer to what was in flight would
            # set off the whole window again. Anything else is an old answer.
            self._probe[peer] = back_up_to
            self._send_append(peer, now, even_if_empty=True)

    def _advance_commit(self, now: float) -> None:
        """§5.3, §5.4.2: the highest index that a majority holds, if its entry is of the current term."""
        held = sorted([self.log.last_index, *self.match_index.values()], reverse=True)
        index = held[self.quorum - 1]
        if index > self.commit_index and self.log.term_at(index) == self.term:
            self._commit_to(index, with_word=True)
            if self.peers:
                self._commit_push_at = now + self._settings.commit_push_delay_s

    def _tick_leader(self, now: float) -> None:
        settings = self._settings
        if now >= self._quorum_check_at:
            # Check-quorum: a leader that a majority no longer answers steps down.
            self._quorum_check_at = now + settings.election_timeout_max_s
            alive = sum(now - heard < settings.election_timeout_max_s for heard in self._heard_at.values())
            if alive + 1 < self.quorum:
                self._become_follower(self.term, None, now)
                return
        push = self._commit_push_at is not None and now >= self._commit_push_at
        if push:
            self._commit_push_at = None
        for peer in self.peers:
            stale = self._sent_commit[peer] < self.commit_index
            if now >= self._sent_at[peer] + settings.heartbeat_interval_s or (push and stale):
                self._send_append(peer, now, even_if_empty=True)

    # -- the follower (§5.3) ---------------------------------------------------------------------------------------

    def _on_append(self, message: AppendEntries, now: float) -> None:
        if message.term < self.term:
            self._reply_append(message.leader, False, 0, self.log.last_index + 1)
            return
        if message.term > self.term or self.role != "follower" or self.leader != message.leader:
            if self.role == "leader" and message.term == self.term:
                raise RuntimeError(f"nodes {self.node} and {message.leader} both lead term {self.term}")
            self._become_follower(message.term, message.leader, now)
        self._leader_heard_at = now
        self._reset_election_timer(now)
        previous = message.prev_log_index
        if previous > self.log.last_index:
            self._reply_append(message.leader, False, 0, self.log.last_index + 1)
            return
        if previous > self.commit_index and self.log.term_at(previous) != message.prev_log_term:
            self._reply_append(message.leader, False, 0, self.log.first_index_of_term(previous))
            return
        self._take_entries(message.entries)
        match_index = previous + len(message.entries)
        advanced = min(message.leader_commit, match_index) > self.commit_index
        # A push of the commit index alone needs no reply: heartbeats and entries carry the acknowledgements.
        if message.entries or not advanced:
            self._reply_append(message.leader, True, match_index, 0)
        if advanced:
            self._commit_to(min(message.leader_commit, match_index), with_word=False)

    def _take_entries(self, entries: tuple[Entry, ...]) -> None:
        """Append what is new; cut a tail that conflicts (§5.3), never a committed one."""
        for offset, entry in enumerate(entries):
            if entry.index <= self.commit_index or self.log.term_at(entry.index) == entry.term:
                continue
            fresh = entries[offset:]
            self.log.put(entry.index, fresh)
            self._out.append(Persist(encode_record(AppendRecord(self.epoch.number, entry.index, fresh))))
            self._out.append(Sync())
            return

    def _reply_append(self, leader: int, success: bool, match_index: int, conflict_index: int) -> None:
        reply = AppendEntriesReply(self.epoch.number, self.term, self.node, success, match_index, conflict_index, 0)
        self._out.append(Send(leader, reply))

    # -- committing ------------------------------------------------------------------------------------------------

    def _commit_to(self, index: int, with_word: bool) -> None:
        first = self.commit_index + 1
        self.commit_index = index
        self._out.append(Persist(encode_record(CommitIndexRecord(self.epoch.number, index))))
        self._out.append(Commit(tuple(self._committed(each, with_word) for each in range(first, index + 1))))

    def _committed(self, index: int, with_word: bool = False) -> Committed:
        """The entry with the leader's word. A follower gives no word of its own: its certificate has no signer."""
        epoch, entry = self.epoch, self.log.entry_at(index)
        parent, digest = self.log.digest_at(index - 1), self.log.digest_at(index)
        signers: tuple[int, ...] = ()
        signatures: tuple[bytes, ...] = ()
        if with_word:
            signers = (self.node,)
            signatures = (self._sign(leader_word_bytes(epoch.context, self.term, index, parent, digest)),)
        certificate = Certificate(
            epoch.mode,
            epoch.number,
            epoch.context,
            Phase.FINALIZE,
            self.term,
            index,
            parent,
            digest,
            signers,
            signatures,
        )
        return Committed(epoch.number, entry, certificate)

    def _take(self) -> list[Effect]:
        out, self._out = self._out, []
        return out
