"""Questions over HTTP: what is asked, what is answered, and how both look in HTTP/1.1 and HTTP/3.

Only GET. Who may ask, and what there is to see, is the program's own affair (`Answerer`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import HeadersReceived
from aioquic.quic.events import QuicEvent

HTTP3_ALPN: Final = H3_ALPN[0]
HEAD_BYTES_MAX: Final = 8_192
READ_TIMEOUT_S: Final = 5.0
CONNECTIONS_MAX: Final = 16
_REASON: Final = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 405: "Method Not Allowed"}


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """`authorization` is the header of that name, empty without one."""

    method: str
    path: str
    authorization: str = ""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    status: int
    content_type: str
    body: bytes


Answerer = Callable[[HttpRequest], HttpAnswer]
MALFORMED: Final = HttpAnswer(400, "text/plain", b"malformed request\n")


class Http3Server:
    """HTTP/3 on one accepted QUIC connection."""

    __slots__ = ("_answer", "_http")

    def __init__(self, quic: Any, answer: Answerer) -> None:
        self._http = H3Connection(quic)
        self._answer = answer

    def handle(self, event: QuicEvent) -> None:
        """Answer the requests that `event` completes; a request's own body is not read."""
        for found in self._http.handle_event(event):
            if isinstance(found, HeadersReceived):
                self._respond(found.stream_id, self._answer(_request_of(found.headers)))

    def _respond(self, stream_id: int, answer: HttpAnswer) -> None:
        headers = [
            (b":status", str(answer.status).encode()),
            (b"content-type", answer.content_type.encode()),
            (b"content-length", str(len(answer.body)).encode()),
        ]
        self._http.send_headers(stream_id, headers)
        self._http.send_data(stream_id, answer.body, end_stream=True)


def _request_of(headers: list[tuple[bytes, bytes]]) -> HttpRequest:
    values = {name: value.decode("latin-1") for name, value in headers}
    return HttpRequest(values.get(b":method", ""), values.get(b":path", ""), values.get(b"authorization", ""))


def parse_head(head: bytes) -> HttpRequest | None:
    """The request in an HTTP/1.1 head, None for a malformed one."""
    lines = head.decode("latin-1").split("\r\n")
    parts = lines[0].split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        return None
    authorization = ""
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon and name.lower() == "authorization":
            authorization = value.strip()
    return HttpRequest(parts[0], parts[1], authorization)


class PlainHttpServer:
    """HTTP/1.1 without encryption, one request a connection: for Prometheus, which scrapes no HTTP/3. Loopback only."""

    def __init__(self, answer: Answerer) -> None:
        self._answer = answer
        self._open = 0
        self.unanswered = 0
        """Requests whose client was slow, gone, sent too much, or was one too many."""
        self._server: asyncio.Server | None = None

    async def start(self, port: int) -> int:
        """Listen on loopback; gives the port. Raises OSError where it is taken."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, limit=HEAD_BYTES_MAX)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open > CONNECTIONS_MAX:
                self.unanswered += 1
                return
            async with asyncio.timeout(READ_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                request = parse_head(head)
                answer = MALFORMED if request is None else self._answer(request)
                writer.write(_response(answer))
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            self.unanswered += 1
        finally:
            self._open -= 1
            writer.close()


def _response(answer: HttpAnswer) -> bytes:
    head = (
        f"HTTP/1.1 {answer.status} {_REASON.get(answer.status, 'Error')}\r\nContent-Type: {answer.content_type}\r\n"
        f"Content-Length: {len(answer.body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + answer.body
