"""Which checkpoint a peer is sent, and how long it is kept."""

from __future__ import annotations

from dataclasses import replace

from net.laggards import Laggards
from net.snapshot_transfer import CertifiedCheckpoint
from tests.unit.test_checkpoint import CHECKPOINT, certificate_of

PEER = 3


def certified(index: int) -> CertifiedCheckpoint:
    checkpoint = replace(CHECKPOINT, index=index)
    return CertifiedCheckpoint(checkpoint, certificate_of(0, 1, checkpoint=checkpoint), checkpoint.encode())


def test_a_checkpoint_under_way_is_kept_however_many_come_behind_it() -> None:
    laggards = Laggards(2, 10.0)
    began = certified(100)
    assert laggards.checkpoint_for(PEER, began, 1, 0.0) is began
    for number, stable in enumerate(map(certified, (200, 300, 400))):
        now = 1.0 + number
        kept_from = laggards.kept_from(stable.index - 100, now)
        assert kept_from == 100, "what follows it is kept, too"
        assert laggards.checkpoint_for(PEER, stable, kept_from + 1, now) is began
    laggards.has_reached(PEER, 450, 4.0)
    assert laggards.kept_from(400, 4.0) == 400
    assert PEER not in laggards


def test_one_that_falls_silent_holds_nothing_back() -> None:
    laggards = Laggards(2, 10.0)
    laggards.checkpoint_for(PEER, certified(100), 1, 0.0)
    assert laggards.kept_from(200, 9.9) == 100
    assert laggards.kept_from(200, 10.1) == 200
