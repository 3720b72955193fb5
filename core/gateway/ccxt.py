"""The ccxt connector: any exchange that ccxt knows and that has an order stream, over its REST and WebSocket.

Optional: `pip install tradetui[ccxt]`. Orders, cancels and questions go over REST, the account's orders come over the
stream. A stream update tells no fills: those are asked for. Orders are found by our client order id alone, so the
exchange must keep it.
"""

from __future__ import annotations

import asyncio
import time
from asyncio import Future
from collections.abc import Callable, Coroutine, Sequence
from decimal import Decimal
from functools import partial
from typing import Any, Final

from core.book_ladder import Level
from core.gateway.ccxt_exchange import CcxtVenue, ccxt_pro, new_exchange, said
from core.gateway.ccxt_messages import CcxtMessages, first_number_after, number_of
from core.gateway.ccxt_requests import CcxtRequests, watch_wire
from core.gateway.connector import (
    SKEW_MS_MAX,
    AccountTrade,
    Answer,
    Balances,
    ConnectorError,
    EncodedOrder,
    LinkHandler,
    NoAnswer,
    VenueUpdate,
)
from core.gateway.settings import GatewaySettings
from core.orders.order import OrderRequest
from core.orders.scale import MarketScale
from core.venue.credentials import Credentials

TRADES_PAGE: Final = 1_000


