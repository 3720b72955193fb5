"""What the best quotes of successive looks at a book say of where its price goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from core.book_ladder import BookLadder
from kernels.quotes import FlowImbalance, microprice

LOOKS: Final = 60
"""Changes from one look to the next that the flow is summed over."""


@dataclass(frozen=True, slots=True)
class QuoteReading:
    """`microprice` in quote currency; `flow` in units that came to the bid or left the ask over `looks` changes."""

    microprice: float
    flow: float
    looks: int


class QuoteReader:
    """Reads one instrument's ladders as they come."""

    def __init__(self) -> None:
        self._flow = FlowImbalance(1, LOOKS)

    def read(self, ladder: BookLadder) -> QuoteReading | None:
        """None where a side is empty, as nothing is quoted then, or where the sides cross: an own order on its way into
        the venue's book is laid over levels that it is about to take.
        """
        if not ladder.bids or not ladder.asks:
            return None
        bid, ask = ladder.bids[0], ladder.asks[0]
        if bid.price > ask.price:
            return None
        quotes = [np.array([value]) for value in (bid.price, bid.quantity, ask.price, ask.quantity)]
        flow = self._flow.step(*quotes)
        price = microprice(*(each[None] for each in quotes))
        return QuoteReading(float(price[0, 0]), float(flow[0]), self._flow.steps)
