"""The connector that a session's settings ask for, to the session's own venue or to another."""

from __future__ import annotations

import os

from core.config import Settings
from core.gateway.binance import BinanceConnector
from core.gateway.ccxt import CcxtConnector
from core.gateway.ccxt_exchange import CcxtVenue
from core.gateway.connector import Connector
from core.gateway.fix import FixConnector
from core.gateway.settings import GatewaySettings
from core.live import refuse_without_leave, venue_address, venue_credentials
from core.orders.scale import MarketScale
from core.session import LOOPBACK, Session
from core.venue.api import PATH
from core.venue.credentials import Credentials


def make_connector(session: Session, settings: Settings, scale: MarketScale, chosen: GatewaySettings) -> Connector:
    """Raises ConfigError for a bad address, SessionError where it is beyond this machine and no leave was given."""
    refuse_without_leave(session, settings)
    address = venue_address(settings)
    environment = dict(os.environ)

    def credentials() -> Credentials:
        return venue_credentials(settings, session, environment)

    if settings.gateway_protocol == "ccxt":
        venue = CcxtVenue(local=lambda: _local_urls(session))
        if address is not None:
            venue = CcxtVenue(address.exchange, address.sandbox)
        return CcxtConnector(venue, credentials, scale, chosen)
    is_fix = settings.gateway_protocol == "fix"
    port_file = session.venue_fix_port_file if is_fix else session.venue_port_file

    def endpoint() -> tuple[str, int]:
        return (LOOPBACK, int(port_file.read_text())) if address is None else (address.host, address.port)

    tls, replays = address is not None and address.tls, address is None
    if is_fix:
        return FixConnector(endpoint, credentials, scale, chosen, tls=tls, replays=replays)
    path = (address.path if address is not None else "") or PATH
    return BinanceConnector(endpoint, credentials, scale, chosen, path=path, tls=tls, replays=replays)


def _local_urls(session: Session) -> tuple[str, str]:
    """REST and WebSocket of the session's own venue. Raises OSError where it is not there yet."""
    rest, stream = session.venue_rest_port_file.read_text(), session.venue_port_file.read_text()
    return f"http://{LOOPBACK}:{rest}", f"ws://{LOOPBACK}:{stream}"
