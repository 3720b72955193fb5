"""The FIX 4.4 connector: the gateway as initiator of one session that outlives its links.

An order that may rest is answered by its first ExecutionReport, another by its last. The venue's messages that a link
lost come again by the session's resend; ours never do, since an order that did not arrive has expired by then: the
session fills over them.
"""

from __future__ import annotations

import asyncio
import time
from asyncio import Future
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from core.fix.connection import FixConnection
from core.fix.message import FixError, FixMessage, timestamp
from core.fix.session import FixSession, SessionIdentity
from core.fix.store import MessageStore
from core.gateway.connector import (
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
from core.gateway.fix_messages import FixMessages, Pairs
from core.gateway.settings import GatewaySettings
from core.orders.life_cycle import FINAL
from core.orders.order import OrderRequest, TimeInForce
from core.orders.scale import MarketScale
from core.venue.credentials import Credentials
from core.venue.fix_server import ADVANCE, COMP_ID, STEP_TAG, logon_signature

PENDING_MAX: Final = 4_096
SENDER: Final = "GATEWAY"
_DUPLICATE: Final = "Duplicate order"


class FixConnector:
    """Implements `core.gateway.connector.Connector`."""

    def __init__(
        self,
        endpoint: Callable[[], tuple[str, int]],
        credentials: Callable[[], Credentials] | None,
        scale: MarketScale,
        settings: GatewaySettings,
        *,
        target: str = COMP_ID,
        asks_account: bool = True,
        tls: bool = False,
        replays: bool = True,
    ) -> None:
        """`credentials` None: the venue wants no signature. `asks_account` False: it answers no TradeCaptureReport,
        position and SecurityList requests, so that its market is not checked, trades are known by reports alone and
        balances count from the first connect. `replays`: it is our own venue."""
        self._dialer = Dialer(endpoint, settings.answer_timeout_ms, tls)
        self._credentials = credentials
        self._scale = scale
        self._settings = settings
        self._target = target
        self._asks_account = asks_account
        self._messages = FixMessages(scale)
        self._store = MessageStore(settings.directory / "fix.sqlite")
        self._session = FixSession(
            SessionIdentity(
                SENDER,
                target,
                initiates=True,
                heartbeat_s=max(1, round(settings.heartbeat_ms / 1e3)),
                resends=False,
            ),
            self._store,
            self._logon_fields,
        )
        self._connection: FixConnection | None = None
        self._handler: LinkHandler | None = None
        self._opened: Future[None] | None = None
        self._orders: dict[str, _Placed] = {}
        self._cancels: dict[str, tuple[str, Callable[[Answer], None], asyncio.TimerHandle]] = {}
        self._questions: dict[str, _Question] = {}
        self._next_id = time.time_ns() // 1_000
        self.captions: tuple[str, ...] = ()
        self.replays = replays and credentials is not None

    def _logon_fields(self, sequence: int, sent: str) -> Pairs:
        if self._credentials is None:
            return []
        keys = self._credentials()
        signature = logon_signature(keys.secret, SENDER, self._target, sequence, sent)
        return [(553, keys.api_key), (95, len(signature)), (96, signature)]

    # Connecting

    async def connect(self, handler: LinkHandler) -> None:
        """See `Connector.connect`."""
        self._opened = asyncio.get_running_loop().create_future()
        self._handler = handler
        try:
            self._logon_fields(1, "")
        except RuntimeError as error:
            raise ConnectorError(str(error)) from error
        await self._dialer.open(self._new_connection, self._greet, self.close)

    def _new_connection(self, host: str, port: int) -> FixConnection:
        self._connection = FixConnection(self, self._session)
        return self._connection

    async def _greet(self) -> None:
        assert self._opened is not None
        await self._opened
        if self._asks_account:
            await self._check_market()

    async def _check_market(self) -> None:
        """The venue must trade our instruments in our ticks and lots, else every number would be wrong."""
        request_id = str(self._take_id())
        (listed,) = await self._ask(request_id, "x", [(320, request_id), (559, 4)], lambda message: True)
        steps = self._messages.steps(listed)
        ours = self._scale.tick.step, self._scale.lot.step
        for name in self._scale.instruments:
            if name not in steps:
                raise ConnectorError(f"venue does not trade {name}; is it the venue of this session?")
            tick, lot = steps[name]
            if (tick, lot) != ours:
                raise ConnectorError(f"venue's {name} has tick {tick} and lot {lot}; ours are {ours[0]} and {ours[1]}")

    async def close(self) -> None:
        """See `Connector.close`."""
        self._handler = None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort("the gateway closes")
        self._fail_pending("the gateway closed the link")

    # Orders

    def encode(self, request: OrderRequest) -> EncodedOrder:
        """See `Connector.encode`. A session's messages are numbered as they leave: the body is built then."""
        return EncodedOrder(request, time.time_ns() // 1_000_000, b"")

    def place(self, order: EncodedOrder, answered: Callable[[Answer], None]) -> None:
        """See `Connector.place`."""
        request = order.request
        if not self._is_open(answered):
            return
        timer = self._timer(self._order_timed_out, request.client_order_id)
        at_once = request.time_in_force in (TimeInForce.IOC, TimeInForce.FOK)
        self._orders[request.client_order_id] = _Placed(answered, timer, at_once)
        self._send("D", self._messages.new_order(request, timestamp(time.time())))

    def cancel(self, request: OrderRequest, answered: Callable[[Answer], None]) -> None:
        """See `Connector.cancel`."""
        if not self._is_open(answered):
            return
        cancel_id = f"c-{self._take_id()}"
        timer = self._timer(self._cancel_timed_out, cancel_id)
        self._cancels[cancel_id] = (request.client_order_id, answered, timer)
        self._send("F", self._messages.cancel(request, cancel_id, timestamp(time.time())))

    def recall_unsent(self, reason: str) -> None:
        """See `Connector.recall_unsent`: `place` writes at once."""

    def advance(self, step: int) -> Future[int]:
        """See `Connector.advance`."""
        future: Future[int] = asyncio.get_running_loop().create_future()
        if not self.replays:
            fail(future, ConnectorError("this venue does not replay; it keeps its own time"))
            return future
        request_id = str(self._take_id())
        question = self._questions[request_id] = _Question(lambda message: True)
        question.future.add_done_callback(lambda done: self._advanced(request_id, done, future))
        if self._connection is None:
            question.fail("no link to the venue")
        else:
            self._send(ADVANCE, [(568, request_id), (STEP_TAG, step)])
        return future

    def _advanced(self, request_id: str, done: Future[list[FixMessage]], future: Future[int]) -> None:
        self._questions.pop(request_id, None)
        error = done.exception()
        if error is not None:
            fail(future, error)
        elif not future.done():
            future.set_result(done.result()[0].integer(STEP_TAG))

    # Questions

    async def query(self, request: OrderRequest) -> VenueUpdate | None:
        """See `Connector.query`."""
        request_id = str(self._take_id())
        pairs = [*self._messages.names(request), (790, request_id)]
        (report,) = await self._ask(request_id, "H", pairs, lambda message: True)
        if report.get(39) == "8":
            return None
        trades: list[AccountTrade] = []
        if self._scale.lot.count(report.text(14)) and self._asks_account:
            request_id = str(self._take_id())
            asked: Pairs = [(568, request_id), (569, 1), (263, "0"), *self._messages.names(request)]
            trades = self._trades(await self._ask(request_id, "AD", asked, _is_last_trade))
        return self._messages.update(report, tuple(found.trade for found in trades))

    async def open_orders(self) -> Sequence[VenueUpdate]:
        """See `Connector.open_orders`."""
        request_id = str(self._take_id())
        reports = await self._ask(request_id, "AF", [(584, request_id), (585, 7)], lambda m: m.get(912, "Y") == "Y")
        return [self._messages.update(report) for report in reports if report.get(39) != "8"]

    async def trades_after(self, instrument: int, trade_id: int) -> Sequence[AccountTrade]:
        """See `Connector.trades_after`."""
        if not self._asks_account:
            return []
        request_id = str(self._take_id())
        symbol = self._scale.instruments[instrument]
        pairs: Pairs = [(568, request_id), (569, 1), (263, "0"), (55, symbol), (818, trade_id + 1)]
        return self._trades(await self._ask(request_id, "AD", pairs, _is_last_trade))

    def _trades(self, messages: Sequence[FixMessage]) -> list[AccountTrade]:
        return [self._messages.account_trade(message) for message in messages if message.kind == "AE"]

    async def balances(self) -> Balances:
        """See `Connector.balances`."""
        count = len(self._scale.instruments)
        if not self._asks_account:
            return Balances(0, (0,) * count)
        request_id = str(self._take_id())
        sent = timestamp(time.time())
        pairs: Pairs = [(710, request_id), (724, 0), (1, "1"), (581, 1), (715, sent[:8]), (60, sent)]
        heard = 0

        def is_last(message: FixMessage) -> bool:
            nonlocal heard
            heard += 1
            return heard >= message.integer(727)

        found = dict(map(self._messages.position, await self._ask(request_id, "AN", pairs, is_last)))
        return Balances(found.get(None, 0), tuple(found.get(instrument, 0) for instrument in range(count)))

    async def cannot_arrive(self, signed_until_ms: int) -> None:
        """See `Connector.cannot_arrive`: a session keeps its order, so what was sent before this question is there."""
        await self.open_orders()

    # The wire

    def _is_open(self, answered: Callable[[Answer], None]) -> bool:
        if self._connection is None or not self._connection.is_logged_on:
            answered(NoAnswer("no link to the venue", link_lost=True))
            return False
        if len(self._orders) + len(self._cancels) >= PENDING_MAX:
            raise ConnectorError(f"{PENDING_MAX} requests wait for the venue; it does not keep up")
        return True

    def _take_id(self) -> int:
        self._next_id += 1
        return self._next_id

    def _timer(self, expired: Callable[[str], None], name: str) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(self._settings.answer_timeout_ms / 1e3, expired, name)

    def _send(self, kind: str, pairs: Pairs) -> None:
        if self._connection is not None:
            self._connection.send(kind, pairs)

    async def _ask(
        self, request_id: str, kind: str, pairs: Pairs, is_last: Callable[[FixMessage], bool]
    ) -> list[FixMessage]:
        if self._connection is None or not self._connection.is_logged_on:
            raise ConnectorError(f"{kind}: no link to the venue")
        question = self._questions[request_id] = _Question(is_last)
        try:
            self._send(kind, pairs)
            async with asyncio.timeout(self._settings.answer_timeout_ms / 1e3):
                return await question.future
        except TimeoutError:
            raise ConnectorError(f"{kind}: no answer within {self._settings.answer_timeout_ms:g} ms") from None
        finally:
            self._questions.pop(request_id, None)

    def _order_timed_out(self, name: str) -> None:
        self._orders.pop(name).answered(NoAnswer(f"no answer within {self._settings.answer_timeout_ms:g} ms"))
        if self._handler is not None:
            self._handler.drained()

    def _cancel_timed_out(self, cancel_id: str) -> None:
        _, answered, _ = self._cancels.pop(cancel_id)
        answered(NoAnswer(f"no answer within {self._settings.answer_timeout_ms:g} ms"))
        if self._handler is not None:
            self._handler.drained()

    def _fail_pending(self, reason: str) -> None:
        lost = NoAnswer(reason, link_lost=True)
        orders, self._orders = self._orders, {}
        cancels, self._cancels = self._cancels, {}
        for placed in orders.values():
            placed.answer(lost)
        for _, answered, timer in cancels.values():
            timer.cancel()
            answered(lost)
        for question in list(self._questions.values()):
            question.fail(reason)

    # FixHandler

    def session_of(self, connection: FixConnection, first: FixMessage) -> FixSession | None:
        """We initiate: nobody opens a session with us."""
        return None

    def logged_on(self, connection: FixConnection) -> None:
        """The venue has answered our Logon."""
        if self._opened is not None and not self._opened.done():
            self._opened.set_result(None)

    def message(self, connection: FixConnection, message: FixMessage) -> None:
        """An application message: of an order, or the answer to a question."""
        try:
            self._take(message)
        except (FixError, ValueError, KeyError) as error:
            connection.abort(f"the venue sent what is no message of this protocol: {error!r}")

    def _take(self, message: FixMessage) -> None:
        request_id = next((value for tag in (790, 584, 568, 710, 320) if (value := message.get(tag))), None)
        question = self._questions.get(request_id) if request_id else None
        if question is not None:
            question.hear(message)
        elif message.kind == "8" and message.get(150) != "I":
            self._take_report(message)
        elif message.kind == "8" and request_id is None:
            self._take_duplicate(message)
        elif message.kind == "9":
            self._take_cancel_reject(message)
        elif message.kind in ("j", "3"):
            self._take_refused(message)

    def _take_report(self, message: FixMessage) -> None:
        name = self._messages.client_order_id(message)
        placed = self._orders.get(name)
        if message.get(150) == "8":
            text = message.get(58) or "refused"
            if placed is not None:
                del self._orders[name]
                placed.answer(NoAnswer(text) if _DUPLICATE in text else Refusal(*_code(text)))
            return
        update = self._messages.update(message)
        if placed is not None and placed.ends_at_once and update.state not in FINAL:
            # More is on its way at once: the answer is how the order ends.
            placed = None
        cancel = self._cancels.pop(message.get(11) or "", None)
        if cancel is not None:
            cancel[2].cancel()
            cancel[1](update)
        elif placed is not None:
            del self._orders[name]
            placed.answer(update)
        elif self._handler is not None:
            self._handler.updated(update)

    def _take_duplicate(self, message: FixMessage) -> None:
        """The venue has that order already, on the same terms: ask it for all of it."""
        placed = self._orders.pop(self._messages.client_order_id(message), None)
        if placed is not None:
            placed.answer(NoAnswer("the venue holds this order already"))

    def _take_cancel_reject(self, message: FixMessage) -> None:
        cancel = self._cancels.pop(message.text(11), None)
        if cancel is not None:
            cancel[2].cancel()
            cancel[1](Refusal(*_code(message.get(58) or "refused")))

    def _take_refused(self, message: FixMessage) -> None:
        """A reject of the session or of the application names only our message's number: who waits asks anew."""
        for question in list(self._questions.values()):
            question.fail(f"refused: {message.get(58) or message.kind}")

    def drained(self, connection: FixConnection) -> None:
        """Every message of one read was handed over."""
        if self._handler is not None and connection is self._connection:
            self._handler.drained()

    def closed(self, connection: FixConnection, reason: str) -> None:
        """The link is gone; the session stays."""
        if connection is not self._connection:
            return
        self._connection = None
        if self._opened is not None and not self._opened.done():
            self._opened.set_exception(ConnectorError(f"venue closed the link: {reason}"))
            self._handler = None
        self._fail_pending(f"link lost: {reason}")
        handler, self._handler = self._handler, None
        if handler is not None:
            handler.lost(reason)


@dataclass(frozen=True, slots=True)
class _Placed:
    """An order that waits for its answer."""

    answered: Callable[[Answer], None]
    timer: asyncio.TimerHandle
    ends_at_once: bool
    """It never rests."""

    def answer(self, answer: Answer) -> None:
        self.timer.cancel()
        self.answered(answer)


class _Question:
    """A request whose answer is one message or several."""

    def __init__(self, is_last: Callable[[FixMessage], bool]) -> None:
        self.future: Future[list[FixMessage]] = asyncio.get_running_loop().create_future()
        self._is_last = is_last
        self._found: list[FixMessage] = []

    def hear(self, message: FixMessage) -> None:
        if self.future.done():
            return
        self._found.append(message)
        if self._is_last(message):
            self.future.set_result(self._found)

    def fail(self, reason: str) -> None:
        fail(self.future, ConnectorError(reason))


def _is_last_trade(message: FixMessage) -> bool:
    """The acknowledgement says how many follow: none ends it, else the last report does."""
    if message.kind == "AQ":
        return message.integer(748, 0) == 0
    return message.get(912) == "Y"


def _code(text: str) -> tuple[int, str]:
    """Our venue's code and words; another's text has no code."""
    first, _, rest = text.partition(" ")
    return (int(first), rest) if first.lstrip("-").isdecimal() else (0, text)
