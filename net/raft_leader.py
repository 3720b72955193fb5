"""A Raft leader: replication (§5.3, §5.4.2; thesis §10.2.1), transfer (§3.10), lease and ReadIndex (§6.4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from net.consensus import ReadReady
from net.epoch import Epoch
from net.messages import (
    AppendEntries,
    AppendEntriesReply,
    Entry,
    EntryKind,
    ReadIndex,
    ReadIndexReply,
    TimeoutNow,
)
from net.raft_election import RaftElection
from net.raft_progress import Progress, Rounds, quorum_value
from net.raft_reads import ForwardedReads, PendingRead, PendingReads
from net.settings import ConsensusSettings

MESSAGE_PAYLOAD_BYTES = 512 * 1024
"""Entries of one AppendEntries; half of what the wire lets pass (`net.wire`), for the codecs' own bytes."""

Content = tuple[EntryKind, bytes]


@dataclass(slots=True)
class Transfer:
    """A leadership transfer under way, and what was proposed meanwhile."""

    to: int
    deadline: float
    held: list[Content]


class RaftLeader(RaftElection):
    """What a node does while it leads, and the reads that it forwards while it does not."""

    def __init__(self, node: int, epoch: Epoch, random: Random, settings: ConsensusSettings, voting: bool) -> None:
        super().__init__(node, epoch, random, settings, voting)
        self._progress: dict[int, Progress] = {}
        self._voters: tuple[Progress, ...] = ()
        self._rounds = Rounds()
        self._reads = PendingReads(settings.buffered_messages)
        self._forwarded = ForwardedReads(settings.buffered_messages)
        self._transfer: Transfer | None = None
        self._lease_given_up = False
        self._quorum_check_at = 0.0
        self._commit_push_at: float | None = None
        self._own_term_index = 0
        self._shared: AppendEntries | None = None

    @property
    def match_index(self) -> dict[int, int]:
        """The leader's followers, learners too, and the last entry that each is known to hold."""
        return {follower: progress.match_index for follower, progress in self._progress.items()}

    @property
    def needs_snapshot(self) -> tuple[int, ...]:
        """Followers that lack entries which this log no longer holds: they get heartbeats alone until a checkpoint
        brings them to the base of this log or beyond (`install_snapshot`). Empty where this node does not lead."""
        if self.role != "leader":
            return ()
        return tuple(follower for follower, progress in self._progress.items() if progress.needs_snapshot)

    @property
    def is_settled_leader(self) -> bool:
        """Whether this node leads and an entry of its own term is committed, so that it knows what came before it."""
        return self.role == "leader" and self.commit_index >= self._own_term_index

    @property
    def transferring_to(self) -> int | None:
        """The node that leadership is being handed to."""
        return None if self._transfer is None else self._transfer.to

    @property
    def undecided(self) -> Iterator[Content]:
        """What this log holds and nobody has committed yet, and what waits for the end of a transfer."""
        for entry in self.log.slice(self.commit_index + 1, self.log.last_index - self.commit_index):
            yield (entry.kind, entry.payload)
        yield from () if self._transfer is None else self._transfer.held

    # -- taking and losing the lead --------------------------------------------------------------------------------

    def _lead(self, now: float) -> None:
        self.role = "leader"
        self._set_leader(self.node)
        first, base = self.log.last_index + 1, self.epoch.base_index
        self._progress = {
            peer: Progress(peer, peer in self.peers, first, base, now, now, base, base, assumed_index=first - 1)
            for peer in self.peers + self.learners
        }
        self._voters = tuple(self._progress[peer] for peer in self.peers)
        self._rounds = Rounds()
        self._reads = PendingReads(self._settings.buffered_messages)
        self._lease_given_up = False
        self._quorum_check_at = now + self._settings.election_timeout_max_s
        self._commit_push_at = None
        self._own_term_index = first
        self._append_own([(EntryKind.NOOP, b"")], now)

    def _become_follower(self, term: int, leader: int | None, now: float) -> None:
        if self.role == "leader":
            # Who submitted what was held hands it to the next leader; reads are asked again there.
            self._transfer = None
            self._refuse_reads()
        super()._become_follower(term, leader, now)

    def _refuse_reads(self) -> None:
        for read in self._reads.take(float("inf")):
            self._answer_read(read, granted=False)

    def _set_leader(self, leader: int | None) -> None:
        if leader != self.leader:
            for request_id in self._forwarded.take_due(float("inf")):
                self._out.append(ReadReady(request_id, None))
        super()._set_leader(leader)

    # -- replication (§5.3) ----------------------------------------------------------------------------------------

    def _append_own(self, contents: Sequence[Content], now: float) -> None:
        first, term = self.log.last_index + 1, self.term
        entries = tuple(Entry(first + offset, term, kind, payload) for offset, (kind, payload) in enumerate(contents))
        self.log.put(first, entries)
        for progress in self._progress.values():
            self._send_append(progress, now)
        self._persist_entries(first, entries)
        self._advance_commit(now)

    def _send_append(self, progress: Progress, now: float, even_if_empty: bool = False, push: bool = False) -> None:
        """Send what the follower lacks, as far as its window allows, in messages of bounded size.

        While its log is being probed, one message at a time: again at a back-up or heartbeat (`even_if_empty`).
        `push` asks for no reply where the message carries the commit index alone.
        """
        if progress.probe is not None:
            if not even_if_empty:
                return
            progress.next_index = progress.probe
        progress.needs_snapshot = progress.next_index <= self.log.base_index
        if progress.needs_snapshot:
            # The commit index is of no use to it; pushed again and again, it would put off the heartbeat whose reply
            # says that a checkpoint has arrived.
            if even_if_empty and not push:
                self._send_entries(progress, self.log.base_index + 1, 0, now, push)
            return
        window, most = self._settings.window_entries, self._settings.message_entries
        while True:
            first = progress.next_index
            held = max(progress.match_index, progress.assumed_index)
            limit = min(held + window + 1 - first, most, self.log.last_index + 1 - first)
            if limit <= 0 and not even_if_empty:
                return
            progress.next_index = first + self._send_entries(progress, first, max(limit, 0), now, push)
            even_if_empty = False
            if progress.probe is not None:
                return

    def _send_entries(self, progress: Progress, first: int, limit: int, now: float, push: bool) -> int:
        """Send at most `limit` entries from `first` on; returns how many."""
        round_ = 0 if push and not limit else self._rounds.at(now)
        message = self._shared
        # Followers that are equally far get the same object, so that the shell encodes it once.
        if (
            message is None
            or message.prev_log_index != first - 1
            or message.round != round_
            or message.leader_commit != self.commit_index
            or message.term != self.term
            or first + len(message.entries) <= self.log.last_index
            or len(message.entries) > limit
        ):
            entries = self.log.slice(first, limit, MESSAGE_PAYLOAD_BYTES) if limit else ()
            term = self.log.term_at(first - 1)
            if term is None:
                raise IndexError(f"node {progress.follower} needs index {first - 1}, which this log does not hold")
            message = AppendEntries(
                self.epoch.number, self.term, self.node, first - 1, term, self.commit_index, round_, entries
            )
            self._shared = message
        self._send(progress.follower, message)
        if round_:
            # A push that wants no reply does not put off the heartbeat: a follower that came back would not be heard.
            progress.sent_at = now
        progress.sent_commit = self.commit_index
        return len(message.entries)

    def _on_append_reply(self, reply: AppendEntriesReply, now: float) -> None:
        if reply.term > self.term:
            self._become_follower(reply.term, None, now)
            return
        progress = self._progress.get(reply.follower)
        if self.role != "leader" or reply.term < self.term or progress is None:
            return
        counts = reply.voting and progress.voter
        if counts:
            progress.acknowledge(reply.round, self._rounds.sent_at(reply.round), now)
        if reply.success:
            self._on_match(progress, reply.match_index, counts, now)
        else:
            self._on_conflict(progress, reply, counts, now)
        if len(self._reads):
            self._serve_reads(now)

    def _on_match(self, progress: Progress, match_index: int, counts: bool, now: float) -> None:
        if match_index > self.log.last_index:
            return
        if match_index > progress.match_index:
            progress.match_index = match_index
            progress.next_index = max(progress.next_index, match_index + 1)
        if progress.probe is not None and match_index + 1 >= progress.probe:
            progress.probe = None
        if counts and match_index > progress.counted_index:
            progress.counted_index = match_index
            self._advance_commit(now)
        self._send_append(progress, now)
        self._continue_transfer(progress, counts)

    def _on_conflict(self, progress: Progress, reply: AppendEntriesReply, counts: bool, now: float) -> None:
        """§5.3: back up to where the follower says, and probe from there.

        One message at a time until one fits: else every answer to what was in flight would set off the whole window
        again. What was sent before the last back-up no longer matters.
        """
        if reply.round < progress.probe_round and (reply.round or progress.probe is not None):
            return
        if not counts and reply.conflict_index <= progress.match_index:
            # A node that counts nowhere may have lost its disk, and all that it acknowledged.
            progress.match_index = max(reply.conflict_index - 1, self.epoch.base_index)
        # The run of equal terms that the follower names may begin below what is known to match.
        back_up_to = max(reply.conflict_index, progress.match_index + 1)
        if back_up_to < (progress.next_index if progress.probe is None else progress.probe):
            progress.back_up(back_up_to, self._rounds.begin(now))
            self._send_append(progress, now, even_if_empty=True)

    def _advance_commit(self, now: float) -> None:
        """§5.3, §5.4.2: the highest index that a majority holds, if its entry is of the current term."""
        held = quorum_value((progress.counted_index for progress in self._voters), self.quorum)
        index = min(int(held), self.log.last_index) if self._voters else self.log.last_index
        if index > self.commit_index and self.log.term_at(index) == self.term:
            self._commit_to(index)
            if self._progress:
                self._commit_push_at = now + self._settings.commit_push_delay_s

    # -- time ------------------------------------------------------------------------------------------------------

    def _tick_leader(self, now: float) -> None:
        settings = self._settings
        if now >= self._quorum_check_at:
            # Check-quorum (thesis §6.2): a leader that a majority no longer answers steps down.
            self._quorum_check_at = now + settings.election_timeout_max_s
            alive = sum(now - progress.heard_at < settings.election_timeout_max_s for progress in self._voters)
            if alive + 1 < self.quorum:
                self._become_follower(self.term, None, now)
                return
        if self._transfer is not None and now >= self._transfer.deadline:
            self._abort_transfer(now)
        pushing = self._commit_push_at is not None and now >= self._commit_push_at
        if pushing:
            self._commit_push_at = None
            self._hint_commit()
        for progress in self._progress.values():
            if now >= progress.sent_at + settings.heartbeat_interval_s:
                self._send_append(progress, now, even_if_empty=True)
            elif pushing and progress.sent_commit < self.commit_index:
                self._send_append(progress, now, even_if_empty=True, push=True)

    def _leader_deadline(self) -> float:
        due = self._quorum_check_at
        if self._commit_push_at is not None:
            due = min(due, self._commit_push_at)
        if self._transfer is not None:
            due = min(due, self._transfer.deadline)
        for progress in self._progress.values():
            due = min(due, progress.sent_at + self._settings.heartbeat_interval_s)
        return due

    # -- leadership transfer (thesis §3.10) ------------------------------------------------------------------------

    def _begin_transfer(self, to: int, now: float) -> None:
        if self.role != "leader":
            raise RuntimeError(f"node {self.node} does not lead term {self.term}")
        if to not in self.peers:
            raise ValueError(f"leadership goes to another voter, of {self.peers}, not to node {to}")
        if self._transfer is not None:
            if self._transfer.to != to:
                raise RuntimeError(f"leadership is on its way to node {self._transfer.to} already")
            return
        self._transfer = Transfer(to, now + self._settings.election_timeout_max_s, [])
        self._send_append(self._progress[to], now, even_if_empty=True)
        self._continue_transfer(self._progress[to], counts=True)

    def _continue_transfer(self, progress: Progress, counts: bool) -> None:
        """Once it has the whole log the follower may campaign; told again with every reply, as this may be lost."""
        transfer = self._transfer
        if transfer is None or not counts or progress.follower != transfer.to:
            return
        if progress.counted_index == self.log.last_index:
            # It may campaign from now on, whenever that message arrives: there is no lease any more in this term.
            self._lease_given_up = True
            self._send(transfer.to, TimeoutNow(self.epoch.number, self.term, self.node))

    def _abort_transfer(self, now: float) -> None:
        """It did not campaign within an election timeout: go on leading, with what was proposed meanwhile."""
        transfer, self._transfer = self._transfer, None
        if transfer is not None and transfer.held:
            self._append_own(transfer.held, now)

    def _hold(self, transfer: Transfer, contents: Sequence[Content]) -> None:
        """Past the bound proposals are lost, as a forward may be: who submitted them hands them over again."""
        room = self._settings.pending_limit - len(transfer.held)
        transfer.held.extend(contents[: max(0, room)])

    # -- lease and ReadIndex (thesis §6.4) -------------------------------------------------------------------------

    @property
    def lease_until(self) -> float:
        """Until when no other node can have been elected, on the clock of `now`; -inf where that is not known.

        A quorum answered a round that was sent at some time; from then on none of them helps to elect another for
        `election_timeout_min_s` (`_may_be_deposed`, also over a restart). The date is that of sending, since the
        answer took time to come, and the clocks may run apart by `lease_clock_drift` (infinite: no lease at all).
        """
        if self.role != "leader" or self._lease_given_up:
            return float("-inf")
        lasts = self._settings.election_timeout_min_s / (1 + self._settings.lease_clock_drift)
        return quorum_value((progress.acked_at for progress in self._voters), self.quorum) + lasts

    def _on_read_index(self, requester: int, message: ReadIndex, now: float) -> None:
        if self.role == "leader":
            self._read_as_leader(requester, message.request_id, now)
        else:
            self._send(requester, ReadIndexReply(self.epoch.number, message.request_id, False, 0))

    def _read_as_leader(self, requester: int, request_id: int, now: float) -> None:
        # Whatever older terms committed lies below this leader's first entry.
        index = max(self.commit_index, self._own_term_index)
        read = PendingRead(requester, request_id, index, self._rounds.last + 1)
        if self.is_settled_leader and now < self.lease_until:
            self._answer_read(read, granted=True)
        elif self._reads.is_full:
            self._answer_read(read, granted=False)
        else:
            self._reads.add(read)
            self._serve_reads(now)

    def _serve_reads(self, now: float) -> None:
        """Answer what a quorum's replies confirm (and an own entry committed); ask for a round where none is out."""
        if self.is_settled_leader:
            confirmed = quorum_value((progress.acked_round for progress in self._voters), self.quorum)
            for read in self._reads.take(confirmed):
                self._answer_read(read, granted=True)
        if self._reads.wants_round:
            self._reads.asked_round = self._rounds.begin(now)
            for peer in self.peers:
                self._send_append(self._progress[peer], now, even_if_empty=True)

    def _answer_read(self, read: PendingRead, granted: bool) -> None:
        index = read.index if granted else 0
        if read.requester == self.node:
            self._out.append(ReadReady(read.request_id, index if granted else None))
        else:
            self._send(read.requester, ReadIndexReply(self.epoch.number, read.request_id, granted, index))

    def _forward_read(self, request_id: int, now: float) -> None:
        if self.leader is None or self._forwarded.is_full:
            self._out.append(ReadReady(request_id, None))
            return
        self._forwarded.add(request_id, now + self._settings.election_timeout_max_s)
        self._send(self.leader, ReadIndex(self.epoch.number, request_id))

    def _on_read_index_reply(self, sender: int, reply: ReadIndexReply) -> None:
        if sender == self.leader and self._forwarded.settle(reply.request_id):
            self._out.append(ReadReady(reply.request_id, reply.index if reply.granted else None))

    def _give_up_reads(self, now: float) -> None:
        for request_id in self._forwarded.take_due(now):
            self._out.append(ReadReady(request_id, None))
