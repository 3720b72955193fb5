"""Just enough HTTP/1.1 for a REST interface: requests with a known length, answers in order, connections kept alive.

Source: RFC 9112. What a client of an exchange does not send is refused by name: chunked bodies, upgrades, pipelining of
more than `PIPELINED_MAX` requests.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, cast

from core.venue.faults import Fate, FaultSource

HEAD_BYTES_MAX: Final = 16_384
BODY_BYTES_MAX: Final = 65_536
PIPELINED_MAX: Final = 64
_REASONS: Final = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found"}


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request. Header names in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


class HttpError(ValueError):
    """Bytes that are no request which we serve; the connection is closed after saying so."""


class HttpParser:
    """Bytes in, requests out."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[HttpRequest]:
        """Every request that is whole by now. Raises HttpError."""
        self._buffer += data
        found = []
        while (request := self._next()) is not None:
            found.append(request)
            if len(found) > PIPELINED_MAX:
                raise HttpError("too many requests at once")
        return found

    def _next(self) -> HttpRequest | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > HEAD_BYTES_MAX:
                raise HttpError("the head of the request is too large")
            return None
        line, *rest = self._buffer[:end].decode("latin-1").split("\r\n")
        parts = line.split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
            raise HttpError("no HTTP/1.1 request")
        headers = {}
        for header in rest:
            name, colon, value = header.partition(":")
            if not colon:
                raise HttpError(f"no header: {header[:60]!r}")
            headers[name.strip().lower()] = value.strip()
        length = headers.get("content-length", "0")
        if "transfer-encoding" in headers or not length.isdecimal() or int(length) > BODY_BYTES_MAX:
            raise HttpError("the body must have a Content-Length, of 64 kB at most")
        whole = end + 4 + int(length)
        if len(self._buffer) < whole:
            return None
        body = bytes(self._buffer[end + 4 : whole])
        del self._buffer[:whole]
        path, _, query = parts[1].partition("?")
        return HttpRequest(parts[0], path, query, headers, body)


def response(status: int, body: bytes, *, close: bool = False) -> bytes:
    """A JSON answer."""
    reason = _REASONS.get(status, "Error")
    end = "Connection: close\r\n" if close else ""
    head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{end}\r\n"
    return head.encode() + body


class HttpConnection(asyncio.Protocol):
    """One client's connection."""

    def __init__(
        self,
        answer: Callable[[HttpRequest], tuple[int, bytes] | Fate],
        faults: FaultSource,
        closed: Callable[[HttpConnection], None],
    ) -> None:
        """`answer` gives status and JSON of a request, or the fate of one that gets no answer: the link is cut, or
        silent from then on (a later answer would be taken for the lost one's)."""
        self._answer = answer
        self._closed = closed
        self._parser = HttpParser()
        self._transport: asyncio.Transport | None = None
        self._send = faults.delayed(self._write).send
        self._is_silent = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        try:
            for request in self._parser.feed(data):
                if self._is_silent:
                    return
                self._take(request)
        except HttpError as error:
            self._write(response(400, b'{"code":-1000,"msg":"%b"}' % str(error).encode(), close=True))
            if self._transport is not None:
                self._transport.close()

    def _take(self, request: HttpRequest) -> None:
        if "origin" in request.headers:  # no page in a browser may talk to a venue on loopback
            self._send(response(403, b'{"code":0,"msg":"no browsers"}'))
            return
        answer = self._answer(request)
        if not isinstance(answer, Fate):
            self._send(response(*answer))
            return
        self._is_silent = True
        if answer.cuts and self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._closed(self)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
