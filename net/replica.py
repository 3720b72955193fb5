"""The protocol core that a node runs: one log across epochs, ordered by Raft or by Byzantine agreement in turn.

Invariants (the simulation checks them after every event):

1. No two nodes decide different entries at one index; decided entries form one hash chain (`net.history` refuses
   others).
2. An epoch ends at the index of its SWITCH entry. What the old protocol ordered behind it is void, on every node alike,
   because every node stops at that entry; who submitted it hands it to the next epoch.
3. A message counts only in its own epoch, and a signature only in its own context (`net.certificate.epoch_context`).
4. AUTO: a critical entry takes effect only with a Byzantine certificate over its payload, made in the same epoch's side
   log and used once; without one it is decided as denied and blocks nothing.
5. A node takes decided entries from a peer only along its hash chain, in a Byzantine epoch only with their
   certificates. A Raft epoch trusts the peer's word, as Raft does.

Submissions are ordered at least once (`net.submissions`); the state machine above must know its own decisions again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random

from net.auto_queue import AutoQueue
from net.bft import BftCore
from net.certificate import (
    GENESIS_DIGEST,
    CertificateError,
    Verifier,
    entry_digest,
    unwrapped,
    verify_certificate,
)
from net.consensus import (
    Commit,
    Effect,
    EpochStarted,
    Evidence,
    LeaderChanged,
    ReplicaStatus,
    Send,
)
from net.durable import (
    AppendRecord,
    CommitIndexRecord,
    HardState,
    Record,
    RecordError,
    decode_record,
)
from net.epoch import Epoch, decode_switch, encode_switch, first_epoch, make_epoch
from net.history import History
from net.membership import all_voters
from net.messages import (
    AppendEntries,
    AppendEntriesReply,
    Certificate,
    CertificateNotice,
    Committed,
    CommittedEntries,
    ConsensusMessage,
    Entry,
    EntryKind,
    FetchBlock,
    FetchEntries,
    Forward,
    Mode,
    Propose,
    ReadIndex,
    ReadIndexReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
    Vote,
)
from net.quorum import byzantine_faults
from net.raft import RaftCore
from net.settings import ConsensusSettings
from net.submissions import Content, Submissions

_FETCH_BYTES = 1 << 20
_EVIDENCE_KEPT = 32
_RAFT_MESSAGES = (
    RequestVote,
    RequestVoteReply,
    AppendEntries,
    AppendEntriesReply,
    TimeoutNow,
    ReadIndex,
    ReadIndexReply,
)
_BYZANTINE_MESSAGES = (Propose, Vote, CertificateNotice, FetchBlock)


def accept_everything(kind: EntryKind, payload: bytes) -> bool:
    return True


def nothing_critical(payload: bytes) -> bool:
    return False


class Replica:
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
        validate: Callable[[EntryKind, bytes], bool] = accept_everything,
        critical: Callable[[bytes], bool] = nothing_critical,
    ) -> None:
        """`mode` and `leader_hint` start an empty log and must be the same on every node.

        `roster` maps node id to its 32-byte Ed25519 public key, `sign` is this node's key. `validate` is asked before a
        Byzantine vote, `critical` in AUTO; both must be pure and the same on every node. Raises `ValueError` when the
        roster lacks this node or is too small for the mode.
        """
        if node not in roster:
            raise ValueError(f"node {node} is not in the roster {sorted(roster)}")
        if mode is not Mode.RAFT and byzantine_faults(len(roster)) < 1:
            raise ValueError(f"mode {mode.name} needs at least 4 nodes, the roster has {len(roster)}")
        self.node = node
        self.nodes = tuple(sorted(roster))
        self.verifier = Verifier(roster)
        self.history = History(GENESIS_DIGEST, (settings or ConsensusSettings()).retained_entries)
        self._sign = sign
        self._random = random
        self._settings = settings or ConsensusSettings()
        self._validate = validate
        self._critical = critical
        self._submissions = Submissions(self._settings.pending_limit)
        self._hand_over_at: float | None = None
        self._witness_at: float | None = None
        self._fetched_at = float("-inf")
        self._heartbeat_at = float("-inf")
        self._answered_at: dict[int, float] = {}
        self._future: list[tuple[int, ConsensusMessage]] = []
        self._recovered: list[Committed] = []
        self._recovered_denied: list[int] = []
        self._evidence: list[str] = []
        self._rounds = 0
        self._elections_before = 0
        self._messages_sent = 0
        self._messages_received = 0
        self._out: list[Effect] = []
        self._enter_epoch(first_epoch(mode, leader_hint, all_voters(roster)))

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
        validate: Callable[[EntryKind, bytes], bool] = accept_everything,
        critical: Callable[[bytes], bool] = nothing_critical,
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
        )
        for data in records:
            replica._restore(decode_record(data))
        return replica

    # -- what the node above asks ----------------------------------------------------------------------------------

    @property
    def mode(self) -> Mode:
        return self._epoch.mode

    @property
    def epoch(self) -> int:
        return self._epoch.number

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
            role=role,
            commit_index=self.commit_index,
            last_index=last_index,
            peer_match_index=matches,
            rounds=self._rounds,
            messages_sent=self._messages_sent,
            messages_received=self._messages_received,
            elections=self._elections_before + sum(core.elections for core in (raft, bft) if core is not None),
            evidence=tuple(self._evidence),
            voters=self._epoch.membership.voters,
            learners=self._epoch.membership.learners,
            first_index=self.history.first_index,
        )

    # -- the interface of a core -----------------------------------------------------------------------------------

    def start(self, now: float) -> list[Effect]:
        recovered, self._recovered = self._recovered, []
        denied = tuple(self._recovered_denied)
        self._recovered_denied = []
        for offset in range(0, len(recovered), 1024):
            self._out.append(Commit(tuple(recovered[offset : offset + 1024]), denied, recovered=True))
        self._out.append(
            EpochStarted(self._epoch.number, self._epoch.mode, self._epoch.base_index, self._epoch.membership)
        )
        self._start_cores(now)
        return self._finish(now)

    def step(self, sender: int, message: ConsensusMessage, now: float) -> list[Effect]:
        self._messages_received += 1
        if sender != self.node and sender in self.nodes:
            self._dispatch(sender, message, now)
        return self._finish(now)

    def tick(self, now: float) -> list[Effect]:
        if self._raft is not None:
            self._absorb(self._raft.tick(now), now)
        if self._bft is not None:
            self._absorb_bft(self._bft.tick(now), now)
        self._beat(now)
        if self._witness_at is not None and now >= self._witness_at:
            self._ask_for_witnesses_again(now)
        if self._hand_over_at is not None and now >= self._hand_over_at:
            # Handed over long ago and still not decided: a forward was lost, or the leader ignores us.
            self._hand_over_again(now)
        return self._finish(now)

    def propose(self, payloads: Sequence[bytes], now: float) -> list[Effect]:
        """Submit `payloads` in this order; raises `TooManySubmissions` (all or none) when too many wait already."""
        return self._submit([(EntryKind.DATA, payload) for payload in payloads], now)

    def switch_mode(self, mode: Mode, now: float) -> list[Effect]:
        """End the epoch and start one of `mode`, as an entry of the log. Nothing happens when `mode` already holds.

        Raises `ValueError` when the mode needs more nodes than the roster has.
        """
        if mode is not Mode.RAFT and byzantine_faults(len(self.nodes)) < 1:
            raise ValueError(f"mode {mode.name} needs at least 4 nodes, the roster has {len(self.nodes)}")
        if mode is self.mode:
            return []
        return self._submit([(EntryKind.SWITCH, encode_switch(mode, self.leader))], now)

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

    # -- submissions -----------------------------------------------------------------------------------------------

    def _submit(self, contents: list[Content], now: float) -> list[Effect]:
        self._submissions.add(contents)
        if self._submissions.handed_to is not None and self._submissions.handed_to == self._leader_key():
            self._hand_over(contents, now)
        return self._finish(now)

    def _leader_key(self) -> tuple[int, int, int] | None:
        """Epoch, term and leader, once an entry of that term is decided: then the fate of all before it is known."""
        leader = self.leader
        if leader is None or not self._settled:
            return None
        return (self.epoch, self.term, leader)

    @property
    def _settled(self) -> bool:
        if self._raft is not None and self._raft.role == "leader":
            return self._raft.is_settled_leader
        if self._raft is None and self._byzantine.in_first_view:
            return True
        return self.history.last_index > self._epoch.base_index and self.history.last_term == self.term

    def _hand_over(self, contents: list[Content], now: float) -> None:
        leader = self.leader
        if not contents or leader is None:
            return
        if leader == self.node:
            self._order(contents, now)
            return
        self._forward((leader,), contents)

    def _forward(self, nodes: Iterable[int], contents: list[Content]) -> None:
        """Runs of one kind travel in one message, in order."""
        position = 0
        while position < len(contents):
            kind = contents[position][0]
            run = position
            while run < len(contents) and contents[run][0] == kind and run - position < self._settings.message_entries:
                run += 1
            message = Forward(self.epoch, kind, tuple(payload for _, payload in contents[position:run]))
            self._out.extend(Send(to, message) for to in nodes)
            position = run

    def _order(self, contents: list[Content], now: float) -> None:
        """This node leads: put `contents` into the log."""
        if self._raft is None:
            self._absorb_bft(self._byzantine.propose_contents(contents, now), now)
        elif self._auto is None:
            self._absorb(self._raft.propose_entries(contents, now), now)
        else:
            self._auto.add(contents)
            self._pump_auto(now)

    def _hand_over_again(self, now: float) -> None:
        self._hand_over_at = None
        waiting = self._submissions.all()
        if not waiting:
            return
        self._hand_over_at = now + self._settings.progress_timeout_s
        leader = self.leader
        if self._raft is None and leader != self.node:
            # Everybody hears of it, so that a leader that ignores it loses its view.
            self._forward([peer for peer in self.nodes if peer != self.node], waiting)
            self._byzantine.want(waiting, now)
        elif leader is not None and leader != self.node:
            self._forward((leader,), waiting)

    def _on_forward(self, message: Forward, now: float) -> None:
        if message.kind not in (EntryKind.DATA, EntryKind.SWITCH):
            return
        contents: list[Content] = [(message.kind, payload) for payload in message.payloads]
        if self._raft is not None and self._raft.role == "leader":
            self._order(self._not_in_flight(self._raft, contents), now)
        elif self._raft is None:
            self._absorb_bft(self._byzantine.on_forward(contents, now), now)
        elif self._bft is not None:
            # AUTO's Raft leader asks for witnesses.
            wanted = [content for content in contents if self._critical(content[1])]
            self._absorb_bft(self._bft.on_forward(wanted, now), now)

    def _not_in_flight(self, raft: RaftCore, contents: list[Content]) -> list[Content]:
        """Drop what was forwarded before and waits here already."""
        tail = raft.log.slice(raft.commit_index + 1, raft.log.last_index - raft.commit_index)
        flying = {(entry.kind, entry.payload) for entry in tail}
        auto = self._auto
        return [each for each in contents if each not in flying and not (auto is not None and auto.holds(each))]

    # -- AUTO ------------------------------------------------------------------------------------------------------

    def _pump_auto(self, now: float) -> None:
        """AUTO's leader: order what is ready; a critical entry waits for its witness and holds what follows."""
        raft, bft, auto = self._raft, self._bft, self._auto
        if raft is None or bft is None or auto is None or raft.role != "leader":
            return
        wanted = auto.unrequested(self._critical)
        if self._witness_at is None and len(auto):
            self._witness_at = now + self._settings.progress_timeout_s
        if wanted:
            if bft.leader == self.node:
                self._absorb_bft(bft.propose_contents(wanted, now), now, pump=False)
            else:
                self._forward((bft.leader,), wanted)
        ready = auto.ready(self._critical)
        if ready:
            self._witness_at = now + self._settings.progress_timeout_s if len(auto) else None
            self._absorb(raft.propose_entries(ready, now), now)

    def _ask_for_witnesses_again(self, now: float) -> None:
        """A request was lost, or the witness log's leader ignores it: everybody hears of what is waited for."""
        self._witness_at = None
        raft, bft, auto = self._raft, self._bft, self._auto
        if raft is None or bft is None or auto is None or raft.role != "leader":
            return
        auto.request_again()
        wanted = auto.unrequested(self._critical)
        if bft.leader != self.node:
            self._forward([peer for peer in self.nodes if peer != self.node], wanted)
            bft.want(wanted, now)
        else:
            self._absorb_bft(bft.on_forward(wanted, now), now, pump=False)
        self._pump_auto(now)

    def _judge(self, raw: Entry) -> tuple[Entry, Certificate | None, bool]:
        """AUTO: the entry unwrapped, its witness, and whether it must take no effect."""
        try:
            entry, witness = unwrapped(raw)
        except RecordError:
            return raw, None, True
        if entry.kind not in (EntryKind.DATA, EntryKind.SWITCH) or not self._critical(entry.payload):
            return entry, witness, entry.kind is EntryKind.WITNESSED
        auto = self._auto
        if witness is None or auto is None:
            return entry, witness, True
        return entry, witness, not auto.use_witness(witness, entry)

    # -- effects of the cores --------------------------------------------------------------------------------------

    def _absorb(self, effects: list[Effect], now: float) -> None:
        """Effects of the core that orders the log; its commits become this replica's."""
        for effect in effects:
            if isinstance(effect, Commit):
                self._on_commit(effect.entries, now)
            else:
                if isinstance(effect, Evidence):
                    self._keep_evidence(effect)
                self._out.append(effect)

    def _absorb_bft(self, effects: list[Effect], now: float, pump: bool = True) -> None:
        if self._raft is None:
            self._absorb(effects, now)
            return
        auto = self._auto
        for effect in effects:
            if isinstance(effect, Commit):
                if auto is not None:
                    auto.add_witnesses(effect.entries)
                continue
            if isinstance(effect, LeaderChanged):
                if auto is not None:
                    auto.request_again()
                continue
            if isinstance(effect, Evidence):
                self._keep_evidence(effect)
            self._out.append(effect)
        if pump:
            self._pump_auto(now)

    def _keep_evidence(self, effect: Evidence) -> None:
        self._evidence.append(f"node {effect.culprit}: {effect.reason}")
        del self._evidence[:-_EVIDENCE_KEPT]

    def _on_commit(self, entries: Sequence[Committed], now: float) -> None:
        outward: list[Committed] = []
        denied: list[int] = []
        next_epoch: Epoch | None = None
        led = self.leader == self.node
        for committed in entries:
            if committed.entry.index != self.history.last_index + 1 or committed.epoch != self._epoch.number:
                continue
            seen, refused, next_epoch = self._decide(committed)
            outward.append(seen)
            if refused:
                denied.append(seen.entry.index)
            if next_epoch is not None:
                break
        if not outward:
            return
        if led:
            self._rounds += 1
        self._out.append(Commit(tuple(outward), tuple(denied)))
        if next_epoch is not None:
            self._switch(next_epoch, now)

    def _decide(self, committed: Committed) -> tuple[Committed, bool, Epoch | None]:
        """Append a decided raw entry; returns it unwrapped, whether it is denied, and the epoch it starts."""
        self.history.append(committed)
        entry, witness, refused = committed.entry, None, False
        if self._epoch.mode is Mode.AUTO:
            entry, witness, refused = self._judge(committed.entry)
        if self._submissions.settle((entry.kind, entry.payload)):
            self._hand_over_at = None
        if self._auto is not None:
            self._auto.settle((entry.kind, entry.payload))
        seen = committed if witness is None else Committed(committed.epoch, entry, committed.certificate, witness)
        if entry.kind is not EntryKind.SWITCH or refused:
            return seen, refused, None
        switch = decode_switch(entry.payload, len(self.nodes))
        if switch is None:
            return seen, True, None
        mode, hint = switch
        return (
            seen,
            False,
            make_epoch(self._epoch.number + 1, mode, entry.index, self.history.digest, hint, self._epoch.membership),
        )

    # -- epochs ----------------------------------------------------------------------------------------------------

    def _enter_epoch(self, epoch: Epoch) -> None:
        self._epoch = epoch
        self._raft: RaftCore | None = None
        self._bft: BftCore | None = None
        self._auto: AutoQueue | None = None
        if epoch.mode is not Mode.BFT:
            self._raft = RaftCore(self.node, epoch, self._sign, self._random, self._settings)
        if epoch.mode is not Mode.RAFT:
            witness = epoch.mode is Mode.AUTO
            self._bft = BftCore(self.node, epoch, witness, self._sign, self.verifier, self._settings, self._validate)
            if witness:
                self._auto = AutoQueue(epoch.witness_context, self.verifier, self._settings)

    @property
    def _byzantine(self) -> BftCore:
        if self._bft is None:
            raise RuntimeError(f"epoch {self.epoch} of mode {self.mode.name} runs no Byzantine core")
        return self._bft

    def _start_cores(self, now: float) -> None:
        if self._bft is not None:
            self._heartbeat_at = now
            self._absorb_bft(self._bft.start(now), now)
        if self._raft is not None:
            self._absorb(self._raft.start(now), now)

    def _switch(self, epoch: Epoch, now: float) -> None:
        """The old protocol stops here; the new one starts from this state."""
        if self._raft is not None:
            # Followers learn the end of the epoch from the core that is dropped now.
            self._out.extend(self._raft.push_commit(now))
        self._elections_before += sum(core.elections for core in (self._raft, self._bft) if core is not None)
        self._enter_epoch(epoch)
        self._drop_settled_switches()
        self._submissions.handed_to = None
        self._hand_over_at = self._witness_at = None
        self._out.append(EpochStarted(epoch.number, epoch.mode, epoch.base_index, epoch.membership))
        self._start_cores(now)
        future, self._future = self._future, []
        for sender, message in future:
            self._dispatch(sender, message, now)

    def _drop_settled_switches(self) -> None:
        """A switch to the mode that now holds asks for nothing any more."""
        for content in self._submissions.all():
            if content[0] is EntryKind.SWITCH:
                switch = decode_switch(content[1], len(self.nodes))
                if switch is None or switch[0] is self._epoch.mode:
                    self._submissions.settle(content)

    # -- messages --------------------------------------------------------------------------------------------------

    def _dispatch(self, sender: int, message: ConsensusMessage, now: float) -> None:
        if isinstance(message, FetchEntries):
            self._on_fetch(sender, message)
        elif isinstance(message, CommittedEntries):
            self._on_committed_entries(sender, message, now)
        elif message.epoch < self.epoch:
            self._answer_laggard(sender, now)
        elif message.epoch > self.epoch:
            if message.epoch == self.epoch + 1 and len(self._future) < self._settings.buffered_messages:
                self._future.append((sender, message))
            self._fetch(sender, now)
        elif isinstance(message, Forward):
            self._on_forward(message, now)
        elif isinstance(message, _RAFT_MESSAGES):
            if self._raft is not None:
                self._absorb(self._raft.step(sender, message, now), now)
        elif self._bft is not None and isinstance(message, _BYZANTINE_MESSAGES):
            self._absorb_bft(self._bft.step(sender, message, now), now)
            if self._raft is None and self._byzantine.is_behind:
                self._fetch(sender, now)

    def _finish(self, now: float) -> list[Effect]:
        """Hand waiting submissions to a leader that has become known, then give out the effects."""
        if len(self._submissions) and self._submissions.handed_to != (key := self._leader_key()):
            self._submissions.handed_to = key
            if key is not None:
                if self._auto is not None:
                    self._auto.clear()
                self._hand_over(self._submissions.all(), now)
        elif not self._submissions:
            self._submissions.handed_to = self._leader_key()
            self._hand_over_at = None
        if self._hand_over_at is None and self._submissions and self._submissions.handed_to is not None:
            self._hand_over_at = now + self._settings.progress_timeout_s
        out, self._out = self._out, []
        self._messages_sent += sum(isinstance(effect, Send) for effect in out)
        return out

    # -- catching up -----------------------------------------------------------------------------------------------

    def _beat(self, now: float) -> None:
        """In a Byzantine log the leader says that it lives and how far it is; so do the others, more rarely."""
        if self._bft is None or now < self._heartbeat_at + self._settings.heartbeat_interval_s:
            return
        self._heartbeat_at = now
        if self._bft.leader == self.node or (self._raft is None and self._bft.take_rare_beat()):
            beat = CommittedEntries(self.epoch, self.commit_index, ())
            self._out.extend(Send(peer, beat) for peer in self.nodes if peer != self.node)

    def _answer_laggard(self, peer: int, now: float) -> None:
        """Tell a peer of an older epoch how far the log is; it then fetches what it lacks."""
        if now >= self._answered_at.get(peer, float("-inf")) + self._settings.resend_interval_s / 4:
            self._answered_at[peer] = now
            self._out.append(Send(peer, CommittedEntries(self.epoch, self.commit_index, ())))

    def _fetch(self, peer: int, now: float, at_once: bool = False) -> None:
        if at_once or now >= self._fetched_at + self._settings.resend_interval_s:
            self._fetched_at = now
            first = self.history.last_index + 1
            self._out.append(Send(peer, FetchEntries(self.epoch, first, self._settings.message_entries)))

    def _on_fetch(self, sender: int, message: FetchEntries) -> None:
        limit = min(message.limit, self._settings.message_entries)
        entries = self.history.slice(message.first_index, limit, _FETCH_BYTES)
        if entries:
            self._out.append(Send(sender, CommittedEntries(self.epoch, self.commit_index, entries)))

    def _on_committed_entries(self, sender: int, message: CommittedEntries, now: float) -> None:
        if message.epoch == self.epoch and self._bft is not None:
            self._bft.heard_from(sender, message.commit_index, now)
        advanced = False
        for committed in message.entries:
            if committed.entry.index != self.commit_index + 1:
                continue
            if not self._install(sender, committed, now):
                return
            advanced = True
        # Within a Raft epoch the leader's AppendEntries bring the rest.
        same_raft_epoch = message.epoch == self.epoch and self._raft is not None
        if message.commit_index > self.commit_index and not same_raft_epoch:
            self._fetch(sender, now, at_once=advanced)

    def _install(self, sender: int, committed: Committed, now: float) -> bool:
        """Take one decided entry from a peer, along the hash chain and, in a Byzantine epoch, by its certificate."""
        certificate, epoch = committed.certificate, self._epoch
        proven = (
            committed.epoch == epoch.number
            and certificate.epoch == epoch.number
            and certificate.mode is epoch.mode
            and certificate.context == epoch.context
            and certificate.parent == self.history.digest
            and entry_digest(certificate.parent, committed.entry) == certificate.digest
        )
        if proven and epoch.mode is Mode.BFT:
            try:
                verify_certificate(certificate, committed.entry, self.verifier)
            except CertificateError as error:
                self._absorb([Evidence(sender, f"sent a decided entry without proof: {error}", b"")], now)
                return False
        if not proven:
            return False
        if self._raft is not None:
            self._absorb(self._raft.install([committed.entry], now), now)
        else:
            self._absorb_bft(self._byzantine.install(committed, now), now)
        return True

    # -- recovery --------------------------------------------------------------------------------------------------

    def _restore(self, record: Record) -> None:
        match record:
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
            case _:
                if record.epoch > self.epoch or (record.epoch == self.epoch and self._bft is None):
                    raise RecordError(f"a Byzantine record of epoch {record.epoch} in epoch {self.epoch}")
                if record.epoch == self.epoch:
                    decided = self._byzantine.restore(record)
                    if self._raft is None:
                        self._restore_committed(decided)
                    elif self._auto is not None:
                        self._auto.add_witnesses(decided)

    def _raft_of(self, epoch: int) -> RaftCore | None:
        """The Raft core that a record is for; None for a record of an epoch that ended."""
        if epoch > self.epoch or (epoch == self.epoch and self._raft is None):
            raise RecordError(f"a Raft record of epoch {epoch} in epoch {self.epoch} of mode {self.mode.name}")
        return self._raft if epoch == self.epoch else None

    def _restore_committed(self, entries: Iterable[Committed]) -> None:
        for committed in entries:
            seen, refused, next_epoch = self._decide(committed)
            self._recovered.append(seen)
            if refused:
                self._recovered_denied.append(seen.entry.index)
            if next_epoch is not None:
                self._enter_epoch(next_epoch)
                return
