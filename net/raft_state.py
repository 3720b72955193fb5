"""What a Raft node is bound to in one epoch: term, vote, log, commit index; how they persist, recover and compact."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from net.consensus import Commit, Effect, LeaderChanged, Persist, Send, Sync
from net.durable import AppendRecord, CommitIndexRecord, HardState, encode_record
from net.epoch import Epoch
from net.messages import Certificate, Committed, ConsensusMessage, Entry, Phase
from net.raft_log import RaftLog
from net.settings import ConsensusSettings


class RaftState:
    """The state of figure 2, without a rule of the protocol beside those of storage."""

    def __init__(
        self,
        node: int,
        epoch: Epoch,
        random: Random,
        settings: ConsensusSettings,
        voting: bool,
    ) -> None:
        self.node = node
        self.epoch = epoch
        self.voting = voting and node in epoch.membership.voters
        self.peers = tuple(peer for peer in epoch.membership.voters if peer != node)
        self.learners = tuple(peer for peer in epoch.membership.learners if peer != node)
        self.term = 0
        self.voted_for: int | None = None
        self.role = "follower"
        self.leader: int | None = None
        self.log = RaftLog(epoch.base_index, epoch.base_digest)
        self.commit_index = epoch.base_index
        self._hinted_commit = epoch.base_index
        self._random = random
        self._settings = settings
        self._out: list[Effect] = []

    # -- recovery --------------------------------------------------------------------------------------------------

    def restore_snapshot(self, index: int, term: int, digest: bytes) -> None:
        """Before `start`: the log restarts at a checkpoint of this epoch. See `install_snapshot`."""
        if index > self.commit_index:
            self.log.restart(index, term, digest)
            self.commit_index = self._hinted_commit = index

    def restore_hard_state(self, term: int, voted_for: int | None) -> None:
        self.term, self.voted_for = term, voted_for

    def restore_entries(self, first_index: int, entries: Sequence[Entry]) -> None:
        self.log.put(first_index, entries)

    def restore_commit_index(self, commit_index: int) -> tuple[Committed, ...]:
        """What became committed by the recovered `commit_index`."""
        first = self.commit_index + 1
        self.commit_index = max(self.commit_index, min(commit_index, self.log.last_index))
        self._hinted_commit = self.commit_index
        return tuple(self._committed(index) for index in range(first, self.commit_index + 1))

    def live_records(self, above: int = 0) -> tuple[bytes, ...]:
        """What this core still needs of the durable log, as records to stand behind a checkpoint at entry `above`.

        Read back in this order after `restore_snapshot` of that entry they make this core again. Entries up to `above`
        may still be in memory, for followers that lag a little.
        """
        number, log = self.epoch.number, self.log
        records = [encode_record(HardState(number, self.term, self.voted_for))]
        step = self._settings.message_entries
        records.extend(
            encode_record(AppendRecord(number, first, log.slice(first, step)))
            for first in range(max(log.base_index, above) + 1, log.last_index + 1, step)
        )
        records.append(encode_record(CommitIndexRecord(number, self.commit_index)))
        return tuple(records)

    # -- snapshots and compaction (§7) -------------------------------------------------------------------------------

    def compact(self, index: int) -> None:
        """Drop entries up to `index`, which a certified checkpoint covers; no effect at or below the log's base.

        Raises `ValueError` where `index` is not committed yet. A follower that needs what was dropped shows up in the
        leader's `needs_snapshot`. The caller rewrites the durable log (`live_records`).
        """
        if index > self.commit_index:
            raise ValueError(f"index {index} is not committed: the log is cut up to {self.commit_index} at most")
        if index > self.log.base_index:
            self.log.compact(index)

    # -- terms and leaders -----------------------------------------------------------------------------------------

    def _set_term(self, term: int, voted_for: int | None) -> None:
        self.term, self.voted_for = term, voted_for
        self._out.append(Persist(encode_record(HardState(self.epoch.number, term, voted_for))))

    def _set_leader(self, leader: int | None) -> None:
        if leader != self.leader:
            self.leader = leader
            self._out.append(LeaderChanged(leader, self.term))

    def _send(self, to: int, message: ConsensusMessage) -> None:
        self._out.append(Send(to, message))

    # -- entries and commits ---------------------------------------------------------------------------------------

    def _persist_entries(self, first_index: int, entries: tuple[Entry, ...]) -> None:
        record = AppendRecord(self.epoch.number, first_index, entries, self.commit_index)
        self._hinted_commit = self.commit_index
        self._out.append(Persist(encode_record(record)))
        self._out.append(Sync())

    def _commit_to(self, index: int, hint: bool = False) -> None:
        """`hint` where no entry is about to carry the commit index to the disk.

        That comes first: what the Commit sets off may be the records of the next epoch.
        """
        first = self.commit_index + 1
        self.commit_index = index
        if hint:
            self._hint_commit()
        self._out.append(Commit(tuple([self._committed(each) for each in range(first, index + 1)])))

    def _hint_commit(self) -> None:
        """Write the commit index down where no entry has carried it to the disk: it saves a replay later."""
        if self._hinted_commit < self.commit_index:
            self._hinted_commit = self.commit_index
            self._out.append(Persist(encode_record(CommitIndexRecord(self.epoch.number, self.commit_index))))

    def _committed(self, index: int) -> Committed:
        """The entry with its place in the hash chain. The certificate has no signer: the leader's word costs more than
        all the rest of a commit, so it is given where somebody asks for it (`net.certificate.with_word`).
        """
        epoch, log = self.epoch, self.log
        certificate = Certificate(
            epoch.mode,
            epoch.number,
            epoch.context,
            Phase.FINALIZE,
            self.term,
            index,
            log.digest_at(index - 1),
            log.digest_at(index),
            (),
            (),
        )
        return Committed(epoch.number, log.entry_at(index), certificate)

    def _take(self) -> list[Effect]:
        out, self._out = self._out, []
        return out
