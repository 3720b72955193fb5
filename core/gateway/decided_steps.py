"""Which steps were decided before a place in the log, as far as their entries have come by the gateway.

The state machine denies a step of an instrument that it decided before (`Veto.DUPLICATE`). The gateway sees entries in
any order, old ones again after a change of leaders, and some never: so it keeps the place beside the step, and calls a
step decided only where something lower in the log decided it. What it has forgotten or never seen makes it refuse less.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

Place = tuple[int, int]
"""Index of an entry, and which of its payloads."""

PLACES_KEPT: Final = 64
"""Per instrument, the newest."""


class DecidedSteps:
    """Steps by instrument and place in the log."""

    def __init__(self) -> None:
        self._places: dict[int, list[tuple[Place, int]]] = {}
        """Place and step by instrument, ascending in both: others say nothing more."""

    def take(self, instrument: int, place: Place, step: int) -> None:
        """What stands at `place` decided `step` of `instrument`, or found it decided; for proven entries only."""
        places = self._places.setdefault(instrument, [])
        at = bisect_left(places, (place,))
        if at and places[at - 1][1] >= step:
            return
        end = at
        while end < len(places) and places[end][1] <= step:
            end += 1
        places[at:end] = [(place, step)]
        del places[:-PLACES_KEPT]

    def before(self, instrument: int, place: Place) -> int:
        """The last step of `instrument` that is known to be decided below `place`; -1 for none."""
        places = self._places.get(instrument, [])
        at = bisect_left(places, (place,))
        return places[at - 1][1] if at else -1
