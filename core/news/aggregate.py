"""What lasts of the headlines: one decaying sentiment per instrument."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from core.news.feed import Headline


class SentimentAggregator:
    """Exponentially decaying mean tone per instrument.

    Each headline adds its score with weight 1 (`market_weight` when it names no instrument); numerator and denominator
    halve every `half_life_steps`. `prior_weight` neutral headlines pull towards 0, so that old news fades.
    """

    def __init__(
        self,
        instruments: Sequence[str],
        half_life_steps: float = 5.0,
        market_weight: float = 0.25,
        prior_weight: float = 1.0,
    ) -> None:
        """Raises ValueError for a half-life or prior weight that is not positive, or a negative market weight."""
        if half_life_steps <= 0 or prior_weight <= 0 or market_weight < 0:
            raise ValueError(
                f"sentiment: half_life_steps {half_life_steps} and prior_weight {prior_weight} must be positive,"
                f" market_weight {market_weight} not negative"
            )
        self._row = {symbol: row for row, symbol in enumerate(instruments)}
        self._decay = 0.5 ** (1.0 / half_life_steps)
        self._market_weight = market_weight
        self._prior_weight = prior_weight
        self._sum = np.zeros(len(instruments))
        self._weight = np.zeros(len(instruments))
        self._step = self._lap = 0

    def update(
        self, step: int, headlines: Sequence[Headline], scores: Sequence[float], lap: int = 0
    ) -> NDArray[np.float64]:
        """Sentiment float64[n] in [-1, 1] at `step`, these headlines included. Unknown instruments are ignored.

        Steps count over all laps and do not go back; another lap starts from nothing.
        """
        fade = self._decay ** (step - self._step) if lap == self._lap else 0.0
        self._sum *= fade
        self._weight *= fade
        self._step, self._lap = step, lap
        for headline, score in zip(headlines, scores, strict=True):
            if not headline.instruments:
                self._sum += self._market_weight * score
                self._weight += self._market_weight
            for symbol in headline.instruments:
                row = self._row.get(symbol)
                if row is not None:
                    self._sum[row] += score
                    self._weight[row] += 1.0
        return self._sum / (self._weight + self._prior_weight)
