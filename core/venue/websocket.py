"""One WebSocket connection as an asyncio protocol over the sans-I/O half of `websockets`.

Frames are handled where they arrive, in `data_received`: no task, no queue between socket and handler, and everything
that a handler sends in answer to one read leaves in one write. Text messages only; no compression.
"""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Final, Protocol, cast

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

REQUEST_BYTES_MAX: Final = 1 << 20
"""Of a message to a server."""
ANSWER_BYTES_MAX: Final = 16 << 20
"""Of a message to a client. The largest answer lists 10,000 open orders of about 500 bytes."""
WRITE_BUFFER_BYTES_MAX: Final = 24 << 20
"""A peer that leaves more than this unread is cut off."""


class ConnectionHandler(Protocol):
    """What the owner of a connection is told."""

    def opened(self, connection: WebSocketConnection) -> None:
        """The handshake is done; messages may be sent."""

    def message(self, connection: WebSocketConnection, data: bytes) -> None:
        """One whole text message, as UTF-8."""

    def drained(self, connection: WebSocketConnection) -> None:
        """Every message of one read was handed over."""

    def closed(self, connection: WebSocketConnection, reason: str) -> None:
        """The connection is gone (also if it never opened). Told exactly once."""


class WebSocketConnection(asyncio.Protocol):
    """Either end of one connection."""

    def __init__(
        self, protocol: ClientProtocol | ServerProtocol, handler: ConnectionHandler, path: str, also: str = ""
    ) -> None:
        """`path` is what a server accepts, and paths below `also` where that is given; every other is answered 404.
        `last_heard_s` is on `time.monotonic`.
        """
        self._protocol = protocol
        self._handler = handler
        self._path = path
        self._also = also
        self.requested_path = path
        self._bytes_max = REQUEST_BYTES_MAX if isinstance(protocol, ServerProtocol) else ANSWER_BYTES_MAX
        self._transport: asyncio.Transport | None = None
        self._parts: list[bytes] = []
        self._parts_bytes = 0
        self._reason = ""
        self._reading = False
        self.last_heard_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop has transports of its own that are no subclass.
        transport = cast(asyncio.Transport, transport)
        self._transport = transport
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if isinstance(self._protocol, ClientProtocol):
            self._protocol.send_request(self._protocol.connect())
            self._flush()

    def data_received(self, data: bytes) -> None:
        self.last_heard_s = time.monotonic()
        self._protocol.receive_data(data)
        self._reading = True
        try:
            for event in self._protocol.events_received():
                self._take(event)
            # What the handler sent leaves before it tidies up (a journal's sync must not hold the next order back).
            self._flush()
            if self.is_open:
                self._handler.drained(self)
        finally:
            self._reading = False
            self._flush()

    def eof_received(self) -> None:
        self._protocol.receive_eof()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        reason = self._reason or (str(exc) if exc else "closed by the other side")
        self._handler.closed(self, reason)

    @property
    def is_open(self) -> bool:
        return self._transport is not None and self._protocol.state is State.OPEN

    def send(self, data: bytes) -> None:
        """Send one text message; does nothing on a connection that is no longer open (`closed` was or will be told)."""
        if not self.is_open:
            return
        self._protocol.send_text(data)
        if not self._reading:
            self._flush()

    def ping(self) -> None:
        """Ask for a sign of life; `last_heard` moves when it comes."""
        if self.is_open:
            self._protocol.send_ping(b"")
            self._flush()

    def close(self, reason: str) -> None:
        """Say goodbye and close."""
        self._reason = self._reason or reason
        if self.is_open:
            self._protocol.send_close(1000, reason[:100])
            self._flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self, reason: str) -> None:
        """Cut the connection now."""
        self._reason = self._reason or reason
        if self._transport is not None:
            self._transport.abort()

    def _take(self, event: object) -> None:
        if isinstance(event, Frame):
            self._frame(event)
        elif isinstance(event, Request):
            assert isinstance(self._protocol, ServerProtocol)
            response = self._protocol.accept(event)
            self.requested_path = event.path.partition("?")[0]
            below = self._also and f"{self.requested_path}/".startswith(f"{self._also}/")
            if self.requested_path != self._path and not below:
                response = self._protocol.reject(404, f"no such path; the order interface is {self._path}\n")
            self._protocol.send_response(response)
            if self.is_open:
                self._handler.opened(self)
        elif isinstance(event, Response) and self.is_open:
            self._handler.opened(self)

    def _frame(self, frame: Frame) -> None:
        if frame.opcode in (Opcode.TEXT, Opcode.CONT):
            if frame.fin and not self._parts:
                self._handler.message(self, bytes(frame.data))
                return
            self._parts_bytes += len(frame.data)
            if self._parts_bytes > self._bytes_max:
                self.abort("message too large")
                return
            self._parts.append(bytes(frame.data))
            if frame.fin:
                whole, self._parts, self._parts_bytes = b"".join(self._parts), [], 0
                self._handler.message(self, whole)
        elif frame.opcode is Opcode.BINARY:
            self.close("binary messages are not part of this protocol")

    def _flush(self) -> None:
        pieces = self._protocol.data_to_send()
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if data := b"".join(pieces):
            transport.write(data)
        if pieces and pieces[-1] == b"" and transport.can_write_eof():
            transport.write_eof()
        if self._protocol.close_expected():
            # A message that we refused is our word, not the other side's: say which.
            cause = self._protocol.handshake_exc or self._protocol.parser_exc
            self._reason = self._reason or (f"{cause}" if cause else "closed by the other side")
            transport.close()
        elif transport.get_write_buffer_size() > WRITE_BUFFER_BYTES_MAX:
            self.abort("the other side does not read")
