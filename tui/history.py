"""Past views for scrubbing: one a second at first, thinned as the sitting grows, so that memory is bounded."""

from __future__ import annotations

import pickle
import zlib
from bisect import bisect_right
from dataclasses import replace

from tui.view import View

KEPT = 480
INTERVAL_NS = 1_000_000_000
ORDERS_KEPT = 60
"""The newest of a view: all that a high window shows of them. 200 would be half of its memory."""


class ViewHistory:
    """Keeps the figures of the whole sitting; the more there are, the further apart the older ones are.

    Views are kept packed, in some 15 kB each: as objects they would be much of the monitor's memory, and few are
    ever looked at.
    """

    def __init__(self) -> None:
        self._times_ns: list[int] = []
        self._packed: list[bytes] = []

    def __len__(self) -> int:
        return len(self._packed)

    def add(self, view: View) -> None:
        """Keep `view`, if a second has passed since the last one: of its cycles the last, of its orders a page."""
        if not view.started or (self._times_ns and view.now_ns - self._times_ns[-1] < INTERVAL_NS):
            return
        shown = view.snapshot
        snapshot = replace(shown, cycles=shown.cycles[-1:], orders=shown.orders[:ORDERS_KEPT])
        past = replace(view, snapshot=snapshot, trace=None, ladder=None, ladder_note="shown of the present only")
        self._times_ns.append(view.now_ns)
        self._packed.append(zlib.compress(pickle.dumps(past, pickle.HIGHEST_PROTOCOL), level=1))
        if len(self._packed) > KEPT:
            # Of the older half every second one goes.
            half = KEPT // 2
            for kept in (self._times_ns, self._packed):
                kept[:half] = kept[:half:2]

    def at(self, position: int) -> View:
        """0 is the oldest. Raises IndexError outside of what is kept."""
        view: View = pickle.loads(zlib.decompress(self._packed[position]))
        return view

    def position_of(self, now_ns: int) -> int:
        """The last view that is not younger than `now_ns`; 0 where all are."""
        return max(0, bisect_right(self._times_ns, now_ns) - 1)
