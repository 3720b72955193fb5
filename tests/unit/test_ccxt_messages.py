"""ccxt's structures to ours: states, ids, fees in any currency, and errors that carry no signature."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from core.gateway import ccxt as ccxt_module
from core.gateway import ccxt_requests
from core.gateway.ccxt import CcxtConnector
from core.gateway.ccxt_exchange import CcxtVenue, said
from core.gateway.ccxt_messages import CcxtMessages, first_number_after, number_of, trade_number
from core.gateway.ccxt_requests import CcxtRequests
from core.gateway.connector import Answer, ConnectorError, NoAnswer
from core.gateway.settings import GatewaySettings
from core.orders.order import OrderRequest, TimeInForce
from core.orders.scale import MarketScale
from core.portfolio import Fill, Portfolio
from core.records import OrderState as S
from core.venue.credentials import Credentials

SCALE = MarketScale.of(["BTCUSDT"], "0.01", "0.001", "USDT")
MESSAGES = CcxtMessages(SCALE, ["BTC/USDT"])


class Errors(ModuleType):
    """ccxt's, where it is not installed."""

    class BaseError(Exception): ...

    class OperationFailed(BaseError): ...


def order(status: str, filled: str, amount: str = "0.005", **more: object) -> dict[str, Any]:
    return {
        "id": "77",
        "symbol": "BTC/USDT",
        "status": status,
        "filled": filled,
        "amount": amount,
        "timestamp": 5,
        **more,
    }


def trade(cost: str, currency: str | None) -> dict[str, Any]:
    fee = {"cost": cost, "currency": currency}
    return {"id": "9", "symbol": "BTC/USDT", "amount": "0.005", "price": "100.00", "fee": fee, "timestamp": 5}


@pytest.mark.parametrize(
    ("status", "filled", "state"),
    [
        ("open", "0", S.ACCEPTED),
        ("open", "0.002", S.PARTIALLY_FILLED),
        ("closed", "0.005", S.FILLED),
        ("closed", "0.002", S.CANCELLED),
        ("canceled", "0", S.CANCELLED),
        ("expired", "0.001", S.EXPIRED),
        ("rejected", "0", S.REJECTED),
    ],
)
def test_states(status: str, filled: str, state: S) -> None:
    update = MESSAGES.update(order(status, filled), "tt-a")
    assert (update.state, update.client_order_id, update.venue_order_id) == (state, "tt-a", 77)
    assert update.ts_ns == 5_000_000


def test_a_status_that_nobody_knows_is_refused() -> None:
    with pytest.raises(KeyError):
        MESSAGES.update({key: value for key, value in order("open", "0").items() if key != "status"}, "tt-a")
    with pytest.raises(ValueError, match="finer"):
        MESSAGES.update(order("open", "0.0001"), "tt-a")


@pytest.mark.parametrize(
    ("cost", "currency", "quanta"),
    [
        ("0.00050", "USDT", 50),
        ("0.000005", "BTC", 50),
        ("0.01", "BNB", 0),
        ("0.0000151", "USDT", 2),
        ("0.00001", None, 1),
    ],
)
def test_fees_in_any_currency(cost: str, currency: str | None, quanta: int) -> None:
    """One quantum is 0.00001 USDT."""
    assert MESSAGES.trade(trade(cost, currency)).fee_quanta == quanta


def test_arguments_of_every_kind_of_order() -> None:
    def arguments(limit: int, time_in_force: TimeInForce) -> tuple[Any, ...]:
        return MESSAGES.place_arguments(OrderRequest("tt-a", 0, -1, 5, limit, time_in_force, 0, 1, 1, 0))

    assert arguments(10_000, TimeInForce.GTC) == (
        "BTC/USDT",
        "limit",
        "sell",
        "0.005",
        "100.00",
        {"clientOrderId": "tt-a", "timeInForce": "GTC"},
    )
    assert arguments(10_000, TimeInForce.POST_ONLY)[5] == {"clientOrderId": "tt-a", "postOnly": True}
    assert arguments(0, TimeInForce.IOC)[1:5] == ("market", "sell", "0.005", None)


def test_ids_that_are_no_numbers_become_some() -> None:
    assert number_of("123") == number_of(123) == 123
    assert number_of("a-b") == number_of("a-b") != number_of("a-c")
    assert 0 < number_of("9" * 30) < 2**62


def named(i: int, ms: int) -> dict[str, Any]:
    """A trade of one lot whose id is no number."""
    row = {"id": f"TX-{i}", "symbol": "BTC/USDT", "amount": "0.001", "price": "100.00", "order": "77", "side": "buy"}
    return row | {"timestamp": ms}


