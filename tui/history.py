"""Past views for scrubbing: one a second at first, thinned as the sitting grows, so that memory is bounded."""

from __future__ import annotations

from dataclasses import replace

from tui.view import View

KEPT = 480
INTERVAL_NS = 1_000_000_000
ORDERS_KEPT = 60
"""The newest of a view: all that a high window shows of them. 200 would be two thirds of its memory."""


class ViewHistory:
    """Keeps the figures of the whole sitting; the more there are, the further apart the older ones are."""

    def __init__(self) -> None:
        self._views: list[View] = []

    def __len__(self) -> int:
        return len(self._views)

    def add(self, view: View) -> None:
        """Keep `view` if a second has passed since the last one: of its cycles the last, of its orders a page."""
        if not view.started or (self._views and view.now_ns - self._views[-1].now_ns < INTERVAL_NS):
            return
        snapshot = replace(view.snapshot, cycles=view.snapshot.cycles[-1:], orders=view.snapshot.orders[:ORDERS_KEPT])
        self._views.append(
            replace(view, snapshot=snapshot, trace=None, ladder=None, ladder_note="shown of the present only")
        )
        if len(self._views) > KEPT:
            # Of the older half every second one goes.
            half = KEPT // 2
            self._views[:half] = self._views[:half:2]

    def at(self, position: int) -> View:
        """0 is the oldest. Raises IndexError outside of what is kept."""
        return self._views[position]

    def position_of(self, now_ns: int) -> int:
        """The last view that is not younger than `now_ns`; 0 where all are."""
        found = 0
        for position, view in enumerate(self._views):
            if view.now_ns <= now_ns:
                found = position
        return found
