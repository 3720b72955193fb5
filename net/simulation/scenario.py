"""Random scenarios: what happens to a cluster, drawn from one seed, so that a failing seed can be replayed and shrunk.

A scenario is a list of steps, each at its time. Leaving steps out changes nothing about the others, which is how a
failing one is made small.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import Any

from net.membership import Member, Membership
from net.messages import Mode
from net.replica import Replica
from net.settings import ConsensusSettings
from net.simulation.byzantine import Adversary, SwitchForger, WitnessAdversary
from net.simulation.byzantine_fast import FastAdversary
from net.simulation.cluster import Cluster, Faults
from net.simulation.invariants import InvariantBroken
from net.simulation.keys import roster_of

SETTINGS = ConsensusSettings(bft_window=4, message_entries=8, window_entries=32, batch_payloads=3)
CHECKPOINTS = ConsensusSettings(
    bft_window=4, message_entries=8, window_entries=32, checkpoint_interval_entries=6, snapshot_chunk_bytes=200
)
SEQUENTIAL = ConsensusSettings(bft_window=1, relay_votes=False)
PROGRESS_LIMIT_S = 40.0
ROUND_S = 6.0
CRITICAL_STRETCH = 16
"""Entries."""
ROUND_STEPS = 40
READ_STEPS = 16
DEPOSED_BY = ("isolated", "mute", "pair", "transfer")
"""How a leader is deposed behind its back: nobody hears it, nor it them; nobody hears it; one node and it do not hear
each other; it hands over, and is cut off."""
STALE_READS = 75
STALE_READ_INTERVAL_S = 0.02


@dataclass(frozen=True, slots=True)
class Kind:
    """What sort of cluster: its first mode, what changes while it runs, and who lies."""

    nodes: int
    mode: Mode
    switching: bool = False
    liars: int = 0
    """Those of a cluster that switches do nothing but forge switches: Raft stands no other lie."""
    members: bool = False
    twins: int = 0
    fast: bool = False
    """The fast path is on."""
    reads: bool = False
    """Little happens but that leaders are deposed behind their backs, one at a time, and asked for reads."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is done to the cluster at a time. `values` depend on the action."""

    at: float
    action: str
    node: int
    values: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return f"{self.at:8.4f} {self.action} node {self.node} {' '.join(map(str, self.values))}".rstrip()


def is_critical(payload: bytes, applied: int) -> bool:
    """What AUTO lets take effect with a witness only: by its name, and in some stretches of the log everything, as
    large orders do when the exposure is near its limit. A switch needs no witness: an operator signed it.
    """
    return payload.startswith(b"critical") or applied // CRITICAL_STRETCH % 3 == 1


def random_faults(random: Random) -> Faults:
    """Chances and delays of one stretch of a scenario."""
    return Faults(
        loss=random.choice((0.0, 0.02, 0.1, 0.3)),
        duplicate=random.choice((0.0, 0.05, 0.2)),
        delay_max_s=random.choice((0.002, 0.01, 0.05)),
        late=random.choice((0.0, 0.05, 0.3)),
        late_s=random.choice((0.05, 0.5, 1.5)),
        sync_max_s=random.choice((0.0, 0.0, 0.005, 0.1)),
    )


def random_steps(random: Random, kind: Kind, first_s: float, number: int) -> list[Step]:
    """The steps of one round of `ROUND_S` seconds; `number` keeps the payloads of rounds apart."""
    changing = 4 if kind.members else 0
    weights = {
        "propose": 10,
        "batch": 3,
        "crash": 2,
        "boot": 5,
        "partition": 2,
        "one-way": 1,
        "heal": 3,
        "faults": 1,
        "switch": 4 if kind.switching else 0,
        "depose": 2,
        "isolate": 2,
        "pause": 1,
        "transfer": 2,
        "read": 5,
        "stale-read": 2 if kind.mode is not Mode.BFT else 0,
        "members": changing,
        "wipe": changing,
        "shuffle twins": 3 if kind.twins else 0,
    }
    if kind.reads:
        weights = {"propose": 4, "read": 2, "stale-read": 4, "heal": 10, "boot": 4, "faults": 1}
    steps = []
    for offset in range(READ_STEPS if kind.reads else ROUND_STEPS):
        action = random.choices(tuple(weights), tuple(weights.values()))[0]
        at, node = first_s + random.uniform(0, ROUND_S), random.randrange(kind.nodes)
        steps.append(Step(at, action, node, _values(random, kind, action, f"{number}.{offset}")))
    return sorted(steps, key=lambda step: step.at)