def test_every_fill_counts_where_ids_are_no_numbers() -> None:
    """2,000 fills: the portfolio remembers the newest ids only, so they must rise in the order of execution."""
    portfolio = Portfolio(1, 10**12)
    rows = [named(i, 1_700_000_000_000 + 7 * i) for i in range(2_000)]
    for row in rows + rows[-300:]:
        found = MESSAGES.account_trade(row).trade
        lots, price = found.quantity_lots, found.price_ticks
        portfolio.apply([Fill("tt-a", found.trade_id, 0, 1, lots, price, found.fee_quanta, 1)])
    assert portfolio.positions.tolist() == [2_000]
    assert portfolio.duplicates_ignored == 300


def test_trade_numbers_rise_with_time_and_above_all_that_are_numbers() -> None:
    first, second = (trade_number(named(i, 1_700_000_000_000 + i)) for i in range(2))
    assert number_of("TX-0") < 2**62 < first < second < 2**63
    assert trade_number({"id": "9"}) == 9
    assert trade_number(named(0, 1_700_000_000_000)) == first != trade_number(named(5, 1_700_000_000_000))
    assert trade_number(named(5, 1_700_000_000_000)) >= first_number_after(first)
    assert (first_number_after(9), first_number_after(second) > first) == (10, True)
    with pytest.raises(ValueError, match="cannot be numbered"):
        trade_number({"id": "TX-0"})


def test_fills_told_with_an_order_count_only_where_their_ids_are_numbers() -> None:
    told = [named(1, 1_700_000_000_000) | {"fee": {}}]
    assert MESSAGES.update(order("open", "0.001", trades=told), "tt-a").trades == ()
    told[0]["id"] = "12"
    assert [each.trade_id for each in MESSAGES.update(order("open", "0.001", trades=told), "tt-a").trades] == [12]


def test_trades_after_one_whose_id_is_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [named(i, 1_700_000_000_000 + i // 2) for i in range(400)]

    class Exchange:
        async def fetch_my_trades(self, *args: object) -> list[dict[str, Any]]:
            return rows

    made = connector(tmp_path, "kraken")
    made._exchange, made._messages = Exchange(), MESSAGES
    monkeypatch.setattr(ccxt_module, "ccxt_pro", lambda: Errors)
    found = asyncio.run(made.trades_after(0, trade_number(rows[100])))
    expected = {trade_number(row) for row in rows[101:]}
    assert {each.trade.trade_id for each in found} == expected


def test_an_error_loses_its_query() -> None:
    error = RuntimeError("binance GET https://x/api/v3/order?timestamp=1&signature=abc request timed out")
    assert said(error) == "binance GET https://x/api/v3/order request timed out"


def connector(tmp_path: Path, exchange: str) -> CcxtConnector:
    keys = Credentials("key", "secret")
    return CcxtConnector(CcxtVenue(exchange), lambda: keys, SCALE, GatewaySettings(tmp_path))


def test_what_cannot_be_connected_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(exchange: str, words: str) -> None:
        made = connector(tmp_path, exchange)
        with pytest.raises(ConnectorError, match=words):
            await made.connect(None)  # type: ignore[arg-type]
        answers: list[object] = []
        made.cancel(OrderRequest("tt-a", 0, 1, 1, 1, TimeInForce.IOC, 0, 1, 1, 0), answers.append)
        assert answers == [NoAnswer("no link to the venue", link_lost=True)]
        await made.close()

    if importlib.util.find_spec("ccxt") is not None:
        asyncio.run(fails("nowhere", "knows no exchange"))
    monkeypatch.setitem(sys.modules, "ccxt.pro", None)
    asyncio.run(fails("binance", r"pip install 'tradetui\[ccxt\]'"))


@pytest.mark.parametrize("error", [AttributeError("x"), IndexError("x"), RuntimeError("x"), OSError("x?signature=abc")])
def test_whatever_a_request_raises_it_is_answered(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails() -> Answer:
        raise error

    async def work() -> list[Answer]:
        answers: list[Answer] = []
        requests = CcxtRequests(1_000, lambda: None)
        requests.start(fails, answers.append, is_order=True)
        await asyncio.sleep(0.01)
        requests.fail("the link is gone")
        return answers

    monkeypatch.setattr(ccxt_requests, "ccxt_pro", lambda: Errors)
    (answer,) = asyncio.run(work())
    assert isinstance(answer, NoAnswer)
    assert type(error).__name__ in answer.reason
    assert "abc" not in answer.reason


def test_a_stream_that_ends_for_any_reason_loses_the_link(tmp_path: Path) -> None:
    class Exchange:
        async def watch_orders(self) -> list[object]:
            raise AttributeError("'NoneType' object has no attribute 'get'")

        async def close(self) -> None: ...

    class Handler:
        reason = ""

        def lost(self, reason: str) -> None:
            self.reason = reason

    async def work() -> str:
        made, handler = connector(tmp_path, "binance"), Handler()
        made._exchange, made._handler = Exchange(), handler  # type: ignore[assignment]
        await made._watch(made._exchange)
        return handler.reason

    assert "AttributeError" in asyncio.run(work())
