"""How often CPython's cyclic collector runs in the processes of a swarm and in the monitor.

Messages, packets and records are trees that reference counting frees at once. The collector finds nearly nothing, and
its default of one young collection every 700 allocations costs a consensus round 4 % of its time and, where a full one
falls into a round, milliseconds. Of the monitor's time it took a sixth.
"""

from __future__ import annotations

import gc
from typing import Final

SELDOM: Final = (50_000, 20, 50)
"""For processes that make next to no cycles."""
SCREENS: Final = (10_000, 5, 5)
"""For the monitor: each change of the screen leaves thousands of objects that hold each other. A quarter of a million
wait at most; as `SELDOM` as elsewhere they were 100 MB after a while, and a second to collect.
"""


def tune_garbage_collection(thresholds: tuple[int, int, int] = SELDOM) -> None:
    """Call once, when everything is imported: what lives now is never looked at again; cycles are found more rarely.

    thresholds: as of `gc.set_threshold`: young allocations, young collections, middle collections.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*thresholds)
