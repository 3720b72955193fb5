"""Random scenarios: faults, crashes, partitions, proposals and switches, all drawn from one seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from net.membership import Member, Membership
from net.messages import Mode
from net.replica import Replica
from net.settings import ConsensusSettings
from tests.simulation.byzantine import Adversary
from tests.simulation.cluster import Cluster, Faults, InvariantBroken
from tests.simulation.signing import roster_of

SETTINGS = ConsensusSettings(bft_window=4, message_entries=8, window_entries=32)
CHECKPOINTS = ConsensusSettings(
    bft_window=4, message_entries=8, window_entries=32, checkpoint_interval_entries=6, snapshot_chunk_bytes=200
)
PROGRESS_LIMIT_S = 40.0


def is_critical(payload: bytes) -> bool:
    return payload.startswith(b"critical") or (len(payload) == 4 and payload[0] == 1)


def random_faults(random: Random) -> Faults:
    return Faults(
        loss=random.choice((0.0, 0.02, 0.1, 0.3)),
        duplicate=random.choice((0.0, 0.05, 0.2)),
        delay_max_s=random.choice((0.002, 0.01, 0.05)),
        late=random.choice((0.0, 0.05, 0.3)),
        late_s=random.choice((0.05, 0.5, 1.5)),
    )


def run_scenario(
    seed: int,
    n: int,
    mode: Mode,
    switching: bool = False,
    byzantine: int = 0,
    membership: bool = False,
    replica_class: type[Replica] = Replica,
    duration_s: float = 6.0,
    actions: int = 40,
) -> Cluster:
    """One cluster through `duration_s` of faults, then heal and demand progress. Raises `InvariantBroken`."""
    random = Random(seed * 7919 + n)
    liars = tuple(random.sample(range(n), byzantine))
    adversary = Adversary(liars, n) if liars else None
    cluster = Cluster(
        n,
        seed,
        mode,
        random_faults(random),
        random.choice((SETTINGS, CHECKPOINTS, ConsensusSettings(bft_window=1), ConsensusSettings())),
        critical=is_critical,
        byzantine=liars,
        adversary=adversary,
        replica_class=replica_class,
    )
    submitted: list[tuple[int, bytes]] = []
    for number in range(actions):
        cluster.at(random.uniform(0, duration_s), _action(cluster, random, number, switching, membership, submitted))
    cluster.run(duration_s)
    cluster.note("faults stop")
    cluster.heal()
    # What a crashed node had submitted died with it: only what is still waiting, and this, must come through.
    final = [f"final {node.id}".encode() for node in cluster.honest]
    for node, payload in zip(cluster.honest, final, strict=True):
        cluster.propose(node.id, [payload])
    if membership:
        readmit_all(cluster, final)
    elif not cluster.run(cluster.now + PROGRESS_LIMIT_S, lambda: cluster.all_decided(final)):
        raise InvariantBroken(f"seed {seed}: no progress within {PROGRESS_LIMIT_S} s after the faults stopped")
    _check_submitted(cluster, submitted)
    return cluster


def changed_membership(before: Membership, n: int, random: Random) -> Membership:
    """One node more or less, or one whose vote is given or taken."""
    node = random.randrange(n)
    rows = {member.node: member for member in before.members}
    row = rows.pop(node, None)
    if row is None:
        rows[node] = Member(node, roster_of(n)[node], voter=random.random() < 0.5)
    elif random.random() < 0.7:
        rows[node] = replace(row, voter=not row.voter)
    if sum(member.voter for member in rows.values()) < 3:
        return before
    return Membership(tuple(rows[each] for each in sorted(rows)))


def readmit_all(cluster: Cluster, final: list[bytes]) -> None:
    """The operator makes every node a voter again, until all have decided `final`; raises `InvariantBroken` if late."""
    deadline = cluster.now + PROGRESS_LIMIT_S

    def everybody(before: Membership) -> Membership:
        rows = {member.node: member for member in before.members}
        keys = roster_of(cluster.n)
        return Membership(
            tuple(replace(rows.get(node, Member(node, keys[node])), voter=True) for node in range(cluster.n))
        )

    while cluster.now < deadline:
        replicas = [node.replica for node in cluster.nodes if node.replica]
        newest = max(replicas, key=lambda replica: (replica.epoch, replica.voting))
        if len(newest.membership.voters) < cluster.n:
            cluster.change_members(newest.node, everybody)
        elif not cluster.exiled and cluster.all_decided(final):
            return
        cluster.run(cluster.now + 2.0)
    raise InvariantBroken(f"seed {cluster.seed}: not everybody votes {PROGRESS_LIMIT_S} s after the faults stopped")


def _check_submitted(cluster: Cluster, submitted: list[tuple[int, bytes]]) -> None:
    known = {payload for _, payload in submitted} | {f"final {node}".encode() for node in range(cluster.n)}
    strange = [payload for payload in cluster.payloads() if payload not in known]
    if strange and not cluster.byzantine:
        raise InvariantBroken(f"decided what nobody submitted: {strange[:3]}")


def _action(
    cluster: Cluster,
    random: Random,
    number: int,
    switching: bool,
    membership: bool,
    submitted: list[tuple[int, bytes]],
) -> Callable[[], None]:
    kind = random.choices(
        (
            "propose",
            "batch",
            "crash",
            "boot",
            "partition",
            "heal",
            "faults",
            "switch",
            "depose",
            "isolate",
            "members",
            "wipe",
        ),
        (10, 3, 2, 5, 2, 3, 1, 4 if switching else 0, 2, 2, 4 if membership else 0, 4 if membership else 0),
    )[0]
    node = random.randrange(cluster.n)
    one = random.sample(range(cluster.n), random.randint(1, cluster.n - 1))
    next_mode = random.choice(tuple(Mode))
    faults = random_faults(random)
    label = "critical" if random.random() < 0.3 else "plain"

    def act() -> None:
        live = sum(each.replica is not None for each in cluster.nodes)
        if kind in ("propose", "batch"):
            count = 1 if kind == "propose" else 12
            payloads = [f"{label} {number}.{part}".encode() for part in range(count)]
            if cluster.nodes[node].replica is not None:
                submitted.extend((node, payload) for payload in payloads)
                cluster.propose(node, payloads)
        elif kind == "crash" and live > 1:
            cluster.crash(node)
        elif kind == "depose" and live > 1 and (leader := cluster.leader) is not None:
            # The leader dies with what it has just proposed.
            cluster.propose(leader, [f"last {number}".encode()])
            submitted.append((leader, f"last {number}".encode()))
            cluster.crash(leader)
        elif kind == "isolate" and (leader := cluster.leader) is not None:
            # The leader keeps one follower, who gets what the others do not.
            cluster.note(f"leader {leader} is left with node {node}")
            cluster.cut([leader, node], [each for each in range(cluster.n) if each not in (leader, node)])
            cluster.propose(leader, [f"last {number}".encode()])
            submitted.append((leader, f"last {number}".encode()))
        elif kind == "members":
            cluster.change_members(node, lambda before: changed_membership(before, cluster.n, random))
        elif kind == "wipe" and live == cluster.n and not cluster.exiled:
            # More than one lost disk at a time may be more than a majority remembers.
            cluster.wipe(node)
        elif kind == "boot":
            cluster.boot(node)
        elif kind == "partition":
            cluster.note(f"partition {one}")
            cluster.cut(one, [each for each in range(cluster.n) if each not in one])
        elif kind == "heal":
            cluster.rejoin()
        elif kind == "faults":
            cluster.faults = faults
        elif kind == "switch":
            cluster.switch(node, next_mode)

    return act
