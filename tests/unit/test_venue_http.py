"""HTTP and REST without a socket: requests in any portions, refusals by name, the signature over what was sent."""

from __future__ import annotations

import asyncio
import hmac
import json
import socket
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from core.venue.faults import FaultSource
from core.venue.http import BODY_BYTES_MAX, HEAD_BYTES_MAX, PIPELINED_MAX, HttpError, HttpParser, HttpRequest, response
from core.venue.rest import RestServer
from core.venue.settings import Injection
from tests.unit.test_venue_api import NOW, api

GET = b"GET /api/v3/time?a=1 HTTP/1.1\r\nHost: x\r\nX-MBX-APIKEY: k\r\n\r\n"
POST = b"POST /api/v3/order HTTP/1.1\r\nContent-Length: 5\r\n\r\na=b&c"


@given(st.lists(st.integers(1, 40), min_size=1))
def test_requests_are_the_same_in_any_portions(sizes: list[int]) -> None:
    parser, data, found = HttpParser(), GET + POST + GET, []
    while data:
        for size in sizes:
            found += parser.feed(data[:size])
            data = data[size:]
    assert [(r.method, r.path, r.query, r.body) for r in found] == [
        ("GET", "/api/v3/time", "a=1", b""),
        ("POST", "/api/v3/order", "", b"a=b&c"),
        ("GET", "/api/v3/time", "a=1", b""),
    ]
    assert found[0].headers["x-mbx-apikey"] == "k"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"nonsense\r\n\r\n", "no HTTP"),
        (b"GET / HTTP/2.0\r\n\r\n", "no HTTP"),
        (b"GET / HTTP/1.1\r\nno header\r\n\r\n", "no header"),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "Content-Length"),
        (b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "Content-Length"),
        (b"GET / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (BODY_BYTES_MAX + 1), "Content-Length"),
        (b"x" * (HEAD_BYTES_MAX + 1), "too large"),
        (GET * (PIPELINED_MAX + 1), "too many"),
    ],
)
def test_what_is_no_request_is_refused_by_name(data: bytes, text: str) -> None:
    with pytest.raises(HttpError, match=text):
        HttpParser().feed(data)


def test_a_response_has_its_length() -> None:
    assert response(200, b"{}", close=True).endswith(b"Content-Length: 2\r\nConnection: close\r\n\r\n{}")


def rest() -> RestServer:
    return RestServer(api(), lambda: None, FaultSource(Injection()), lambda: NOW)


def call(server: RestServer, method: str, path: str, query: str = "", key: str = "key", sign: bool = True) -> Any:
    if sign:
        query += f"&timestamp={NOW}" if query else f"timestamp={NOW}"
        query += "&signature=" + hmac.digest(b"secret", query.encode(), "sha256").hex()
    in_body = method == "POST"
    request = HttpRequest(
        method, path, "" if in_body else query, {"x-mbx-apikey": key}, query.encode() if in_body else b""
    )
    status, body = server.answer(request)
    return status, json.loads(body)


ORDER = "symbol=AAA&side=BUY&type=LIMIT&timeInForce=GTC&price=99.00&quantity=0.500&newClientOrderId=a"


def test_an_order_lives_and_dies_by_rest() -> None:
    server = rest()
    status, placed = call(server, "POST", "/api/v3/order", ORDER)
    assert (status, placed["status"]) == (200, "NEW")
    assert call(server, "GET", "/api/v3/order", f"symbol=AAA&orderId={placed['orderId']}")[1]["clientOrderId"] == "a"
    assert [o["orderId"] for o in call(server, "GET", "/api/v3/allOrders", "symbol=AAA")[1]] == [placed["orderId"]]
    assert call(server, "DELETE", "/api/v3/order", "symbol=AAA&origClientOrderId=a")[1]["status"] == "CANCELED"
    assert call(server, "GET", "/api/v3/openOrders")[1] == []
    assert call(server, "GET", "/api/v3/ticker/bookTicker", "symbol=AAA", sign=False)[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "query", "options", "status", "code"),
    [
        ("POST", "/api/v3/order", ORDER, {"sign": False}, 400, -1102),
        ("POST", "/api/v3/order", ORDER, {"key": "other"}, 401, -2015),
        ("POST", "/api/v3/order", f"{ORDER}&timestamp={NOW - 9_000}&signature=ab", {"sign": False}, 400, -1021),
        ("POST", "/api/v3/order", f"{ORDER}&timestamp={NOW}&signature=ab", {"sign": False}, 400, -1022),
        ("GET", "/api/v3/order", "symbol=AAA&orderId=9", {}, 400, -2013),
        ("GET", "/api/v3/depth", "symbol=CCC", {"sign": False}, 400, -1121),
        ("GET", "/api/v3/depth", "garbage", {"sign": False}, 400, -1000),
        ("GET", "/api/v3/nothing", "", {}, 404, -1020),
        ("GET", "/elsewhere", "", {}, 404, -1020),
    ],
)
def test_refusals_carry_their_code(
    method: str, path: str, query: str, options: dict[str, Any], status: int, code: int
) -> None:
    found = call(rest(), method, path, query, **options)
    assert (found[0], found[1]["code"]) == (status, code)


class Wire(asyncio.Transport):
    """What a connection writes, and whether it was cut."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_cut = False

    def get_extra_info(self, name: str, default: object = None) -> object:
        return socket.socket()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def abort(self) -> None:
        self.is_cut = True

    def is_closing(self) -> bool:
        return self.is_cut


@pytest.mark.parametrize(("drop", "cut"), [(1.0, 0.0), (0.0, 1.0)])
def test_a_request_that_is_harmed_on_purpose_gets_no_answer_and_nor_does_a_later_one(drop: float, cut: float) -> None:
    asked: list[str] = []
    faults = FaultSource(Injection(drop_rate=drop, disconnect_rate=cut))
    server = RestServer(api(), lambda: asked.append("answered"), faults, lambda: NOW)
    for times in (0, 1):  # every other one before the venue acts
        connection, wire = server._accept(), Wire()
        connection.connection_made(wire)
        connection.data_received(GET + GET)
        assert (wire.written, wire.is_cut, len(asked)) == (b"", bool(cut), times)
    server._faults.injection = Injection()
    healthy, wire = server._accept(), Wire()
    healthy.connection_made(wire)
    healthy.data_received(GET)
    assert wire.written.startswith(b"HTTP/1.1 200 OK")
