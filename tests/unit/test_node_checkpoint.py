"""A node's checkpoints: the same bytes as its peers', its own proofs beside them, a peer's where those are missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.node_checkpoint import NodeCheckpoint
from core.swarm_snapshot import is_proven, proofs_of, take_snapshot
from net.messages import Mode
from tests.property.test_snapshot_properties import history
from tests.unit.test_swarm_state import make_state

SEED, ENTRIES = 5, 40


def test_a_restarted_node_has_state_and_proofs_again(tmp_path: Path) -> None:
    state = history(SEED, Mode.BFT, ENTRIES, (0, 1, 2))
    data = NodeCheckpoint(state, tmp_path / "proofs", durable=True).take(ENTRIES)
    assert data == take_snapshot(history(SEED, Mode.BFT, ENTRIES, (1, 2, 3)))
    again = make_state()
    checkpoint = NodeCheckpoint(again, tmp_path / "proofs", durable=True)
    checkpoint.restore(ENTRIES, data)
    assert checkpoint.entries_unproven == 0
    assert again.open_decisions == state.open_decisions
    assert [path.name for path in tmp_path.iterdir()] == ["proofs"]


@pytest.mark.parametrize("file", [None, b"damaged"])
def test_a_snapshot_of_a_peer_lacks_proofs_until_a_peer_gives_them(tmp_path: Path, file: bytes | None) -> None:
    peer = history(SEED, Mode.BFT, ENTRIES, (0, 1, 2))
    state = make_state()
    if file is not None:
        (tmp_path / "proofs").write_bytes(file)
    checkpoint = NodeCheckpoint(state, tmp_path / "proofs", durable=False)
    checkpoint.restore(ENTRIES, take_snapshot(peer))
    assert checkpoint.entries_unproven == len({d.committed.entry.index for d in peer.open_decisions.values()}) > 0
    with pytest.raises(ValueError, match="no proofs"):
        checkpoint.adopt(b"junk")
    assert checkpoint.entries_unproven > 0
    checkpoint.adopt(proofs_of(peer))
    assert checkpoint.entries_unproven == 0
    assert all(is_proven(decision.committed) for decision in state.open_decisions.values())


def test_a_checkpoint_at_another_index_is_refused(tmp_path: Path) -> None:
    state = history(SEED, Mode.RAFT, ENTRIES, (0,))
    checkpoint = NodeCheckpoint(state, tmp_path / "proofs", durable=False)
    with pytest.raises(RuntimeError, match="stands behind 40"):
        checkpoint.take(ENTRIES + 1)
    with pytest.raises(ValueError, match="not of 41"):
        checkpoint.restore(ENTRIES + 1, take_snapshot(state))
