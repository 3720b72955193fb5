"""The pages of a node over HTTP/3 on the QUIC port and over plain HTTP: the token's owner sees them, nobody else."""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path

import pytest
from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent

from core.control_pages import ControlPages, load_or_create_token
from core.records import EventRow, NodeStatus, Severity
from core.telemetry_messages import NodeReport
from core.toggles import BASELINE
from net.http import HttpRequest, PlainHttpServer, parse_head
from net.quic import TransportSettings
from tests.integration.endpoints import Member, pair, until

EVENTS = (EventRow(1, Severity.INFO, "node 0", 'a "line"'),)


def report(events: tuple[EventRow, ...]) -> NodeReport:
    status = NodeStatus(0, 1, True, 0, 0, "", None, (), "strict", (), (), ())
    return NodeReport(status, BASELINE, 7, 140, 3, (), 1.0, 2.0, events, (), "a market")


def pages(member: Member, tmp_path: Path) -> tuple[ControlPages, str]:
    token = load_or_create_token(tmp_path / "http.token")
    return ControlPages(token, member.endpoint, report, lambda: EVENTS), token


class Client(QuicConnectionProtocol):
    """One request at a time over HTTP/3."""

    def get(self, path: str, token: str) -> asyncio.Future[tuple[int, bytes]]:
        self.http = H3Connection(self._quic)
        self.done: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self.status, self.body = 0, b""
        headers = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"node"), (b":path", path.encode())]
        headers.append((b"authorization", f"Bearer {token}".encode()))
        self.http.send_headers(self._quic.get_next_available_stream_id(), headers, end_stream=True)
        self.transmit()
        return self.done

    def quic_event_received(self, event: QuicEvent) -> None:
        for found in self.http.handle_event(event) if hasattr(self, "http") else ():
            if isinstance(found, HeadersReceived):
                self.status = int(dict(found.headers)[b":status"])
            elif isinstance(found, DataReceived):
                self.body += found.data
                if found.stream_ended:
                    self.done.set_result((self.status, self.body))


async def get_http3(address: tuple[str, int], path: str, token: str) -> tuple[int, bytes]:
    configuration = QuicConfiguration(alpn_protocols=H3_ALPN, is_client=True, verify_mode=ssl.CERT_NONE)
    async with connect(*address, configuration=configuration, create_protocol=Client) as client:
        assert isinstance(client, Client)
        async with asyncio.timeout(10):
            return await client.get(path, token)


def test_http3_on_the_quic_port_wants_the_token(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair() as (a, b):
            answering, token = pages(b, tmp_path)
            b.endpoint.http_answer = answering.answer
            status, body = await get_http3(b.address, "/status", token)
            assert status == 200
            assert json.loads(body)["cycles_total"] == 7
            status, body = await get_http3(b.address, "/metrics", token)
            assert status == 200
            assert b'tradetui_link_up{peer="0"} 1' in body
            status, body = await get_http3(b.address, "/events", token)
            assert (status, json.loads(body)["text"]) == (200, 'a "line"')
            assert (await get_http3(b.address, "/other", token))[0] == 404
            assert (await get_http3(b.address, "/status", "0" * 64))[0] == 401
            assert a.endpoint.connected(1)
            assert b.endpoint.connected(0)
            await until(lambda: len(b.endpoint._links) == 1, "the clients' connections are gone")
            assert not b.endpoint.refusals

    asyncio.run(scenario())


def test_without_an_answerer_http3_is_refused_and_an_idle_client_is_closed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(TransportSettings(proof_s=0.3)) as (_, b):
            with pytest.raises((ConnectionError, TimeoutError, asyncio.CancelledError)):
                await asyncio.wait_for(get_http3(b.address, "/status", ""), 3)
            assert set(b.endpoint.refusals) == {"serves no HTTP"}
            b.endpoint.http_answer = pages(b, tmp_path)[0].answer
            configuration = QuicConfiguration(alpn_protocols=H3_ALPN, is_client=True, verify_mode=ssl.CERT_NONE)
            async with connect(*b.address, configuration=configuration):
                await until(lambda: b.endpoint._unproven == 1, "the idle client holds a place")
                await until(lambda: b.endpoint._unproven == 0, "and loses it in time")

    asyncio.run(scenario())


def test_plain_http_answers_the_same_pages(tmp_path: Path) -> None:
    async def ask(port: int, head: str) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head.encode())
        data = await reader.read()
        writer.close()
        return data

    async def scenario() -> None:
        async with pair() as (_, b):
            answering, token = pages(b, tmp_path)
            server = PlainHttpServer(answering.answer)
            answering.unanswered = lambda: server.unanswered
            port = await server.start(0)
            try:
                good = await ask(port, f"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n")
                assert good.startswith(b"HTTP/1.1 200 OK\r\n")
                assert b"# TYPE tradetui_cycles_total counter\ntradetui_cycles_total 7\n" in good
                assert (await ask(port, "GET /metrics HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 401")
                posted = await ask(port, f"POST /metrics HTTP/1.1\r\nAuthorization: Bearer {token}\r\n\r\n")
                assert posted.startswith(b"HTTP/1.1 405")
                assert (await ask(port, "nonsense\r\n\r\n")).startswith(b"HTTP/1.1 400")
                assert await ask(port, "GET /" + "x" * 20_000) == b"", "an endless head gets no answer"
                after = await ask(port, f"GET /metrics HTTP/1.1\r\nAuthorization: Bearer {token}\r\n\r\n")
                assert b"\ntradetui_http_unanswered_total 1\n" in after, "whoever scrapes sees it"
            finally:
                await server.close()

    asyncio.run(scenario())


def test_the_token_is_made_once_with_mode_0600(tmp_path: Path) -> None:
    token = load_or_create_token(tmp_path / "http.token")
    assert load_or_create_token(tmp_path / "http.token") == token
    assert len(token) == 64
    assert (tmp_path / "http.token").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["http.token"]


def test_a_head_is_read_or_refused() -> None:
    assert parse_head(b"GET /a HTTP/1.0\r\nauthorization:  Bearer x \r\n\r\n") == HttpRequest("GET", "/a", "Bearer x")
    for bad in (b"", b"GET /a", b"GET /a b HTTP/1.1", b"GET /a SPDY/1"):
        assert parse_head(bad) is None
