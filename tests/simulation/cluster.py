"""A cluster of replicas in virtual time: one seed decides every delay, loss, crash and partition.

The disk of a node is a list of records, of which a crash keeps a prefix that holds at least what was synced. Effects
are applied as `net.shell` applies them. After every event the invariants of `net.replica` are checked against all
that any node ever decided.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random

from net.certificate import Verifier, entry_digest, verify_committed, wrapped
from net.consensus import (
    Commit,
    Effect,
    EpochStarted,
    Evidence,
    Persist,
    RestoreState,
    RewriteLog,
    Send,
    Sync,
    TakeCheckpoint,
)
from net.durable import IncarnationRecord, encode_record
from net.membership import Membership, MembershipError
from net.membership_change import sign_change
from net.messages import Committed, ConsensusMessage, EntryKind, Mode
from net.replica import Replica
from net.settings import ConsensusSettings
from tests.simulation.byzantine import Adversary
from tests.simulation.signing import roster_of, signer

MAX_EVENTS = 300_000
OPERATOR = 1000
OPERATOR_KEY = 15
"""The operator's id, and which of the simulated keys is its own."""


class InvariantBroken(AssertionError):
    """The cluster did what it must never do."""


@dataclass(slots=True)
class Faults:
    """Chances per message, and delays in seconds."""

    loss: float = 0.0
    duplicate: float = 0.0
    delay_min_s: float = 0.0005
    delay_max_s: float = 0.003
    late: float = 0.0
    """The chance that a message is delayed up to `late_s` more (reordering)."""
    late_s: float = 0.3


@dataclass(slots=True)
class Disk:
    """Records, how many of them are surely on the platter, and whether syncs are honoured."""

    records: list[bytes] = field(default_factory=list)
    synced: int = 0
    used: bool = False
    """Whether a node ever ran from it: a marker that is kept elsewhere, and outlives the records."""


@dataclass(slots=True)
class SimulatedNode:
    id: int
    disk: Disk
    replica: Replica | None = None
    incarnation: int = 0
    decided: list[Committed] = field(default_factory=list)
    denied: set[int] = field(default_factory=set)
    evidence: list[Evidence] = field(default_factory=list)
    epochs: list[tuple[int, Mode, int]] = field(default_factory=list)


