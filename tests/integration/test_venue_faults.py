"""SIGKILL of either process at any moment, the link cut after any byte: no order twice, none lost, money exact."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from core.gateway.connector import EncodedOrder
from core.gateway.errors import VenueUnavailable
from core.orders.order import OrderRequest
from core.records import OrderState as S
from tests.integration.venue_session import (
    HOST,
    Process,
    Trader,
    authority,
    check_agreement,
    entry,
    kill_started,
    last_index,
    running_gateway,
    running_venue,
)


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    yield
    kill_started()


class CuttingProxy:
    """Passes bytes between gateway and venue, and cuts the link once so many have passed in one direction.

    The bytes up to the cut arrive, those after it never do: as when a cable is pulled. `cut_at` None never cuts.
    """

    def __init__(self, venue_port: int) -> None:
        self._venue_port = venue_port
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()
        self.to_venue = True
        self.cut_at: int | None = None
        self.passed = 0

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    def arm(self, to_venue: bool, cut_at: int) -> None:
        self.to_venue, self.cut_at, self.passed = to_venue, cut_at, 0

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        task.add_done_callback(self._links.discard)
        venue_reader, venue_writer = await asyncio.open_connection(HOST, self._venue_port)
        ways = [
            asyncio.create_task(self._pass(reader, venue_writer, to_venue=True)),
            asyncio.create_task(self._pass(venue_reader, writer, to_venue=False)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            # What was passed on before the cut still arrives.
            writer.close()
            venue_writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to_venue: bool) -> None:
        while data := await reader.read(65_536):
            if self.cut_at is not None and to_venue == self.to_venue:
                left = self.cut_at - self.passed
                self.passed += len(data)
                if left <= len(data):
                    self.cut_at = None
                    writer.write(data[:left])
                    return
            writer.write(data)


async def trade_through_cuts(directory: Path, cuts: list[tuple[bool, int]]) -> int:
    """One entry of eight orders for each cut; each is asked for again after the cut. Returns how many cuts came."""
    came = 0
    async with running_venue(directory) as (_, venue_port):
        proxy = CuttingProxy(venue_port)
        port = await proxy.start()
        # A long receive window: the longest time in which a cut order may still arrive.
        async with running_gateway(directory, port, recv_window_ms=100) as trader:
            for index, (to_venue, cut_at) in enumerate(cuts, start=1):
                await trader.settled()
                proxy.arm(to_venue, cut_at)
                await ask(trader, index)
                came += proxy.cut_at is None
                await ask(trader, index)
            proxy.cut_at = None
            await trader.settled()
        await proxy.stop()
    return came


async def ask(trader: Trader, index: int) -> None:
    """As a leader does: again once the venue is back, until every order has its outcome."""
    while True:
        try:
            trader.gateway.advance(index)
            outcomes = await trader.gateway.execute(entry(index), authority(), in_flight=8)
        except VenueUnavailable:
            await trader.gateway.connected()
            continue
        assert all(outcome.state not in (S.INITIALISED, S.SUBMITTED, S.UNKNOWN) for outcome in outcomes)
        return


def run_cuts(directory: Path, cuts: list[tuple[bool, int]]) -> None:
    async def bounded() -> int:
        async with asyncio.timeout(600):
            return await trade_through_cuts(directory, cuts)

    came = asyncio.run(bounded())
    assert came == len(cuts), "every cut must fall within the exchange"
    taken, never_reached = check_agreement(directory)
    assert taken + never_reached <= 8 * len(cuts)
    assert taken > 0


ENTRY_BYTES = {True: 2_900, False: 7_000}
"""Of one entry, each way: the cuts are spread over so many."""


def test_a_link_cut_anywhere_loses_and_doubles_nothing(tmp_path: Path) -> None:
    run_cuts(tmp_path, [(True, n) for n in (1, 300, 700, 1_500, 2_800)] + [(False, n) for n in (1, 600, 2_500, 6_000)])


@pytest.mark.prove
@pytest.mark.parametrize("to_venue", [True, False])
def test_a_link_cut_at_every_seventeenth_byte(tmp_path: Path, to_venue: bool) -> None:
    run_cuts(tmp_path, [(to_venue, n) for n in range(1, ENTRY_BYTES[to_venue], 17)])


def kill_gateway_often(directory: Path, times: int, seed: int) -> None:
    source = random.Random(seed)
    venue = Process("venue", directory, 0)
    port = venue.ready()
    for _ in range(times):
        gateway = Process("gateway", directory, port)
        gateway.ready()
        time.sleep(source.uniform(0.0, 0.08))
        gateway.kill()
    asyncio.run(reconcile(directory, port))
    assert venue.terminate() == 0
    taken, _ = check_agreement(directory)
    assert taken > 8 * times
    assert last_index(directory) > times


async def reconcile(directory: Path, port: int) -> None:
    async with asyncio.timeout(30):
        async with running_gateway(directory, port) as trader:
            await trader.settled()


def kill_venue_often(directory: Path, times: int, seed: int) -> None:
    source = random.Random(seed)

    async def work() -> int:
        venue = Process("venue", directory, 0)
        port = venue.ready()
        index, deaths = 1, 0
        async with running_gateway(directory, port) as trader:
            for _ in range(times):
                trading = asyncio.create_task(trade_from(trader, index))
                await asyncio.sleep(source.uniform(0.0, 0.08))
                venue.kill()
                venue = Process("venue", directory, port)
                await asyncio.to_thread(venue.ready)
                await trader.settled()
                deaths += 1
                trading.cancel()
                await asyncio.gather(trading, return_exceptions=True)
                await trader.settled()
                index = last_index(directory)
            await trader.settled()
        assert venue.terminate() == 0
        return deaths

    assert asyncio.run(work()) == times
    taken, _ = check_agreement(directory)
    assert taken > 8 * times


async def trade_from(trader: Trader, index: int) -> None:
    while True:
        await ask(trader, index)
        index += 1


def test_a_gateway_killed_at_random_moments(tmp_path: Path) -> None:
    kill_gateway_often(tmp_path, times=4, seed=1)


def test_a_venue_killed_at_random_moments(tmp_path: Path) -> None:
    kill_venue_often(tmp_path, times=4, seed=2)


@pytest.mark.prove
def test_a_gateway_killed_a_hundred_times(tmp_path: Path) -> None:
    kill_gateway_often(tmp_path, times=100, seed=3)


@pytest.mark.prove
def test_a_venue_killed_a_hundred_times(tmp_path: Path) -> None:
    kill_venue_often(tmp_path, times=100, seed=4)


class Died(BaseException):
    """The process ends here. No code of ours may catch it."""


@pytest.mark.parametrize("sent_before", [0, 1, 4])
def test_a_gateway_that_dies_between_journal_and_wire(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent_before: int
) -> None:
    """Journalled as submitted, and only some of it sent: the rest must expire, not be sent by whoever comes next."""

    async def work() -> None:
        async with running_venue(tmp_path) as (_, port):
            trader = Trader(tmp_path, port)
            await trader.gateway.start()
            sent = 0
            place = trader.connector.place

            def dying(order: EncodedOrder, answered: object) -> None:
                nonlocal sent
                if sent == sent_before:
                    raise Died
                sent += 1
                place(order, answered)  # type: ignore[arg-type]

            monkeypatch.setattr(trader.connector, "place", dying)
            with pytest.raises(Died):
                trader.gateway.submit(distinct(), authority(), in_flight=8)
            abandon(trader)
            async with running_gateway(tmp_path, port) as following:
                outcomes = await following.gateway.execute(distinct(), authority(), in_flight=8)
                assert all(o.duplicate for o in outcomes)
                assert [o.state for o in outcomes].count(S.EXPIRED) == 5 - sent_before

    def distinct() -> list[OrderRequest]:
        return entry(1)[:5]  # one an instrument, so that all may be in flight

    asyncio.run(work())
    assert check_agreement(tmp_path) == (sent_before, 5 - sent_before)


def abandon(trader: Trader) -> None:
    """Leave the gateway as a SIGKILL does: nothing is written any more, the socket closes."""
    gateway = trader.gateway
    assert gateway._link._task is not None
    gateway._link._task.cancel()
    connection = trader.connector._connection
    assert connection is not None
    trader.connector._handler = None
    trader.connector._pending.clear()
    connection.abort("killed")
    gateway._journal.close()


def test_a_gateway_that_dies_before_its_journal_is_written_has_sent_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        async with running_venue(tmp_path) as (_, port):
            trader = Trader(tmp_path, port)
            await trader.gateway.start()

            def dying(*_: object) -> None:
                raise Died

            monkeypatch.setattr(trader.gateway._journal, "write", dying)
            with pytest.raises(Died):
                trader.gateway.submit(entry(1), authority(), in_flight=8)
            abandon(trader)
            async with running_gateway(tmp_path, port) as following:
                outcomes = await following.gateway.execute(entry(1), authority(), in_flight=8)
                assert not any(o.duplicate for o in outcomes)

    asyncio.run(work())
    assert check_agreement(tmp_path) == (7, 0)


@pytest.mark.parametrize("protocol", ["binance", "fix"])
def test_a_venue_that_drops_refuses_and_cuts_by_setting(tmp_path: Path, protocol: str) -> None:
    faults = {"drop_rate": 0.03, "disconnect_rate": 0.03, "reject_rate": 0.1, "seed": 7}
    patience = {"answer_timeout_ms": 60, "recv_window_ms": 60, "heartbeat_ms": 500}

    async def work() -> None:
        async with running_venue(tmp_path, **faults) as (venue, ws_port):
            port = venue.fix_port if protocol == "fix" else ws_port
            async with running_gateway(tmp_path, port, protocol, **patience) as trader:
                for index in range(1, 26):
                    await ask(trader, index)
                captions = trader.connector.captions
                venue.faults.injection = replace(venue.faults.injection, drop_rate=0.0, disconnect_rate=0.0)
                await trader.settled()
            if protocol == "binance":
                assert "venue drops 3.0% (injected)" in captions
                assert "venue cuts 3.0% (injected)" in captions
            assert venue.faults._faults > 10
            assert S.REJECTED in {report.state for report in trader.reports}
            assert S.UNKNOWN in {report.state for report in trader.reports}

    asyncio.run(work())
    check_agreement(tmp_path)
