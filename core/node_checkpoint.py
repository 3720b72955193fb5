"""A node's part in checkpoints of the log: the state's bytes, and the proofs that are no part of them.

The bytes are equal on all nodes, so they cannot hold the signatures that this node happened to see. Those of open
decisions are written to a file beside the log at every checkpoint. Where they are missing after a restore (the snapshot
came from a peer), any peer that saw the decision can give them; nobody needs to be trusted for that.

A node's memory of trades (`core.memory`) is its own and no part of a checkpoint: it is in a file already, lessons of
closed trades are written before each checkpoint, and trades that closed while the node was away leave no lesson in it,
as before: it saw none of their situations.
"""

from __future__ import annotations

import os
from pathlib import Path

from core.swarm_snapshot import adopt_proofs, proofs_of, restore_snapshot, take_snapshot
from core.swarm_state import SwarmState


class NodeCheckpoint:
    """Takes and restores checkpoints of one node's state."""

    def __init__(self, state: SwarmState, file: Path, *, durable: bool) -> None:
        """`file` keeps the proofs; `durable`: synced to disk before the checkpoint is promised."""
        self._state = state
        self._file = file
        self._durable = durable
        self.entries_unproven = 0
        """Entries of open decisions whose proof this node lacks since the last restore."""

    def take(self, index: int) -> bytes:
        """The state behind entry `index`. Raises RuntimeError when it stands elsewhere, OSError for a full disk."""
        if self._state.applied_index != index:
            raise RuntimeError(
                f"checkpoint of entry {index} asked for, the state stands behind {self._state.applied_index}"
            )
        self._write(proofs_of(self._state))
        return take_snapshot(self._state)

    def restore(self, index: int, data: bytes) -> None:
        """Become what `data` says, with the proofs of the file. Raises ValueError when it is no state at `index`."""
        restore_snapshot(self._state, data)
        if self._state.applied_index != index:
            raise ValueError(f"the snapshot is of entry {self._state.applied_index}, not of {index}")
        kept = self._file.read_bytes() if self._file.exists() else proofs_of(self._state)
        try:
            self.adopt(kept)
        except ValueError:
            self.adopt(proofs_of(self._state))  # the file is damaged: peers will be asked

    def adopt(self, proofs: bytes) -> None:
        """Take proofs of this node's file or of a peer. Raises ValueError for other bytes."""
        self.entries_unproven = adopt_proofs(self._state, proofs)

    def _write(self, data: bytes) -> None:
        """Whole or not at all."""
        temporary = self._file.with_suffix(".tmp")
        with temporary.open("wb") as file:
            file.write(data)
            if self._durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(self._file)
