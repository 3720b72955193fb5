"""What a cluster must never do, checked after every event against all that any node ever decided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from net.certificate import Verifier, entry_digest, verify_committed, wrapped
from net.consensus import Commit, EpochStarted, Evidence, ReadReady, RestoreState
from net.messages import Committed, Mode, Vote
from net.payload_batch import payloads_of
from net.quorum import byzantine_quorum
from net.replica import Replica


class InvariantBroken(AssertionError):
    """The cluster did what it must never do."""


@dataclass(slots=True)
class Disk:
    """Records, how many of them are surely on the platter, and whether a node ever ran from it.

    `used` is a marker that is kept elsewhere, and outlives the records.
    """

    records: list[bytes] = field(default_factory=list)
    synced: int = 0
    used: bool = False


@dataclass(slots=True)
class SimulatedNode:
    """One replica, its disk, its clock (`skew_s + rate * now`), and what it has decided and seen."""

    id: int
    disk: Disk
    skew_s: float = 0.0
    rate: float = 1.0
    side: int | None = None
    """Twins: which of the two replicas of this identity it is."""
    paused_until: float = 0.0
    armed_at: float | None = None
    replica: Replica | None = None
    incarnation: int = 0
    decided: list[Committed] = field(default_factory=list)
    denied: set[int] = field(default_factory=set)
    evidence: list[Evidence] = field(default_factory=list)
    refused: list[bytes] = field(default_factory=list)
    """What it submitted and was given back."""
    epochs: list[tuple[int, Mode, int]] = field(default_factory=list)


Critical = Callable[[bytes, int], bool]
"""What AUTO lets take effect with a witness only; the number of entries applied before stands for the state."""


class Truth:
    """Everything that was decided, and what must hold of it."""

    def __init__(self, byzantine: Iterable[int], critical: Critical) -> None:
        self.byzantine = frozenset(byzantine)
        self.now = 0.0
        self.trace: list[str] = []
        self.counts: Counter[str] = Counter()
        """How often each fault, change and restore really happened."""
        self._critical = critical
        self._verifiers: dict[int, Verifier] = {}
        self._truth: list[Committed] = []
        self._truth_denied: dict[int, bool] = {}
        self._leaders: dict[tuple[int, int], int] = {}
        self._certified: set[bytes] = set()
        self._reads: dict[int, int] = {}
        self._modes: dict[int, Mode] = {}
        """By epoch."""
        self._switches: set[tuple[int, Mode]] = set()
        """The epochs that the operator signed an end for, each with the mode that was to follow."""
        self._fast_votes: dict[tuple[int, int], dict[tuple[int, bytes], set[int]]] = {}
        """By epoch and height: who FAST-voted which view and digest."""

    def note(self, text: str) -> None:
        self.trace.append(f"{self.now:9.4f} {text}")

    @property
    def truth(self) -> list[Committed]:
        """Everything that anybody decided, in order."""
        return self._truth

    def payloads(self) -> list[bytes]:
        """Every payload that was decided, in order."""
        return [payload for each in self._truth for payload in payloads_of(each.entry)]

    def check_fast_vote(self, vote: Vote, n: int) -> None:
        """What a certificate of the fast path may exist for, known to anybody or not, is what is decided.

        `vote` is one of a Byzantine epoch's own log, by an honest node; the liars may add theirs at any time.
        """
        votes = self._fast_votes.setdefault((vote.epoch, vote.height), {})
        voters = votes.setdefault((vote.view, vote.digest), set())
        voters.add(vote.voter)
        if len(voters) == byzantine_quorum(n) - len(self.byzantine):
            self.counts["certifiable block"] += 1
            self._check_certifiable(vote.epoch, vote.height, n)

    def _check_certifiable(self, epoch: int, height: int, n: int) -> None:
        enough = byzantine_quorum(n) - len(self.byzantine)
        votes = self._fast_votes.get((epoch, height), {})
        certifiable = {digest for (_, digest), voters in votes.items() if len(voters) >= enough}
        if height <= len(self._truth) and self._truth[height - 1].epoch == epoch:
            certifiable.add(self._truth[height - 1].certificate.digest)
        if len(certifiable) > 1:
            raise InvariantBroken(
                f"{len(certifiable)} blocks at height {height} of epoch {epoch} are or may be decided"
            )

    def switch_signed(self, epoch: int, mode: Mode) -> None:
        """The operator signed that one of `mode` may follow `epoch`."""
        self._switches.add((epoch, mode))

    def check_epoch(self, node: SimulatedNode, started: EpochStarted) -> None:
        """All nodes see the same epochs, and another mode only where the operator signed for just that."""
        if node.id in self.byzantine:
            return
        number, mode = started.epoch, started.mode
        known = self._modes.setdefault(number, mode)
        if known is not mode:
            raise InvariantBroken(f"node {node.id} runs epoch {number} as {mode.name}, others as {known.name}")
        before = self._modes.get(number - 1)
        if number > 1 and mode is not before and (number - 1, mode) not in self._switches:
            raise InvariantBroken(f"node {node.id} begins epoch {number} as {mode.name}, and no operator signed that")

    def check_evidence(self, node: SimulatedNode, effect: Evidence) -> None:
        """No honest node is proven to lie."""
        node.evidence.append(effect)
        if node.id not in self.byzantine and effect.culprit not in self.byzantine and effect.proof:
            raise InvariantBroken(f"node {node.id} accuses the honest node {effect.culprit}: {effect.reason}")

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
        self.counts["restore from a checkpoint"] += 1
        self.note(f"node {node.id} goes on from a checkpoint of {effect.index}")
        if node.id in self.byzantine:
            return
        if effect.index > len(self._truth) or effect.state != self._state(effect.index):
            raise InvariantBroken(f"node {node.id} restores a state of {effect.index} that nobody decided")
        node.decided = self._truth[: effect.index]
        node.denied = {at for at in range(1, effect.index + 1) if self._truth_denied[at]}

    def _decide(self, node: SimulatedNode, effect: Commit) -> None:
        if node.id in self.byzantine:
            return
        for committed in effect.entries:
            index = committed.entry.index
            if index != len(node.decided) + 1:
                raise InvariantBroken(f"node {node.id} decides {index} after {len(node.decided)}")
            node.decided.append(committed)
            bare = committed.certificate.mode is Mode.AUTO and committed.witness is None
            # As the state machine above a replica does, each entry behind the one before it.
            denied = index in effect.denied or (bare and self._critical(committed.entry.payload, index - 1))
            # What is critical behind nothing is so behind anything: an honest leader waits for its witness.
            if bare and not self.byzantine and self._critical(committed.entry.payload, 0):
                raise InvariantBroken(f"entry {index} is critical and was ordered without a witness")
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
                if self._fast_votes:
                    self._check_certifiable(committed.epoch, index, len(self._verifiers[committed.epoch].nodes))
                self.note(f"node {node.id} decides {index} {committed.entry.kind.name} {committed.entry.payload!r}")
            certificate = committed.certificate
            if entry_digest(certificate.parent, wrapped(committed.entry, committed.witness)) != certificate.digest:
                raise InvariantBroken(f"node {node.id}: the certificate of {index} is about another entry")
            if certificate.signers or certificate.mode is Mode.BFT:
                said = (certificate.epoch, certificate.mode, certificate.signers)
                mark = b"".join(certificate.signatures) + certificate.digest + repr(said).encode()
                if mark not in self._certified:
                    verify_committed(committed, self._verifiers[committed.epoch])
                    self._certified.add(mark)

    def _check_read(self, node: SimulatedNode, effect: ReadReady) -> None:
        """Linearizability (thesis §6.4): a read sees everything that was decided anywhere when it was asked."""
        wanted = self._reads.pop(effect.request_id, None)
        if wanted is None or effect.index is None:
            return
        self.counts["linearizable read"] += 1
        if effect.index < wanted:
            raise InvariantBroken(f"node {node.id} grants a read at {effect.index}; {wanted} was decided before it")

    def _check_leader(self, node: SimulatedNode) -> None:
        replica = node.replica
        if replica is None or replica._raft is None or replica._raft.role != "leader" or node.side is not None:
            return
        key = (replica.epoch, replica._raft.term)
        if self._leaders.setdefault(key, node.id) != node.id:
            raise InvariantBroken(f"nodes {self._leaders[key]} and {node.id} both lead term {key[1]} of epoch {key[0]}")
