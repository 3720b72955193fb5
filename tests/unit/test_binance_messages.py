"""What a real Binance account says beyond our venue's: fees in any asset, dust, other symbols, and plain nonsense."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from core.gateway.binance import BinanceConnector
from core.gateway.binance_messages import BinanceMessages
from core.gateway.connector import Balances, ConnectorError, NoAnswer
from core.gateway.settings import GatewaySettings
from core.orders.order import OrderRequest, TimeInForce
from core.orders.scale import MarketScale
from core.venue.credentials import Credentials

SCALE = MarketScale.of(["BTCUSDT"], "0.01", "0.00001")
MESSAGES = BinanceMessages(SCALE, [("BTC", "USDT")])
REQUEST = OrderRequest("tt-a", 0, 1, 5, 100, TimeInForce.IOC, 0, 1, 1, 0)


def order_result(commission: str, asset: str) -> dict[str, Any]:
    fill = {"price": "60000.01", "qty": "0.00100", "commission": commission, "commissionAsset": asset, "tradeId": 9}
    return {"orderId": 77, "status": "FILLED", "executedQty": "0.00100", "transactTime": 5, "fills": [fill]}


def event(symbol: str, **more: object) -> dict[str, Any]:
    base = {"C": "", "c": "tt-a", "i": 77, "s": symbol, "x": "TRADE", "X": "FILLED", "z": "0.00100", "T": 5, "t": 9}
    return base | {"l": "0.00100", "L": "60000.01", "n": "0.06000001", "N": "USDT"} | more


def row(symbol: str) -> dict[str, Any]:
    times = {"updateTime": 5, "status": "NEW", "executedQty": "0.00000000"}
    return {"symbol": symbol, "clientOrderId": "web_1", "orderId": 7} | times


@pytest.mark.parametrize(
    ("commission", "asset", "quanta"),
    [
        ("0.06000001", "USDT", 600_000),
        ("0.06000005", "USDT", 600_000),
        ("0.06000006", "USDT", 600_001),
        ("0.00000100", "BTC", 600_000),
        ("0.00011111", "BNB", 0),
    ],
)
def test_fees_in_any_asset_to_the_nearest_quantum(commission: str, asset: str, quanta: int) -> None:
    """One quantum is 1E-7 USDT."""
    (told,) = MESSAGES.order_result(order_result(commission, asset), REQUEST).trades
    mine = {"symbol": "BTCUSDT", "id": 9, "orderId": 77, "time": 5, "isBuyer": True, "qty": "0.00100"}
    asked = MESSAGES.account_trade(mine | {"price": "60000.01", "commission": commission, "commissionAsset": asset})
    update = MESSAGES.execution_report(event("BTCUSDT", n=commission, N=asset))
    assert update is not None
    assert told == asked.trade == update.trades[0]
    assert (told.fee_quanta, told.quantity_lots, told.price_ticks) == (quanta, 100, 6_000_001)


def test_an_event_of_another_symbol_is_none_of_ours() -> None:
    assert MESSAGES.execution_report(event("DOGEUSDT")) is None


def test_balances_with_dust_and_other_assets() -> None:
    rows = [
        {"asset": "BTC", "free": "0.00100999", "locked": "0.00000002"},
        {"asset": "USDT", "free": "1000.00000001", "locked": "0.00000010"},
        {"asset": "DOGE", "free": "3.14159265", "locked": "0.00000000"},
    ]
    assert MESSAGES.balances(rows) == Balances(10_000_000_001, (101,))


class Answering(BinanceConnector):
    """Asks nobody: every question has one answer."""

    def __init__(self, folder: Path, answer: object) -> None:
        keys = Credentials("key", "secret")
        super().__init__(lambda: ("", 0), lambda: keys, SCALE, GatewaySettings(folder))
        self._messages, self._answer = MESSAGES, answer

    async def _ask(self, method: str, params: object) -> Any:
        return self._answer


def test_open_orders_of_other_symbols_are_passed_by(tmp_path: Path) -> None:
    made = Answering(tmp_path, [row("DOGEUSDT"), row("BTCUSDT")])
    assert [update.instrument for update in asyncio.run(made.open_orders())] == [0]


def test_nonsense_is_an_error_of_the_link(tmp_path: Path) -> None:
    made = Answering(tmp_path, [{}])
    questions = (made.open_orders, made.balances, lambda: made.trades_after(0, 1), made._check_market)
    for question in questions:
        with pytest.raises(ConnectorError, match="no message of this market"):
            asyncio.run(question())
    answer = made._order_answer({"status": 200, "result": order_result("0.1", "USDT") | {"status": "ODD"}}, REQUEST)
    assert isinstance(answer, NoAnswer)
