"""Binance Spot's WebSocket API, sans-I/O: one request in, one answer out.

Source: Binance Spot API documentation, "WebSocket API". A request is `{"id", "method", "params"}`; an answer has
`status` 200 and `result`, or another status and `error` with `code` and `msg`. Every trading request is signed; there
is no session.logon. `replay.advance` and `replay.times` are ours and exist only on a replaying venue: the one moves the
recorded price, the other tells when which order was handled.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from core.orders.identity import is_client_order_id
from core.orders.order import TimeInForce
from core.orders.scale import DecimalScale
from core.venue import rejects
from core.venue.account import VenueOrder
from core.venue.answers import Answers
from core.venue.credentials import Credentials, is_signed
from core.venue.exchange import Exchange, NewOrder
from core.venue.order_book import BUY, SELL
from core.venue.order_times import OrderTimes
from core.venue.rejects import VenueReject

PATH: Final = "/ws-api/v3"
AHEAD_MS_MAX: Final = 1_000
"""How far a request's timestamp may be ahead of the venue's clock."""
RECV_WINDOW_MS: Final = 5_000
RECV_WINDOW_MS_MAX: Final = 60_000
STEP_MAX: Final = 1 << 53
_SIDES: Final = {"BUY": BUY, "SELL": SELL}
_RESPONSES: Final = ("ACK", "RESULT", "FULL")
_STREAM_METHODS: Final = ("userDataStream.subscribe", "userDataStream.subscribe.signature")

Params = Mapping[str, Any]
AdvanceTo = Callable[[int], int]
"""Moves the recorded price to a step; returns the step that the venue is at afterwards."""


@dataclass(slots=True)
class ApiSession:
    """What the venue remembers of one connection."""

    subscribed: int | None = None
    """Owner whose executionReports are pushed on this connection."""


class SpotApi:
    """Answers requests about one exchange."""

    def __init__(
        self,
        exchange: Exchange,
        keys: Mapping[str, tuple[Credentials, int]],
        captions: Sequence[str] = (),
        advance_to: AdvanceTo | None = None,
    ) -> None:
        """`keys`: API key to its credentials and account. Without `advance_to` there is no replay.advance."""
        self.exchange = exchange
        self.answers = Answers(exchange.scale, exchange.settings)
        self.times = OrderTimes()
        self._keys = keys
        self._captions = tuple(captions)
        self._advance_to = advance_to
        self._public: dict[str, Callable[[Params, int], Any]] = {
            "ping": lambda params, now_ms: {},
            "time": lambda params, now_ms: {"serverTime": now_ms},
            "exchangeInfo": self._exchange_info,
            "depth": self._depth,
            "trades.recent": self._recent_trades,
            "trades.aggregate": self._aggregate_trades,
            "ticker.book": self._book_ticker,
        }
        self._signed: dict[str, Callable[[Params, int, int], Any]] = {
            "order.place": self._place,
            "order.cancel": self._cancel,
            "order.amend.keepPriority": self._amend,
            "order.status": self._status,
            "openOrders.status": self._open_orders,
            "allOrders": self._all_orders,
            "myTrades": self._my_trades,
            "account.status": self._account,
        }
        if advance_to is not None:
            self._signed["replay.advance"] = self._advance
            self._signed["replay.times"] = self._times

    def handle(self, text: bytes, session: ApiSession, now_ms: int) -> bytes:
        """The answer to one request, as JSON. Never raises for anything that a client can send."""
        request_id: Any = None
        try:
            request = _parse(text)
            request_id = request.get("id")
            result = self._dispatch(request, session, now_ms)
        except VenueReject as reject:
            error = {"code": reject.code, "msg": reject.message}
            return _json({"id": request_id, "status": reject.status, "error": error, "rateLimits": []})
        return _json({"id": request_id, "status": 200, "result": result, "rateLimits": []})

    def _dispatch(self, request: dict[str, Any], session: ApiSession, now_ms: int) -> Any:
        method, params = request.get("method"), request.get("params", {})
        if not isinstance(params, dict):
            raise rejects.missing_parameter("params")
        if not isinstance(method, str):
            raise rejects.missing_parameter("method")
        if self.is_public(method):
            return self.public(method, params, now_ms)
        if method in _STREAM_METHODS:
            session.subscribed = self._signer(params, now_ms)
            return {"subscriptionId": 0}
        if method not in self._signed:
            raise VenueReject(rejects.UNSUPPORTED, "This operation is not supported.")
        return self.signed(method, params, self._signer(params, now_ms), now_ms)

    def is_public(self, method: str) -> bool:
        """Whether a method needs no signature."""
        return method in self._public

    def public(self, method: str, params: Params, now_ms: int) -> Any:
        """The result of a public method. Raises VenueReject."""
        return self._public[method](params, now_ms)

    def signed(self, method: str, params: Params, owner: int, now_ms: int) -> Any:
        """The result of a method for the account that signed. Raises VenueReject."""
        return self._signed[method](params, owner, now_ms)

    def _signer(self, params: Params, now_ms: int) -> int:
        return self.owner(_text(params, "apiKey"), params, now_ms, lambda secret: is_signed(secret, params))

    def owner(self, api_key: str, params: Params, now_ms: int, is_right: Callable[[str], bool]) -> int:
        """The account that signed. Raises VenueReject for a bad key, clock or signature.

        `is_right` says whether the signature is right by this secret; how it is made depends on the front end.
        """
        known = self._keys.get(api_key)
        if known is None:
            raise VenueReject(rejects.API_KEY, "Invalid API-key, IP, or permissions for action.", 401)
        timestamp = _integer(params, "timestamp")
        window = _integer(params, "recvWindow", RECV_WINDOW_MS)
        if not 0 < window <= RECV_WINDOW_MS_MAX:
            raise VenueReject(-1131, "recvWindow must be less than 60000.")
        if timestamp > now_ms + AHEAD_MS_MAX:
            raise VenueReject(rejects.TIMESTAMP, "Timestamp for this request was 1000ms ahead of the server's time.")
        if now_ms - timestamp > window:
            raise VenueReject(rejects.TIMESTAMP, "Timestamp for this request is outside of the recvWindow.")
        credentials, owner = known
        if not is_right(credentials.secret):
            raise VenueReject(rejects.SIGNATURE, "Signature for this request is not valid.")
        return owner

    def _place(self, params: Params, owner: int, now_ms: int) -> Any:
        new = self._new_order(params)
        response = params.get("newOrderRespType", "FULL")
        if response not in _RESPONSES:
            raise rejects.illegal_parameter("newOrderRespType")
        self.times.order(owner, new.client_order_id)
        order, duplicate = self.exchange.place(owner, new, now_ms)
        trades = self.exchange.trades_of(order) if response == "FULL" else ()
        return self.answers.placed(order, trades, response, duplicate)

    def _new_order(self, params: Params) -> NewOrder:
        instrument = self._instrument(params)
        side = _SIDES.get(_text(params, "side"))
        if side is None:
            raise VenueReject(rejects.SIDE, "Invalid side.")
        client_order_id = params.get("newClientOrderId") or f"auto-{self.exchange.events_total + 1}"
        if not is_client_order_id(client_order_id):
            raise rejects.illegal_parameter("newClientOrderId")
        scale = self.exchange.scale
        quantity = _count(params, "quantity", scale.lot, "LOT_SIZE")
        kind = _text(params, "type")
        if kind == "MARKET":
            return NewOrder(client_order_id, instrument, side, 0, quantity, TimeInForce.IOC)
        price = _count(params, "price", scale.tick, "PRICE_FILTER")
        if price < 1:
            raise rejects.filter_failure("PRICE_FILTER")
        if kind == "LIMIT_MAKER":
            return NewOrder(client_order_id, instrument, side, price, quantity, TimeInForce.POST_ONLY)
        if kind != "LIMIT":
            raise VenueReject(rejects.ORDER_TYPE, "Invalid orderType.")
        in_force = _text(params, "timeInForce")
        if in_force not in ("GTC", "IOC", "FOK"):
            raise VenueReject(rejects.TIME_IN_FORCE, "Invalid timeInForce.")
        return NewOrder(client_order_id, instrument, side, price, quantity, TimeInForce(in_force))

    def _cancel(self, params: Params, owner: int, now_ms: int) -> Any:
        order_id, client_order_id = self._named(params)
        cancel_id = params.get("newClientOrderId") or f"cancel-{self.exchange.events_total + 1}"
        if not is_client_order_id(cancel_id):
            raise rejects.illegal_parameter("newClientOrderId")
        order = self.exchange.cancel(owner, order_id, client_order_id, cancel_id, now_ms)
        return self.answers.cancelled(order, cancel_id)

    def _amend(self, params: Params, owner: int, now_ms: int) -> Any:
        order = self._order(params, owner)
        new_id = params.get("newClientOrderId") or f"amend-{self.exchange.events_total + 1}"
        if not is_client_order_id(new_id):
            raise rejects.illegal_parameter("newClientOrderId")
        quantity = _count(params, "newQty", self.exchange.scale.lot, "LOT_SIZE")
        if quantity >= order.quantity_lots:
            raise rejects.amend_rejected("it would not lower the quantity")
        terms = (order.price_ticks, quantity)
        order = self.exchange.replace(owner, order.order_id, None, new_id, *terms, now_ms)
        return self.answers.amended(order, self.exchange.events_total)

    def _status(self, params: Params, owner: int, now_ms: int) -> Any:
        return self.answers.status(self._order(params, owner))

    def _open_orders(self, params: Params, owner: int, now_ms: int) -> Any:
        instrument = self._instrument(params) if "symbol" in params else None
        return [self.answers.status(order) for order in self.exchange.open_orders(owner, instrument)]

    def _all_orders(self, params: Params, owner: int, now_ms: int) -> Any:
        """The order history of a symbol: the newest, or those from `orderId` on; at most `limit`."""
        instrument, limit = self._instrument(params), self._limit(params)
        first = _integer(params, "orderId") if "orderId" in params else None
        return [self.answers.status(order) for order in self.exchange.page(owner, instrument, first, limit)]

    @staticmethod
    def _limit(params: Params) -> int:
        limit = _integer(params, "limit", 500)
        if not 1 <= limit <= 1_000:
            raise rejects.illegal_parameter("limit")
        return limit

    def _recent_trades(self, params: Params, now_ms: int) -> Any:
        """The newest public trades of a symbol, oldest first."""
        instrument = self._instrument(params)
        return [self.answers.public_trade(*found) for found in self.exchange.recent(instrument, self._limit(params))]

    def _aggregate_trades(self, params: Params, now_ms: int) -> Any:
        """As `trades.recent`, in the short form; every trade is an aggregate of its own here."""
        instrument = self._instrument(params)
        return [self.answers.aggregate_trade(*found) for found in self.exchange.recent(instrument, self._limit(params))]

    def _book_ticker(self, params: Params, now_ms: int) -> Any:
        instrument = self._instrument(params)
        bids, asks = self.exchange.depth(instrument, 1, now_ms)
        return self.answers.book_ticker(instrument, bids, asks)

    def _my_trades(self, params: Params, owner: int, now_ms: int) -> Any:
        instrument = self._instrument(params)
        if "orderId" in params:
            order = self.exchange.order(owner, _integer(params, "orderId"), None)
            return [self.answers.trade(order, trade) for trade in self.exchange.trades_of(order)]
        limit = self._limit(params)
        trades = self.exchange.trades(owner, instrument, _integer(params, "fromId", 0), limit)
        return [self.answers.trade(self.exchange.order(owner, t.order_id, None), t) for t in trades]

    def _account(self, params: Params, owner: int, now_ms: int) -> Any:
        return self.answers.account(self.exchange.accounts[owner], now_ms)

    def _advance(self, params: Params, owner: int, now_ms: int) -> Any:
        assert self._advance_to is not None
        step = _integer(params, "step")
        if not 0 <= step <= STEP_MAX:
            raise rejects.illegal_parameter("step")
        try:
            return {"step": self._advance_to(step)}
        except ValueError as error:
            raise VenueReject(rejects.ILLEGAL_PARAMETER, f"replay.advance to step {step}: {error}") from None

    def _times(self, params: Params, owner: int, now_ms: int) -> Any:
        return {"orders": self.times.after(owner, _integer(params, "after", 0))}

    def _exchange_info(self, params: Params, now_ms: int) -> Any:
        exchange = self.exchange
        halted = [name for i, name in enumerate(exchange.scale.instruments) if exchange.is_halted(i)]
        return self.answers.exchange_info(now_ms, exchange.step, self._captions, halted)

    def _depth(self, params: Params, now_ms: int) -> Any:
        instrument = self._instrument(params)
        limit = _integer(params, "limit", 100)
        if not 1 <= limit <= 5_000:
            raise rejects.illegal_parameter("limit")
        scale = self.exchange.scale
        bids, asks = self.exchange.depth(instrument, limit, now_ms)
        sides = [[[scale.tick.text(p), scale.lot.text(q)] for p, q in side] for side in (bids, asks)]
        return {"lastUpdateId": self.exchange.events_total, "bids": sides[0], "asks": sides[1]}

    def _order(self, params: Params, owner: int) -> VenueOrder:
        order_id, client_order_id = self._named(params)
        return self.exchange.order(owner, order_id, client_order_id)

    def _named(self, params: Params) -> tuple[int | None, str | None]:
        self._instrument(params)
        if "orderId" in params:
            return _integer(params, "orderId"), None
        return None, _text(params, "origClientOrderId")

    def _instrument(self, params: Params) -> int:
        instrument = self.exchange.scale.index.get(_text(params, "symbol"))
        if instrument is None:
            raise VenueReject(rejects.SYMBOL, "Invalid symbol.")
        return instrument


def _parse(text: bytes) -> dict[str, Any]:
    try:
        request = json.loads(text)
    except (ValueError, RecursionError):
        raise VenueReject(rejects.UNKNOWN_ERROR, "Request is no JSON.") from None
    if not isinstance(request, dict) or not isinstance(request.get("id"), str | int | None):
        raise VenueReject(rejects.MISSING_PARAMETER, "Request must be an object with id, method and params.")
    return request


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _text(params: Params, name: str) -> str:
    value = params.get(name)
    if not isinstance(value, str) or not value:
        raise rejects.missing_parameter(name)
    return value


def _integer(params: Params, name: str, default: int | None = None) -> int:
    value = params.get(name, default)
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise rejects.missing_parameter(name)
    return value


def _count(params: Params, name: str, scale: DecimalScale, filter_name: str) -> int:
    text = _text(params, name)
    if len(text) > 40 or not text.replace(".", "", 1).isdigit():
        raise rejects.illegal_parameter(name)
    try:
        return scale.count(text)
    except ValueError:
        raise rejects.filter_failure(filter_name) from None
