"""House liquidity: quotes that follow the recorded price, or the recorded depth where the market has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

BPS = 10_000
MODELLED = "modelled liquidity"
"""The caption that must stand beside every result made against a modelled book."""

Level = tuple[int, int]
"""(price in ticks, lots)."""


@dataclass(frozen=True, slots=True)
class LiquiditySettings:
    """The modelled book around the recorded close. It is made anew at every market step, not within one."""

    spread_bps: float = 2.0
    """Distance between best bid and best ask, at least one tick."""
    levels: int = 5
    """Price levels on each side."""
    level_spacing_bps: float = 1.0
    """Distance from one level to the next, at least one tick."""
    depth_per_level: float = 250_000.0
    """Notional of each level in quote currency, at least one lot."""

    def __post_init__(self) -> None:
        """Raises ValueError that names the bad setting."""
        if not 0 <= self.spread_bps <= 1_000 or not 0 <= self.level_spacing_bps <= 1_000:
            raise ValueError(
                f"liquidity: spread_bps = {self.spread_bps}, level_spacing_bps = {self.level_spacing_bps};"
                " want 0 to 1,000"
            )
        if not 1 <= self.levels <= 100:
            raise ValueError(f"liquidity: levels = {self.levels}; want 1 to 100")
        if not 0 < self.depth_per_level < 1e15:
            raise ValueError(f"liquidity: depth_per_level = {self.depth_per_level}; want a positive amount")


def ladder(close_ticks: int, quantum_value: float, settings: LiquiditySettings) -> tuple[list[Level], list[Level]]:
    """Bids and asks around `close_ticks`, best first. `quantum_value`: quote currency of one tick times one lot.

    The best bid is the close less half the spread rounded down, the best ask the close plus half rounded up; no level
    is below one tick, so a very low price has fewer bids than asks.
    """
    half = close_ticks * settings.spread_bps / BPS / 2
    best_bid = int(close_ticks - half)
    best_ask = max(-int(-(close_ticks + half) // 1), best_bid + 1)
    spacing = max(1, round(close_ticks * settings.level_spacing_bps / BPS))
    bids = [(best_bid - i * spacing, 0) for i in range(settings.levels) if best_bid - i * spacing >= 1]
    asks = [(best_ask + i * spacing, 0) for i in range(settings.levels)]
    return _with_depth(bids, quantum_value, settings), _with_depth(asks, quantum_value, settings)


def _with_depth(levels: Sequence[Level], quantum_value: float, settings: LiquiditySettings) -> list[Level]:
    return [(price, max(1, int(settings.depth_per_level / (price * quantum_value)))) for price, _ in levels]
