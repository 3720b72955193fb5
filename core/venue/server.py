"""The venue's WebSocket server: connections, the journal before each answer, pushed events."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Final

from websockets.server import ServerProtocol

from core.venue.api import PATH, ApiSession, SpotApi
from core.venue.exchange import Happened
from core.venue.faults import CUT_REASON, FaultSource
from core.venue.journal import JournalError, VenueJournal
from core.venue.streams import MarketStreams
from core.venue.websocket import REQUEST_BYTES_MAX, WebSocketConnection

STREAMS_PATH: Final = "/ws"
"""Market streams; a name may follow, as in `/ws/1`."""
CONNECTIONS_MAX: Final = 32


def unix_ms() -> int:
    return time.time_ns() // 1_000_000


class _Client:
    """One WebSocket connection and its session."""

    def __init__(self, faults: FaultSource, connection: WebSocketConnection) -> None:
        self.session = ApiSession()
        writer = faults.delayed(connection.send, connection.abort)
        self.send, self.stop = writer.send, writer.stop


class VenueServer:
    """Serves one `SpotApi` on a TCP port."""

    def __init__(
        self,
        api: SpotApi,
        journal: VenueJournal,
        faults: FaultSource,
        clock_ms: Callable[[], int] = unix_ms,
    ) -> None:
        self._api = api
        self._journal = journal
        self._faults = faults
        self._clock_ms = clock_ms
        self._streams = MarketStreams(api.exchange, api.answers, clock_ms)
        self._clients: dict[WebSocketConnection, _Client] = {}
        self._connections: set[WebSocketConnection] = set()
        self._server: asyncio.Server | None = None
        self.on_unlinked: Callable[[int], None] = lambda owner: None
        """Told which account lost a link that it subscribed on."""
        self.on_failed: Callable[[JournalError], None] = lambda failure: None
        """Told once, when something happened that the journal does not hold: the venue must end."""
        self._failure: JournalError | None = None
        self._listeners: list[Callable[[list[Happened]], None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen. Returns the port taken. Raises OSError where it is in use."""
        loop = self._loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, host, port)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Close every connection and the port; no checkpoint is begun from now on."""
        self._loop = None
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.close("the venue stops")
        if self._server is not None:
            await self._server.wait_closed()

    def _accept(self) -> WebSocketConnection:
        # origins=[None]: no page in a browser may talk to a venue on loopback.
        protocol = ServerProtocol(origins=[None], max_size=REQUEST_BYTES_MAX)
        connection = WebSocketConnection(protocol, self, PATH, STREAMS_PATH)
        self._connections.add(connection)
        return connection

    def owners(self) -> set[int]:
        """Accounts with a link that they subscribed on."""
        found = (client.session.subscribed for client in self._clients.values())
        return {owner for owner in found if owner is not None}

    def add_listener(self, listener: Callable[[list[Happened]], None]) -> None:
        """Another front end: it hears what happened once that is in the journal."""
        self._listeners.append(listener)

    def publish(self) -> None:
        """Journal what happened, then tell the subscribers. Called before any answer that depends on it leaves.

        Raises JournalError where the journal does not take it, and from then on always: what the exchange then holds in
        memory never was, so nobody may be told of it, not even in answer to a question.
        """
        if self._failure is not None:
            raise self._failure
        # Telling may quote a book anew, and so fill an order that rests there.
        while happened := self._api.exchange.take_happened():
            self._write(happened)
            self._api.times.journalled()
            self._streams.published(happened)
            for listener in self._listeners:
                listener(happened)
            subscribers = [client for client in self._clients.values() if client.session.subscribed is not None]
            for item in happened if subscribers else ():
                self._push(item, subscribers)
        self._api.times.journalled()  # of a request that changed nothing, such as an order that was refused
        if self._loop is not None and self._api.exchange.is_checkpoint_due:
            self._loop.call_soon(self._checkpoint)  # behind the answer, which need not wait for it

    def _write(self, happened: list[Happened]) -> None:
        try:
            self._journal.append([item.event for item in happened])
        except JournalError as failure:
            self.fail(failure)
            raise

    def _checkpoint(self) -> None:
        if self._loop is None or self._failure is not None or not self._api.exchange.is_checkpoint_due:
            return
        try:
            self._api.exchange.checkpoint(self._journal.position)
        except JournalError as failure:
            self.fail(failure)

    def fail(self, failure: JournalError) -> None:
        """The journal or the archive cannot be used any more: nothing is answered from here on."""
        self._failure = failure
        self.on_failed(failure)

    def abort_links(self, reason: str) -> None:
        """Cut every connection now."""
        for connection in list(self._connections):
            connection.abort(reason)

    def _push(self, item: Happened, subscribers: list[_Client]) -> None:
        report = self._api.answers.execution_report(item)
        if report is None or item.order is None:
            return
        data = json.dumps({"subscriptionId": 0, "event": report}, separators=(",", ":")).encode()
        for client in subscribers:
            if client.session.subscribed == item.order.owner:
                client.send(data)

    # ConnectionHandler

    def opened(self, connection: WebSocketConnection) -> None:
        if len(self._clients) >= CONNECTIONS_MAX:
            connection.close("too many connections")
            return
        self._clients[connection] = _Client(self._faults, connection)

    def message(self, connection: WebSocketConnection, data: bytes) -> None:
        client = self._clients.get(connection)
        if client is None:
            return
        if connection.requested_path != PATH:
            client.send(self._streams.message(client, data))
            return
        fate = self._faults.fate()
        if fate.acts:
            self._api.times.request()
            answer = self._api.handle(data, client.session, self._clock_ms())
            self.publish()
            if fate.answers:
                client.send(answer)
        if fate.cuts:
            connection.abort(CUT_REASON)

    def drained(self, connection: WebSocketConnection) -> None:
        """Nothing waits for the end of a read: each answer is sent by its own request."""

    def closed(self, connection: WebSocketConnection, reason: str) -> None:
        self._connections.discard(connection)
        client = self._clients.pop(connection, None)
        if client is not None:
            client.stop()
            self._streams.forget(client)
            if client.session.subscribed is not None:
                self.on_unlinked(client.session.subscribed)
