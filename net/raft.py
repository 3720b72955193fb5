"""Raft (Ongaro and Ousterhout 2014; section numbers are the paper's) for one epoch, sans-I/O.

The core is layered: what it is bound to (`net.raft_state`), who leads (`net.raft_election`), what a leader does
(`net.raft_leader`), and here the follower and the interface.

Beside the paper, from Ongaro's thesis: pre-vote (§9.6), check-quorum (§6.2), pipelined AppendEntries in a bounded
window (§10.2.1), leadership transfer (§3.10), ReadIndex and the leader's lease (§6.4). A commit index rides on the next
message and is sent alone when none comes; such a push gets no reply. Membership changes by epoch (`net.membership`).

Invariants, and the test that checks each (`tests/unit`; the simulation checks 1 to 5 after every event):

1. Election safety (§5.2): one leader a term. A vote is on disk before it leaves and is given once a term:
   `test_a_vote_is_on_disk_before_it_leaves_and_is_given_once_a_term`.
2. Leader append-only (§5.3): a leader only appends to its own log. The simulation compares what nodes decide.
3. Log matching (§5.3): an entry is taken only behind a matching predecessor:
   `test_the_follower_names_where_to_back_up_to`, script `raft_figure_7.txt`.
4. Leader completeness (§5.4): only an up-to-date log gets a vote, only entries of the leader's own term commit by
   counting: `test_a_stale_log_gets_no_vote`, `test_figure_8_an_old_terms_entry_does_not_commit_by_counting`.
5. State-machine safety (§5.4.3): a committed entry is never cut:
   `test_a_conflicting_tail_is_cut_and_a_committed_one_never`.
6. A follower acknowledges after its sync; a leader's own copy counts only after its own:
   `test_the_leaders_entries_leave_before_its_own_sync_and_the_followers_reply_after_its_sync`.
7. Only voters with the disk that the membership names count: `test_a_learner_gets_everything_and_counts_in_no_quorum`,
   `test_what_a_voter_without_its_disk_holds_counts_in_no_quorum`.
8. A read under the lease is never stale (thesis §6.4.1): the lease runs from when a round was sent, a transfer voids
   it, a restarted voter waits it out: `test_the_lease_runs_from_when_the_round_was_sent_that_a_quorum_answered`,
   `test_a_transfer_voids_the_lease_for_the_rest_of_the_term`,
   `test_a_restarted_voter_votes_for_nobody_until_a_lease_it_may_have_given_is_over`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from net.certificate import with_word
from net.consensus import Effect, ReadReady
from net.epoch import Epoch
from net.messages import (
    AppendEntries,
    AppendEntriesReply,
    Committed,
    ConsensusMessage,
    Entry,
    EntryKind,
    ReadIndex,
    ReadIndexReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from net.raft_leader import RaftLeader
from net.settings import ConsensusSettings


class RaftCore(RaftLeader):
    """One node's Raft state machine of one epoch: a `net.consensus.ProtocolCore` that never forwards proposals."""

    def __init__(
        self,
        node: int,
        epoch: Epoch,
        sign: Callable[[bytes], bytes],
        random: Random,
        settings: ConsensusSettings,
        voting: bool = True,
    ) -> None:
        """`voting` is False for a learner, and for a voter whose disk is not the one that the membership names.

        Such a node takes entries and commit indices, and its replies say that they count in no quorum: a node that
        lost its disk may have voted in a later term, and forgotten that it must refuse this leader.
        """
        super().__init__(node, epoch, random, settings, voting)
        self._sign = sign

    # -- the interface of a core -----------------------------------------------------------------------------------

    def start(self, now: float) -> list[Effect]:
        self._start_election_clock(now)
        return self._take()

    def step(self, sender: int, message: ConsensusMessage, now: float) -> list[Effect]:
        """A message under another's name changes nothing; raises `TypeError` for one that is not Raft's."""
        match message:
            case AppendEntries():
                if message.leader == sender:
                    self._on_append(message, now)
            case AppendEntriesReply():
                if message.follower == sender:
                    self._on_append_reply(message, now)
            case RequestVote():
                if message.candidate == sender and sender in self.peers:
                    self._on_request_vote(message, now)
            case RequestVoteReply():
                if message.voter == sender:
                    self._on_vote_reply(message, now)
            case TimeoutNow():
                if message.leader == sender:
                    self._on_timeout_now(message, now)
            case ReadIndex():
                self._on_read_index(sender, message, now)
            case ReadIndexReply():
                self._on_read_index_reply(sender, message)
            case _:
                raise TypeError(f"{type(message).__name__} is no Raft message")
        return self._take()

    def tick(self, now: float) -> list[Effect]:
        self._give_up_reads(now)
        if self.role == "leader":
            self._tick_leader(now)
        elif now >= self._election_at:
            self._on_election_timeout(now)
        return self._take()

    def propose(self, payloads: Sequence[bytes], now: float) -> list[Effect]:
        return self.propose_entries([(EntryKind.DATA, payload) for payload in payloads], now)

    def propose_entries(self, contents: Sequence[tuple[EntryKind, bytes]], now: float) -> list[Effect]:
        """Append `contents` as entries of the current term, in one message per follower. Leader only.

        While leadership is being transferred they wait: they follow if that fails, and are dropped if it succeeds.
        """
        if self.role != "leader":
            raise RuntimeError(f"node {self.node} does not lead term {self.term}")
        if self._transfer is not None:
            self._hold(self._transfer, contents)
        else:
            self._append_own(contents, now)
        return self._take()

    def next_deadline(self) -> float | None:
        due = self._leader_deadline() if self.role == "leader" else self._election_at
        reads = self._forwarded.next_deadline()
        due = due if reads is None else min(due, reads)
        return None if due == float("inf") else due

    def transfer_leadership(self, to: int, now: float) -> list[Effect]:
        """Bring voter `to` up to date and let it campaign at once (thesis §3.10); proposals wait meanwhile.

        Given up after `election_timeout_max_s`. The lease ends with it for the rest of the term. Raises `RuntimeError`
        where this node does not lead or hands over to another already, `ValueError` where `to` is no other voter.
        """
        self._begin_transfer(to, now)
        return self._take()

    def read_index(self, request_id: int, now: float) -> list[Effect]:
        """Ask from which index on a read is linearizable (thesis §6.4); `ReadReady` with that id answers.

        A leader answers at once within its lease, else when a round confirms that it leads; a follower asks its leader
        and gives up after `election_timeout_max_s`. At most `buffered_messages` wait; past it the answer is None.
        """
        if self.role == "leader":
            self._read_as_leader(self.node, request_id, now)
        else:
            self._forward_read(request_id, now)
        return self._take()

    def push_commit(self, now: float) -> list[Effect]:
        """Tell every follower the commit index now, and the disk (before this core is dropped by a switch)."""
        self._hint_commit()
        if self.role == "leader":
            for progress in self._progress.values():
                self._send_append(progress, now, even_if_empty=True, push=True)
        return self._take()

    def drop_reads(self) -> list[Effect]:
        """This core is dropped: the reads that wait here are to be asked again."""
        self._refuse_reads()
        for request_id in self._forwarded.take_due(float("inf")):
            self._out.append(ReadReady(request_id, None))
        return self._take()

    def with_word(self, committed: Committed) -> Committed:
        """`committed` with this node's word, for who must check it without this cluster."""
        return with_word(committed, self.node, self._sign)

    def install(self, entries: Sequence[Entry], now: float) -> list[Effect]:
        """Take entries that are committed beyond doubt (catch-up), contiguous from `commit_index + 1` at the latest."""
        fresh = tuple(entry for entry in entries if entry.index > self.commit_index)
        if fresh and fresh[0].index == self.commit_index + 1:
            if self.role != "follower":
                self._become_follower(self.term, None, now)
            self._take_entries(fresh)
            self._commit_to(fresh[-1].index, hint=True)
        return self._take()

    def install_snapshot(self, index: int, term: int, digest: bytes, now: float) -> list[Effect]:
        """The log restarts at a certified checkpoint: the entry at `index` was of `term`, `digest` is the chain there.

        Entries that follow it are kept where the log holds that very entry (§7). No effect at or below the commit
        index. Emits no Commit: the caller restores the state, and rewrites the durable log (`live_records`) before the
        node sends anything more.
        """
        if index > self.commit_index:
            if self.role != "follower":
                self._become_follower(self.term, None, now)
            self.restore_snapshot(index, term, digest)
        return self._take()

    # -- the follower (§5.3) ---------------------------------------------------------------------------------------

    def _on_append(self, message: AppendEntries, now: float) -> None:
        if message.term < self.term:
            self._refuse_append(message, self.log.last_index + 1)
            return
        if message.term > self.term or self.role != "follower" or self.leader != message.leader:
            if self.role == "leader" and message.term == self.term:
                raise RuntimeError(f"nodes {self.node} and {message.leader} both lead term {self.term}")
            self._become_follower(message.term, message.leader, now)
        self._leader_heard_at = now
        self._reset_election_timer(now)
        previous = message.prev_log_index
        if previous > self.log.last_index:
            self._refuse_append(message, self.log.last_index + 1)
            return
        # What is committed here is the leader's too (§5.4.3), also below the base of this log.
        if previous > self.commit_index and self.log.term_at(previous) != message.prev_log_term:
            conflict = max(self.log.first_index_of_term(previous), self.commit_index + 1)
            self._refuse_append(message, conflict)
            return
        self._take_entries(message.entries)
        match_index = previous + len(message.entries)
        # A push of the commit index alone (round 0) wants no reply: heartbeats and entries carry the acknowledgements.
        if message.entries or message.round:
            self._reply_append(message, True, match_index, 0)
        if min(message.leader_commit, match_index) > self.commit_index:
            self._commit_to(min(message.leader_commit, match_index), hint=not message.entries)
        elif not message.entries:
            self._hint_commit()

    def _take_entries(self, entries: tuple[Entry, ...]) -> None:
        """Append what is new; cut a tail that conflicts (§5.3), never a committed one."""
        for offset, entry in enumerate(entries):
            if entry.index <= self.commit_index or self.log.term_at(entry.index) == entry.term:
                continue
            fresh = entries[offset:]
            self.log.put(entry.index, fresh)
            self._persist_entries(entry.index, fresh)
            return

    def _refuse_append(self, message: AppendEntries, conflict_index: int) -> None:
        self._reply_append(message, False, 0, conflict_index)

    def _reply_append(self, message: AppendEntries, success: bool, match_index: int, conflict_index: int) -> None:
        number, voting = self.epoch.number, self.voting
        self._send(
            message.leader,
            AppendEntriesReply(
                number, self.term, self.node, success, match_index, conflict_index, message.round, voting
            ),
        )
