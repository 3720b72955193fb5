"""How many votes decide: majorities for crash faults, Byzantine quorums for lying ones."""

from __future__ import annotations


def majority(n: int) -> int:
    """Votes that decide in Raft among `n` nodes."""
    return n // 2 + 1


def byzantine_faults(n: int) -> int:
    """The most lying nodes `f` that `n` nodes withstand: f = floor((n - 1) / 3)."""
    return (n - 1) // 3


def byzantine_quorum(n: int) -> int:
    """Votes that decide among `n` nodes, f of them lying: ceil((n + f + 1) / 2).

    Two such quorums share at least f + 1 nodes, so at least one honest one. It is 2f + 1 only where n = 3f + 1.
    """
    return (n + byzantine_faults(n) + 2) // 2


def fast_path_possible(n: int) -> bool:
    """Whether `n` nodes can decide two delays after the proposal: n >= 5f - 1, and a quorum is n - f (`net.bft_fast`).

    That holds for 4 and 5 nodes (f = 1).
    """
    faults = byzantine_faults(n)
    return faults >= 1 and n >= 5 * faults - 1 and byzantine_quorum(n) == n - faults
