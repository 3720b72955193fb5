"""The protocol core that a node runs: one log across epochs, ordered by Raft or by Byzantine agreement in turn.

Layers: the log and its epochs (`net.replica_log`), getting into it (`net.replica_ordering`), catching up and
checkpoints (`net.replica_catch_up`), and here the interface.

Invariants (the simulation checks them after every event):

1. No two nodes decide different entries at one index; decided entries form one hash chain (`net.history` refuses
   others).
2. An epoch ends at the index of its SWITCH or MEMBERSHIP entry. What the old protocol ordered behind it is void, on
   every node alike, because every node stops at that entry; who submitted it hands it to the next epoch.
3. A message counts only in its own epoch, and a signature only in its own context (`net.certificate.epoch_context`).
4. AUTO: a critical entry takes effect only with a Byzantine certificate over its payload, made in the same epoch's side
   log and used once; without one it is decided and changes nothing. What is critical depends on the state, so the state
   machine judges it as it applies the entry, on every node behind the same one; here a wrong certificate is denied,
   whatever it is for.
5. A node takes decided entries from a peer only along its hash chain, in a Byzantine epoch only with their
   certificates. A Raft epoch trusts the peer's word, as Raft does.
6. A node goes on from a checkpoint only where f + 1 voters that it knows signed it (`net.checkpoint`), and cuts its
   log only behind one that a majority signed and whose state it holds.
7. A node that lost its disk votes nowhere until an epoch names its new one (`net.membership`).
8. An epoch begins with another mode only by an operator's signature over that mode and the epoch that it ends, whoever
   leads and in whatever mode (`net.mode_switch`); with another one a SWITCH is not voted for, or decided as denied.

Submissions are ordered at least once (`net.submissions`); the state machine above must know its own decisions again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from random import Random

from net.consensus import Commit, Effect, EpochStarted, ReadReady, ReplicaStatus, RestoreState, Send
from net.durable import decode_record
from net.membership import Membership, all_voters
from net.membership_change import next_epoch
from net.messages import (
    ENDS_EPOCH,
    AppendEntries,
    AppendEntriesReply,
    CertificateNotice,
    CheckpointVote,
    CommittedEntries,
    ConsensusMessage,
    EntryKind,
    EvidenceNotice,
    FetchBlock,
    FetchEntries,
    FetchSnapshot,
    Forward,
    Mode,
    Propose,
    ReadIndex,
    ReadIndexReply,
    RequestVote,
    RequestVoteReply,
    SnapshotChunk,
    TimeoutNow,
    Vote,
)
from net.mode_switch import SwitchOrder, encode_switch, switched_epoch
from net.quorum import byzantine_faults, fast_path_possible
from net.replica_catch_up import ReplicaCatchUp
from net.replica_log import Validate
from net.settings import ConsensusSettings

_RAFT_MESSAGES = (
    RequestVote,
    RequestVoteReply,
    AppendEntries,
    AppendEntriesReply,
    TimeoutNow,
    ReadIndex,
    ReadIndexReply,
)
_BYZANTINE_MESSAGES = (Propose, Vote, CertificateNotice, FetchBlock, EvidenceNotice)


def accept_everything(kind: EntryKind, payload: bytes, members: Membership, index: int | None) -> bool:
    return True


def nothing_critical(payload: bytes) -> bool:
    return False


class Replica(ReplicaCatchUp):
    """One node's consensus. See `net.consensus.ProtocolCore` for the rules of calling it."""

    def __init__(
        self,
        node: int,
        roster: Mapping[int, bytes],
        sign: Callable[[bytes], bytes],
        random: Random,
        *,
        mode: Mode = Mode.RAFT,
        leader_hint: int | None = None,
        settings: ConsensusSettings | None = None,
        validate: Validate = accept_everything,
        critical: Callable[[bytes], bool] = nothing_critical,
        incarnation: bytes = b"",
        authorities: Mapping[int, bytes] | None = None,
        joining: bool = False,
    ) -> None:
        """`roster`, `mode` and `leader_hint` start an empty log and must be the same on every node.

        `roster` maps node id to its 32-byte Ed25519 public key, `sign` is this node's key. `validate` is asked before a
        Byzantine vote, of a payload, the members of the epoch that it is proposed in, and the index of its entry where
        that is known; it must be pure and the same on every node, whenever it is asked. `critical` says what a leader
        of AUTO, as its state stands, has witnessed before it orders it. `incarnation` names this node's disk where it
        is not the one that it began with, `authorities` the operators' keys, who may change mode and membership.
        `joining`: this node is not in the roster, and learns its place from the log. Raises `ValueError` when the
        roster lacks this node otherwise, or is too small for the mode.
        """
        if node not in roster and not joining:
            raise ValueError(f"node {node} is not in the roster {sorted(roster)}")
        if mode is not Mode.RAFT and byzantine_faults(len(roster)) < 1:
            raise ValueError(f"mode {mode.name} needs at least 4 nodes, the roster has {len(roster)}")
        if settings is not None and settings.fast_path and not fast_path_possible(len(roster)):
            raise ValueError(f"the fast path needs 4 or 5 nodes, the roster has {len(roster)}: turn fast_path off")
        super().__init__(
            node,
            all_voters(roster),
            sign,
            random,
            mode,
            leader_hint,
            settings or ConsensusSettings(),
            validate,
            critical,
            incarnation,
            authorities or {},
        )
        self._start_ordering()
        self._start_catching_up()
        self._messages_sent = 0
        self._messages_received = 0

    @classmethod
    def recover(
        cls,
        records: Iterable[bytes],
        node: int,
        roster: Mapping[int, bytes],
        sign: Callable[[bytes], bytes],
        random: Random,
        *,
        mode: Mode = Mode.RAFT,
        leader_hint: int | None = None,
        settings: ConsensusSettings | None = None,
        validate: Validate = accept_everything,
        critical: Callable[[bytes], bool] = nothing_critical,
        authorities: Mapping[int, bytes] | None = None,
        joining: bool = False,
    ) -> Replica:
        """A replica with everything in `records` (`DurableLog.read_all`); `start` then replays what was decided.

        Raises `RecordError` when a record does not decode or does not fit those before it.
        """
        replica = cls(
            node,
            roster,
            sign,
            random,
            mode=mode,
            leader_hint=leader_hint,
            settings=settings,
            validate=validate,
            critical=critical,
            authorities=authorities,
            joining=joining,
        )
        for data in records:
            replica._restore(decode_record(data))
        return replica

    # -- what the node above asks ----------------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """Payloads that this node submitted and that are not decided yet."""
        return len(self._submissions)

    def status(self) -> ReplicaStatus:
        raft, bft = self._raft, self._bft
        if raft is not None:
            role, last_index = raft.role, raft.log.last_index
            matches = tuple(sorted(raft.match_index.items())) if raft.role == "leader" else ()
        else:
            role = "leader" if self._byzantine.leader == self.node else "replica"
            last_index = self._byzantine.highest_height
            matches = tuple(sorted(self._byzantine.peer_heights.items()))
        return ReplicaStatus(
            node=self.node,
            mode=self.mode,
            epoch=self.epoch,
            term=self.term,
            leader=self.leader,
            role=role if self.voting else "learner" if self.node in self.nodes else "removed",
            commit_index=self.commit_index,
            last_index=last_index,
            peer_match_index=matches,
            rounds=self._rounds,
            messages_sent=self._messages_sent,
            messages_received=self._messages_received,
            elections=self._elections_before + sum(core.elections for core in (raft, bft) if core is not None),
            evidence=tuple(self._evidence),
            voters=self.membership.voters,
            learners=self.membership.learners,
            checkpoint_index=self._stable_index,
            first_index=self.history.first_index,
        )

    # -- the interface of a core -----------------------------------------------------------------------------------

    def start(self, now: float) -> list[Effect]:
        recovered, self._recovered = self._recovered, []
        denied = tuple(self._recovered_denied)
        self._recovered_denied = []
        if self._stable is not None:
            self._out.append(RestoreState(self._stable.index, self._stable.checkpoint.state))
        for offset in range(0, len(recovered), 1024):
            self._out.append(Commit(tuple(recovered[offset : offset + 1024]), denied, recovered=True))
        self._heartbeat_at = now
        self._out.append(
            EpochStarted(self._epoch.number, self._epoch.mode, self._epoch.base_index, self._epoch.membership)
        )
        self._start_cores(now)
        return self._finish(now)

    def step(self, sender: int, message: ConsensusMessage, now: float) -> list[Effect]:
        self._messages_received += 1
        if sender != self.node:
            self._dispatch(sender, message, now)
        return self._finish(now)

    def tick(self, now: float) -> list[Effect]:
        if self._raft is not None:
            self._absorb(self._raft.tick(now), now)
        if self._bft is not None:
            self._absorb_bft(self._bft.tick(now), now)
        self._beat(now)
        self._offer_snapshots(now)
        if self._witness_at is not None and now >= self._witness_at:
            self._ask_for_witnesses_again(now)
        if self._hand_over_at is not None and now >= self._hand_over_at:
            self._hand_over_again(now)
        return self._finish(now)

    def propose(self, payloads: Sequence[bytes], now: float) -> list[Effect]:
        """Submit `payloads` in this order; raises `TooManySubmissions` (all or none) when too many wait already."""
        self._submit([(EntryKind.DATA, payload) for payload in payloads], now)
        return self._finish(now)

    def switch_mode(self, order: SwitchOrder, now: float) -> list[Effect]:
        """End the epoch and start one of another mode, as an entry of the log. Nothing happens when that mode holds.

        `order` is signed for this very epoch (`net.mode_switch.sign_switch`). Raises `SwitchError` where it is not, or
        the mode needs more voters than there are.
        """
        if order.mode is not self.mode:
            payload = encode_switch(order, self.leader)
            switched_epoch(self._epoch, payload, self.commit_index + 1, self.history.digest, self._authorities)
            self._submit([(EntryKind.SWITCH, payload)], now)
        return self._finish(now)

    def change_membership(self, change: bytes, now: float) -> list[Effect]:
        """End the epoch and start one of other members, as an entry of the log.

        `change` is signed for this very epoch (`net.membership_change.sign_change`). Raises `MembershipError` where it
        is not, or changes what its author may not.
        """
        next_epoch(self._epoch, change, self.commit_index + 1, self.history.digest, self._authorities)
        self._submit([(EntryKind.MEMBERSHIP, change)], now)
        return self._finish(now)

    def checkpoint_taken(self, index: int, state: bytes, now: float) -> list[Effect]:
        """The answer to `TakeCheckpoint`: the state's bytes behind entry `index`, the same on every node."""
        self._on_checkpoint_taken(index, state, now)
        return self._finish(now)

    def transfer_leadership(self, to: int, now: float) -> list[Effect]:
        """Hand the lead to voter `to` without a gap (`net.raft`).

        Raises `RuntimeError` where this node does not lead, or a Byzantine epoch runs, `ValueError` for no other voter.
        """
        if self._raft is None:
            raise RuntimeError("in a Byzantine epoch the lead goes with the view, and is not handed over")
        self._absorb(self._raft.transfer_leadership(to, now), now)
        return self._finish(now)

    def read_index(self, request_id: int, now: float) -> list[Effect]:
        """Ask from which index on a read is linearizable; `ReadReady` with that id answers (`net.raft`).

        A Byzantine epoch grants none: there a read that must be the newest is an entry of the log.
        """
        if self._raft is None:
            self._out.append(ReadReady(request_id, None))
        else:
            self._absorb(self._raft.read_index(request_id, now), now)
        return self._finish(now)

    def next_deadline(self) -> float | None:
        deadlines = [core.next_deadline() for core in (self._raft, self._bft) if core is not None]
        due = [each for each in deadlines if each is not None]
        if self._hand_over_at is not None:
            due.append(self._hand_over_at)
        if self._witness_at is not None:
            due.append(self._witness_at)
        if self._bft is not None:
            due.append(self._heartbeat_at + self._settings.heartbeat_interval_s)
        return min(due) if due else None

    # -- messages --------------------------------------------------------------------------------------------------

    def _dispatch(self, sender: int, message: ConsensusMessage, now: float) -> None:
        """What proves itself, or is only asked for, may come from a node that a later epoch admits."""
        if isinstance(message, FetchEntries):
            self._on_fetch(sender, message, now)
        elif isinstance(message, FetchSnapshot):
            self._on_fetch_snapshot(sender, message, now)
        elif isinstance(message, SnapshotChunk):
            self._on_snapshot_chunk(sender, message, now)
        elif sender in self.nodes:
            self._dispatch_of_member(sender, message, now)

    def _dispatch_of_member(self, sender: int, message: ConsensusMessage, now: float) -> None:
        if isinstance(message, CommittedEntries):
            self._on_committed_entries(sender, message, now)
        elif isinstance(message, CheckpointVote):
            self._on_checkpoint_vote(sender, message, now)
        elif message.epoch < self.epoch:
            self._answer_laggard(sender, now)
        elif message.epoch > self.epoch:
            if message.epoch == self.epoch + 1:
                self._keep_for_later(sender, message)
            self._fetch(sender, now)
        elif isinstance(message, Forward):
            if message.kind in ENDS_EPOCH:
                message = self._with_possible_changes(message)
            self._on_forward(sender, message, now)
        elif isinstance(message, _RAFT_MESSAGES):
            if self._raft is not None:
                self._absorb(self._raft.step(sender, message, now), now)
                self._note_progress(sender, now)
        elif self._bft is not None and isinstance(message, _BYZANTINE_MESSAGES):
            self._absorb_bft(self._bft.step(sender, message, now), now)
            if self._raft is None and self._byzantine.is_behind:
                self._fetch(sender, now)

    def _keep_for_later(self, sender: int, message: ConsensusMessage) -> None:
        """What came early for the next epoch, each peer's share of the buffer; without it, it is asked for then."""
        theirs = sum(1 for peer, _ in self._future if peer == sender)
        if theirs < self._settings.buffered_messages // len(self.nodes):
            self._future.append((sender, message))

    def _with_possible_changes(self, message: Forward) -> Forward:
        """Without what begins no epoch, though it should: a Raft leader, too, would order it for nothing.

        It is the judgement of a Byzantine vote and of the commit: it depends on the epoch and the payload alone.
        """
        payloads = tuple(each for each in message.payloads if self._judge_content(message.kind, each))
        return replace(message, payloads=payloads)

    def _finish(self, now: float) -> list[Effect]:
        """Take what came early for an epoch that began just now, hand over what waits, give out the effects."""
        while self._replay:
            replay, self._replay = self._replay, []
            for sender, message in replay:
                self._dispatch(sender, message, now)
        if self.pending < self._settings.pending_limit:
            # Where too much waits already it asks later: nobody called who could be told to submit less.
            self._ask_for_readmission(now)
        self._hand_over_waiting(now)
        out, self._out = self._out, []
        self._messages_sent += sum(isinstance(effect, Send) for effect in out)
        return out
