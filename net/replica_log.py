"""The log of a replica across epochs: what is decided, which protocol orders what follows, and how that recovers.

See `net.replica` for the invariants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from random import Random

from net.auto_queue import AutoQueue
from net.bft import BftCore
from net.bft_fast import FastBftCore
from net.certificate import GENESIS_DIGEST, Verifier, unwrapped
from net.checkpoint import Checkpoint, CheckpointError
from net.consensus import Effect
from net.durable import (
    AppendRecord,
    CheckpointRecord,
    CommitIndexRecord,
    HardState,
    IncarnationRecord,
    InstallRecord,
    Record,
    RecordError,
    encode_record,
)
from net.epoch import Epoch, first_epoch, with_fast_path
from net.history import History
from net.membership import Membership, MembershipError
from net.membership_change import next_epoch
from net.messages import ENDS_EPOCH, Certificate, CheckpointCertificate, Committed, Entry, EntryKind, Mode
from net.mode_switch import SwitchError, switched_epoch
from net.payload_batch import contents_of
from net.quorum import fast_path_possible
from net.raft import RaftCore
from net.settings import ConsensusSettings
from net.snapshot_transfer import CertifiedCheckpoint, assemble
from net.submissions import Submissions

_SINGLE = (EntryKind.DATA, EntryKind.SWITCH)

Validate = Callable[[EntryKind, bytes, Membership, int | None], bool]
"""Whether an honest leader may propose this content in an epoch of these members."""


class ReplicaLog:
    """The decided prefix, the running epoch and its cores."""

    def __init__(
        self,
        node: int,
        membership: Membership,
        sign: Callable[[bytes], bytes],
        random: Random,
        mode: Mode,
        leader_hint: int | None,
        settings: ConsensusSettings,
        validate: Validate,
        critical: Callable[[bytes], bool],
        incarnation: bytes,
        authorities: Mapping[int, bytes],
    ) -> None:
        self.node = node
        self.incarnation = incarnation
        self.history = History(GENESIS_DIGEST, settings.history_entries)
        self._sign = sign
        self._random = random
        self._settings = settings
        self._validate = validate
        self._critical = critical
        self._authorities = dict(authorities)
        self._submissions = Submissions(settings.pending_limit)
        self._hand_over_at: float | None = None
        self._stable: CertifiedCheckpoint | None = None
        self._noted: dict[int, Checkpoint] = {}
        self._recovered: list[Committed] = []
        self._recovered_denied: list[int] = []
        self._out: list[Effect] = []
        self._enter_epoch(first_epoch(mode, leader_hint, membership))

    @property
    def mode(self) -> Mode:
        return self._epoch.mode

    @property
    def epoch(self) -> int:
        return self._epoch.number

    @property
    def running_epoch(self) -> Epoch:
        """What a change of membership or of the mode must be signed over."""
        return self._epoch

    @property
    def membership(self) -> Membership:
        """Who votes and who learns in the running epoch."""
        return self._epoch.membership

    @property
    def byzantine_context(self) -> bytes:
        """The digest that Byzantine votes of this epoch cover."""
        return self._epoch.witness_context if self._raft is not None else self._epoch.context

    @property
    def commit_index(self) -> int:
        return self.history.last_index

    @property
    def term(self) -> int:
        """Raft term, or view in a Byzantine epoch."""
        return self._raft.term if self._raft is not None else self._byzantine.view

    @property
    def leader(self) -> int | None:
        return self._raft.leader if self._raft is not None else self._byzantine.leader

    @property
    def is_leader(self) -> bool:
        """Whether this node leads, and knows everything decided before it led."""
        if self._raft is not None:
            return self._raft.is_settled_leader
        return self._byzantine.leader == self.node and self._settled

    @property
    def _settled(self) -> bool:
        if self._raft is not None and self._raft.role == "leader":
            return self._raft.is_settled_leader
        if self._raft is None and self._byzantine.in_first_view:
            return True
        return self.history.last_index > self._epoch.base_index and self.history.last_term == self.term

    @property
    def _byzantine(self) -> BftCore:
        if self._bft is None:
            raise RuntimeError(f"epoch {self.epoch} of mode {self.mode.name} runs no Byzantine core")
        return self._bft

    # -- epochs ----------------------------------------------------------------------------------------------------

    def _enter_epoch(self, epoch: Epoch) -> None:
        self._epoch = epoch = with_fast_path(epoch) if self._settings.fast_path else epoch
        members = epoch.membership
        self.nodes = members.nodes
        self.peers = tuple(peer for peer in members.nodes if peer != self.node)
        self.verifier = Verifier(members.voter_keys)
        self.voting = members.entitles(self.node, self.incarnation)
        self._raft: RaftCore | None = None
        self._bft: BftCore | None = None
        self._auto: AutoQueue | None = None
        if epoch.mode is not Mode.BFT:
            self._raft = RaftCore(self.node, epoch, self._sign, self._random, self._settings, self.voting)
        if epoch.mode is not Mode.RAFT:
            witness = epoch.mode is Mode.AUTO
            # Of a membership that the fast path does not fit all nodes run the other one.
            core = FastBftCore if epoch.fast_path and fast_path_possible(len(members.voters)) else BftCore
            self._bft = core(
                self.node, epoch, witness, self._sign, self.verifier, self._settings, self._judge_content, self.voting
            )
            if witness:
                self._auto = AutoQueue(epoch.witness_context, self.verifier, self._settings, self._may_pass)

    def _may_pass(self, kind: EntryKind, payload: bytes) -> bool:
        """AUTO: whether this node would vote for the witness that `payload` needs, if it needs one."""
        return not self._needs_witness(kind, payload) or self._byzantine._acceptable(kind, payload)

    def _needs_witness(self, kind: EntryKind, payload: bytes) -> bool:
        """AUTO: whether this node, as its state stands, orders it with a witness only. A change of members, which who
        may signed, gets none: the witness log ends with the epoch that the change would end.
        """
        return kind is not EntryKind.MEMBERSHIP and self._critical(payload)

    def _judge_content(self, kind: EntryKind, payload: bytes, index: int | None = None) -> bool:
        """What a Byzantine vote asks: of what ends the epoch here, of payloads above.

        Above, the state may still stand before the entry that began this epoch, whose Commit is given out with this
        very turn: so it is told whose epoch the payload is proposed in.
        """
        if kind in ENDS_EPOCH:
            return self._epoch_after(kind, payload, self._epoch.base_index + 1, GENESIS_DIGEST) is not None
        return self._validate(kind, payload, self._epoch.membership, index)

    # -- deciding --------------------------------------------------------------------------------------------------

    def _decide(self, committed: Committed) -> tuple[Committed, bool, Epoch | None]:
        """Append a decided raw entry; returns it unwrapped, whether it is denied, and the epoch it starts."""
        self.history.append(committed)
        entry, witness, refused = committed.entry, None, False
        if self._epoch.mode is Mode.AUTO:
            entry, witness, refused = self._unwrap(committed.entry)
        self._settle(entry)
        seen = committed if witness is None else Committed(committed.epoch, entry, committed.certificate, witness)
        if refused or entry.kind not in ENDS_EPOCH:
            return seen, refused, None
        following = self._epoch_after(entry.kind, entry.payload, entry.index, self.history.digest)
        return seen, following is None, following

    def _epoch_after(self, kind: EntryKind, payload: bytes, index: int, digest: bytes) -> Epoch | None:
        """The epoch that a SWITCH or MEMBERSHIP entry at `index` begins behind this one; None where it can begin none.

        Whether it can depends on the running epoch and the payload alone.
        """
        begun = switched_epoch if kind is EntryKind.SWITCH else next_epoch
        try:
            return begun(self._epoch, payload, index, digest, self._authorities)
        except (SwitchError, MembershipError):
            return None

    def _settle(self, entry: Entry) -> None:
        """Strike off what was submitted here and is decided now."""
        for content in contents_of(entry.kind, entry.payload):
            oldest = self._submissions.oldest
            # Whatever is submitted behind one that was lost must not put off that this one is handed over again.
            if self._submissions.settle(content) and content == oldest:
                self._hand_over_at = None
            if self._auto is not None:
                self._auto.settle(content)

    def _unwrap(self, raw: Entry) -> tuple[Entry, Certificate | None, bool]:
        """AUTO: the entry unwrapped, its witness, and whether it must take no effect, whatever it holds.

        Not whether it is critical: that depends on the state behind the entry before it, which stands elsewhere while
        several entries are decided in one go. Whoever applies the entry judges it (invariant 4 of `net.replica`).
        """
        try:
            entry, witness = unwrapped(raw)
        except RecordError:
            return raw, None, True
        if witness is None:
            return entry, None, False
        auto = self._auto
        # The epoch of a certificate is not signed, and goes along with the entry as its proof.
        if entry.kind not in _SINGLE or auto is None or witness.epoch != self._epoch.number:
            return entry, witness, True
        return entry, witness, not auto.use_witness(witness, entry)

    # -- checkpoints -----------------------------------------------------------------------------------------------

    def _note_checkpoint(self, index: int, epoch: Epoch) -> None:
        """What a checkpoint at `index`, decided just now, says beside the state; `epoch` orders what follows."""
        floor, used = (0, ()) if self._auto is None or epoch is not self._epoch else self._auto.used_witnesses
        digest, term = self.history.digest, self.history.last_term
        self._noted[index] = Checkpoint(epoch, index, digest, term, floor, used, b"")

    def _adopt(self, certified: CertifiedCheckpoint) -> None:
        """The log goes on behind a checkpoint of the running epoch: history and what AUTO has used."""
        checkpoint = certified.checkpoint
        self.history.restart(checkpoint.index, checkpoint.last_term, checkpoint.digest)
        if self._auto is not None:
            self._auto.restore_used(checkpoint.used_floor, checkpoint.used_witnesses)
        self._stable = certified
        self._noted.clear()

    def _live_records(self) -> tuple[bytes, ...]:
        """The durable log that the stable checkpoint allows: it, what was decided above it, what the cores hold."""
        stable, epoch = self._stable, self._epoch
        if stable is None:
            raise RuntimeError("a log is cut behind a stable checkpoint only")
        records = [
            encode_record(IncarnationRecord(self.incarnation)),
            encode_record(CheckpointRecord(stable.data, stable.certificate)),
        ]
        # A Raft core keeps the entries of its epoch itself; a Byzantine one keeps none that are decided.
        last = self.commit_index if self._raft is None else epoch.base_index
        records.extend(
            encode_record(InstallRecord(committed.entry, committed.certificate))
            for committed in self.history.between(stable.index + 1, last)
        )
        if self._raft is not None:
            records.extend(self._raft.live_records(stable.index))
        if self._bft is not None:
            records.extend(self._bft.live_records())
        return tuple(records)

    # -- recovery --------------------------------------------------------------------------------------------------

    def _restore(self, record: Record) -> None:
        match record:
            case IncarnationRecord(incarnation):
                self.incarnation = incarnation
                self._enter_epoch(self._epoch)
            case CheckpointRecord(data, certificate):
                self._restore_checkpoint(data, certificate)
            case HardState(epoch, term, voted_for):
                if raft := self._raft_of(epoch):
                    raft.restore_hard_state(term, voted_for)
            case AppendRecord(epoch, first_index, entries, commit_index):
                if raft := self._raft_of(epoch):
                    raft.restore_entries(first_index, entries)
                    self._restore_committed(raft.restore_commit_index(commit_index))
            case CommitIndexRecord(epoch, commit_index):
                if raft := self._raft_of(epoch):
                    self._restore_committed(raft.restore_commit_index(commit_index))
            case InstallRecord(entry) if record.epoch == self.epoch and self._raft is not None:
                self._raft.restore_entries(entry.index, (entry,))
                self._restore_committed(self._raft.restore_commit_index(entry.index))
            case _:
                if record.epoch > self.epoch or (record.epoch == self.epoch and self._bft is None):
                    raise self._misplaced("Byzantine", record.epoch)
                if record.epoch == self.epoch:
                    decided = self._byzantine.restore(record)
                    if self._raft is None:
                        self._restore_committed(decided)
                    elif self._auto is not None:
                        self._auto.add_witnesses(decided)

    def _restore_checkpoint(self, data: bytes, certificate: CheckpointCertificate) -> None:
        try:
            certified = assemble(certificate, data)
        except CheckpointError as error:
            raise RecordError(str(error)) from error
        self._enter_epoch(certified.checkpoint.epoch)
        self._adopt(certified)
        self._restart_core(certified.checkpoint)

    def _restart_core(self, checkpoint: Checkpoint) -> None:
        """The core that orders the log, not started yet, stands behind `checkpoint`."""
        core = self._byzantine if self._raft is None else self._raft
        core.restore_snapshot(checkpoint.index, checkpoint.last_term, checkpoint.digest)

    def _raft_of(self, epoch: int) -> RaftCore | None:
        """The Raft core that a record is for; None for a record of an epoch that ended."""
        if epoch > self.epoch or (epoch == self.epoch and self._raft is None):
            raise self._misplaced("Raft", epoch)
        return self._raft if epoch == self.epoch else None

    def _misplaced(self, protocol: str, epoch: int) -> RecordError:
        text = f"a {protocol} record of epoch {epoch} in epoch {self.epoch} of mode {self.mode.name}"
        denied = set(self._recovered_denied)
        refused = [
            each.entry for each in self._recovered if each.entry.index in denied and each.entry.kind in ENDS_EPOCH
        ]
        return RecordError(f"{text}; {_unsigned(refused[-1])}" if refused else text)

    def _restore_committed(self, entries: Iterable[Committed]) -> None:
        for committed in entries:
            seen, refused, following = self._decide(committed)
            if self._raft is None and following is None and seen.entry.kind in ENDS_EPOCH:
                # A quorum of this build refuses it at the vote.
                raise RecordError(_unsigned(seen.entry))
            self._recovered.append(seen)
            if refused:
                self._recovered_denied.append(seen.entry.index)
            if following is not None:
                self._enter_epoch(following)
                return


def _unsigned(entry: Entry) -> str:
    return (
        f"no operator signed the {entry.kind.name} of entry {entry.index}, which ended an epoch: a build wrote this "
        "log that asked for no signature; verify it with that build, and start a new session for this one"
    )