def _values(random: Random, kind: Kind, action: str, name: str) -> tuple[Any, ...]:
    if action in ("propose", "batch"):
        return ("critical" if random.random() < 0.3 else "plain", name, 1 if action == "propose" else 12)
    if action in ("depose", "isolate"):
        return (name,)
    if action == "stale-read":
        return (name, random.choice(DEPOSED_BY), random.choice((None, random.uniform(0.3, 1.0))))
    if action in ("partition", "one-way"):
        return tuple(sorted(random.sample(range(kind.nodes), random.randint(1, kind.nodes - 1))))
    if action == "faults":
        return (random_faults(random),)
    if action == "switch":
        return (random.choice(tuple(Mode)),)
    if action == "pause":
        return (random.choice((0.05, 0.5, 2.0)),)
    if action == "members":
        return (random.random() < 0.5, random.random() < 0.7)
    return ()


def _adversary(kind: Kind, liars: tuple[int, ...]) -> Adversary:
    if kind.switching:
        return SwitchForger(liars, kind.nodes)
    if kind.fast:
        return FastAdversary(liars, kind.nodes)
    return (WitnessAdversary if kind.mode is Mode.AUTO else Adversary)(liars, kind.nodes)


class Scenario:
    """One cluster, the steps done to it, and what must hold in the end."""

    def __init__(self, seed: int, kind: Kind, replica_class: type[Replica] = Replica) -> None:
        self.seed = seed
        self.kind = kind
        self.random = Random(seed * 7919 + kind.nodes)
        chosen = self.random.sample(range(kind.nodes), kind.liars + kind.twins)
        liars, twins = tuple(chosen[: kind.liars]), tuple(chosen[kind.liars :])
        self.cluster = Cluster(
            kind.nodes,
            seed,
            kind.mode,
            random_faults(self.random),
            replace(self.random.choice((SETTINGS, CHECKPOINTS, SEQUENTIAL, ConsensusSettings())), fast_path=kind.fast),
            critical=is_critical,
            byzantine=liars,
            adversary=_adversary(kind, liars) if liars else None,
            replica_class=replica_class,
            clocks_drift=self.random.random() < 0.5,
            twins=twins,
        )
        self.submitted: set[bytes] = set()
        self.steps: list[Step] = []
        self._faults_end = False

    def run(self, events: int = 0, steps: Sequence[Step] | None = None) -> Cluster:
        """Rounds of faults until `events` have happened, or just `steps`; then heal, and demand progress.

        Raises `InvariantBroken`, and `CertificateError` where a decision is not proven.
        """
        cluster, number = self.cluster, 0
        if steps is not None:
            self._schedule(steps)
            cluster.run(max((step.at for step in steps), default=0.0) + 1.0)
        while steps is None and (not number or cluster.events < events):
            self._schedule(random_steps(self.random, self.kind, cluster.now, number))
            cluster.run(cluster.now + ROUND_S)
            number += 1
        cluster.note("faults stop")
        self._faults_end = True
        cluster.heal()
        self._demand_progress()
        return cluster

    def _schedule(self, steps: Sequence[Step]) -> None:
        self.steps.extend(steps)
        for step in steps:
            self.cluster.at(step.at, self._doing(step))

    def _later(self, after_s: float, action: Callable[[], None]) -> None:
        """What a step sets off, unless the faults have stopped by then."""
        self.cluster.at(self.cluster.now + after_s, lambda: None if self._faults_end else action())

    def _doing(self, step: Step) -> Callable[[], None]:
        return lambda: self._do(step)

    def _propose(self, node: int, payloads: list[bytes]) -> None:
        if self.cluster.nodes[node].replica is not None:
            self.submitted.update(payloads)
            self.cluster.propose(node, payloads)

    def _do(self, step: Step) -> None:
        cluster, node, values = self.cluster, step.node, step.values
        live = sum(each.replica is not None for each in cluster.nodes)
        everybody = range(cluster.n)
        leader = cluster.leader
        match step.action:
            case "propose" | "batch":
                label, name, count = values
                self._propose(node, [f"{label} {name}.{part}".encode() for part in range(count)])
            case "crash" if live > 1:
                cluster.crash(node)
            case "depose" if live > 1 and leader is not None:
                # The leader dies with what it has just proposed.
                self._propose(leader, [f"last {values[0]}".encode()])
                cluster.crash(leader)
            case "isolate" if leader is not None:
                # The leader keeps one follower, who gets what the others do not.
                cluster.note(f"leader {leader} is left with node {node}")
                cluster.cut([leader, node], [each for each in everybody if each not in (leader, node)])
                self._propose(leader, [f"last {values[0]}".encode()])
            case "boot":
                cluster.boot(node)
            case "partition" | "one-way":
                cluster.note(f"{step.action} {values}")
                others = [each for each in everybody if each not in values]
                cluster.cut(values, others, one_way=step.action == "one-way")
            case "heal":
                cluster.rejoin()
            case "faults":
                cluster.faults = values[0]
            case "switch":
                cluster.switch(node, values[0])
            case "pause":
                cluster.pause(node, values[0])
            case "transfer":
                cluster.transfer(node)
            case "read":
                cluster.read(node)
            case "stale-read" if leader not in (None, node):
                self._depose_behind_its_back(leader, node, *values)
            case "members":
                cluster.change_members(node, lambda before: changed_membership(before, node, cluster.n, *values))
            case "wipe" if cluster.all_know_all_disks:
                # More than one lost disk at a time may be more than a majority remembers.
                cluster.wipe(node)
            case "shuffle twins":
                cluster.shuffle_twins()

    def _depose_behind_its_back(
        self, leader: int, node: int, name: str, how: str, restart_after_s: float | None
    ) -> None:
        """Ask a leader for reads while `node` takes its place and decides more (thesis §6.4).

        `restart_after_s`: a follower that heard the leader forgets so.
        """
        cluster = self.cluster
        others = [each for each in range(cluster.n) if each != leader]
        cluster.note(f"leader {leader} is to be deposed by node {node}: {how}")
        if how == "transfer":
            cluster.transfer(node)
            self._later(0.01, lambda: cluster.cut([leader], others))
        else:
            cluster.cut([leader], [node] if how == "pair" else others, one_way=how == "mute")
        for number in range(STALE_READS):
            self._later(number * STALE_READ_INTERVAL_S, lambda: cluster.read(leader))
            if number % 3 == 0:
                payload = f"plain {name}.{number}".encode()
                self._later(number * STALE_READ_INTERVAL_S, partial(self._propose, node, [payload]))
        third = next((each for each in others if each != node), None)
        if restart_after_s is not None and third is not None:
            self._later(restart_after_s, lambda: cluster.crash(third))
            self._later(restart_after_s + 0.005, lambda: cluster.boot(third))

    def _demand_progress(self) -> None:
        """What a crashed node had submitted died with it: only what is still waiting, and this, must come through."""
        cluster = self.cluster
        final = [f"final {node.id}".encode() for node in cluster.honest]
        for node, payload in zip(cluster.honest, final, strict=True):
            cluster.propose(node.id, [payload])
        if self.kind.members:
            readmit_all(cluster, final)
        elif not cluster.run(cluster.now + PROGRESS_LIMIT_S, lambda: cluster.all_decided(final)):
            raise InvariantBroken(f"seed {self.seed}: no progress within {PROGRESS_LIMIT_S} s after the faults stopped")
        known = self.submitted | {f"final {node}".encode() for node in range(cluster.n)}
        strange = [payload for payload in cluster.payloads() if payload not in known]
        if strange and not cluster.byzantine:
            raise InvariantBroken(f"decided what nobody submitted: {strange[:3]}")


