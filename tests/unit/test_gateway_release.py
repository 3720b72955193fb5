"""What may be prepared and released: certificates alone deny, fence and journal; a refusal leaves nothing behind."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from core.gateway.errors import FencedError, GatewayFull
from core.gateway.journal import OrderJournal
from core.orders.life_cycle import InvalidOrder, initialise
from core.records import OrderState as S
from tests.unit.fake_connector import FakeTrader, authority, request, run_gateway

HONEST, FAULTY = 1, 2


def run(directory: Path, work: Callable[[FakeTrader], Awaitable[None]], prepared_max: int = 100) -> None:
    run_gateway(lambda: FakeTrader(directory, prepared_max), work)


def journalled(directory: Path) -> dict[str, S]:
    """What the journal holds once the gateway has stopped."""
    journal = OrderJournal(directory)
    found = {order.request.client_order_id: order.state for order in journal.orders_in(S)}
    journal.close()
    return found


# Optimistic execution


def test_prepared_orders_are_encoded_before_and_journalled_with_their_release(tmp_path: Path) -> None:
    async def work(trader: FakeTrader) -> None:
        gateway, connector = trader.gateway, trader.connector
        gateway.prepare([request("tt-a"), request("tt-b")], HONEST)
        assert (connector.encoded, connector.placed, gateway.order("tt-a")) == (2, [], None)
        gateway.submit([request("tt-a")], authority())
        assert connector.encoded == 2, "nothing is built again at the commit"
        assert [each.client_order_id for each in connector.placed] == ["tt-a"]

    run(tmp_path, work)
    assert journalled(tmp_path) == {"tt-a": S.SUBMITTED}


def test_what_a_node_prepares_denies_nothing_and_takes_nobodys_room(tmp_path: Path) -> None:
    async def work(trader: FakeTrader) -> None:
        gateway, connector = trader.gateway, trader.connector
        gateway.prepare([request("tt-a")], HONEST)
        for number in range(10):
            gateway.prepare([request(f"tt-junk-{number}-{i}", step=2**40) for i in range(4)], FAULTY)
        assert len(gateway._preparations) == 1 + 4, "a sender's newest push out its oldest"
        with pytest.raises(GatewayFull):
            gateway.prepare([request(f"tt-more-{i}") for i in range(5)], FAULTY)
        encoded = connector.encoded
        gateway.submit([request("tt-a"), *(request(f"tt-{i}", 1) for i in range(8))], authority())
        assert connector.encoded == encoded + 8
        assert gateway.order("tt-a").state is S.SUBMITTED  # type: ignore[union-attr]
        assert not trader.reports, "nothing was denied"

    run(tmp_path, work, prepared_max=4)
    assert set(journalled(tmp_path).values()) == {S.SUBMITTED}


def test_who_prepares_first_cannot_let_anothers_order_be_pushed_out(tmp_path: Path) -> None:
    async def work(trader: FakeTrader) -> None:
        trader.gateway.prepare([request("tt-a")], FAULTY)
        trader.gateway.prepare([request("tt-a")], HONEST)
        trader.gateway.prepare([request("tt-junk-1"), request("tt-junk-2")], FAULTY)
        encoded = trader.connector.encoded
        trader.gateway.submit([request("tt-a")], authority())
        assert trader.connector.encoded == encoded

    run(tmp_path, work, prepared_max=2)


def test_terms_that_somebody_prepared_are_not_those_that_were_decided(tmp_path: Path) -> None:
    async def work(trader: FakeTrader) -> None:
        trader.gateway.prepare([request("tt-a", lots=9_999)], FAULTY)
        trader.gateway.submit([request("tt-a", lots=10)], authority())
        assert [each.quantity_lots for each in trader.connector.placed] == [10]

    run(tmp_path, work)


@pytest.mark.parametrize("field", ["step", "epoch", "index", "position", "quantity_lots", "limit_ticks"])
def test_numbers_that_no_journal_holds_are_refused_and_stop_nobody(tmp_path: Path, field: str) -> None:
    async def work(trader: FakeTrader) -> None:
        bad = replace(request("tt-bad"), **{field: 2**63})
        for refused in (
            lambda: trader.gateway.prepare([bad], FAULTY),
            lambda: trader.gateway.submit([request("tt-b"), bad], authority()),
            lambda: trader.gateway.deny([request("tt-b"), bad], "denied"),
        ):
            with pytest.raises(InvalidOrder, match=field):
                refused()
        trader.gateway.submit([request("tt-a")], authority())

    run(tmp_path, work)
    assert journalled(tmp_path) == {"tt-a": S.SUBMITTED}


def test_orders_that_an_older_journal_holds_as_initialised_are_no_open_orders(tmp_path: Path) -> None:
    journal = OrderJournal(tmp_path)
    journal.write([initialise(request("tt-a")), initialise(request("tt-b"))])
    journal.close()

    async def work(trader: FakeTrader) -> None:
        assert trader.gateway.open_orders() == []
        trader.gateway.submit([request("tt-a")], authority())

    run(tmp_path, work)
    assert journalled(tmp_path) == {"tt-a": S.SUBMITTED, "tt-b": S.INITIALISED}


# The fence


def test_a_bare_claim_locks_no_later_leader_out(tmp_path: Path) -> None:
    async def work(trader: FakeTrader) -> None:
        gateway = trader.gateway
        gateway.submit([request("tt-a")], authority(2**62, 2**62, proven=(1, 3)))
        assert gateway.fence == (1, 3)
        gateway.submit([request("tt-b", 1)], authority(1, 3))
        gateway.cancel(["tt-a"], authority(2**62, 1, proven=(1, 3)))
        gateway.submit([request("tt-c", 2)], authority(1, 4))
        assert gateway.fence == (1, 4)
        with pytest.raises(FencedError):
            gateway.submit([request("tt-d", 3)], authority(1, 3))

    run(tmp_path, work)


def test_a_new_leader_may_bring_what_the_old_one_had_decided(tmp_path: Path) -> None:
    async def work(trader: FakeTrader) -> None:
        gateway = trader.gateway
        gateway.submit([request("tt-a")], authority(1, 3))
        gateway.submit([request("tt-b", 1)], authority(1, 4, proven=(1, 3)))
        gateway.submit([request("tt-c", 2)], authority(1, 4))
        with pytest.raises(FencedError):
            gateway.submit([request("tt-d", 3)], authority(1, 3))

    run(tmp_path, work)


# Refusals leave nothing behind


def test_a_fenced_off_submit_is_in_no_later_commit(tmp_path: Path) -> None:
    async def work(trader: FakeTrader) -> None:
        trader.gateway.submit([request("tt-a")], authority(2, 1))
        with pytest.raises(FencedError):
            trader.gateway.submit([request("tt-b", 1)], authority(1, 1))
        trader.gateway.submit([request("tt-c", 2)], authority(2, 1))

    run(tmp_path, work)
    assert set(journalled(tmp_path)) == {"tt-a", "tt-c"}


@pytest.mark.parametrize("in_flight", [-1, 0, 2**40])
def test_nonsense_in_flight_is_refused_before_anything_is_journalled(tmp_path: Path, in_flight: int) -> None:
    async def work(trader: FakeTrader) -> None:
        with pytest.raises(ValueError, match="in_flight"):
            trader.gateway.submit([request("tt-a")], authority(), in_flight)
        trader.gateway.submit([request("tt-b")], authority(), 1)
        assert [each.client_order_id for each in trader.connector.placed] == ["tt-b"]

    run(tmp_path, work)
    assert set(journalled(tmp_path)) == {"tt-b"}


def test_a_commit_that_fails_leaves_nothing_to_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise sqlite3.OperationalError("disk full")

    async def work(trader: FakeTrader) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(trader.gateway._journal, "write", fail)
            with pytest.raises(sqlite3.OperationalError):
                trader.gateway.submit([request("tt-a")], authority(3, 3))
        assert trader.gateway.fence == (0, 0)
        assert trader.gateway.order("tt-a") is None
        trader.gateway.submit([request("tt-b")], authority())

    run(tmp_path, work)
    assert set(journalled(tmp_path)) == {"tt-b"}
