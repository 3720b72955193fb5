"""ccxt itself: the optional library, an exchange object made ready, and its errors in words that hold no signature."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from core.gateway.connector import ConnectorError
from core.gateway.settings import GatewaySettings
from core.venue.credentials import Credentials

_CODE: Final = re.compile(r'"code":\s*"?(-?\d+)')


@dataclass(frozen=True, slots=True)
class CcxtVenue:
    """Which exchange, and where."""

    exchange: str = "binance"
    """Its id in ccxt."""
    sandbox: bool = True
    """Its test network. False is the real one."""
    local: Callable[[], tuple[str, str]] | None = None
    """Our own venue, which speaks Binance's language, in its place: gives the URLs of its REST and WebSocket."""


def ccxt_pro() -> Any:
    """The library, which takes a second to import and is optional. Raises ConnectorError where it is not installed."""
    try:
        import ccxt.pro
    except ImportError:
        raise ConnectorError("ccxt is not installed; pip install 'tradetui[ccxt]'") from None
    return ccxt.pro


def new_exchange(venue: CcxtVenue, credentials: Callable[[], Credentials], settings: GatewaySettings) -> Any:
    """An exchange object with keys and URLs, not connected. Raises ConnectorError."""
    kind = getattr(ccxt_pro(), venue.exchange, None)
    if kind is None:
        raise ConnectorError(f"ccxt knows no exchange {venue.exchange!r}")
    try:
        keys = credentials()
        local = None if venue.local is None else venue.local()
    except (RuntimeError, OSError) as error:
        raise ConnectorError(str(error)) from error
    options = {
        "defaultType": "spot",
        "recvWindow": settings.recv_window_ms,
        "warnOnFetchOpenOrdersWithoutSymbol": False,
    }
    config: dict[str, Any] = {"apiKey": keys.api_key, "secret": keys.secret, "options": options}
    config["timeout"] = round(settings.answer_timeout_ms)
    if local is not None:
        options |= {"fetchMarkets": {"types": ["spot"]}, "fetchMargins": False}
        config |= {"enableRateLimit": False, "has": {"fetchCurrencies": False}}
    exchange = kind(config)
    exchange.number = str
    if not exchange.has.get("watchOrders"):
        raise ConnectorError(f"{venue.exchange} has no order stream in ccxt; the gateway needs one")
    if local is not None:
        rest, stream = local
        for name in ("public", "private"):
            exchange.urls["api"][name] = f"{rest}/api/v3"
        exchange.urls["api"]["ws"]["ws-api"]["spot"] = f"{stream}/ws-api/v3"
        exchange.urls["api"]["ws"]["spot"] = f"{stream}/ws"
    elif venue.sandbox:
        exchange.set_sandbox_mode(True)
    return exchange


def said(error: BaseException | str) -> str:
    """An error without what follows a question mark: requests carry their signature there."""
    return re.sub(r"\?\S*", "", str(error))[:200] or type(error).__name__


def code_of(error: BaseException) -> int:
    """The venue's own code within an error's text; 0 where there is none."""
    found = _CODE.search(str(error))
    return int(found[1]) if found else 0
