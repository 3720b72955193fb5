"""Record layouts of proposals and opinions, and what a decision of the log is.

Prices are integer ticks and quantities integer lots of the market (`MarketSpec.tick_size`, `.lot_size`), so that cash
is exact: one cash quantum is `tick_size * lot_size` of the quote currency.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import numpy as np


class Side(IntEnum):
    SELL = -1
    HOLD = 0
    BUY = 1


class Reason(IntEnum):
    """Which agent, or which rule, had the largest say in a proposal."""

    NONE = 0
    PATTERN = 1
    MOMENTUM = 2
    MEAN_REVERSION = 3
    BREAKOUT = 4
    VOLATILITY = 5
    NEWS = 6
    REDUCE_RISK = 7
    END_OF_LAP = 8
    """The last step of a lap closes every position, so that no price is carried across."""


class Veto(IntEnum):
    """Why a peer refuses a proposal; 0 is no veto."""

    NONE = 0
    PRICE_BAND = 1
    """The limit price is too far from the peer's own book."""
    POSITION_LIMIT = 2
    EXPOSURE_LIMIT = 3
    NOTIONAL_LIMIT = 4
    STALE_DATA = 5
    """The peer's own feed has not reached the proposal's step."""
    MEMORY = 6
    """The peer remembers that this went wrong."""
    DUPLICATE = 7
    """A proposal of this step and instrument was already committed."""
    STALE_STATE = 8
    """The limits were judged on a state too far back in the log, or on one that does not come before the entry."""
    HALTED = 9
    """The kill switch: nothing is ordered."""
    REDUCING = 10
    """Only what brings a position closer to zero is ordered."""
    ORDER_RATE = 11
    """More orders a second than the peer lets pass."""
    VAR_BUDGET = 12
    """The value at risk, with this order, is beyond its budget by the peer's own feed."""
    DAILY_LOSS = 13
    """The loss of the day is beyond its limit by the peer's own marks."""
    CLOCK_SKEW = 14
    """The proposer's clock and the peer's are too far apart."""


PROPOSAL_DTYPE: Final = np.dtype(
    [
        ("step", "<u8"),
        ("quantity", "<i8"),  # lots, 0 for HOLD, else positive
        ("limit_price", "<i8"),  # ticks
        ("target", "<i8"),  # signed lots the strategy wants to hold afterwards
        ("confidence", "<f4"),  # 0..1
        ("instrument", "<u2"),  # index into MarketSpec.instruments
        ("side", "i1"),  # Side
        ("reason", "u1"),  # Reason
    ]
)
"""One proposal (40 bytes): buy, sell or hold one instrument at one market step."""

OPINION_DTYPE: Final = np.dtype(
    [
        ("step", "<u8"),
        ("confidence", "<f4"),  # 0..1, the peer's confidence in its own side
        ("instrument", "<u2"),
        ("side", "i1"),  # Side the peer's own agent would take
        ("veto", "u1"),  # Veto
    ]
)
"""A peer's judgement of one proposal (16 bytes), from its own feed, positions and memory."""