def run_scenario(seed: int, kind: Kind, replica_class: type[Replica] = Replica, events: int = 0) -> Cluster:
    """One seed from its first step to progress after the last fault. Raises `InvariantBroken`."""
    return Scenario(seed, kind, replica_class).run(events)


def shrink(steps: Sequence[Step], fails: Callable[[Sequence[Step]], bool]) -> list[Step]:
    """Fewer steps that still fail: halves, quarters, ... left out, then single ones (Zeller's ddmin, without its
    complements). `fails(steps)` replays them.
    """
    kept = list(steps)
    size = max(1, len(kept) // 2)
    while True:
        at = 0
        while at < len(kept):
            fewer = kept[:at] + kept[at + size :]
            if fails(fewer):
                kept = fewer
            else:
                at += size
        if size == 1:
            return kept
        size //= 2


def changed_membership(before: Membership, node: int, n: int, voter: bool, toggles: bool) -> Membership:
    """`node` more or less, or its vote given or taken; never fewer than 3 voters."""
    rows = {member.node: member for member in before.members}
    row = rows.pop(node, None)
    if row is None:
        rows[node] = Member(node, roster_of(n)[node], voter=voter)
    elif toggles:
        rows[node] = replace(row, voter=not row.voter)
    if sum(member.voter for member in rows.values()) < 3:
        return before
    return Membership(tuple(rows[each] for each in sorted(rows)))


def readmit_all(cluster: Cluster, final: list[bytes]) -> None:
    """The operator makes every node a voter again, until all have decided `final`; raises `InvariantBroken` if late."""
    deadline = cluster.now + PROGRESS_LIMIT_S
    keys = roster_of(cluster.n)

    def everybody(before: Membership) -> Membership:
        rows = {member.node: member for member in before.members}
        return Membership(
            tuple(replace(rows.get(node, Member(node, keys[node])), voter=True) for node in range(cluster.n))
        )

    while cluster.now < deadline:
        replicas = [node.replica for node in cluster.nodes if node.replica]
        newest = max(replicas, key=lambda replica: (replica.epoch, replica.voting))
        # A voter whose disk is another one is admitted first: two at once might leave no quorum that can vote.
        waits = any(node in newest.membership.voters for node in cluster.exiled)
        if len(newest.membership.voters) < cluster.n and not waits:
            cluster.change_members(newest.node, everybody)
        elif not cluster.exiled and cluster.all_decided(final):
            return
        cluster.run(cluster.now + 2.0)
    raise InvariantBroken(f"seed {cluster.seed}: not everybody votes {PROGRESS_LIMIT_S} s after the faults stopped")