class Cluster:
    """`n` replicas, a network and a clock."""

    def __init__(
        self,
        n: int,
        seed: int,
        mode: Mode = Mode.RAFT,
        faults: Faults | None = None,
        settings: ConsensusSettings | None = None,
        validate: Callable[[EntryKind, bytes], bool] = lambda kind, payload: True,
        critical: Callable[[bytes], bool] = lambda payload: False,
        byzantine: Iterable[int] = (),
        adversary: Adversary | None = None,
        replica_class: type[Replica] = Replica,
        keep_unsynced: bool = False,
    ) -> None:
        self.n = n
        self.seed = seed
        self.mode = mode
        self.random = Random(seed)
        self.faults = faults or Faults()
        self.settings = settings or ConsensusSettings()
        self.byzantine = frozenset(byzantine)
        self.now = 0.0
        self.events = 0
        self.trace: list[str] = []
        self.messages = 0
        self.restores = 0
        self.message_counts: dict[str, int] = {}
        self._validate = validate
        self._critical = critical
        self._adversary = adversary
        self._replica_class = replica_class
        self._keep_unsynced = keep_unsynced
        self._roster = roster_of(n)
        self._verifiers: dict[int, Verifier] = {}
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0
        self._cut: set[tuple[int, int]] = set()
        self._truth: list[Committed] = []
        self._truth_denied: dict[int, bool] = {}
        self._leaders: dict[tuple[int, int], int] = {}
        self._certified: set[bytes] = set()
        self.nodes = [SimulatedNode(id=node, disk=Disk()) for node in range(n)]
        for node in self.nodes:
            self.boot(node.id)

    # -- time ------------------------------------------------------------------------------------------------------

    def at(self, time: float, action: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._queue, (time, self._sequence, action))

    def run(self, until: float, stop: Callable[[], bool] | None = None) -> bool:
        """Let events happen up to virtual time `until`; True as soon as `stop()` holds."""
        while self._queue and self._queue[0][0] <= until:
            if stop is not None and stop():
                return True
            self.now, _, action = heapq.heappop(self._queue)
            self.events += 1
            if self.events > MAX_EVENTS:
                raise InvariantBroken(f"seed {self.seed}: {MAX_EVENTS} events and no end: messages beget messages")
            action()
        self.now = max(self.now, until)
        return stop is not None and stop()

    # -- nodes -----------------------------------------------------------------------------------------------------

    def boot(self, node_id: int) -> None:
        """Start a node from its disk."""
        node = self.nodes[node_id]
        if node.replica is not None:
            return
        node.incarnation += 1
        if not node.disk.records:
            # As `net.incarnation` does; where the node ran before, it is another disk than the one that voted.
            incarnation = self.random.randbytes(16) if node.disk.used else b""
            node.disk.records.append(encode_record(IncarnationRecord(incarnation)))
            node.disk.synced = 1
        node.disk.used = True
        node.replica = self._replica_class.recover(
            list(node.disk.records),
            node_id,
            self._roster,
            signer(node_id),
            Random(self.random.getrandbits(64)),
            mode=self.mode,
            leader_hint=0,
            settings=self.settings,
            validate=self._validate,
            critical=self._critical,
            authorities={OPERATOR: roster_of(OPERATOR_KEY + 1)[OPERATOR_KEY]},
        )
        node.decided = []
        node.denied = set()
        self.apply(node, node.replica.start(self.now))
        self._arm(node)

    def crash(self, node_id: int) -> None:
        """Kill a node; what it had not synced is lost, from a random record on."""
        node = self.nodes[node_id]
        if node.replica is None:
            return
        node.replica = None
        kept = self.random.randint(node.disk.synced, len(node.disk.records))
        if self._keep_unsynced:
            kept = len(node.disk.records)
        del node.disk.records[kept:]
        node.disk.synced = len(node.disk.records)
        self.note(f"node {node_id} crashes")

    def wipe(self, node_id: int) -> None:
        """Kill a node and take its disk away."""
        self.crash(node_id)
        self.nodes[node_id].disk = Disk(used=True)
        self.note(f"node {node_id} loses its disk")

    @property
    def exiled(self) -> list[int]:
        """Voters that lost their disk and are not readmitted yet, as any node knows."""
        newest = max(
            (node.replica for node in self.nodes if node.replica is not None), key=lambda replica: replica.epoch
        )
        return [
            node.id
            for node in self.nodes
            if node.replica is None or not newest.membership.entitles(node.id, node.replica.incarnation)
        ]

    def change_members(self, node_id: int, change: Callable[[Membership], Membership]) -> None:
        """The operator asks `node_id` for another membership; what its mode cannot be is refused."""
        node = self.nodes[node_id]
        if node.replica is None:
            return
        replica = node.replica
        try:
            after = change(replica.membership)
            payload = sign_change(replica._epoch, after, None, OPERATOR, signer(OPERATOR_KEY))
            self.apply(node, replica.change_membership(payload, self.now))
        except MembershipError as error:
            self.note(f"refused: {error}")
            return
        self.note(f"node {node_id} is asked for voters {after.voters}, learners {after.learners}")
        self._arm(node)

    def cut(self, one: Iterable[int], other: Iterable[int]) -> None:
        """Partition: no message passes between the two sides."""
        for left in one:
            for right in other:
                self._cut.update({(left, right), (right, left)})

    def rejoin(self) -> None:
        """End every partition."""
        self._cut.clear()

    def heal(self) -> None:
        """End every fault, and start every node that is down."""
        self.rejoin()
        self.faults = Faults()
        for node in self.nodes:
            self.boot(node.id)

    def propose(self, node_id: int, payloads: list[bytes]) -> None:
        node = self.nodes[node_id]
        if node.replica is not None:
            self.apply(node, node.replica.propose(payloads, self.now))
            self._arm(node)

    def switch(self, node_id: int, mode: Mode) -> None:
        node = self.nodes[node_id]
        if node.replica is not None:
            try:
                effects = node.replica.switch_mode(mode, self.now)
            except ValueError as error:
                self.note(f"refused: {error}")
                return
            self.note(f"node {node_id} asks for {mode.name}")
            self.apply(node, effects)
            self._arm(node)

    @property
    def leader(self) -> int | None:
        """A live node that holds itself for the leader; the one of the newest epoch and term."""
        leaders = [
            (node.replica.epoch, node.replica.term, node.id)
            for node in self.nodes
            if node.replica is not None and node.replica.leader == node.id
        ]
        return max(leaders)[2] if leaders else None

    @property
    def honest(self) -> list[SimulatedNode]:
        return [node for node in self.nodes if node.id not in self.byzantine]

    # -- effects ---------------------------------------------------------------------------------------------------

    def apply(self, node: SimulatedNode, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Persist):
                node.disk.records.append(effect.record)
            elif isinstance(effect, Sync):
                node.disk.synced = len(node.disk.records)
            elif isinstance(effect, Send):
                self._send(node.id, effect.to, effect.message)
            elif isinstance(effect, Commit):
                self._decide(node, effect)
            elif isinstance(effect, RewriteLog):
                node.disk.records = list(effect.records)
                node.disk.synced = len(effect.records)
            elif isinstance(effect, TakeCheckpoint):
                assert node.replica is not None
                # What the checkpoint sets off comes after all of this turn.
                effects += node.replica.checkpoint_taken(effect.index, self._state_of(node, effect.index), self.now)
            elif isinstance(effect, RestoreState):
                self._restore(node, effect)
            elif isinstance(effect, EpochStarted):
                node.epochs.append((effect.epoch, effect.mode, effect.base_index))
                self._verifiers.setdefault(effect.epoch, Verifier(effect.membership.voter_keys))
                self.note(f"node {node.id} epoch {effect.epoch} {effect.mode.name} from {effect.base_index}")
            elif isinstance(effect, Evidence):
                node.evidence.append(effect)
                if node.id not in self.byzantine and effect.culprit not in self.byzantine and effect.proof:
                    raise InvariantBroken(f"node {node.id} accuses the honest node {effect.culprit}: {effect.reason}")
        self._check_leader(node)

    def _send(self, sender: int, to: int, message: ConsensusMessage) -> None:
        messages = [message]
        if self._adversary is not None:
            self._adversary.overhear(message)
            if sender in self.byzantine:
                messages = self._adversary.rewrite(sender, to, message, self.random)
        for each in messages:
            self.messages += 1
            name = type(each).__name__
            self.message_counts[name] = self.message_counts.get(name, 0) + 1
            copies = 2 if self.random.random() < self.faults.duplicate else 1
            for _ in range(copies):
                if self.random.random() < self.faults.loss:
                    continue
                delay = self.random.uniform(self.faults.delay_min_s, self.faults.delay_max_s)
                if self.random.random() < self.faults.late:
                    delay += self.random.uniform(0, self.faults.late_s)
                self.at(self.now + delay, lambda each=each: self._deliver(sender, to, each))

    def _deliver(self, sender: int, to: int, message: ConsensusMessage) -> None:
        node = self.nodes[to]
        if node.replica is None or (sender, to) in self._cut:
            return
        self.apply(node, node.replica.step(sender, message, self.now))
        self._arm(node)

    def _arm(self, node: SimulatedNode) -> None:
        replica = node.replica
        if replica is None:
            return
        deadline = replica.next_deadline()
        if deadline is None:
            return
        incarnation = node.incarnation
        armed = getattr(node.replica, "_sim_armed_at", None)
        if armed is not None and self.now <= armed <= deadline:
            return
        replica._sim_armed_at = max(deadline, self.now)  # type: ignore[attr-defined]
        self.at(max(deadline, self.now), lambda: self._tick(node, incarnation))

    def _tick(self, node: SimulatedNode, incarnation: int) -> None:
        if node.replica is None or node.incarnation != incarnation:
            return
        node.replica._sim_armed_at = None  # type: ignore[attr-defined]
        deadline = node.replica.next_deadline()
        if deadline is not None and deadline <= self.now:
            self.apply(node, node.replica.tick(self.now))
        self._arm(node)

    def _state_of(self, node: SimulatedNode, index: int) -> bytes:
        if node.id in self.byzantine:
            return b"a state that never was"
        if len(node.decided) != index:
            raise InvariantBroken(f"node {node.id} is asked for a checkpoint of {index} behind {len(node.decided)}")
        return self._state(index)

    def _state(self, index: int) -> bytes:
        """The state machine: the digest of all decided entries, and which were denied."""
        denied = [at for at in range(1, index + 1) if self._truth_denied[at]]
        return self._truth[index - 1].certificate.digest + repr(denied).encode()

    def _restore(self, node: SimulatedNode, effect: RestoreState) -> None:
        self.restores += 1
        self.note(f"node {node.id} goes on from a checkpoint of {effect.index}")
        if node.id in self.byzantine:
            return
        if effect.index > len(self._truth) or effect.state != self._state(effect.index):
            raise InvariantBroken(f"node {node.id} restores a state of {effect.index} that nobody decided")
        node.decided = self._truth[: effect.index]
        node.denied = {at for at in range(1, effect.index + 1) if self._truth_denied[at]}

    # -- invariants ------------------------------------------------------------------------------------------------

    def _decide(self, node: SimulatedNode, effect: Commit) -> None:
        if node.id in self.byzantine:
            return
        for committed in effect.entries:
            index = committed.entry.index
            if index != len(node.decided) + 1:
                raise InvariantBroken(f"node {node.id} decides {index} after {len(node.decided)}")
            node.decided.append(committed)
            denied = index in effect.denied
            if denied:
                node.denied.add(index)
            if index <= len(self._truth):
                truth = self._truth[index - 1]
                if (truth.epoch, truth.entry, truth.certificate.digest) != (
                    committed.epoch,
                    committed.entry,
                    committed.certificate.digest,
                ):
                    raise InvariantBroken(f"node {node.id} decides another entry at {index}: {committed} not {truth}")
                if self._truth_denied[index] != denied:
                    raise InvariantBroken(f"node {node.id} disagrees on the denial of entry {index}")
            else:
                self._truth.append(committed)
                self._truth_denied[index] = denied
                self.note(f"node {node.id} decides {index} {committed.entry.kind.name} {committed.entry.payload!r}")
            certificate = committed.certificate
            if entry_digest(certificate.parent, wrapped(committed.entry, committed.witness)) != certificate.digest:
                raise InvariantBroken(f"node {node.id}: the certificate of {index} is about another entry")
            if certificate.signers or certificate.mode is Mode.BFT:
                mark = b"".join(certificate.signatures) + certificate.digest
                if mark not in self._certified:
                    verify_committed(committed, self._verifiers[committed.epoch])
                    self._certified.add(mark)
            critical = certificate.mode is Mode.AUTO and self._critical(committed.entry.payload)
            if critical and not denied and committed.witness is None:
                raise InvariantBroken(f"critical entry {index} took effect without a witness")

    def _check_leader(self, node: SimulatedNode) -> None:
        replica = node.replica
        if replica is None or replica._raft is None or replica._raft.role != "leader":
            return
        key = (replica.epoch, replica._raft.term)
        if self._leaders.setdefault(key, node.id) != node.id:
            raise InvariantBroken(f"nodes {self._leaders[key]} and {node.id} both lead term {key[1]} of epoch {key[0]}")

    # -- what tests ask --------------------------------------------------------------------------------------------

    @property
    def truth(self) -> list[Committed]:
        """Everything that anybody decided, in order."""
        return self._truth

    def payloads(self) -> list[bytes]:
        return [each.entry.payload for each in self._truth if each.entry.kind is EntryKind.DATA]

    def all_decided(self, payloads: Iterable[bytes]) -> bool:
        """Whether every live honest node has decided every one of `payloads`, and all are equally far."""
        wanted = set(payloads)
        if any(node.replica is None or len(node.decided) != len(self._truth) for node in self.honest):
            return False
        return wanted <= set(self.payloads())

    def note(self, text: str) -> None:
        self.trace.append(f"{self.now:9.4f} {text}")
