"""ccxt pointed at the venue's URLs and nothing else: create, fetch, cancel, watch orders and trades."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from core.venue.credentials import load_credentials
from core.venue.process import Venue
from tests.integration.venue_session import running_venue, venue_settings

ccxt = pytest.importorskip("ccxt.pro", reason="ccxt is not installed here")

SYMBOL = "S0/USD"


@asynccontextmanager
async def connected(folder: Path, secret: str = "") -> AsyncIterator[tuple[Any, Venue]]:
    """A ccxt exchange whose URLs are those of a running venue."""
    async with asyncio.timeout(60), running_venue(folder) as (venue, port):
        keys = load_credentials(venue_settings(folder).keys_file)
        exchange = ccxt.binance(
            {
                "apiKey": keys.api_key,
                "secret": secret or keys.secret,
                "enableRateLimit": False,
                "options": {"defaultType": "spot", "fetchMarkets": {"types": ["spot"]}, "fetchMargins": False},
                "has": {"fetchCurrencies": False},
            }
        )
        for name in ("public", "private"):
            exchange.urls["api"][name] = f"http://127.0.0.1:{venue.rest_port}/api/v3"
        exchange.urls["api"]["ws"]["ws-api"]["spot"] = f"ws://127.0.0.1:{port}/ws-api/v3"
        exchange.urls["api"]["ws"]["spot"] = f"ws://127.0.0.1:{port}/ws"
        try:
            yield exchange, venue
        finally:
            await exchange.close()


def test_create_fetch_and_cancel(tmp_path: Path) -> None:
    async def work() -> None:
        async with connected(tmp_path) as (exchange, venue):
            markets = await exchange.load_markets()
            assert markets[SYMBOL]["precision"]["price"] == 0.01
            book = await exchange.fetch_order_book(SYMBOL)
            assert book["bids"][0][0] < book["asks"][0][0]
            filled = await exchange.create_order(SYMBOL, "market", "buy", 5)
            assert (filled["status"], filled["filled"], filled["average"]) == ("closed", 5.0, 100.01)
            assert filled["fee"]["cost"] == 0.5
            rest = await exchange.create_order(SYMBOL, "limit", "buy", 4, 90.0, {"newClientOrderId": "mine"})
            assert (rest["status"], rest["clientOrderId"]) == ("open", "mine")
            with pytest.raises(ccxt.ExchangeError, match="Duplicate order"):
                await exchange.create_order(SYMBOL, "limit", "buy", 5, 90.0, {"newClientOrderId": "mine"})
            assert [o["id"] for o in await exchange.fetch_open_orders(SYMBOL)] == [rest["id"]]
            assert (await exchange.fetch_order(rest["id"], SYMBOL))["status"] == "open"
            assert (await exchange.cancel_order(rest["id"], SYMBOL))["status"] == "canceled"
            assert await exchange.fetch_open_orders(SYMBOL) == []
            assert [o["status"] for o in await exchange.fetch_orders(SYMBOL)] == ["closed", "canceled"]
            mine = await exchange.fetch_my_trades(SYMBOL)
            assert [(t["side"], t["amount"], t["price"], t["order"]) for t in mine] == [
                ("buy", 5.0, 100.01, filled["id"])
            ]
            public = await exchange.fetch_trades(SYMBOL)
            assert [(t["side"], t["amount"]) for t in public] == [("buy", 5.0)]
            balance = await exchange.fetch_balance()
            assert balance["total"]["S0"] == 5.0
            assert balance["total"]["USD"] == pytest.approx(1_000_000 - 500.05 - 0.5)
            with pytest.raises(ccxt.OrderNotFound):
                await exchange.cancel_order(rest["id"], SYMBOL)
            with pytest.raises(ccxt.InsufficientFunds):
                await exchange.create_order(SYMBOL, "limit", "buy", 10_000_000, 100.0)
            assert venue.exchange.accounts[1].base[0] == 5

    asyncio.run(work())


def test_watch_orders_and_trades(tmp_path: Path) -> None:
    async def work() -> None:
        async with connected(tmp_path) as (exchange, _):
            await exchange.load_markets()
            orders = asyncio.ensure_future(exchange.watch_orders(SYMBOL))
            trades = asyncio.ensure_future(exchange.watch_my_trades(SYMBOL))
            await asyncio.sleep(0.5)
            placed = await exchange.create_order_ws(SYMBOL, "limit", "buy", 3, 120.0, {"timeInForce": "IOC"})
            assert placed["filled"] == 3.0
            seen = (await asyncio.wait_for(orders, 10))[-1]
            assert (seen["id"], seen["side"]) == (placed["id"], "buy")
            traded = (await asyncio.wait_for(trades, 10))[-1]
            assert (traded["order"], traded["amount"], traded["price"]) == (placed["id"], 3.0, 100.01)
            rest = await exchange.create_order_ws(SYMBOL, "limit", "sell", 3, 120.0)
            gone = await exchange.cancel_order_ws(rest["id"], SYMBOL)
            assert gone["status"] == "canceled"

    asyncio.run(work())


def test_watch_the_market(tmp_path: Path) -> None:
    async def work() -> None:
        async with connected(tmp_path) as (exchange, venue):
            await exchange.load_markets()
            trades = asyncio.ensure_future(exchange.watch_trades(SYMBOL))
            tickers = asyncio.ensure_future(exchange.watch_bids_asks([SYMBOL]))
            first = asyncio.ensure_future(exchange.watch_order_book(SYMBOL))
            await asyncio.sleep(0.3)
            for _ in range(3):
                await exchange.create_order(SYMBOL, "market", "buy", 3)
                await asyncio.sleep(0.05)
            traded = (await asyncio.wait_for(trades, 10))[-1]
            assert (traded["side"], traded["amount"], traded["price"]) == ("buy", 3.0, 100.01)
            ticker = (await asyncio.wait_for(tickers, 10))[SYMBOL]
            assert (ticker["bid"], ticker["ask"]) == (99.99, 100.01)
            await asyncio.wait_for(first, 10)
            venue.advance_to(1)
            venue.server.publish()
            await asyncio.sleep(0.1)
            watched = exchange.orderbooks[SYMBOL]
            real = await exchange.fetch_order_book(SYMBOL)
            assert watched["bids"][0][:2] == real["bids"][0][:2]
            assert [level[:2] for level in watched["asks"]] == [level[:2] for level in real["asks"]]

    asyncio.run(work())


def test_a_wrong_secret_is_refused(tmp_path: Path) -> None:
    async def work() -> None:
        async with connected(tmp_path, secret="wrong") as (exchange, _):
            await exchange.load_markets()
            with pytest.raises(ccxt.ExchangeError, match="-1022"):
                await exchange.create_order(SYMBOL, "market", "buy", 5)

    asyncio.run(work())
