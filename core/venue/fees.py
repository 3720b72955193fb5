"""Maker and taker fees in whole cash quanta."""

from __future__ import annotations

from dataclasses import dataclass

PARTS = 1_000_000


@dataclass(frozen=True, slots=True)
class FeeSchedule:
    """Rates in millionths of the traded value. Fees are charged in the quote currency, on buys and sells alike."""

    maker_ppm: int = 500
    taker_ppm: int = 1_000

    def __post_init__(self) -> None:
        """Raises ValueError for a rate outside 0 to 10 %."""
        for name in ("maker_ppm", "taker_ppm"):
            if not 0 <= getattr(self, name) <= PARTS // 10:
                raise ValueError(f"fees: {name} = {getattr(self, name)}; want 0 to {PARTS // 10}")

    def fee(self, value_quanta: int, is_maker: bool) -> int:
        """The fee of one trade in quanta, each trade rounded half up on its own."""
        rate = self.maker_ppm if is_maker else self.taker_ppm
        return (value_quanta * rate + PARTS // 2) // PARTS
