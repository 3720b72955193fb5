"""The native connector: Binance Spot's WebSocket API over one pipelined connection.

Source: Binance Spot API documentation, "WebSocket API". Answers are matched by request id, in any order.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from asyncio import Future
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from websockets.client import ClientProtocol
from websockets.uri import parse_uri

from core.book_ladder import Level
from core.gateway.binance_messages import BinanceMessages
from core.gateway.connector import (
    SKEW_MS_MAX,
    AccountTrade,
    Answer,
    Balances,
    ConnectorError,
    EncodedOrder,
    LinkHandler,
    NoAnswer,
    Refusal,
    VenueUpdate,
)
from core.gateway.dialer import Dialer, fail
from core.gateway.settings import GatewaySettings
from core.orders.order import OrderRequest
from core.orders.scale import DecimalScale, MarketScale
from core.venue.api import PATH
from core.venue.credentials import Credentials, signature
from core.venue.websocket import ANSWER_BYTES_MAX, WebSocketConnection

PENDING_MAX: Final = 4_096
TRADES_PAGE: Final = 1_000
MISSED_HEARTBEATS_MAX: Final = 3
_STATUS_UNKNOWN: Final = (-1006, -1007)
"""Binance: the request was passed on, and what became of it is not known."""
_NO_SUCH_ORDER: Final = -2013
_DUPLICATE: Final = "Duplicate order sent."

UNREADABLE: Final = (ValueError, KeyError, AttributeError, TypeError, IndexError, ArithmeticError)
"""What reading a message that is none raises."""

Reply = dict[str, Any] | NoAnswer


class BinanceConnector:
    """Implements `core.gateway.connector.Connector`."""

    def __init__(
        self,
        endpoint: Callable[[], tuple[str, int]],
        credentials: Callable[[], Credentials],
        scale: MarketScale,
        settings: GatewaySettings,
        *,
        path: str = PATH,
        tls: bool = False,
        replays: bool = True,
    ) -> None:
        """`endpoint` (host, port) and `credentials` are asked anew at each connect: a venue may come back elsewhere.

        What they raise as OSError or RuntimeError counts as "not there yet". `replays`: it is our own venue.
        """
        self._dialer = Dialer(endpoint, settings.answer_timeout_ms, tls)
        self._path = path
        self._read_credentials = credentials
        self._scale = scale
        self._settings = settings
        self._messages = BinanceMessages(scale)
        self._credentials: Credentials | None = None
        self._connection: WebSocketConnection | None = None
        self._handler: LinkHandler | None = None
        self._opened: Future[None] | None = None
        self._pending: dict[int, tuple[Callable[[Reply], None], asyncio.TimerHandle]] = {}
        self._next_id = 1
        self._heartbeat: asyncio.TimerHandle | None = None
        self._missed = 0
        self.clock_skew_ms = 0.0
        """Venue's clock less ours, measured at the last connect."""
        self.captions: tuple[str, ...] = ()
        self.replays = replays

    # Connecting

    async def connect(self, handler: LinkHandler) -> None:
        """See `Connector.connect`."""
        try:
            self._credentials = self._read_credentials()
        except RuntimeError as error:
            raise ConnectorError(str(error)) from error
        loop = asyncio.get_running_loop()
        self._opened = loop.create_future()
        self._handler = None
        await self._dialer.open(self._new_connection, self._greet, self.close)
        connection = self._connection
        if connection is None:
            raise ConnectorError("venue closed the link as it was greeted")
        self._handler = handler
        self._missed = 0
        self._heartbeat = loop.call_later(self._settings.heartbeat_ms / 1e3, self._beat, connection.last_heard_s)

    def _new_connection(self, host: str, port: int) -> WebSocketConnection:
        scheme = "wss" if self._dialer.tls else "ws"
        protocol = ClientProtocol(parse_uri(f"{scheme}://{host}:{port}{self._path}"), max_size=ANSWER_BYTES_MAX)
        self._connection = WebSocketConnection(protocol, self, self._path)
        return self._connection

    async def _greet(self) -> None:
        assert self._opened is not None
        await self._opened
        await self._check_clock()
        await self._check_market()
        await self._ask("userDataStream.subscribe.signature", {})

    async def close(self) -> None:
        """See `Connector.close`."""
        self._handler = None
        if self._connection is not None:
            self._connection.close("the gateway closes")
            self._fail_pending("the gateway closed the link")
        if self._heartbeat is not None:
            self._heartbeat.cancel()

    async def _check_clock(self) -> None:
        before = time.time_ns() / 1e6
        result = await self._ask("time", None)
        after = time.time_ns() / 1e6
        self.clock_skew_ms = result["serverTime"] - (before + after) / 2
        if abs(self.clock_skew_ms) - (after - before) / 2 > SKEW_MS_MAX:
            raise ConnectorError(f"venue's clock is {self.clock_skew_ms:.0f} ms from ours; set this machine's clock")

    async def _check_market(self) -> None:
        """The venue must trade our instruments in our ticks and lots, else every number would be wrong."""
        info = await self._ask("exchangeInfo", None)
        with _reading("exchangeInfo"):
            self._read_market(info)

    def _read_market(self, info: Mapping[str, Any]) -> None:
        symbols = {row["symbol"]: row for row in info["symbols"]}
        pairs = []
        for name in self._scale.instruments:
            row = symbols.get(name)
            if row is None:
                raise ConnectorError(f"venue does not trade {name}; is it the venue of this session?")
            filters = {f["filterType"]: f for f in row["filters"]}
            tick, lot = filters["PRICE_FILTER"]["tickSize"], filters["LOT_SIZE"]["stepSize"]
            ours = self._scale.tick.step, self._scale.lot.step
            if (DecimalScale(tick).step, DecimalScale(lot).step) != ours:
                raise ConnectorError(f"venue's {name} has tick {tick} and lot {lot}; ours are {ours[0]} and {ours[1]}")
            pairs.append((row["baseAsset"], row["quoteAsset"]))
        self._messages = BinanceMessages(self._scale, pairs)
        self.captions = tuple(info.get("captions", ()))

    def _beat(self, heard_s: float) -> None:
        connection = self._connection
        if connection is None or not connection.is_open:
            return
        self._missed = 0 if connection.last_heard_s != heard_s else self._missed + 1
        if self._missed >= MISSED_HEARTBEATS_MAX:
            connection.abort(f"silent for {self._missed} heartbeats")
            return
        if self._missed:
            connection.ping()
        delay_s = self._settings.heartbeat_ms / 1e3
        self._heartbeat = asyncio.get_running_loop().call_later(delay_s, self._beat, connection.last_heard_s)

    # Orders

    def encode(self, request: OrderRequest) -> EncodedOrder:
        """See `Connector.encode`."""
        signed_ms = time.time_ns() // 1_000_000
        params = self._sign(self._messages.place_params(request), signed_ms)
        body = json.dumps({"method": "order.place", "params": params}, separators=(",", ":"))
        return EncodedOrder(request, signed_ms, body[1:].encode())

    def place(self, order: EncodedOrder, answered: Callable[[Answer], None]) -> None:
        """See `Connector.place`."""
        if time.time_ns() // 1_000_000 - order.signed_ms > self._settings.recv_window_ms // 2:
            order = self.encode(order.request)
        self._send(order.body, lambda reply: answered(self._order_answer(reply, order.request)))

    def cancel(self, request: OrderRequest, answered: Callable[[Answer], None]) -> None:
        """See `Connector.cancel`."""
        params = self._messages.name_params(request)
        body = self._signed_body("order.cancel", params)
        self._send(body, lambda reply: answered(self._order_answer(reply, request)))

    def recall_unsent(self, reason: str) -> None:
        """See `Connector.recall_unsent`: `place` writes at once."""

    def advance(self, step: int) -> Future[int]:
        """See `Connector.advance`."""
        future: Future[int] = asyncio.get_running_loop().create_future()

        def answered(reply: Reply) -> None:
            if future.done():
                return
            if isinstance(reply, NoAnswer) or reply.get("status") != 200:
                fail(future, ConnectorError(f"replay.advance to step {step}: {_error_text(reply)}"))
            else:
                future.set_result(reply["result"]["step"])

        self._send(self._signed_body("replay.advance", {"step": step}), answered)
        return future

    # Questions

    async def query(self, request: OrderRequest) -> VenueUpdate | None:
        """See `Connector.query`."""
        reply = await self._reply("order.status", self._messages.name_params(request))
        if reply.get("status") != 200:
            if reply["error"]["code"] == _NO_SUCH_ORDER:
                return None
            raise ConnectorError(f"order.status of {request.client_order_id}: {_error_text(reply)}")
        result = reply["result"]
        with _reading("order.status"):
            params = {"symbol": result["symbol"], "orderId": result["orderId"]}
            has_traded = self._scale.lot.count(result["executedQty"]) > 0
        rows = await self._ask("myTrades", params) if has_traded else ()
        with _reading("order.status"):
            return self._messages.status(result, tuple(self._messages.account_trade(row).trade for row in rows))

    async def open_orders(self) -> Sequence[VenueUpdate]:
        """See `Connector.open_orders`; those of other symbols than ours are nobody's business here."""
        rows = await self._ask("openOrders.status", {})
        with _reading("openOrders.status"):
            return [self._messages.status(row, ()) for row in rows if self._messages.is_ours(row["symbol"])]

    async def trades_after(self, instrument: int, trade_id: int) -> Sequence[AccountTrade]:
        """See `Connector.trades_after`."""
        found: list[AccountTrade] = []
        while True:
            params = {"symbol": self._scale.instruments[instrument], "fromId": trade_id + 1, "limit": TRADES_PAGE}
            rows = await self._ask("myTrades", params)
            with _reading("myTrades"):
                found += [self._messages.account_trade(row) for row in rows]
            if len(rows) < TRADES_PAGE:
                return found
            trade_id = found[-1].trade.trade_id

    async def balances(self) -> Balances:
        """See `Connector.balances`."""
        result = await self._ask("account.status", {})
        with _reading("account.status"):
            return self._messages.balances(result["balances"])

    async def depth(self, instrument: int, levels: int) -> tuple[list[Level], list[Level]]:
        """See `core.gateway.book_source`."""
        result = await self._ask_publicly("depth", {"symbol": self._scale.instruments[instrument], "limit": levels})
        tick, lot = self._scale.tick, self._scale.lot
        with _reading("depth"):
            bids, asks = ([(tick.count(p), lot.count(q)) for p, q in result[side]] for side in ("bids", "asks"))
            return bids, asks

    async def cannot_arrive(self, signed_until_ms: int) -> None:
        """See `Connector.cannot_arrive`: the venue's own clock must have passed the receive window."""
        while True:
            server_ms = (await self._ask("time", None))["serverTime"]
            left_ms = signed_until_ms + self._settings.recv_window_ms - server_ms
            if left_ms < 0:
                return
            await asyncio.sleep((left_ms + 1) / 1e3)

    # The wire

    def _sign(self, params: dict[str, Any], timestamp_ms: int) -> dict[str, Any]:
        if self._credentials is None:
            raise ConnectorError("no credentials yet: the venue was never reached")
        params["apiKey"] = self._credentials.api_key
        params["timestamp"] = timestamp_ms
        params["recvWindow"] = self._settings.recv_window_ms
        params["signature"] = signature(self._credentials.secret, params)
        return params

    def _signed_body(self, method: str, params: Mapping[str, Any] | None) -> bytes:
        """`params` None is a public request, without a signature."""
        signed = None if params is None else self._sign(dict(params), time.time_ns() // 1_000_000)
        body = {"method": method} if signed is None else {"method": method, "params": signed}
        return json.dumps(body, separators=(",", ":"))[1:].encode()

    def _send(self, body: bytes, answered: Callable[[Reply], None]) -> None:
        connection = self._connection
        if connection is None or not connection.is_open:
            answered(NoAnswer("no link to the venue", link_lost=True))
            return
        if len(self._pending) >= PENDING_MAX:
            raise ConnectorError(f"{PENDING_MAX} requests wait for the venue; it does not keep up")
        request_id = self._next_id
        self._next_id += 1
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._settings.answer_timeout_ms / 1e3, self._timed_out, request_id)
        self._pending[request_id] = (answered, timer)
        connection.send(b'{"id":%d,%b' % (request_id, body))

    def _timed_out(self, request_id: int) -> None:
        answered, _ = self._pending.pop(request_id)
        answered(NoAnswer(f"no answer within {self._settings.answer_timeout_ms:g} ms"))
        if self._handler is not None:
            self._handler.drained()

    async def _reply(self, method: str, params: Mapping[str, Any] | None) -> dict[str, Any]:
        return await self._exchange(method, self._signed_body(method, params))

    async def _exchange(self, method: str, body: bytes) -> dict[str, Any]:
        future: Future[Reply] = asyncio.get_running_loop().create_future()
        self._send(body, lambda reply: None if future.done() else future.set_result(reply))
        reply = await future
        if isinstance(reply, NoAnswer):
            raise ConnectorError(f"{method}: {reply.reason}")
        return reply

    async def _ask_publicly(self, method: str, params: Mapping[str, Any]) -> Any:
        """Without a key or a signature: the venue's public figures."""
        body = json.dumps({"method": method, "params": params}, separators=(",", ":"))[1:].encode()
        return _result(method, await self._exchange(method, body))

    async def _ask(self, method: str, params: Mapping[str, Any] | None) -> Any:
        return _result(method, await self._reply(method, params))

    def _order_answer(self, reply: Reply, request: OrderRequest) -> Answer:
        if isinstance(reply, NoAnswer):
            return reply
        if reply.get("status") == 200:
            try:
                return self._messages.order_result(reply["result"], request)
            except UNREADABLE as odd:
                return NoAnswer(f"the venue answered what is no order of this market: {odd!r}")
        error = reply.get("error", {})
        code, message = error.get("code", 0), error.get("msg", "")
        if code in _STATUS_UNKNOWN or reply.get("status", 0) >= 500 or message == _DUPLICATE:
            return NoAnswer(f"{code} {message}")
        return Refusal(code, message)

    def _fail_pending(self, reason: str) -> None:
        pending, self._pending = self._pending, {}
        for answered, timer in pending.values():
            timer.cancel()
            answered(NoAnswer(reason, link_lost=True))

    # ConnectionHandler

    def opened(self, connection: WebSocketConnection) -> None:
        """The handshake is done."""
        if self._opened is not None and not self._opened.done():
            self._opened.set_result(None)

    def message(self, connection: WebSocketConnection, data: bytes) -> None:
        """An answer, or an event of the user stream."""
        if connection is not self._connection:
            return
        try:
            value = json.loads(data)
            event = value.get("event")
            if event is not None:
                update = self._messages.execution_report(event) if event.get("e") == "executionReport" else None
                if update is not None and self._handler is not None:
                    self._handler.updated(update)
                return
            found = self._pending.pop(value.get("id"), None)
        except UNREADABLE as error:
            connection.abort(f"the venue sent what is no message of this protocol: {error!r}")
            return
        if found is not None:
            found[1].cancel()
            found[0](value)

    def drained(self, connection: WebSocketConnection) -> None:
        """Every message of one read was handed over."""
        if self._handler is not None and connection is self._connection:
            self._handler.drained()

    def closed(self, connection: WebSocketConnection, reason: str) -> None:
        """The link is gone."""
        if connection is not self._connection:
            return
        self._connection = None
        if self._opened is not None and not self._opened.done():
            self._opened.set_exception(ConnectorError(f"venue closed the link: {reason}"))
        self._fail_pending(f"link lost: {reason}")
        handler, self._handler = self._handler, None
        if handler is not None:
            handler.lost(reason)


@contextlib.contextmanager
def _reading(method: str) -> Iterator[None]:
    """What cannot be read ends the link with a reason, not the task that keeps it."""
    try:
        yield
    except UNREADABLE as error:
        raise ConnectorError(f"{method}: the venue answered what is no message of this market: {error!r}") from error


def _result(method: str, reply: dict[str, Any]) -> Any:
    if reply.get("status") != 200:
        raise ConnectorError(f"{method}: {_error_text(reply)}")
    return reply["result"]


def _error_text(reply: Reply) -> str:
    if isinstance(reply, NoAnswer):
        return reply.reason
    error = reply.get("error", {})
    return f"{error.get('code')} {error.get('msg')}"
