"""The venue's WebSocket server: connections, the journal before each answer, pushed events, injected delays."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from websockets.server import ServerProtocol

from core.venue.api import PATH, ApiSession, SpotApi
from core.venue.exchange import Happened
from core.venue.journal import VenueJournal
from core.venue.settings import Injection
from core.venue.streams import MarketStreams
from core.venue.websocket import REQUEST_BYTES_MAX, WebSocketConnection

STREAMS_PATH: Final = "/ws"
"""Market streams; a name may follow, as in `/ws/1`."""
CONNECTIONS_MAX: Final = 32
DELAYED_MAX: Final = 100_000
"""Answers that wait for the injected latency, of one connection; beyond it the client is cut off."""


def unix_ms() -> int:
    return time.time_ns() // 1_000_000


class _Delayed:
    """What an injected delay holds back of one connection."""

    def __init__(
        self, delay_s: Callable[[], float], send: Callable[[bytes], None], overflow: Callable[[str], None]
    ) -> None:
        self._delay_s = delay_s
        self._send = send
        self._overflow = overflow
        self._delayed: deque[tuple[float, bytes]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def send(self, data: bytes) -> None:
        delay_s = self._delay_s()
        if not delay_s and not self._delayed:
            self._send(data)
            return
        loop = asyncio.get_running_loop()
        # Never before an earlier answer: jitter must not reorder a TCP stream.
        due = max(loop.time() + delay_s, self._delayed[-1][0] if self._delayed else 0.0)
        self._delayed.append((due, data))
        if len(self._delayed) > DELAYED_MAX:
            self._overflow("too many answers are waiting")
        elif self._timer is None:
            self._timer = loop.call_at(due, self._release)

    def _release(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        while self._delayed and self._delayed[0][0] <= loop.time():
            self._send(self._delayed.popleft()[1])
        if self._delayed:
            self._timer = loop.call_at(self._delayed[0][0], self._release)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._delayed.clear()


class _Client:
    """One WebSocket connection and its session."""

    def __init__(self, delay_s: Callable[[], float], connection: WebSocketConnection) -> None:
        self.session = ApiSession()
        self._delayed = _Delayed(delay_s, connection.send, connection.abort)
        self.send, self.stop = self._delayed.send, self._delayed.stop


class VenueServer:
    """Serves one `SpotApi` on a TCP port."""

    def __init__(
        self,
        api: SpotApi,
        journal: VenueJournal,
        injection: Injection,
        clock_ms: Callable[[], int] = unix_ms,
    ) -> None:
        self._api = api
        self._journal = journal
        self._injection = injection
        self._random = random.Random(injection.seed)
        self._clock_ms = clock_ms
        self._streams = MarketStreams(api.exchange, api.answers, clock_ms)
        self._clients: dict[WebSocketConnection, _Client] = {}
        self._connections: set[WebSocketConnection] = set()
        self._server: asyncio.Server | None = None
        self._faults = 0
        self.on_unlinked: Callable[[int], None] = lambda owner: None
        """Told which account lost a link that it subscribed on."""
        self._listeners: list[Callable[[list[Happened]], None]] = []

    async def start(self, host: str, port: int) -> int:
        """Listen. Returns the port taken. Raises OSError where it is in use."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, host, port)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Close every connection and the port."""
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

    def delay_s(self) -> float:
        """The injected delay of the next answer."""
        injection = self._injection
        jitter = injection.jitter_ms * self._random.random() if injection.jitter_ms else 0.0
        return (injection.latency_ms + jitter) / 1e3

    def owners(self) -> set[int]:
        """Accounts with a link that they subscribed on."""
        found = (client.session.subscribed for client in self._clients.values())
        return {owner for owner in found if owner is not None}

    def add_listener(self, listener: Callable[[list[Happened]], None]) -> None:
        """Another front end: it hears what happened once that is in the journal."""
        self._listeners.append(listener)

    def delayed(self, send: Callable[[bytes], None]) -> Callable[[bytes], None]:
        """A writer that holds bytes back by the injected delay."""
        return _Delayed(self.delay_s, send, lambda reason: None).send

    def _draw(self, rate: float) -> bool:
        return rate > 0 and self._random.random() < rate

    def publish(self) -> None:
        """Journal what happened, then tell the subscribers. Called before any answer that depends on it leaves."""
        # Telling may quote a book anew, and so fill an order that rests there.
        while happened := self._api.exchange.take_happened():
            self._journal.append([item.event for item in happened])
            self._streams.published(happened)
            for listener in self._listeners:
                listener(happened)
            subscribers = [client for client in self._clients.values() if client.session.subscribed is not None]
            for item in happened if subscribers else ():
                self._push(item, subscribers)

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
        self._clients[connection] = _Client(self.delay_s, connection)

    def message(self, connection: WebSocketConnection, data: bytes) -> None:
        client = self._clients.get(connection)
        if client is None:
            return
        if connection.requested_path != PATH:
            client.send(self._streams.message(client, data))
            return
        lost, cut = self._draw(self._injection.drop_rate), self._draw(self._injection.disconnect_rate)
        # Every other one before the venue acts: then the order was never there, else only its answer is missing.
        self._faults += lost or cut
        before = (lost or cut) and self._faults % 2 == 1
        if not before:
            answer = self._api.handle(data, client.session, self._clock_ms())
            self.publish()
            if not lost and not cut:
                client.send(answer)
        if cut:
            connection.abort("cut by the setting disconnect_rate")

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
