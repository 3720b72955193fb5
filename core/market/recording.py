"""What every format ends in: the spec and the layout of a recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.market.errors import MarketDataError
from core.market.events import Events, MarketData, QuoteAgreement
from core.market.layout import STEPS_LEAST, layout_of
from core.market.spec import Instrument, MarketSpec

_NS_PER_YEAR: Final = 365.25 * 86_400e9
_MOST_INSTRUMENTS: Final = 65_535
"""A decision's record numbers them in 16 bits."""


@dataclass(frozen=True, slots=True)
class Recording:
    """What is known of a recording before it is read; None is found out from the data."""

    name: str
    source: str
    tick_size: float | None = None
    lot_size: float | None = None
    annualisation: float | None = None
    symbol: str | None = None
    """Of a recording whose file names no instrument."""


def finish(
    recording: Recording,
    *,
    symbols: Sequence[str],
    units: tuple[float, float],
    ts_ns: NDArray[np.int64],
    events: Events,
    step_label: str,
    step_text: str,
    agreement: tuple[QuoteAgreement, ...] = (),
) -> MarketData:
    """The checked recording. `units` are tick and lot size; `step_text` is for example `1 day`.

    Raises MarketDataError for a recording with too few steps or too many instruments.
    """
    steps = len(ts_ns)
    if steps < STEPS_LEAST:
        problem = f"{steps} steps are too few: the pattern library and the warm-up need {STEPS_LEAST}"
        raise MarketDataError(recording.source, problem, "Give a longer recording", row=None)
    if len(symbols) > _MOST_INSTRUMENTS:
        problem = f"{len(symbols)} instruments are too many"
        raise MarketDataError(recording.source, problem, f"Give at most {_MOST_INSTRUMENTS}")
    count = f"{len(symbols)} instrument{'' if len(symbols) == 1 else 's'}"
    spec = MarketSpec(
        name=recording.name,
        title=f"{recording.name}: {count}, {step_text} a step",
        instruments=tuple(Instrument(index, symbol) for index, symbol in enumerate(symbols)),
        tick_size=units[0],
        lot_size=units[1],
        steps_total=steps,
        step_label=step_label,
        has_depth=bool(events.depth),
        source=recording.source,
        annualisation=recording.annualisation or (steps - 1) * _NS_PER_YEAR / float(ts_ns[-1] - ts_ns[0]),
    )
    return MarketData(spec, layout_of(steps), ts_ns, events, agreement)
