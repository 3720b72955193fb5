"""The gateway in FIX: the same promises as in Binance's language, against our venue and against a QuickFIX acceptor."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable
from pathlib import Path

import pytest

from core.gateway.errors import VenueUnavailable
from core.gateway.fix import FixConnector
from core.orders.order import TimeInForce
from core.records import OrderState as S
from core.records import VenueState
from tests.integration.own_process import in_own_process
from tests.integration.venue_cuts import CuttingProxy, entries_through_cuts
from tests.integration.venue_session import (
    HOST,
    SCALE,
    Trader,
    authority,
    check_agreement,
    entry,
    request,
    running_gateway,
    running_venue,
)


def run(work: Awaitable[None], timeout_s: float = 60) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(timeout_s):
            await work

    asyncio.run(bounded())


async def until(condition: object) -> None:
    while not condition():  # type: ignore[operator]
        await asyncio.sleep(0.002)


def test_a_fill_while_away_comes_by_resend_and_is_reconciled(tmp_path: Path) -> None:
    async def work() -> None:
        rest = request(1, 0, side=-1, limit_ticks=10_030, time_in_force=TimeInForce.GTC)
        async with running_venue(tmp_path) as (venue, _):
            async with running_gateway(tmp_path, venue.fix_port, "fix") as trader:
                await trader.gateway.execute([rest], authority())
            venue.advance_to(1)
            venue.server.publish()
            async with running_gateway(tmp_path, venue.fix_port, "fix") as trader:
                assert trader.gateway.order(rest.client_order_id).state is S.FILLED  # type: ignore[union-attr]

    run(work())
    assert check_agreement(tmp_path) == (1, 0)


def check_cuts(directory: Path, cuts: list[tuple[bool, int]]) -> None:
    entries = 0

    async def work() -> None:
        nonlocal entries
        async with running_venue(directory) as (venue, _):
            proxy = CuttingProxy(venue.fix_port)
            port = await proxy.start()
            async with running_gateway(directory, port, "fix", heartbeat_ms=10_000) as trader:
                entries = await entries_through_cuts(trader, proxy, cuts)
            await proxy.stop()

    run(work(), timeout_s=600)
    taken, never_reached = check_agreement(directory)
    assert taken > 0
    assert taken + never_reached <= 8 * entries


def test_a_link_cut_anywhere_loses_and_doubles_nothing(tmp_path: Path) -> None:
    check_cuts(tmp_path, [(True, n) for n in (1, 200, 450, 900)] + [(False, n) for n in (1, 300, 800, 2_000)])


@pytest.mark.prove
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("to_venue", "until_byte"), [(True, 1_200), (False, 2_600)])
def test_a_link_cut_at_every_seventeenth_byte(tmp_path: Path, to_venue: bool, until_byte: int) -> None:
    check_cuts(tmp_path, [(to_venue, n) for n in range(1, until_byte, 17)])


def test_a_venue_that_comes_back_is_found_again(tmp_path: Path) -> None:
    async def work() -> None:
        async with running_venue(tmp_path) as (venue, _):
            fix_port = venue.fix_port
            trader = Trader(tmp_path, fix_port, "fix")
            await trader.gateway.start()
            await trader.gateway.execute(entry(1), authority(), 8)
        await until(lambda: trader.gateway.state is VenueState.DOWN)
        with pytest.raises(VenueUnavailable):
            await trader.gateway.execute([request(2)], authority())
        async with running_venue(tmp_path) as (venue, _):
            trader.port = venue.fix_port
            await trader.gateway.connected()
            (outcome,) = await trader.gateway.execute([request(3)], authority())
            assert outcome.state is S.FILLED
            await trader.gateway.stop()

    run(work())
    check_agreement(tmp_path)


@in_own_process
def test_against_a_quickfix_acceptor(tmp_path: Path) -> None:
    side = pytest.importorskip("tests.integration.quickfix_side", reason="QuickFIX is not installed here")
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]

    async def work() -> None:
        acceptor = side.Acceptor(tmp_path / "quickfix", port)
        acceptor.start()
        trader = Trader(tmp_path, port, "fix")
        trader.connector.__init__(  # the same connector, for a venue that asks no signature
            lambda: (HOST, port), None, SCALE, trader.settings, target=side.ACCEPTOR, asks_account=False
        )
        assert isinstance(trader.connector, FixConnector)
        gateway = trader.gateway
        try:
            await gateway.start()
            fill = request(1, 0, side=1, limit_ticks=12_000)
            rest = request(1, 1, side=1, limit_ticks=9_000, time_in_force=TimeInForce.GTC)
            refused = request(1, 2, side=1, limit_ticks=12_000, quantity_lots=666)
            outcomes = await gateway.execute([fill, rest, refused], authority(), 8)
            assert [o.state for o in outcomes] == [S.FILLED, S.ACCEPTED, S.REJECTED]
            assert outcomes[2].reason == "0 too many"
            gateway.cancel([rest.client_order_id], authority())
            await until(lambda: gateway.order(rest.client_order_id).state is S.CANCELLED)  # type: ignore[union-attr]
            late = request(2, 3, side=1, limit_ticks=9_000, time_in_force=TimeInForce.GTC)
            await gateway.execute([late], authority())
            trader.connector._connection.abort("the cable is pulled")
            await until(lambda: VenueState.DOWN in trader.states)
            acceptor.fill(late.client_order_id)
            await gateway.connected()
            await until(lambda: gateway.order(late.client_order_id).state is S.FILLED)  # type: ignore[union-attr]
            assert acceptor.orders.count(late.client_order_id) == 1
            assert not [m for m in acceptor.administrative if m[35] == "3"], "QuickFIX or we rejected a message"
        finally:
            await gateway.stop()

    run(work())
