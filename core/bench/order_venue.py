"""A venue process for the order benchmark: `python -m core.bench.order_venue DIRECTORY LATENCY_MS` prints its port.

Its book is deep enough that every order fills whole at the same price, however many there are.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import uvloop

from core.orders.scale import MarketScale
from core.venue.exchange import RecordedBook
from core.venue.liquidity import LiquiditySettings
from core.venue.process import Venue, serve
from core.venue.settings import ExchangeSettings, Injection, VenueSettings

INSTRUMENTS: Final = 8
CLOSE_TICKS: Final = 10_000
SCALE: Final = MarketScale.of([f"S{i}" for i in range(INSTRUMENTS)], "0.01", "1")


class _StillPrices:
    recorded_book: RecordedBook | None = None

    def advance_to(self, step: int) -> Sequence[int]:
        return [CLOSE_TICKS] * INSTRUMENTS


def keys_file(directory: Path) -> Path:
    """Where the venue leaves its credentials."""
    return directory / "keys.json"


def _settings(directory: Path, latency_ms: float) -> VenueSettings:
    return VenueSettings(
        directory=directory / "venue",
        keys_file=keys_file(directory),
        exchange=ExchangeSettings(liquidity=LiquiditySettings(levels=1, depth_per_level=1e14)),
        injection=Injection(latency_ms=latency_ms),
    )


def main() -> None:
    directory, latency_ms = Path(sys.argv[1]), float(sys.argv[2])
    venue = Venue(_settings(directory, latency_ms), SCALE, _StillPrices())

    def ready(port: int) -> None:
        sys.stdout.write(f"{port}\n")
        sys.stdout.flush()

    uvloop.run(serve(venue, ready))


if __name__ == "__main__":
    main()
