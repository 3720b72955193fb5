"""The venue's FIX 4.4 front end: the same exchange, the same journal, another language.

Logon: Username (553) is the API key; RawData (96) is HMAC-SHA256 by the secret, as hex, over MsgType, SenderCompID,
TargetCompID, MsgSeqNum and SendingTime joined by SOH (the fields that Binance's FIX API signs). Application messages:
NewOrderSingle, OrderCancelRequest, OrderCancelReplaceRequest, OrderStatusRequest, OrderMassStatusRequest,
TradeCaptureReportRequest, RequestForPositions, SecurityListRequest; and ours, UAD, which moves a replaying venue to the
step in tag 5001.
"""

from __future__ import annotations

import asyncio
import hmac
import re
import sqlite3
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from core.fix.connection import FixConnection
from core.fix.message import FixError, FixMessage
from core.fix.session import LOGON, FixSession, SessionIdentity
from core.fix.store import MessageStore
from core.orders.identity import is_client_order_id
from core.orders.order import TimeInForce
from core.venue import rejects
from core.venue.account import VenueOrder
from core.venue.credentials import Credentials
from core.venue.exchange import Exchange, Happened, NewOrder
from core.venue.faults import CUT_REASON, FaultSource
from core.venue.fix_reports import (
    BUSINESS_REJECT,
    CANCEL_REJECT,
    EXECUTION_REPORT,
    POSITION_REPORT,
    SECURITY_LIST,
    TRADE_REPORT,
    FixReports,
    Pairs,
)
from core.venue.order_book import BUY, SELL
from core.venue.order_times import OrderTimes
from core.venue.rejects import VenueReject

COMP_ID: Final = "TRADETUI"
"""The venue's CompID."""
ADVANCE, ADVANCED, STEP_TAG = "UAD", "UAE", 5001
TRADES_MAX: Final = 100_000
_CLIENT_COMP_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,32}")
_SIDES: Final = {"1": BUY, "2": SELL}
_TIMES_IN_FORCE: Final = {"1": TimeInForce.GTC, "3": TimeInForce.IOC, "4": TimeInForce.FOK}


def logon_signature(secret: str, sender: str, target: str, sequence: int, sent: str) -> str:
    """RawData of a Logon."""
    text = "\x01".join((LOGON, sender, target, str(sequence), sent))
    return hmac.digest(secret.encode(), text.encode(), "sha256").hex()


class _Client:
    """One client's session, and the link that it has at present."""

    def __init__(self, owner: int, store: MessageStore, session: FixSession) -> None:
        self.owner = owner
        self.store = store
        self.session = session
        self.connection: FixConnection | None = None

    def send(self, kind: str, pairs: Pairs) -> None:
        if self.connection is not None:
            self.connection.send(kind, pairs)
        else:
            self.session.send(kind, pairs, time.time())


