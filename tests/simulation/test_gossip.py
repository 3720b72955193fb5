"""Gossip in virtual time: seven nodes, loss, delay, partitions, restarts; all end with the same newest values."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from random import Random

import pytest
from nacl.signing import SigningKey

from net.gossip import Gossip, GossipSettings
from net.messages import GossipEntry, GossipMessage

N = 7
KEYS = [SigningKey(bytes([node + 1]) * 32) for node in range(N)]
MEMBERS = {node: bytes(key.verify_key) for node, key in enumerate(KEYS)}
SETTINGS = GossipSettings(interval_s=0.5, keys_max=4, value_bytes_max=256, delta_bytes_max=512)
BOUND_INTERVALS = 30
"""Exchanges per node after which every value must have reached everybody: log2(7) rounds of push and pull where nothing
is lost (Demers et al., §1.3), several times that at 30 % loss of each of three messages and two values a message.
"""


class Cluster:
    """Seven gossip cores, a lossy network, one seed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self.nodes = [self._make(node, started_ns=1_000) for node in range(N)]
        self.cut: Callable[[int, int], bool] = lambda a, b: False
        self.loss = 0.0
        self._order = itertools.count()
        self._queue: list[tuple[float, int, int, int, GossipMessage | None]] = []
        for node in range(N):
            self._tick_at(self.random.uniform(0, SETTINGS.interval_s), node)

    def _make(self, node: int, started_ns: int) -> Gossip:
        return Gossip(
            node,
            MEMBERS,
            lambda data: KEYS[node].sign(data).signature,
            Random(self.random.random()),
            started_ns,
            SETTINGS,
        )

    def restart(self, node: int, started_ns: int) -> None:
        """Everything this node knew is gone; its timer goes on."""
        self.nodes[node] = self._make(node, started_ns)

    def _tick_at(self, at: float, node: int) -> None:
        heapq.heappush(self._queue, (at, next(self._order), node, node, None))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            self.now, _, sender, to, message = heapq.heappop(self._queue)
            core = self.nodes[to]
            if message is None:
                sends = core.tick(self.now)
                self._tick_at(self.now + SETTINGS.interval_s * self.random.uniform(1.0, 1.05), to)
            else:
                sends = core.step(sender, message, self.now)
            for send in sends:
                if self.random.random() >= self.loss and not self.cut(to, send.to):
                    delay = self.random.expovariate(1 / 0.02)
                    heapq.heappush(self._queue, (self.now + delay, next(self._order), to, send.to, send.message))
        self.now = end

    def held(self, among: range | tuple[int, ...] = range(N)) -> set[tuple[GossipEntry, ...]]:
        return {self.nodes[node].entries() for node in among}


@pytest.mark.parametrize("seed", range(12))
def test_values_spread_to_everybody_through_loss(seed: int) -> None:
    cluster = Cluster(seed)
    cluster.loss = 0.3
    for node, core in enumerate(cluster.nodes):
        for key in range(SETTINGS.keys_max):
            core.publish(key, bytes([node, key]) * 100)
    cluster.run(BOUND_INTERVALS * SETTINGS.interval_s)
    (entries,) = cluster.held()
    assert len(entries) == N * SETTINGS.keys_max
    assert not any(core.refused for core in cluster.nodes)


@pytest.mark.parametrize("seed", range(12))
def test_both_sides_of_a_partition_agree_on_the_newest_once_it_heals(seed: int) -> None:
    cluster = Cluster(seed)
    for node, core in enumerate(cluster.nodes):
        core.publish(0, b"before %d" % node)
    cluster.run(BOUND_INTERVALS * SETTINGS.interval_s)
    left = cluster.random.randrange(1, N)
    cluster.cut = lambda a, b: (a < left) != (b < left)
    for turn in range(5):
        for node, core in enumerate(cluster.nodes):
            core.publish(0, b"turn %d of %d" % (turn, node))
        cluster.run(BOUND_INTERVALS * SETTINGS.interval_s / 5)
    assert cluster.nodes[0].value(N - 1, 0) == b"before %d" % (N - 1)
    cluster.cut = lambda a, b: False
    cluster.loss = 0.3
    cluster.run(BOUND_INTERVALS * SETTINGS.interval_s)
    (entries,) = cluster.held()
    assert [entry.value for entry in entries] == [b"turn 4 of %d" % node for node in range(N)]


@pytest.mark.parametrize("clock_ns", [5_000, 10])
def test_a_restarted_node_is_believed_again_even_with_its_clock_set_back(clock_ns: int) -> None:
    cluster = Cluster(3)
    for turn in range(20):
        cluster.nodes[2].publish(1, b"earlier life %d" % turn)
    cluster.run(BOUND_INTERVALS * SETTINGS.interval_s)
    cluster.restart(2, clock_ns)
    cluster.nodes[2].publish(1, b"new life")
    cluster.run(BOUND_INTERVALS * SETTINGS.interval_s)
    assert {core.value(2, 1) for core in cluster.nodes} == {b"new life"}


def test_one_seed_decides_everything() -> None:
    runs = []
    for _ in range(2):
        cluster = Cluster(11)
        cluster.loss = 0.2
        for node, core in enumerate(cluster.nodes):
            core.publish(0, bytes([node]))
        cluster.run(2.0)
        runs.append([core.entries() for core in cluster.nodes])
    assert runs[0] == runs[1]
    assert len(set(runs[0])) > 1, "two seconds are too short to have converged: the run must show a state on the way"
