"""Rows of `tradetui bench kernels` for windows that slide: what keeping their sums and envelopes saves."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import Final

import numpy as np

from core.bench.kernel_dtw import Sides, measured, microseconds, us_row
from core.bench.kernel_windows import library_and_queries, panel_closes
from core.bench.rows import Row, agree
from kernels.dtw import z_normalise
from kernels.dtw_sliding import slide, start_sliding
from kernels.dtw_topk import library_topk, pack_library

STEPS: Final = 64
BAND: Final = 6
PATTERNS: Final = 1_000
NEIGHBOURS: Final = 32
CALLS: Final = 50


def sliding_rows(rounds: int) -> Iterator[Row]:
    """One step of the panel's 20 live windows: made ready, then with the search of 1,000 patterns; µs a step."""
    closes = panel_closes()
    library = pack_library(library_and_queries(STEPS, PATTERNS, 20)[0], BAND)
    live = start_sliding(np.ascontiguousarray(closes[:, :STEPS]), BAND)
    newest = [np.ascontiguousarray(closes[:, end]) for end in range(STEPS, STEPS + CALLS)]
    whole = [np.ascontiguousarray(closes[:, end - STEPS + 1 : end + 1]) for end in range(STEPS, STEPS + CALLS)]
    for came, anew in zip(newest, whole, strict=True):
        agree("dtw.sliding", slide(live, came).windows, z_normalise(anew), 2e-7)
    came_next, whole_next = cycle(newest), cycle(whole)

    def slid_search() -> None:
        slide(live, next(came_next))
        library_topk(live.windows, library, NEIGHBOURS, BAND, live.hulls)

    pairs: dict[str, Sides] = {
        "dtw.sliding.ready": {
            "ours": lambda: slide(live, next(came_next)),
            "normalised anew": lambda: z_normalise(next(whole_next)),
        },
        "dtw.sliding.topk": {
            "ours": slid_search,
            "normalised anew": lambda: library_topk(z_normalise(next(whole_next)), library, NEIGHBOURS, BAND),
        },
    }
    for name, sides in pairs.items():
        repeated: Sides = {side: (lambda call=call: [call() for _ in range(CALLS)]) for side, call in sides.items()}  # type: ignore[misc]
        us = {side: microseconds(seconds, CALLS) for side, seconds in measured(repeated, rounds).items()}
        yield us_row(name, us["ours"], "normalised anew", us["normalised anew"])
