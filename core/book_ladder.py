"""The venue's book of one instrument for a monitor: the best levels of both sides, own resting orders marked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from core.orders.order import Order
from core.orders.scale import MarketScale
from core.records import OrderState

LEVELS_MAX: Final = 50
_RESTING: Final = frozenset({OrderState.ACCEPTED, OrderState.PARTIALLY_FILLED, OrderState.PENDING_CANCEL})

Level = tuple[int, int]
"""Price in ticks, quantity in lots."""


@dataclass(frozen=True, slots=True)
class LadderLevel:
    """One price: what rests there in all, and how much of it is ours."""

    price: float
    quantity: float
    own_quantity: float


@dataclass(frozen=True, slots=True)
class BookLadder:
    """Both sides, the best price first."""

    instrument: str
    bids: tuple[LadderLevel, ...]
    asks: tuple[LadderLevel, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> BookLadder:
        """Raises KeyError or TypeError for what is none."""
        sides = (tuple(LadderLevel(**level) for level in values[side]) for side in ("bids", "asks"))
        return cls(str(values["instrument"]), *sides)


def ladder(
    scale: MarketScale, instrument: int, bids: Sequence[Level], asks: Sequence[Level], own: Iterable[Order]
) -> BookLadder:
    """The venue's levels with our open orders laid over them. An own level that the venue did not list is added."""
    mine: dict[int, dict[int, int]] = {1: {}, -1: {}}
    for order in own:
        request = order.request
        if request.instrument == instrument and order.state in _RESTING:
            leaves = request.quantity_lots - order.cumulative_quantity
            side = mine[1 if request.side > 0 else -1]
            side[request.limit_ticks] = side.get(request.limit_ticks, 0) + leaves
    return BookLadder(
        scale.instruments[instrument],
        _side(scale, bids, mine[1], best_is_high=True),
        _side(scale, asks, mine[-1], best_is_high=False),
    )


def _side(
    scale: MarketScale, levels: Sequence[Level], mine: dict[int, int], *, best_is_high: bool
) -> tuple[LadderLevel, ...]:
    quantities = dict(levels)
    for price, lots in mine.items():
        quantities[price] = max(quantities.get(price, 0), lots)
    prices = sorted(quantities, reverse=best_is_high)
    tick, lot = scale.tick.text, scale.lot.text
    return tuple(LadderLevel(float(tick(p)), float(lot(quantities[p])), float(lot(mine.get(p, 0)))) for p in prices)
