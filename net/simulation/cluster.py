"""A cluster of replicas in virtual time: one seed decides every delay, loss, crash and partition.

The disk of a node is a list of records, of which a crash keeps a prefix that holds at least what was synced. Effects
are applied as `net.shell` applies them. After every event the invariants of `net.replica` are checked against all
that any node ever decided.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from random import Random

from net.certificate import Verifier
from net.consensus import (
    Commit,
    Effect,
    EpochStarted,
    Evidence,
    Persist,
    ReadReady,
    RestoreState,
    RewriteLog,
    Send,
    Sync,
    TakeCheckpoint,
)
from net.durable import IncarnationRecord, encode_record
from net.membership import Membership, MembershipError
from net.membership_change import sign_change
from net.messages import ConsensusMessage, EntryKind, Mode, Phase, Vote
from net.mode_switch import SwitchError, sign_switch
from net.replica import Replica
from net.settings import ConsensusSettings
from net.simulation.byzantine import Adversary
from net.simulation.invariants import Critical, Disk, InvariantBroken, SimulatedNode, Truth
from net.simulation.keys import AUTHORITIES, OPERATOR, OPERATOR_KEY, roster_of, signer

MAX_EVENTS = 300_000


@dataclass(slots=True)
class Faults:
    """Chances per message, and delays in seconds."""

    sync_max_s: float = 0.0
    """A sync takes up to this long; what was sent behind it waits."""

    loss: float = 0.0
    duplicate: float = 0.0
    delay_min_s: float = 0.0005
    delay_max_s: float = 0.003
    late: float = 0.0
    """The chance that a message is delayed up to `late_s` more (reordering)."""
    late_s: float = 0.3


class Cluster(Truth):
    """`n` replicas, a network and a clock."""

    def __init__(
        self,
        n: int,
        seed: int,
        mode: Mode = Mode.RAFT,
        faults: Faults | None = None,
        settings: ConsensusSettings | None = None,
        validate: Callable[[EntryKind, bytes, int | None], bool] = lambda kind, payload, index: True,
        critical: Critical = lambda payload, applied: False,
        byzantine: Iterable[int] = (),
        adversary: Adversary | None = None,
        replica_class: type[Replica] = Replica,
        keep_unsynced: bool = False,
        clocks_drift: bool = False,
        twins: Iterable[int] = (),
    ) -> None:
        """`byzantine` nodes speak through the `adversary`; `twins` are two honest replicas with one identity each, who
        each talk to a part of the cluster (Bano et al. 2022), which makes that identity Byzantine too.
        """
        super().__init__((*byzantine, *twins), critical)
        self.n = n
        self.seed = seed
        self.mode = mode
        self.random = Random(seed)
        self.faults = faults or Faults()
        self.settings = settings or ConsensusSettings()
        self.events = 0
        self.messages = 0
        self.message_counts: dict[str, int] = {}
        self._validate = validate
        self._adversary = adversary
        self._replica_class = replica_class
        self._keep_unsynced = keep_unsynced
        self._roster = roster_of(n)
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0
        self._cut: set[tuple[int, int]] = set()
        self._twin_phase = 0
        drift = self.settings.lease_clock_drift / 2 if clocks_drift else 0.0
        self.nodes = [self._make_node(node, drift) for node in range(n)]
        self._twins = {node: self._make_node(node, drift) for node in twins}
        for node, twin in self._twins.items():
            self.nodes[node].side, twin.side = 0, 1
        for simulated in self._everybody():
            self._boot(simulated)

    def _make_node(self, node: int, drift: float) -> SimulatedNode:
        skew_s = self.random.uniform(0, 1000) if drift else 0.0
        return SimulatedNode(node, Disk(), skew_s, 1.0 + self.random.uniform(-drift, drift))

    def _everybody(self) -> list[SimulatedNode]:
        return [*self.nodes, *self._twins.values()]

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
        for node in self._everybody():
            if node.id == node_id:
                self._boot(node)

    def _boot(self, node: SimulatedNode) -> None:
        node_id = node.id
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
            critical=lambda payload: self._critical(payload, len(node.decided)),
            authorities=AUTHORITIES,
        )
        node.decided = []
        node.denied = set()
        node.armed_at = None
        self.apply(node, node.replica.start(self.clock(node)))
        self._arm(node)

    def clock(self, node: SimulatedNode) -> float:
        """What the clock of `node` shows."""
        return node.skew_s + node.rate * self.now

    def crash(self, node_id: int) -> None:
        """Kill a node; what it had not synced is lost, from a random record on."""
        for node in self._everybody():
            if node.id == node_id:
                self._crash(node)

    def _crash(self, node: SimulatedNode) -> None:
        if node.replica is None:
            return
        self.counts["crash"] += 1
        self.counts["crash that lost unsynced records"] += node.disk.synced < len(node.disk.records)
        node.replica = None
        kept = self.random.randint(node.disk.synced, len(node.disk.records))
        if self._keep_unsynced:
            kept = len(node.disk.records)
        del node.disk.records[kept:]
        node.disk.synced = len(node.disk.records)
        self.note(f"node {node.id} crashes")

    def wipe(self, node_id: int) -> None:
        """Kill a node and take its disk away."""
        self.crash(node_id)
        self.nodes[node_id].disk = Disk(used=True)
        self.counts["lost disk"] += 1
        self.note(f"node {node_id} loses its disk")

    def pause(self, node_id: int, seconds: float) -> None:
        """The process stands still; what arrives waits."""
        self.counts["pause"] += 1
        self.nodes[node_id].paused_until = self.now + seconds
        self.note(f"node {node_id} stands still for {seconds:.2f} s")

    def transfer(self, to: int) -> None:
        """The leader hands over to `to`, where it leads by Raft and `to` is another voter."""
        leader = self.leader
        replica = self.nodes[leader].replica if leader is not None else None
        if leader is None or replica is None:
            return
        try:
            self.apply(self.nodes[leader], replica.transfer_leadership(to, self.clock(self.nodes[leader])))
        except (RuntimeError, ValueError):
            return
        self.counts["leadership transfer"] += 1
        self._arm(self.nodes[leader])

    def read(self, node_id: int) -> None:
        """Ask `node_id` for a linearizable read: it may answer nothing older than what anybody has decided by now."""
        node = self.nodes[node_id]
        if node.replica is None or node.id in self.byzantine:
            return
        self._sequence += 1
        self._reads[self._sequence] = len(self._truth)
        self.apply(node, node.replica.read_index(self._sequence, self.clock(node)))
        self._arm(node)

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

    @property
    def all_know_all_disks(self) -> bool:
        """Whether a further disk may be lost: a readmission that one node alone knows may be lost with that node."""
        replicas = [node.replica for node in self.nodes if node.replica is not None]
        return len(replicas) == self.n and all(
            each.membership.entitles(other.node, other.incarnation) for each in replicas for other in replicas
        )

    def change_members(self, node_id: int, change: Callable[[Membership], Membership]) -> None:
        """The operator asks `node_id` for another membership; what its mode cannot be is refused."""
        node = self.nodes[node_id]
        if node.replica is None:
            return
        replica = node.replica
        try:
            after = change(replica.membership)
            payload = sign_change(replica.running_epoch, after, None, OPERATOR, signer(OPERATOR_KEY))
            self.apply(node, replica.change_membership(payload, self.clock(node)))
        except MembershipError as error:
            self.note(f"refused: {error}")
            return
        self.note(f"node {node_id} is asked for voters {after.voters}, learners {after.learners}")
        self._arm(node)

    def cut(self, one: Iterable[int], other: Iterable[int], one_way: bool = False) -> None:
        """Partition: no message passes between the two sides, or none from `one` to the `other`."""
        other = list(other)
        self.counts["one-way partition" if one_way else "partition"] += 1
        for left in one:
            for right in other:
                self._cut.add((left, right))
                if not one_way:
                    self._cut.add((right, left))

    def rejoin(self) -> None:
        """End every partition."""
        self._cut.clear()

    def heal(self) -> None:
        """End every fault, and start every node that is down."""
        self.rejoin()
        self.faults = Faults()
        for node in self.nodes:
            node.paused_until = 0.0
            self.boot(node.id)

    def propose(self, node_id: int, payloads: list[bytes]) -> None:
        node = self.nodes[node_id]
        if node.replica is not None:
            self.apply(node, node.replica.propose(payloads, self.clock(node)))
            self._arm(node)

    def switch(self, node_id: int, mode: Mode) -> None:
        """The operator asks `node_id` for another mode; what its epoch cannot become is refused."""
        node = self.nodes[node_id]
        if node.replica is None or mode is node.replica.mode:
            return
        epoch = node.replica.running_epoch
        try:
            order = sign_switch(epoch, mode, OPERATOR, signer(OPERATOR_KEY))
        except SwitchError as error:
            self.note(f"refused: {error}")
            return
        self.switch_signed(epoch.number, mode)
        self.note(f"node {node_id} is asked for {mode.name}")
        self.apply(node, node.replica.switch_mode(order, self.clock(node)))
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
        waits_s = 0.0
        for effect in effects:
            if isinstance(effect, Persist):
                node.disk.records.append(effect.record)
            elif isinstance(effect, Sync):
                node.disk.synced = len(node.disk.records)
                if self.faults.sync_max_s:
                    waits_s += self.random.uniform(0, self.faults.sync_max_s)
                    self.counts["slow sync"] += 1
            elif isinstance(effect, Send):
                self._send(node, effect.to, effect.message, waits_s)
            elif isinstance(effect, ReadReady):
                self._check_read(node, effect)
            elif isinstance(effect, Commit):
                self._decide(node, effect)
            elif isinstance(effect, RewriteLog):
                node.disk.records = list(effect.records)
                node.disk.synced = len(effect.records)
            elif isinstance(effect, TakeCheckpoint):
                assert node.replica is not None
                # What the checkpoint sets off comes after all of this turn.
                effects += node.replica.checkpoint_taken(
                    effect.index, self._state_of(node, effect.index), self.clock(node)
                )
            elif isinstance(effect, RestoreState):
                self._restore(node, effect)
            elif isinstance(effect, EpochStarted):
                node.epochs.append((effect.epoch, effect.mode, effect.base_index))
                self.check_epoch(node, effect)
                self._verifiers.setdefault(effect.epoch, Verifier(effect.membership.voter_keys))
                self.note(f"node {node.id} epoch {effect.epoch} {effect.mode.name} from {effect.base_index}")
            elif isinstance(effect, Evidence):
                self.check_evidence(node, effect)
        self._check_leader(node)

    def _side(self, node_id: int) -> int:
        """Which twin of another identity `node_id` talks to at present."""
        return (node_id + self._twin_phase) % 2

    def shuffle_twins(self) -> None:
        """The parts of the cluster that twins talk to change."""
        self._twin_phase += 1

    def _send(self, node: SimulatedNode, to: int, message: ConsensusMessage, waits_s: float) -> None:
        sender = node.id
        if node.side is not None and self._side(to) != node.side:
            return
        if isinstance(message, Vote) and message.phase is Phase.FAST and sender not in self.byzantine:
            replica = node.replica
            if message.voter == sender and replica is not None and replica.mode is Mode.BFT:
                self.check_fast_vote(message, len(replica.membership.voters))
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
            self.counts["doubled message"] += copies - 1
            for _ in range(copies):
                if self.random.random() < self.faults.loss:
                    self.counts["lost message"] += 1
                    continue
                delay = waits_s + self.random.uniform(self.faults.delay_min_s, self.faults.delay_max_s)
                if self.random.random() < self.faults.late:
                    self.counts["late message"] += 1
                    delay += self.random.uniform(0, self.faults.late_s)
                self.at(self.now + delay, partial(self._deliver, sender, to, each))

    def _deliver(self, sender: int, to: int, message: ConsensusMessage) -> None:
        node = self.nodes[to]
        if to in self._twins and self._side(sender):
            node = self._twins[to]
        if node.replica is None or (sender, to) in self._cut:
            return
        if node.paused_until > self.now:
            self.at(node.paused_until, partial(self._deliver, sender, to, message))
            return
        self.apply(node, node.replica.step(sender, message, self.clock(node)))
        self._arm(node)

    def _arm(self, node: SimulatedNode) -> None:
        replica = node.replica
        if replica is None:
            return
        deadline = replica.next_deadline()
        if deadline is None:
            return
        incarnation = node.incarnation
        due = max((deadline - node.skew_s) / node.rate, self.now, node.paused_until)
        if node.armed_at is not None and self.now <= node.armed_at <= due:
            return
        node.armed_at = due
        self.at(due, lambda: self._tick(node, incarnation, due))

    def _tick(self, node: SimulatedNode, incarnation: int, due: float) -> None:
        if node.replica is None or node.incarnation != incarnation:
            return
        # An earlier deadline took this one's place, which stays in the queue: were it to arm again, each such change
        # would begin one more chain of ticks that never ends.
        if node.armed_at != due:
            return
        node.armed_at = None
        deadline = node.replica.next_deadline()
        # A clock that was turned to the cluster's and back may miss the deadline by the last bit.
        if deadline is not None and deadline <= self.clock(node) + 1e-9 and node.paused_until <= self.now:
            self.apply(node, node.replica.tick(max(deadline, self.clock(node))))
        self._arm(node)

    # -- what tests ask --------------------------------------------------------------------------------------------

    def all_decided(self, payloads: Iterable[bytes]) -> bool:
        """Whether every live honest node has decided every one of `payloads`, and all are equally far."""
        wanted = set(payloads)
        if any(node.replica is None or len(node.decided) != len(self._truth) for node in self.honest):
            return False
        return wanted <= set(self.payloads())