class FixServer:
    """Accepts FIX sessions for one exchange."""

    def __init__(
        self,
        exchange: Exchange,
        keys: Mapping[str, tuple[Credentials, int]],
        directory: Path,
        publish: Callable[[], None],
        faults: FaultSource,
        times: OrderTimes,
        advance_to: Callable[[int], int] | None = None,
    ) -> None:
        """`publish` journals and tells what happened, to all front ends. `directory` keeps the sessions' stores,
        `times` what all front ends had in hand."""
        self._exchange = exchange
        self._keys = keys
        self._directory = directory
        self._publish = publish
        self._faults = faults
        self._times = times
        self._muted: FixConnection | None = None
        """Its bytes are lost at this moment, on purpose."""
        self._advance_to = advance_to
        self._reports = FixReports(exchange.scale)
        self._clients: dict[str, _Client] = {}
        self._owners: dict[FixConnection, int] = {}
        self._writers: dict[FixConnection, Callable[[bytes], None]] = {}
        self._originals: dict[tuple[int, str], str] = {}
        self.on_unlinked: Callable[[int], None] = lambda owner: None
        """Told which account lost a link."""
        self._server: asyncio.Server | None = None
        self._handlers: dict[str, Callable[[FixConnection, int, FixMessage], None]] = {
            "D": self._new_order,
            "F": self._cancel,
            "G": self._replace,
            "H": self._status,
            "AF": self._mass_status,
            "AD": self._trades,
            "AN": self._positions,
            "x": self._securities,
        }
        if advance_to is not None:
            self._handlers[ADVANCE] = self._advance

    async def start(self, host: str, port: int) -> int:
        """Listen, with every session that was ever opened. Returns the port taken. Raises OSError where it is in use,
        sqlite3.Error for a damaged store."""
        for path in sorted(self._directory.glob("*-*.sqlite")):
            owner, _, sender = path.stem.partition("-")
            self._open(int(owner), sender)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: FixConnection(self, write=self._write), host, port)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Log every session out and close the port."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._owners):
            connection.logout("the venue stops")
            connection.close("the venue stops")
        if self._server is not None:
            await self._server.wait_closed()
        for client in self._clients.values():
            client.store.close()

    def drop_links(self) -> None:
        """Cut every link, as when a cable is pulled; sessions and their messages stay."""
        for connection in list(self._owners):
            connection.abort("dropped")

    def owners(self) -> set[int]:
        """Accounts with a link."""
        return set(self._owners.values())

    def published(self, happened: list[Happened]) -> None:
        """Tell the owners' sessions what happened (it is in the journal); one without a link gets it at its next."""
        for item in happened:
            pairs = self._reports.happened(item) if item.order is not None else None
            if pairs is None or item.order is None:
                continue
            original = self._originals.pop((item.order.owner, item.order.client_order_id), None)
            if original is not None:
                pairs.append((41, original))
            for client in self._clients.values():
                if client.owner == item.order.owner:
                    client.send(EXECUTION_REPORT, pairs)

    def _write(self, connection: FixConnection, data: bytes) -> None:
        if connection is self._muted:
            return
        writer = self._writers.get(connection)
        if writer is None:
            writer = self._writers[connection] = self._faults.delayed(connection.write_now, connection.abort).send
        writer(data)

    # FixHandler

    def session_of(self, connection: FixConnection, first: FixMessage) -> FixSession | None:
        """The session of a Logon that is signed by one of our keys."""
        sender = first.get(49) or ""
        known = self._keys.get(first.get(553) or "")
        if first.kind != LOGON or known is None or not _CLIENT_COMP_ID.fullmatch(sender):
            return None
        credentials, owner = known
        expected = logon_signature(credentials.secret, sender, COMP_ID, first.sequence, first.text(52))
        if not hmac.compare_digest(expected.encode(), (first.get(96) or "").encode()):
            return None
        try:
            client = self._clients.get(sender) or self._open(owner, sender)
        except sqlite3.Error:
            return None
        if client.owner != owner or client.connection is not None:
            return None
        client.connection = connection
        self._owners[connection] = owner
        return client.session

    def _open(self, owner: int, sender: str) -> _Client:
        store = MessageStore(self._directory / f"{owner}-{sender}.sqlite")
        session = FixSession(SessionIdentity(COMP_ID, sender, initiates=False), store)
        client = self._clients[sender] = _Client(owner, store, session)
        return client

    def logged_on(self, connection: FixConnection) -> None:
        """Nothing waits for it: what a session missed it asks for."""

    def message(self, connection: FixConnection, message: FixMessage) -> None:
        """One application message; whatever is wrong with it is answered.

        An answer that is lost on purpose is numbered all the same: the session's resend brings it when it is missed.
        """
        fate = self._faults.fate()
        self._muted = None if fate.answers else connection
        if fate.acts:
            self._handle(connection, message)
        self._muted = None
        if fate.cuts:
            connection.abort(CUT_REASON)

    def _handle(self, connection: FixConnection, message: FixMessage) -> None:
        self._times.request()
        handler = self._handlers.get(message.kind)
        try:
            if handler is None:
                raise _Business(3, f"unsupported message type {message.kind}")
            handler(connection, self._owners[connection], message)
        except FixError as error:
            self._refuse(connection, message, 5, str(error))
        except _Business as refusal:
            self._refuse(connection, message, refusal.reason, str(refusal))
        self._publish()

    def drained(self, connection: FixConnection) -> None:
        """Each answer was sent by its own request."""

    def closed(self, connection: FixConnection, reason: str) -> None:
        """The link is gone; the session stays."""
        owner = self._owners.pop(connection, None)
        self._writers.pop(connection, None)
        for client in self._clients.values():
            if client.connection is connection:
                client.connection = None
        if owner is not None:
            self.on_unlinked(owner)

    # Application messages

    def _refuse(self, connection: FixConnection, message: FixMessage, reason: int, text: str) -> None:
        pairs: Pairs = [(45, message.sequence), (372, message.kind), (380, reason), (58, text)]
        connection.send(BUSINESS_REJECT, pairs)

    def _new_order(self, connection: FixConnection, owner: int, message: FixMessage) -> None:
        name, now_ms = message.text(11), _now_ms()
        try:
            new = self._new(message, name)
            self._times.order(owner, name)
            order, is_duplicate = self._exchange.place(owner, new, now_ms)
        except VenueReject as reject:
            symbol, side = message.get(55) or "NONE", message.get(54) or "1"
            connection.send(EXECUTION_REPORT, self._reports.rejected(name, symbol, side, reject, now_ms))
            return
        if is_duplicate:
            connection.send(EXECUTION_REPORT, self._reports.status(order, []))

    def _new(self, message: FixMessage, name: str) -> NewOrder:
        if not is_client_order_id(name):
            raise rejects.illegal_parameter("ClOrdID")
        side = _SIDES.get(message.text(54))
        if side is None:
            raise VenueReject(rejects.SIDE, "Invalid side.")
        instrument, kind = self._instrument(message), message.text(40)
        quantity = self._lots(message)
        if kind == "1":
            return NewOrder(name, instrument, side, 0, quantity, TimeInForce.IOC)
        if kind != "2":
            raise VenueReject(rejects.ORDER_TYPE, "Invalid orderType.")
        in_force = _TIMES_IN_FORCE.get(message.get(59) or "1")
        if in_force is None:
            raise VenueReject(rejects.TIME_IN_FORCE, "Invalid timeInForce.")
        if "6" in (message.get(18) or "").split():
            in_force = TimeInForce.POST_ONLY
        return NewOrder(name, instrument, side, self._ticks(message), quantity, in_force)

    def _cancel(self, connection: FixConnection, owner: int, message: FixMessage) -> None:
        name, original = message.text(11), message.text(41)
        try:
            if not is_client_order_id(name):
                raise rejects.illegal_parameter("ClOrdID")
            self._exchange.cancel(owner, None, original, name, _now_ms())
        except VenueReject as reject:
            self._cancel_rejected(connection, owner, message, reject, is_replace=False)

    def _replace(self, connection: FixConnection, owner: int, message: FixMessage) -> None:
        name, original = message.text(11), message.text(41)
        try:
            if not is_client_order_id(name):
                raise rejects.illegal_parameter("ClOrdID")
            price, lots = self._ticks(message), self._lots(message)
            self._exchange.replace(owner, None, original, name, price, lots, _now_ms())
        except VenueReject as reject:
            self._cancel_rejected(connection, owner, message, reject, is_replace=True)
        else:
            self._originals[owner, name] = original

    def _cancel_rejected(
        self, connection: FixConnection, owner: int, message: FixMessage, reject: VenueReject, is_replace: bool
    ) -> None:
        name, original = message.text(11), message.text(41)
        try:
            order: VenueOrder | None = self._exchange.order(owner, None, original)
        except VenueReject:
            order = None
        connection.send(CANCEL_REJECT, self._reports.cancel_rejected(name, original, order, is_replace, reject))

    def _status(self, connection: FixConnection, owner: int, message: FixMessage) -> None:
        name, request_id = message.text(11), message.get(790)
        extra: Pairs = [(790, request_id)] if request_id else []
        try:
            order = self._exchange.order(owner, None, name)
        except VenueReject as reject:
            pairs = self._reports.rejected(name, message.get(55) or "NONE", message.get(54) or "1", reject, _now_ms())
            pairs = [(tag, "I" if tag == 150 else value) for tag, value in pairs if tag != 103]
            connection.send(EXECUTION_REPORT, pairs + extra)
            return
        connection.send(EXECUTION_REPORT, self._reports.status(order, extra))

    def _mass_status(self, connection: FixConnection, owner: int, message: FixMessage) -> None:
        request_id = message.text(584)
        if message.text(585) != "7":
            raise _Business(5, "MassStatusReqType must be 7 (all orders)")
        orders = self._exchange.open_orders(owner)
        if not orders:
            connection.send(EXECUTION_REPORT, self._reports.no_orders(request_id, _now_ms()))
        for at, order in enumerate(orders, start=1):
            extra: Pairs = [(584, request_id), (911, len(orders)), (912, "Y" if at == len(orders) else "N")]
            connection.send(EXECUTION_REPORT, self._reports.status(order, extra))

    def _trades(self, connection: FixConnection, owner: int, message: FixMessage) -> None:
        """TradeCaptureReportRequest: of one order by ClOrdID, or of a symbol from SecondaryTradeReportID on."""
        request_id, exchange = message.text(568), self._exchange
        name = message.get(11)
        try:
            if name:
                order = exchange.order(owner, None, name)
                found = [(order, trade) for trade in exchange.trades_of(order)]
            else:
                from_id = message.integer(818, 0)
                trades = exchange.trades(owner, self._instrument(message), from_id, TRADES_MAX)
                found = [(exchange.order(owner, trade.order_id, None), trade) for trade in trades]
        except VenueReject as reject:
            raise _Business(5, str(reject)) from None
        ack: Pairs = [(568, request_id), (569, 1), (748, len(found)), (749, 0), (750, 0 if found else 1)]
        connection.send("AQ", ack)
        for at, (order, trade) in enumerate(found, start=1):
            last = at == len(found)
            connection.send(TRADE_REPORT, self._reports.trade(order, trade, request_id, len(found), last))

    def _positions(self, connection: FixConnection, owner: int, message: FixMessage) -> None:
        request_id, account = message.text(710), self._exchange.accounts[owner]
        instruments: list[int | None] = [None, *range(len(account.base))]
        for instrument in instruments:
            pairs = self._reports.position(account, instrument, request_id, len(instruments), _now_ms())
            connection.send(POSITION_REPORT, pairs)

    def _securities(self, connection: FixConnection, owner: int, message: FixMessage) -> None:
        connection.send(SECURITY_LIST, self._reports.securities(message.text(320)))

    def _advance(self, connection: FixConnection, owner: int, message: FixMessage) -> None:
        assert self._advance_to is not None
        try:
            step = self._advance_to(message.integer(STEP_TAG))
        except ValueError as error:
            raise _Business(5, str(error)) from None
        connection.send(ADVANCED, [(STEP_TAG, step), (568, message.text(568))])

    def _instrument(self, message: FixMessage) -> int:
        instrument = self._exchange.scale.index.get(message.text(55))
        if instrument is None:
            raise VenueReject(rejects.SYMBOL, "Invalid symbol.")
        return instrument

    def _lots(self, message: FixMessage) -> int:
        try:
            return self._exchange.scale.lot.count(_decimal(message.text(38)))
        except ValueError:
            raise rejects.filter_failure("LOT_SIZE") from None

    def _ticks(self, message: FixMessage) -> int:
        try:
            ticks = self._exchange.scale.tick.count(_decimal(message.text(44)))
        except ValueError:
            raise rejects.filter_failure("PRICE_FILTER") from None
        if ticks < 1:
            raise rejects.filter_failure("PRICE_FILTER")
        return ticks


class _Business(Exception):
    """A request that is answered by BusinessMessageReject with this reason."""

    def __init__(self, reason: int, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def _decimal(text: str) -> str:
    if len(text) > 40:
        raise ValueError(f"{text[:40]}… is no price or quantity")
    return text


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
