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
from core.orders.order import OrderRequest
from core.records import OrderState as S
from tests.integration.venue_cuts import CuttingProxy, ask, entries_through_cuts
from tests.integration.venue_session import (
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


async def trade_through_cuts(directory: Path, cuts: list[tuple[bool, int]]) -> int:
    async with running_venue(directory) as (_, venue_port):
        proxy = CuttingProxy(venue_port)
        port = await proxy.start()
        # A long receive window: the longest time in which a cut order may still arrive.
        async with running_gateway(directory, port, recv_window_ms=100) as trader:
            entries = await entries_through_cuts(trader, proxy, cuts)
        await proxy.stop()
    return entries


def run_cuts(directory: Path, cuts: list[tuple[bool, int]]) -> None:
    async def bounded() -> int:
        async with asyncio.timeout(600):
            return await trade_through_cuts(directory, cuts)

    entries = asyncio.run(bounded())
    taken, never_reached = check_agreement(directory)
    assert taken + never_reached <= 8 * entries
    assert taken > 0


ENTRY_BYTES = {True: 2_900, False: 7_000}
"""Of one entry, each way: the cuts are spread over so many."""


def test_a_link_cut_anywhere_loses_and_doubles_nothing(tmp_path: Path) -> None:
    run_cuts(tmp_path, [(True, n) for n in (1, 300, 700, 1_500, 2_800)] + [(False, n) for n in (1, 600, 2_500, 6_000)])


@pytest.mark.prove
@pytest.mark.timeout(900)
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
@pytest.mark.timeout(900)
def test_a_gateway_killed_a_hundred_times(tmp_path: Path) -> None:
    kill_gateway_often(tmp_path, times=100, seed=3)


@pytest.mark.prove
@pytest.mark.timeout(900)
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
