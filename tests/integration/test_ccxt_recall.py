"""The kill switch against ccxt, which holds orders back: none leaves after it; what is on the wire is cancelled."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from core.gateway.ccxt_requests import _CURRENT, _leaves, _Recalled, _Request
from core.gateway.reconcile import NEVER_REACHED
from core.orders.order import TimeInForce
from core.records import OrderState as S
from core.venue.process import TRADER
from tests.integration.test_gateway_acceptance import both, run, state_of, until
from tests.integration.venue_session import authority, check_agreement, request

pytest.importorskip("ccxt.pro", reason="ccxt is not installed here")


@pytest.mark.parametrize("throttled_ms", [0, 50])
def test_no_order_leaves_ccxt_after_the_kill_switch(tmp_path: Path, throttled_ms: int) -> None:
    order = request(1)

    async def work() -> None:
        async with both(tmp_path, "ccxt", recv_window_ms=100) as (venue, trader):
            exchange = trader.connector._exchange
            if throttled_ms:
                exchange.enableRateLimit = True
                exchange.throttler.config |= {"tokens": -throttled_ms, "refillRate": 1.0}
            release = trader.gateway.submit([order], authority())
            if throttled_ms:
                await asyncio.sleep(throttled_ms / 2e3)
            trader.gateway.halt("kill switch: a test")
            assert venue.exchange.orders_of(TRADER) == []
            (outcome,) = await release.answered()
            assert (outcome.state, outcome.reason) == (S.EXPIRED, NEVER_REACHED)
            trader.gateway.resume()
            (outcome,) = await trader.gateway.execute([request(6)], authority())
            assert outcome.state is S.FILLED, "the instrument is free again"

    run(work())
    assert check_agreement(tmp_path) == (1, 1)


def test_an_order_on_the_wire_is_left_to_its_answer_and_cancelled(tmp_path: Path) -> None:
    order = request(1, side=1, limit_ticks=9_000, time_in_force=TimeInForce.GTC)

    async def work() -> None:
        async with both(tmp_path, "ccxt", {"latency_ms": 50}) as (venue, trader):
            trader.gateway.submit([order], authority())
            await until(lambda: venue.exchange.orders_of(TRADER))
            trader.gateway.halt("kill switch: a test")
            await until(lambda: state_of(trader, order) is S.CANCELLED)

    run(work())
    assert check_agreement(tmp_path) == (1, 0)


def test_a_recalled_order_that_was_on_the_wire_makes_no_second_request() -> None:
    async def work() -> None:
        request = _Request(lambda answer: None, is_order=True)
        _CURRENT.set(request)
        await _leaves(None, None, None)  # type: ignore[arg-type]
        assert request.is_on_wire
        request.is_recalled = True
        with pytest.raises(_Recalled):
            await _leaves(None, None, None)  # type: ignore[arg-type]

    asyncio.run(work())
