"""One FIX link without a socket: what is durable when, and a resend that leaves the loop and the link alone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from core.fix import connection as connection_module
from core.fix.connection import FixConnection
from core.fix.message import FixMessage, FixParser, encode, timestamp
from core.fix.session import RESEND_SLICE, FixSession, SessionIdentity
from core.fix.store import MessageStore

NOW = 1_700_000_000.0


class Wire(asyncio.Transport):
    """Takes everything; `held` bytes of it look unread."""

    def __init__(self) -> None:
        super().__init__()
        self.parser = FixParser()
        self.messages: list[FixMessage] = []
        self.held = 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self

    def setsockopt(self, *args: object) -> None: ...

    def write(self, data: Any) -> None:
        self.messages += self.parser.feed(bytes(data))

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return self.held


class Handler:
    """Hears messages; remembers what the store held durably at each `drained`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.durable: list[int] = []

    def session_of(self, connection: FixConnection, first: FixMessage) -> FixSession | None:
        return None

    def logged_on(self, connection: FixConnection) -> None: ...

    def message(self, connection: FixConnection, message: FixMessage) -> None: ...

    def drained(self, connection: FixConnection) -> None:
        self.durable.append(MessageStore(self.path).next_in)

    def closed(self, connection: FixConnection, reason: str) -> None: ...


def raw(kind: str, sequence: int, fields: list[tuple[int, str | int]]) -> bytes:
    return encode(kind, sequence, "C", "V", fields, timestamp(NOW))


def linked(folder: Path) -> tuple[FixConnection, Wire, Handler]:
    """An acceptor that is logged on; the next message of the other side is number 2."""
    session = FixSession(SessionIdentity("V", "C", initiates=False), MessageStore(folder / "v"))
    handler, wire = Handler(folder / "v"), Wire()
    connection = FixConnection(handler, session, clock_s=lambda: NOW)
    connection.connection_made(wire)
    connection.data_received(raw("A", 1, [(98, 0), (108, 30)]))
    return connection, wire, handler


def test_a_message_counts_as_received_once_what_follows_from_it_is_durable(tmp_path: Path) -> None:
    async def work() -> None:
        connection, _, handler = linked(tmp_path)
        connection.data_received(raw("B", 2, [(58, "one")]) + raw("B", 3, [(58, "two")]))
        assert handler.durable == [1, 2], "before the owner was told that the read is over"
        assert MessageStore(tmp_path / "v").next_in == 4
        connection.connection_lost(None)

    asyncio.run(work())


def test_a_long_resend_yields_and_waits_for_a_side_that_reads_slowly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "RESEND_PAUSE_S", 0.001)
    total = 4 * RESEND_SLICE

    async def work() -> None:
        connection, wire, _ = linked(tmp_path)
        assert connection.session is not None
        for i in range(total):
            connection.send("B", [(58, f"news {i}")])
        wire.messages.clear()
        connection.data_received(raw("2", 2, [(7, 2), (16, 0)]))
        assert len(wire.messages) == RESEND_SLICE
        wire.held = connection_module.RESEND_BUFFER_BYTES_MAX + 1
        await asyncio.sleep(0.01)
        assert len(wire.messages) <= 2 * RESEND_SLICE, "a full link is given no more"
        wire.held = 0
        async with asyncio.timeout(10):
            while connection.session.is_resending:
                before = len(wire.messages)
                await asyncio.sleep(0)
                assert len(wire.messages) - before <= RESEND_SLICE + 1
        assert [m.text(58) for m in wire.messages] == [f"news {i}" for i in range(total)]
        connection.connection_lost(None)

    asyncio.run(work())