class CcxtConnector:
    """Implements `core.gateway.connector.Connector`."""

    def __init__(
        self,
        venue: CcxtVenue,
        credentials: Callable[[], Credentials],
        scale: MarketScale,
        settings: GatewaySettings,
    ) -> None:
        """`credentials` are asked anew at each connect; what they raise as RuntimeError counts as "not there yet"."""
        self._venue = venue
        self._read_credentials = credentials
        self._scale = scale
        self._settings = settings
        self._messages = CcxtMessages(scale, ())
        self._exchange: Any = None
        self._handler: LinkHandler | None = None
        self._requests = CcxtRequests(settings.answer_timeout_ms, self._drained)
        self._placing: set[str] = set()
        self._watcher: asyncio.Task[None] | None = None
        self._tasks: set[Future[Any]] = set()
        self.captions: tuple[str, ...] = ()
        self.replays = venue.local is not None

    # Connecting

    async def connect(self, handler: LinkHandler) -> None:
        """See `Connector.connect`."""
        errors = await asyncio.to_thread(ccxt_pro)  # a second of work: the swarm's links must not wait for it
        exchange = new_exchange(self._venue, self._read_credentials, self._settings)
        watch_wire(exchange)
        watcher = asyncio.create_task(self._watch(exchange))
        try:
            async with asyncio.timeout(self._settings.answer_timeout_ms / 1e3):
                await exchange.load_markets()
                await self._check_clock(exchange)
                self._check_market(exchange)
                await _is_watching(exchange, watcher)
        except BaseException as error:
            watcher.cancel()
            await exchange.close()
            if isinstance(error, TimeoutError):
                raise ConnectorError(f"{self._venue.exchange} does not answer") from None
            if isinstance(error, errors.BaseError):
                raise ConnectorError(f"{self._venue.exchange}: {said(error)}") from None
            if isinstance(error, ConnectorError | OSError) or not isinstance(error, Exception):
                raise
            raise ConnectorError(f"{self._venue.exchange} lists markets that cannot be read: {error!r}") from error
        self._exchange, self._handler, self._watcher = exchange, handler, watcher
        where = " (sandbox)" if self._venue.sandbox and not self.replays else ""
        self.captions = (f"ccxt: {self._venue.exchange}{where}",)
        if watcher.done():
            raise ConnectorError(f"{self._venue.exchange}: the order stream ended at once")

    async def _check_clock(self, exchange: Any) -> None:
        if not exchange.has.get("fetchTime"):
            return
        before = time.time_ns() / 1e6
        theirs = await exchange.fetch_time()
        after = time.time_ns() / 1e6
        skew_ms = theirs - (before + after) / 2
        if abs(skew_ms) - (after - before) / 2 > SKEW_MS_MAX:
            raise ConnectorError(f"venue's clock is {skew_ms:.0f} ms from ours; set this machine's clock")

    def _check_market(self, exchange: Any) -> None:
        """The venue must trade our instruments in our ticks and lots, else every number would be wrong."""
        symbols = []
        for name in self._scale.instruments:
            by_id = [market for market in exchange.markets_by_id.get(name, ()) if market.get("spot")]
            market = by_id[0] if by_id else exchange.markets.get(f"{name}/{self._scale.quote_asset}")
            if market is None:
                raise ConnectorError(f"venue does not trade {name}; is it the venue of this session?")
            steps = market["precision"]
            for what, step, ours in (
                ("tick", steps["price"], self._scale.tick.step),
                ("lot", steps["amount"], self._scale.lot.step),
            ):
                if step is None or type(ours)(step) != ours:
                    raise ConnectorError(f"venue's {name} has {what} {step}; ours is {ours}")
            symbols.append(market["symbol"])
        self._messages = CcxtMessages(self._scale, symbols)

    async def close(self) -> None:
        """See `Connector.close`."""
        self._handler = None
        exchange, self._exchange = self._exchange, None
        if self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None
        self._requests.fail("the gateway closed the link")
        if exchange is not None:
            await exchange.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # Orders

    def encode(self, request: OrderRequest) -> EncodedOrder:
        """See `Connector.encode`. ccxt signs as it sends: nothing is built before."""
        return EncodedOrder(request, time.time_ns() // 1_000_000, b"")

    def place(self, order: EncodedOrder, answered: Callable[[Answer], None]) -> None:
        """See `Connector.place`."""
        self._spawn(lambda exchange: self._place(exchange, order.request), answered, is_order=True)

    async def _place(self, exchange: Any, request: OrderRequest) -> Answer:
        self._placing.add(request.client_order_id)
        try:
            symbol, kind, side, amount, price, params = self._messages.place_arguments(request)
            placed = await exchange.create_order(symbol, kind, side, amount, price, params)
            if placed.get("status") is None:
                return NoAnswer("the exchange took the order and does not say how it stands")
            return self._messages.update(placed, request.client_order_id)
        finally:
            self._placing.discard(request.client_order_id)

    def cancel(self, request: OrderRequest, answered: Callable[[Answer], None]) -> None:
        """See `Connector.cancel`."""
        self._spawn(lambda exchange: self._cancel(exchange, request), answered, is_order=False)

    def recall_unsent(self, reason: str) -> None:
        """See `Connector.recall_unsent`: ccxt keeps requests back, in its throttle and while it connects."""
        self._requests.recall(reason)

    async def _cancel(self, exchange: Any, request: OrderRequest) -> Answer:
        name = request.client_order_id
        await exchange.cancel_order("", self._messages.symbols[request.instrument], {"clientOrderId": name})
        # Exchanges answer a cancel in many ways, some with nothing: how the order stands is asked.
        update = await self._query(exchange, request)
        return update if update is not None else NoAnswer("the exchange took the cancel and does not know the order")

    def advance(self, step: int) -> Future[int]:
        """See `Connector.advance`."""
        task = asyncio.ensure_future(self._advance(step))
        self._background(task)
        return task

    async def _advance(self, step: int) -> int:
        if not self.replays:
            raise ConnectorError("this venue does not replay; it keeps its own time")
        result = await self._ask(lambda exchange: exchange.request("replay/advance", "private", "POST", {"step": step}))
        return int(result["step"])

    def _background(self, task: Future[Any]) -> None:
        """Keep a task until it is done; who does not wait for it wants no warning of its failure either."""
        self._tasks.add(task)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        task.add_done_callback(self._tasks.discard)

    # Questions

    async def query(self, request: OrderRequest) -> VenueUpdate | None:
        """See `Connector.query`."""
        update: VenueUpdate | None = await self._ask(lambda exchange: self._query(exchange, request))
        return update

    async def _query(self, exchange: Any, request: OrderRequest) -> VenueUpdate | None:
        symbol, name = self._messages.symbols[request.instrument], request.client_order_id
        try:
            order = await exchange.fetch_order("", symbol, {"clientOrderId": name})
        except ccxt_pro().OrderNotFound:
            return None
        trades: list[AccountTrade] = []
        if self._messages.update(order, name).cumulative_quantity:
            if exchange.has.get("fetchOrderTrades"):
                rows = await exchange.fetch_order_trades(order["id"], symbol)
            else:
                rows = await exchange.fetch_my_trades(symbol, None, TRADES_PAGE)
            found = [self._messages.account_trade(row) for row in rows]
            trades = [each for each in found if each.venue_order_id == number_of(order["id"])]
        return self._messages.update(order, name, sorted((each.trade for each in trades), key=lambda t: t.trade_id))

    async def open_orders(self) -> Sequence[VenueUpdate]:
        """See `Connector.open_orders`."""
        updates: list[VenueUpdate] = await self._ask(self._open_orders)
        return updates

    async def _open_orders(self, exchange: Any) -> list[VenueUpdate]:
        ours = set(self._messages.symbols)
        return [
            self._messages.update(row, row.get("clientOrderId") or str(row["id"]))
            for row in await exchange.fetch_open_orders()
            if row["symbol"] in ours
        ]

    async def trades_after(self, instrument: int, trade_id: int) -> Sequence[AccountTrade]:
        """See `Connector.trades_after`. Only Binance goes on from an id; another exchange gives its last page."""
        symbol, found = self._messages.symbols[instrument], list[AccountTrade]()
        while True:
            params: dict[str, object] = {"fromId": trade_id + 1} if self._venue.exchange.startswith("binance") else {}
            page: list[AccountTrade] = await self._ask(partial(self._my_trades, symbol=symbol, params=params))
            first = first_number_after(trade_id)
            found += [each for each in page if each.trade.trade_id >= first and each.trade.trade_id != trade_id]
            if len(page) < TRADES_PAGE or not params:
                return sorted(found, key=lambda each: each.trade.trade_id)
            trade_id = page[-1].trade.trade_id

    async def _my_trades(self, exchange: Any, symbol: str, params: dict[str, object]) -> list[AccountTrade]:
        rows = await exchange.fetch_my_trades(symbol, None, TRADES_PAGE, params)
        return [self._messages.account_trade(row) for row in rows]

    async def balances(self) -> Balances:
        """See `Connector.balances`."""
        balances: Balances = await self._ask(self._balances)
        return balances

    async def _balances(self, exchange: Any) -> Balances:
        totals = (await exchange.fetch_balance())["total"]
        assets = [symbol.partition("/") for symbol in self._messages.symbols]
        cash = self._messages.cash_quanta(totals.get(assets[0][2]))
        lots = [self._scale.lot.count_rounded(totals.get(base) or "0") for base, _, _ in assets]
        return Balances(cash, tuple(lots))

    async def depth(self, instrument: int, levels: int) -> tuple[list[Level], list[Level]]:
        """See `core.gateway.book_source`."""
        symbol = self._messages.symbols[instrument]
        bids, asks = await self._ask(partial(self._depth, symbol=symbol, levels=levels))
        return bids, asks

    async def _depth(self, exchange: Any, symbol: str, levels: int) -> list[list[Level]]:
        book, scale = await exchange.fetch_order_book(symbol, levels), self._scale
        # An order book's numbers are floats whatever `exchange.number` says: they print as they were sent.
        return [
            [
                (scale.tick.count_decimal(Decimal(str(row[0]))), scale.lot.count_decimal(Decimal(str(row[1]))))
                for row in book[side][:levels]
            ]
            for side in ("bids", "asks")
        ]

    async def cannot_arrive(self, signed_until_ms: int) -> None:
        """See `Connector.cannot_arrive`: the venue's own clock must have passed the receive window."""
        while True:
            now_ms = await self._ask(self._now_ms)
            left_ms = signed_until_ms + self._settings.recv_window_ms - now_ms
            if left_ms < 0:
                return
            await asyncio.sleep((left_ms + 1) / 1e3)

    @staticmethod
    async def _now_ms(exchange: Any) -> int:
        if exchange.has.get("fetchTime"):
            return int(await exchange.fetch_time())
        return time.time_ns() // 1_000_000

    # The wire

    def _spawn(
        self, work: Callable[[Any], Coroutine[Any, Any, Answer]], answered: Callable[[Answer], None], is_order: bool
    ) -> None:
        exchange = self._exchange
        if exchange is None:
            answered(NoAnswer("no link to the venue", link_lost=True))
            return
        self._requests.start(lambda: work(exchange), answered, is_order)

    def _drained(self) -> None:
        if self._handler is not None:
            self._handler.drained()

    async def _ask(self, work: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
        if self._exchange is None:
            raise ConnectorError("no link to the venue")
        errors = ccxt_pro()
        try:
            async with asyncio.timeout(self._settings.answer_timeout_ms / 1e3):
                return await work(self._exchange)
        except TimeoutError:
            raise ConnectorError(f"no answer within {self._settings.answer_timeout_ms:g} ms") from None
        except (errors.BaseError, OSError) as error:
            raise ConnectorError(said(error)) from None
        except ConnectorError:
            raise
        except Exception as error:
            # ccxt and an exchange's odd answers raise anything at all; a link must not die of it for good.
            raise ConnectorError(f"the venue's answer is of no use: {said(repr(error))}") from error

    async def _watch(self, exchange: Any) -> None:
        """The account's orders, until the stream fails: what it then missed only a new connect finds."""
        try:
            while True:
                for order in await exchange.watch_orders():
                    self._watched(order)
                if self._handler is not None and exchange is self._exchange:
                    self._handler.drained()
        except Exception as error:  # whatever it was, nobody reads the stream any more
            if exchange is self._exchange:
                self._lose(f"order stream: {said(repr(error))}")

    def _watched(self, order: dict[str, Any]) -> None:
        name = order.get("clientOrderId")
        # An order that is being placed is told by its own answer, with its fills.
        if self._handler is None or not name or name in self._placing or order["symbol"] not in self._messages.symbols:
            return
        self._handler.updated(self._messages.update(order, name))

    def _lose(self, reason: str) -> None:
        exchange, self._exchange = self._exchange, None
        handler, self._handler = self._handler, None
        self._background(asyncio.ensure_future(exchange.close()))
        self._requests.fail(f"link lost: {reason}")
        if handler is not None:
            handler.lost(reason)


async def _is_watching(exchange: Any, watcher: asyncio.Task[None]) -> None:
    """Returns once the order stream is subscribed: from then on nothing is missed."""
    while not any("order" in str(name).lower() for client in exchange.clients.values() for name in client.futures):
        if watcher.done():
            raise ConnectorError("the order stream ended before it began; see whether the keys may read orders")
        await asyncio.sleep(0.005)
