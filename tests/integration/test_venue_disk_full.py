"""A venue whose disk is full: it ends, and comes back as its journal has it; nobody hears of what is not in there."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from core.orders.order import TimeInForce
from core.records import OrderState as S
from core.venue import journal as journal_module
from core.venue.exchange import NewOrder
from core.venue.journal import JournalError
from core.venue.process import TRADER, Venue
from core.venue.server import unix_ms
from tests.integration.test_gateway_acceptance import run, state_of, until
from tests.integration.venue_session import (
    Trader,
    authority,
    check_agreement,
    port_of,
    request,
    running_venue,
)


def fill_the_disk(venue: Venue, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next frame of the journal is written in part."""
    journal_fd, real_write = venue.journal._file, os.write

    def write(fd: int, data: Any) -> int:
        if fd != journal_fd:
            return real_write(fd, data)
        if len(data) <= 10:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_write(fd, data[:-10])

    monkeypatch.setattr(journal_module.os, "write", write)


def rests(index: int) -> Any:
    return request(index, side=1, limit_ticks=9_000, time_in_force=TimeInForce.GTC)


async def breaks_off(venue: Venue, trader: Trader, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second order happens in memory only: its answer must be the end of the link."""
    assert [o.state for o in await trader.gateway.execute([rests(1)], authority())] == [S.ACCEPTED]
    serving = asyncio.create_task(venue.serve_until(asyncio.Event()))
    fill_the_disk(venue, monkeypatch)
    trader.gateway.submit([rests(6)], authority())
    with pytest.raises(JournalError, match=r"cannot be written: .* No space left"):
        await serving
    assert len(venue.exchange.open_orders(TRADER)) == 2, "in memory it happened"
    with pytest.raises(JournalError, match="No space left"):
        venue.server.publish()


@pytest.mark.parametrize("protocol", ["binance", "fix"])
def test_a_venue_that_cannot_journal_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str) -> None:
    async def work() -> None:
        # The loop tells of each link whose protocol raised; that is the failure that is wanted here.
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        async with running_venue(tmp_path) as (venue, ws_port):
            trader = Trader(tmp_path, port_of(venue, ws_port, protocol), protocol, recv_window_ms=100)
            await trader.gateway.start()
            await breaks_off(venue, trader, monkeypatch)
            await until(lambda: state_of(trader, rests(6)) is S.UNKNOWN)
        monkeypatch.undo()
        async with running_venue(tmp_path) as (venue, ws_port):
            assert venue.journal.cut_bytes > 0
            trader.port = port_of(venue, ws_port, protocol)
            await until(lambda: state_of(trader, rests(6)) is S.EXPIRED)
            await trader.gateway.stop()

    run(work())
    assert check_agreement(tmp_path) == (1, 1)


def test_nothing_is_written_after_a_write_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with running_venue(tmp_path) as (venue, _):
            fill_the_disk(venue, monkeypatch)
            venue.exchange.place(TRADER, NewOrder("a", 0, 1, 9_000, 1, TimeInForce.GTC), unix_ms())
            with pytest.raises(JournalError):
                venue.server.publish()
            monkeypatch.undo()
            size = venue.journal.path.stat().st_size
            with pytest.raises(JournalError, match="No space left"):
                venue.journal.append([event.event for event in venue.exchange.take_happened()])
            assert venue.journal.path.stat().st_size == size

    run(work())
