"""The simulator itself: it must not make up work that no replica asked for."""

from __future__ import annotations

import pytest

from net.messages import Mode
from net.simulation.cluster import Cluster


@pytest.mark.parametrize("mode", list(Mode))
def test_a_deadline_that_moves_forward_leaves_no_chain_of_ticks(mode: Mode) -> None:
    """Found as `bft, n = 7, two liars`, seed 70: 876 queued ticks, and so many events that no end was seen."""
    cluster = Cluster(4, 1, mode)
    for number in range(60):
        cluster.propose(number % 4, [b"%d" % number])
        cluster.run(cluster.now + 0.05)
    cluster.run(cluster.now + 10.0)
    in_flight = 3 * len(cluster.nodes)
    assert len(cluster._queue) <= len(cluster.nodes) + in_flight
