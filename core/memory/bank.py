"""The ReasoningBank: lessons of closed trades, found again by similarity of their situation.

Rows live in SQLite and, mirrored, in arrays; a search reads the arrays only. A lesson remembers the situation and the
agents' votes when the trade was opened, so `observe` keeps those of recent steps until their trades close.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.memory.rows import LessonFile, Row
from core.memory.verdict import Trajectories
from core.portfolio import ClosedTrade

_GROUP: Final = 32
"""Rows per group of the search. A group takes rows far apart, so that the maxima of all groups are one wide pass."""
_VICTIMS: Final = 256


@dataclass(frozen=True, slots=True)
class BankConfig:
    capacity: int = 10_000
    """Lessons kept, in the file and in memory."""
    observed_steps: int = 1_024
    """Steps whose situations are kept; a trade held longer leaves no lesson."""
    typical_profit_bps: float = 150.0
    """Profit at which an outcome counts tanh(1) = 0.76."""
    minimum_profit_bps: float = 5.0
    """A trade that moved less teaches nothing."""

    def __post_init__(self) -> None:
        """Raises ValueError for a size or scale that is not positive."""
        if self.capacity < _GROUP or self.observed_steps < 1 or self.typical_profit_bps <= 0:
            raise ValueError(
                f"{self}: capacity must be at least {_GROUP}, observed_steps and typical_profit_bps positive"
            )


@dataclass(frozen=True, slots=True)
class Learned:
    """What one call of `learn` did with its closed trades."""

    wins: int
    losses: int
    skipped: int
    """Too small to teach, known already, or opened before this process observed anything."""


class ReasoningBank:
    """One node's memory. Not thread-safe: one thread, the trading one."""

    def __init__(
        self, path: Path, instruments: int, dimensions: int, agents: int = 6, config: BankConfig | None = None
    ) -> None:
        """Opens the file and loads it. Raises `core.memory.rows.MemoryFileError` when it cannot be used."""
        self.config = config or BankConfig()
        self.dimensions = dimensions
        self.agents = agents
        capacity = -(-self.config.capacity // _GROUP) * _GROUP  # whole groups; the padding rows stay zero
        self._situations = np.zeros((capacity, dimensions), np.float32)
        self._votes = np.zeros((capacity, agents), np.float32)
        self._side = np.zeros(capacity, np.int8)
        self._outcome = np.zeros(capacity, np.float32)
        self._serial = np.full(capacity, -1, np.int64)
        self._hits = np.zeros(capacity, np.int64)
        self._keys: dict[bytes, int] = {}
        self._key_of: list[bytes] = [b""] * capacity
        self._count = 0
        self._next_serial = 0
        self._digest = 0
        self._victims: list[int] = []
        steps = self.config.observed_steps
        self._observed_step = np.full(steps, -1, np.int64)
        self._observed = np.zeros((steps, instruments, dimensions), np.float32)
        self._observed_votes = np.zeros((steps, instruments, agents), np.float32)
        self._file = LessonFile(path, self.config.capacity, dimensions, agents)
        self._load()

    def __len__(self) -> int:
        return self._count

    @property
    def digest(self) -> bytes:
        """16 bytes over the set of trades remembered, in any order; equal sets have equal digests."""
        return self._digest.to_bytes(16, "big")

    @property
    def problem(self) -> str:
        """What is wrong with the file, in words; empty when nothing is."""
        return self._file.problem

    def close(self) -> None:
        """Bring the file up to date and close it."""
        self._file.close()

    def observe(self, step: int, situations: NDArray[np.float32], votes: NDArray[np.float64]) -> None:
        """Keep what was seen and said at `step`: unit rows float32[n, d], votes float64[n, agents] in [-1, 1]."""
        at = step % self.config.observed_steps
        self._observed_step[at] = step
        self._observed[at] = situations
        self._observed_votes[at] = votes

    def vector_search(
        self, situations: NDArray[np.float32], k: int = 8
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The k most similar lessons of each situation: (indices int64[n, k], cosine float32[n, k]), best first. Exact.

        `situations` float32[n, d] rows of length 1. Where there are fewer than k lessons, index -1 and similarity 0.
        Cosines of all rows come from one matrix product; the k best rows of a query must lie in the k groups with the
        best maxima, so only those are looked at closely. Raises ValueError for k beyond 64 or below 1.
        """
        if not 1 <= k <= 64:
            raise ValueError(f"vector_search: k = {k}; want 1 to 64")
        queries = len(situations)
        groups = -(-self._count // _GROUP)
        rows = groups * _GROUP
        indices = np.full((queries, k), -1, np.int64)
        similarity = np.zeros((queries, k), np.float32)
        if rows == 0:
            return indices, similarity
        cosine = situations @ self._situations[:rows].T
        cosine[:, self._count :] = -2.0
        grouped = cosine.reshape(queries, _GROUP, groups)
        near = min(k, groups)
        best = np.argpartition(-grouped.max(axis=1), near - 1, axis=1)[:, :near]
        candidates = np.take_along_axis(grouped, best[:, None, :], axis=2).reshape(queries, _GROUP * near)
        found = min(k, self._count)
        query = np.arange(queries)[:, None]
        top = np.argpartition(-candidates, found - 1, axis=1)[:, :found]
        top = top[query, np.argsort(-candidates[query, top], axis=1, kind="stable")]
        indices[:, :found] = top // near * groups + best[query, top % near]
        similarity[:, :found] = candidates[query, top]
        return indices, similarity

    def trajectory_lookup(self, indices: NDArray[np.int64], similarity: NDArray[np.float32]) -> Trajectories:
        """The trades behind the lessons that `vector_search` found; counts them as used."""
        known = indices >= 0
        rows = np.where(known, indices, 0)
        np.add.at(self._hits, rows[known], 1)
        return Trajectories(
            similarity=np.where(known, np.maximum(similarity, 0), 0).astype(np.float32),
            votes=self._votes[rows],
            side=self._side[rows],
            outcome=self._outcome[rows],
        )

    def learn(self, closed_trades: Sequence[ClosedTrade]) -> Learned:
        """Judge closed trades by realised profit after fees and keep a lesson of each win and loss, one transaction.

        Raises `core.memory.rows.MemoryFileError` when the file cannot be written; then nothing was learned. Of more
        trades than a quarter of the capacity the last ones are kept.
        """
        rows: list[Row] = []
        taken: set[int] = set()
        keys: set[bytes] = set()
        for trade in closed_trades[-(self.config.capacity // 4) :]:
            at = trade.opened_step % self.config.observed_steps
            profit_bps = 1e4 * trade.profit / trade.entry_value if trade.entry_value > 0 else 0.0
            key = _key(trade)
            seen = self._observed_step[at] == trade.opened_step
            if not seen or abs(profit_bps) < self.config.minimum_profit_bps or key in self._keys or key in keys:
                continue
            keys.add(key)
            slot = self._slot(taken)
            taken.add(slot)
            rows.append(self._row(slot, self._next_serial + len(rows), key, trade, profit_bps, at))
        if rows:
            self._file.write(rows)
            for row in rows:
                self._put(row)
        wins = sum(row[11] > 0 for row in rows)
        return Learned(wins, len(rows) - wins, len(closed_trades) - len(rows))

    def _row(self, slot: int, serial: int, key: bytes, trade: ClosedTrade, profit_bps: float, at: int) -> Row:
        situation = self._observed[at, trade.instrument].tobytes()
        votes = self._observed_votes[at, trade.instrument].tobytes()
        money = (trade.entry_value, trade.exit_value, trade.fees, trade.profit)
        what = (trade.instrument, trade.opened_step, trade.closed_step, trade.side, trade.quantity)
        return (slot, serial, key, *what, *money, profit_bps, situation, votes)

    def _slot(self, taken: set[int]) -> int:
        """A free slot, or that of a lesson worth least; none that this batch has `taken`."""
        free = self._count + len(taken)
        if not self._victims and free < self.config.capacity:
            return free
        if not self._victims:
            self._victims = self._worth_least(taken)
        return self._victims.pop()

    def _worth_least(self, taken: set[int]) -> list[int]:
        """Of the older half, the lessons with the least said (outcome) and the least used, worst last."""
        older = np.argsort(self._serial[: self._count], kind="stable")[: self._count // 2]
        older = older[~np.isin(older, list(taken))]
        worth = np.abs(self._outcome[older]) * (1.0 + self._hits[older])
        order = np.argsort(worth, kind="stable")[:_VICTIMS]
        # Uses count towards the next round only if they are recent.
        self._hits //= 2
        return [int(slot) for slot in older[order][::-1]]

    def _put(self, row: Row) -> None:
        slot, serial, key, profit_bps = row[0], row[1], row[2], row[12]
        if self._keys.pop(self._key_of[slot], None) is not None:
            self._digest ^= int.from_bytes(self._key_of[slot], "big")
        self._keys[key] = slot
        self._digest ^= int.from_bytes(key, "big")
        self._key_of[slot] = key
        self._situations[slot] = np.frombuffer(row[13], np.float32)
        self._votes[slot] = np.frombuffer(row[14], np.float32)
        self._side[slot] = row[6]
        self._outcome[slot] = np.tanh(profit_bps / self.config.typical_profit_bps)
        self._serial[slot] = serial
        self._hits[slot] = 0
        self._count = max(self._count, slot + 1)
        self._next_serial = max(self._next_serial, serial + 1)

    def _load(self) -> None:
        rows = self._file.load()
        if rows and max(row[0] for row in rows) >= len(rows):
            # A smaller capacity left holes: close them, so that used slots are 0 to count - 1.
            rows = [(slot, *row[1:]) for slot, row in enumerate(rows)]
            self._file.write(rows, moved=True)
        for row in rows:
            self._put(row)


def _key(trade: ClosedTrade) -> bytes:
    """Names a closed trade, so that the same one replayed from the log is learned once."""
    text = f"{trade.opening_order}|{trade.closing_order}|{trade.instrument}|{trade.closing_trade_id}"
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
