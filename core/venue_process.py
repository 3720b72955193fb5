"""The venue process of a session: the market's recording, the exchange, its journal, its port."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from core.config import ConfigError, Settings, parse_halts
from core.market.load import load_market
from core.orders.scale import MarketScale
from core.session import Session
from core.venue.liquidity import LiquiditySettings
from core.venue.process import Venue
from core.venue.replay import ReplayedPrices
from core.venue.settings import ExchangeSettings, Halt, Injection, VenueSettings


def venue_settings(session: Session, settings: Settings, scale: MarketScale) -> VenueSettings:
    """The session's settings as the venue takes them. Raises ConfigError for a halt of an instrument not traded."""
    halts = []
    for symbol, first, last in parse_halts(settings.venue_halts):
        if symbol not in scale.index:
            raise ConfigError(f"venue_halts names {symbol}, which is not traded")
        halts.append(Halt(scale.index[symbol], first, last))
    return VenueSettings(
        directory=session.folder("venue"),
        keys_file=session.venue_keys_file,
        starting_cash=settings.starting_cash,
        cancel_on_disconnect=settings.venue_cancel_on_disconnect,
        port=_last_port(session.venue_port_file),
        rest_port=_last_port(session.venue_rest_port_file),
        fix_port=_last_port(session.venue_fix_port_file),
        exchange=ExchangeSettings(
            liquidity=LiquiditySettings(
                spread_bps=settings.venue_spread_bps, depth_per_level=settings.venue_depth_notional
            ),
            halts=tuple(halts),
        ),
        injection=Injection(
            latency_ms=settings.venue_latency_ms,
            jitter_ms=settings.venue_jitter_ms,
            reject_rate=settings.venue_reject_rate,
            drop_rate=settings.venue_drop_rate,
            disconnect_rate=settings.venue_disconnect_rate,
        ),
    )


def _last_port(file: Path) -> int:
    """A venue that comes back listens where it did before, so that the gateway finds it."""
    try:
        return int(file.read_text())
    except FileNotFoundError:
        return 0


def write_port(file: Path, port: int) -> None:
    """Tell the gateway where the venue listens."""
    temporary = file.with_suffix(".tmp")
    temporary.write_text(str(port))
    os.replace(temporary, file)


async def run_venue_process(session: Session, stopping: asyncio.Event, ready: Callable[[], None]) -> None:
    """The body of process `venue`: run until `stopping` is set. Raises JournalError where it can journal no more."""
    settings = session.settings()
    data = load_market(settings.data)
    scale = MarketScale.of(data.spec.symbols, data.spec.tick_size, data.spec.lot_size)
    venue = Venue(venue_settings(session, settings, scale), scale, ReplayedPrices(data))
    port = await venue.start()
    write_port(session.venue_rest_port_file, venue.rest_port)
    write_port(session.venue_fix_port_file, venue.fix_port)
    write_port(session.venue_port_file, port)
    ready()
    try:
        await venue.serve_until(stopping)
    finally:
        await venue.stop()
