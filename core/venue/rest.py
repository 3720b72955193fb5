"""Binance Spot's REST API over the same requests as the WebSocket API: `/api/v3/…`.

Source: Binance Spot API documentation, "REST API", "Request security": the key travels in the header X-MBX-APIKEY, the
signature is HMAC-SHA256 over query string and body as sent, without the signature itself, which comes last.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from core.venue import rejects
from core.venue.api import SpotApi
from core.venue.faults import Fate, FaultSource
from core.venue.http import HttpConnection, HttpRequest
from core.venue.rejects import VenueReject

PREFIX: Final = "/api/v3/"
ROUTES: Final[Mapping[tuple[str, str], str]] = {
    ("GET", "ping"): "ping",
    ("GET", "time"): "time",
    ("GET", "exchangeInfo"): "exchangeInfo",
    ("GET", "depth"): "depth",
    ("GET", "trades"): "trades.recent",
    ("GET", "aggTrades"): "trades.aggregate",
    ("GET", "ticker/bookTicker"): "ticker.book",
    ("POST", "order"): "order.place",
    ("DELETE", "order"): "order.cancel",
    ("GET", "order"): "order.status",
    ("PUT", "order/amend/keepPriority"): "order.amend.keepPriority",
    ("GET", "openOrders"): "openOrders.status",
    ("GET", "allOrders"): "allOrders",
    ("GET", "myTrades"): "myTrades",
    ("GET", "account"): "account.status",
    ("POST", "replay/advance"): "replay.advance",
    ("GET", "replay/times"): "replay.times",
}
"""Method and path to the name of the same request in the WebSocket API."""


class RestServer:
    """Serves one `SpotApi` over HTTP."""

    def __init__(
        self,
        api: SpotApi,
        publish: Callable[[], None],
        faults: FaultSource,
        clock_ms: Callable[[], int],
    ) -> None:
        """`publish` journals and tells what happened before an answer leaves."""
        self._api = api
        self._publish = publish
        self._faults = faults
        self._clock_ms = clock_ms
        self._server: asyncio.Server | None = None
        self._connections: set[HttpConnection] = set()

    async def start(self, host: str, port: int) -> int:
        """Listen. Returns the port taken. Raises OSError where it is in use."""
        self._server = await asyncio.get_running_loop().create_server(self._accept, host, port)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Close every connection and the port."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.close()
        if self._server is not None:
            await self._server.wait_closed()

    def _accept(self) -> HttpConnection:
        connection = HttpConnection(self._answer_or_not, self._faults, self._connections.discard)
        self._connections.add(connection)
        return connection

    def _answer_or_not(self, request: HttpRequest) -> tuple[int, bytes] | Fate:
        """The answer, or the fate of a request that is harmed on purpose and gets none."""
        fate = self._faults.fate()
        if not fate.acts:
            return fate
        answer = self.answer(request)
        return answer if fate.answers else fate

    def answer(self, request: HttpRequest) -> tuple[int, bytes]:
        """Status and JSON. Never raises for anything that a client can send."""
        self._api.times.request()
        try:
            result = self._dispatch(request)
        except VenueReject as reject:
            self._publish()
            body = {"code": reject.code, "msg": reject.message}
            return reject.status, json.dumps(body, separators=(",", ":")).encode()
        self._publish()
        return 200, json.dumps(result, separators=(",", ":")).encode()

    def _dispatch(self, request: HttpRequest) -> Any:
        method = ROUTES.get((request.method, request.path.removeprefix(PREFIX)))
        if method is None or not request.path.startswith(PREFIX):
            raise VenueReject(
                rejects.UNSUPPORTED, f"This operation is not supported: {request.method} {request.path[:100]}", 404
            )
        sent = "&".join(filter(None, (request.query, request.body.decode("latin-1"))))
        params = _parameters(sent)
        now_ms = self._clock_ms()
        if self._api.is_public(method):
            return self._api.public(method, params, now_ms)
        key = request.headers.get("x-mbx-apikey", "")
        owner = self._api.owner(key, params, now_ms, lambda secret: _is_signed(secret, sent))
        return self._api.signed(method, params, owner, now_ms)


def _parameters(sent: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(sent, keep_blank_values=True, strict_parsing=bool(sent), max_num_fields=64)
    except ValueError:
        raise VenueReject(rejects.UNKNOWN_ERROR, "Parameters are no name=value pairs.") from None
    return dict(pairs)


def _is_signed(secret: str, sent: str) -> bool:
    signed, _, given = sent.rpartition("&signature=")
    expected = hmac.digest(secret.encode(), signed.encode("latin-1"), "sha256").hex()
    return hmac.compare_digest(expected.encode(), given.encode("latin-1"))
