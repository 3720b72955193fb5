"""What a market is: its instruments, its integer units and the length of its steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Instrument:
    index: int
    symbol: str


@dataclass(frozen=True, slots=True)
class MarketSpec:
    """One recording as everybody else sees it.

    `tick_size` and `lot_size` hold for all its instruments, so that cash is exact: one quantum is
    `tick_size * lot_size` of the quote currency.
    """

    name: str
    title: str
    """For example `us-stocks: 20 instruments, 1 day a step`."""
    instruments: tuple[Instrument, ...]
    tick_size: float
    """Quote currency per tick."""
    lot_size: float
    """Units per lot."""
    steps_total: int
    """Rows of the recording, the pattern library's share and the warm-up included."""
    step_label: str
    """`day`, `hour`, `minute` or `second`."""
    has_depth: bool
    """Order books are recorded; otherwise liquidity is modelled."""
    source: str
    """Path of the recording, or `package` for a shipped one."""
    annualisation: float
    """Steps a year."""

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(instrument.symbol for instrument in self.instruments)

    def price(self, ticks: NDArray[np.int64]) -> NDArray[np.float64]:
        """Ticks to quote currency, any shape. Exact to the last bit for the decimal that the ticks stand for."""
        return scaled(ticks, self.tick_size)

    def quantity(self, lots: NDArray[np.int64]) -> NDArray[np.float64]:
        """Lots to units, any shape."""
        return scaled(lots, self.lot_size)


def scaled(counts: NDArray[np.int64], unit: float) -> NDArray[np.float64]:
    """Counts of a unit as the decimals that they stand for, any shape."""
    # 2640 * 0.0001 is not 0.264, but 2640 / 10000 is: divide where the unit has a whole inverse.
    inverse = round(1.0 / unit)
    if inverse >= 1 and abs(inverse * unit - 1.0) < 1e-12:
        return np.asarray(counts / inverse, dtype=np.float64)
    return np.asarray(counts * unit, dtype=np.float64)


PLACES_MOST: Final = 8
"""Decimals looked for in a user's numbers."""


def decimal_places(values: NDArray[np.float64], most: int) -> int | None:
    """How many decimals the values need, at most `most`; None if they need more.

    values: float64 [n], finite. A value counts as exact when it is a decimal to within its own float64 rounding.
    """
    return next((places for places in range(most + 1) if _is_exact(values, places)), None)


def exact_places(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether so many decimals, 0 to `PLACES_MOST`, are enough: bool [PLACES_MOST + 1], to be joined over parts."""
    return np.array([_is_exact(values, places) for places in range(PLACES_MOST + 1)])


def _is_exact(values: NDArray[np.float64], places: int) -> bool:
    shifted = values * 10.0**places
    return bool(np.all(np.abs(shifted - np.round(shifted)) <= 4e-16 * np.abs(shifted) + 1e-12))


def tick_size_for(prices: NDArray[np.float64]) -> float:
    """A tick for a user's prices: their own decimals, or 1/10,000 of the lowest price where they have no end.

    prices: float64 [n], finite and above 0. Adjusted prices often carry the full float64 fraction; a tick of at most
    1/10,000 of the lowest price then keeps every return to about a basis point.
    """
    lowest, highest = float(prices.min()), float(prices.max())
    return _tick_of(decimal_places(prices, min(PLACES_MOST, _places_room(highest))), lowest, highest)


def tick_size_of_parts(exact: NDArray[np.bool_], lowest: float, highest: float) -> float:
    """`tick_size_for` of prices that were looked at in parts: what `exact_places` says of all, and the extremes."""
    found = np.flatnonzero(exact[: _places_room(highest) + 1])
    return _tick_of(int(found[0]) if found.size else None, lowest, highest)


def _places_room(highest: float) -> int:
    # Above 2^53 ticks a price no longer fits a float64 exactly; 2^45 leaves room for sums.
    room = 45 - int(np.ceil(np.log2(max(highest, 1.0))))
    return max(0, min(12, int(room * np.log10(2.0))))


def _tick_of(places: int | None, lowest: float, highest: float) -> float:
    if places is None:
        places = min(_places_room(highest), max(4, 4 - int(np.floor(np.log10(lowest)))))
    return float(f"1e-{places}") if places else 1.0


def lot_size_for(quantities: NDArray[np.float64]) -> float:
    """A lot for a user's quantities: their own decimals, at most 8. quantities: float64 [n], finite."""
    places = decimal_places(quantities, PLACES_MOST)
    places = PLACES_MOST if places is None else places
    return float(f"1e-{places}") if places else 1.0
