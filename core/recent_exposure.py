"""The limits and what they are checked against, as it stood behind each of the last entries of the log.

At a Byzantine vote a replica must judge a proposal on the very state that its leader judged it on, or honest replicas
would split. So the leader names the index of that state, and every node keeps the few arrays that the check reads.
"""

from __future__ import annotations

from collections import deque
from dataclasses import astuple, dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from core.limits import Limits
from core.portfolio import Portfolio

KEPT_INDICES: Final = 96
"""Entries back from the newest for which the exposure is known."""
_LIMITS_BYTES: Final = 8 * len(fields(Limits))


@dataclass(frozen=True, slots=True)
class Exposure:
    """Copies, int64[n] each: lots held and in flight, marks in ticks; and the limits of that time."""

    positions: NDArray[np.int64]
    reserved_buy: NDArray[np.int64]
    reserved_sell: NDArray[np.int64]
    marks: NDArray[np.int64]
    limits: Limits

    @property
    def instruments(self) -> int:
        return len(self.positions)

    def to_bytes(self) -> bytes:
        arrays = (self.positions, self.reserved_buy, self.reserved_sell, self.marks)
        limits = np.array(astuple(self.limits), "<i8").tobytes()
        return b"".join(array.astype("<i8").tobytes() for array in arrays) + limits


def exposure_of(portfolio: Portfolio, marks: NDArray[np.int64], limits: Limits) -> Exposure:
    """The exposure as it stands, copied."""
    return Exposure(
        portfolio.positions.copy(), portfolio.reserved_buy.copy(), portfolio.reserved_sell.copy(), marks.copy(), limits
    )


class RecentExposure:
    """Exposure by log index, for the last `KEPT_INDICES` entries."""

    def __init__(self, first: Exposure) -> None:
        """`first` holds before any entry, at index 0."""
        self._changes: deque[tuple[int, Exposure]] = deque([(0, first)])
        self._newest = 0

    def applied(self, index: int, changed: Exposure | None) -> None:
        """Entry `index` was applied; `changed` is the exposure behind it, None where it is as before."""
        self._newest = index
        if changed is not None:
            self._changes.append((index, changed))
        while len(self._changes) > 1 and self._changes[1][0] <= index - KEPT_INDICES:
            self._changes.popleft()

    def at(self, index: int) -> Exposure | None:
        """The exposure behind entry `index`; None where it is too old, or not applied yet."""
        if index > self._newest or index < self._newest - KEPT_INDICES:
            return None
        for changed_at, exposure in reversed(self._changes):
            if changed_at <= index:
                return exposure
        return None

    def to_rows(self) -> list[tuple[int, bytes]]:
        """Plain values for a snapshot, the same on every node."""
        return [(index, exposure.to_bytes()) for index, exposure in self._changes]

    @classmethod
    def from_rows(cls, rows: list[Any], newest: int, instruments: int) -> RecentExposure:
        """The inverse of `to_rows`. Raises ValueError for rows that do not ascend to `newest`, or of a wrong size."""
        changes: deque[tuple[int, Exposure]] = deque()
        for index, data in rows:
            held, bought, sold, marks = (
                np.frombuffer(data[:-_LIMITS_BYTES], "<i8").astype(np.int64).reshape(4, instruments)
            )
            limits = Limits(*np.frombuffer(data[-_LIMITS_BYTES:], "<i8").tolist())
            if not (changes[-1][0] if changes else -1) < index <= newest:
                raise ValueError(f"exposure of index {index} is out of order")
            changes.append((index, Exposure(held.copy(), bought.copy(), sold.copy(), marks.copy(), limits)))
        if not changes:
            raise ValueError("no exposure")
        recent = cls(changes[0][1])
        recent._changes, recent._newest = changes, newest
        return recent
