"""The gateway's link to its venue: whatever goes wrong there is shown, and the link is opened again."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from core.gateway.connector import NoAnswer, VenueTrade, VenueUpdate
from core.records import OrderState as S
from core.records import VenueState
from tests.unit.fake_connector import FakeTrader, authority, request, run_gateway


def run(directory: Path, work: Callable[[FakeTrader], Awaitable[None]]) -> None:
    run_gateway(lambda: FakeTrader(directory), work, start=False)


@pytest.mark.parametrize("error", [KeyError("symbol"), ValueError("no number"), sqlite3.OperationalError("disk full")])
def test_an_error_that_nobody_expects_ends_no_link_for_good(tmp_path: Path, error: Exception) -> None:
    async def work(trader: FakeTrader) -> None:
        trader.connector.fail_connect = [error]
        await trader.gateway.start()
        assert [state for state, _ in trader.states] == [
            VenueState.DOWN,
            VenueState.RECONCILING,
            VenueState.CONNECTED,
        ]
        assert trader.states[0][1] == repr(error)
        assert [repr(error) in text for text in trader.errors] == [True]

    run(tmp_path, work)


def test_an_usual_error_is_a_state_and_no_alarm(tmp_path: Path) -> None:
    async def work(trader: FakeTrader) -> None:
        trader.connector.fail_connect = [ConnectionRefusedError("refused")]
        await trader.gateway.start()
        assert trader.states[0] == (VenueState.DOWN, "refused")
        assert not trader.errors

    run(tmp_path, work)


def test_an_order_that_cannot_be_asked_after_frees_its_place(tmp_path: Path) -> None:
    async def work(trader: FakeTrader) -> None:
        gateway, connector = trader.gateway, trader.connector
        await gateway.start()
        release = gateway.submit([request("tt-a")], authority(), in_flight=1)
        connector.fail_query = [ValueError("no number")]
        connector.at_venue["tt-a"] = VenueUpdate("tt-a", 7, 0, S.EXPIRED, 0, (), "", 1)
        connector.answers["tt-a"](NoAnswer("no answer in time"))
        (outcome,) = await release.answered()
        assert outcome.state is S.EXPIRED
        assert connector.connects == 2
        assert "ValueError" in trader.errors[0]
        await gateway.connected()
        gateway.submit([request("tt-b")], authority(), in_flight=1)
        assert [each.client_order_id for each in connector.placed] == ["tt-a", "tt-b"]

    run(tmp_path, work)


def test_a_halt_cancels_what_rests_though_the_journal_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise sqlite3.OperationalError("disk full")

    async def work(trader: FakeTrader) -> None:
        gateway, connector = trader.gateway, trader.connector
        await gateway.start()
        gateway.submit([request("tt-a")], authority())
        connector.answers["tt-a"](VenueUpdate("tt-a", 7, 0, S.ACCEPTED, 0, (), "", 1))
        with monkeypatch.context() as patched:
            patched.setattr(gateway._journal, "write", fail)
            with pytest.raises(sqlite3.OperationalError):
                gateway.halt("kill switch")
            assert [each.client_order_id for each in connector.cancelled] == ["tt-a"]

    run(tmp_path, work)


def test_a_trade_told_of_two_orders_is_shown_and_counted_once(tmp_path: Path) -> None:
    async def work(trader: FakeTrader) -> None:
        gateway, connector = trader.gateway, trader.connector
        await gateway.start()
        gateway.submit([request("tt-a"), request("tt-b")], authority(), in_flight=8)
        fills = (VenueTrade(5, 10, 100, 1, 1),)
        connector.answers["tt-a"](VenueUpdate("tt-a", 7, 0, S.FILLED, 10, fills, "", 1))
        connector.answers["tt-b"](VenueUpdate("tt-b", 8, 0, S.FILLED, 10, fills, "", 1))
        gateway.submit([request("tt-c", 1)], authority())  # commits what was staged
        assert gateway.order("tt-a").state is S.FILLED  # type: ignore[union-attr]
        assert gateway.order("tt-b").state is S.EXPIRED  # type: ignore[union-attr]
        assert [(each.kind, each.journal) for each in trader.differences] == [("repeated trade", "a fill of tt-a")]
        assert gateway.state is VenueState.CONNECTED

    run(tmp_path, work)
