"""Market streams without a socket: subscriptions, refusals, and depth differences that add up to the book."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from core.orders.order import TimeInForce as T
from core.orders.scale import MarketScale
from core.venue.answers import Answers
from core.venue.exchange import Exchange, NewOrder
from core.venue.settings import ExchangeSettings
from core.venue.streams import STREAMS_MAX, MarketStreams


class Listener:
    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []

    def send(self, data: bytes) -> None:
        self.heard.append(json.loads(data))


def made() -> tuple[Exchange, MarketStreams]:
    scale = MarketScale.of(["AAA", "BBB"], "0.01", "1")
    exchange = Exchange(scale, ExchangeSettings())
    exchange.open_account(1, 10**10, 0)
    exchange.advance(0, [10_000, 20_000], 0)
    exchange.take_happened()
    return exchange, MarketStreams(exchange, Answers(scale, exchange.settings), lambda: 1)


def ask(streams: MarketStreams, listener: Listener, method: str, *names: str) -> dict[str, Any]:
    request = {"method": method, "params": list(names), "id": 3}
    answer: dict[str, Any] = json.loads(streams.message(listener, json.dumps(request).encode()))
    return answer


@pytest.mark.parametrize("name", ["aaa@kline", "ccc@trade", "", "aaa", "@trade"])
def test_unknown_streams_are_refused_by_name(name: str) -> None:
    _, streams = made()
    answer = ask(streams, Listener(), "SUBSCRIBE", name)
    assert (answer["id"], answer["error"]["code"]) == (3, 2)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"method":"LIST","id":1}', b'{"method":"SUBSCRIBE","params":5}'])
def test_garbage_gets_an_error_and_no_exception(data: bytes) -> None:
    _, streams = made()
    assert "error" in json.loads(streams.message(Listener(), data))


def test_too_many_streams_are_refused() -> None:
    _, streams = made()
    streams._names = {f"s{i}": 0 for i in range(STREAMS_MAX + 1)} | {f"t{i}": i for i in range(STREAMS_MAX + 1)}
    names = [f"t{i}@trade" for i in range(STREAMS_MAX + 1)]
    assert "more than" in ask(streams, Listener(), "SUBSCRIBE", *names)["error"]["msg"]


def test_differences_add_up_to_the_book_and_numbers_do_not_skip() -> None:
    exchange, streams = made()
    listener = Listener()
    bids, asks = exchange.depth(0, 5_000, 0)
    book: dict[str, dict[int, int]] = {"b": dict(bids), "a": dict(asks)}
    number = exchange.events_total
    assert ask(streams, listener, "SUBSCRIBE", "aaa@depth@100ms", "aaa@trade")["result"] is None
    source = random.Random(5)
    for at in range(200):
        if source.random() < 0.2:
            exchange.advance(exchange.step + 1, [10_000 + source.randint(-50, 50), 20_000], at)
        else:
            side, price = source.choice([1, -1]), 10_000 + source.randint(-60, 60)
            order, _ = exchange.place(1, NewOrder(f"o{at}", source.choice([0, 0, 1]), side, price, 5, T.GTC), at)
            if order.is_open and source.random() < 0.3:  # events after which the book is as it was
                exchange.cancel(1, None, order.client_order_id, "c", at)
        while happened := exchange.take_happened():
            streams.published(happened)
    for told in (told for told in listener.heard if told["e"] == "depthUpdate"):
        assert told["U"] == number + 1
        assert told["u"] >= told["U"]
        number = told["u"]
        for side in ("b", "a"):
            for price, lots in told[side]:
                book[side][exchange.scale.tick.count(price)] = exchange.scale.lot.count(lots)
    bids, asks = exchange.depth(0, 5_000, 0)
    assert {price: lots for price, lots in book["b"].items() if lots} == dict(bids)
    assert {price: lots for price, lots in book["a"].items() if lots} == dict(asks)
    traded = [told["t"] for told in listener.heard if told["e"] == "trade"]
    assert traded
    assert len(traded) == len(set(traded))


def publish(exchange: Exchange, streams: MarketStreams) -> None:
    while happened := exchange.take_happened():
        streams.published(happened)


def rest(exchange: Exchange, name: str, price: int) -> None:
    exchange.place(1, NewOrder(name, 0, 1, price, 5, T.GTC), 2)


def test_a_difference_begins_behind_the_last_that_was_told_not_behind_what_changed_nothing() -> None:
    exchange, streams = made()
    listener = Listener()
    number = exchange.events_total
    ask(streams, listener, "SUBSCRIBE", "aaa@depth")
    rest(exchange, "a", 9_000)
    exchange.cancel(1, None, "a", "c", 2)
    publish(exchange, streams)
    assert listener.heard == [], "placed and cancelled in one: the book is as it was"
    rest(exchange, "b", 9_001)
    publish(exchange, streams)
    assert [(told["U"], told["u"]) for told in listener.heard] == [(number + 1, exchange.events_total)]
    assert listener.heard[0]["b"] == [["90.01", "5"]]


@pytest.mark.parametrize("leaves", [True, False])
def test_who_comes_after_the_last_one_left_is_told_differences_from_the_book_of_then(leaves: bool) -> None:
    exchange, streams = made()
    first, second = Listener(), Listener()
    ask(streams, first, "SUBSCRIBE", "aaa@depth")
    if leaves:
        streams.forget(first)
    else:
        ask(streams, first, "UNSUBSCRIBE", "aaa@depth")
    rest(exchange, "gone", 9_000)
    publish(exchange, streams)
    number = exchange.events_total
    ask(streams, second, "SUBSCRIBE", "aaa@depth")  # and takes the book, which holds the order, at this number
    exchange.cancel(1, None, "gone", "c", 3)
    publish(exchange, streams)
    assert [(told["U"], told["b"]) for told in second.heard] == [(number + 1, [["90.00", "0"]])]


def test_who_leaves_or_unsubscribes_hears_nothing_more() -> None:
    exchange, streams = made()
    gone, quiet = Listener(), Listener()
    for listener in (gone, quiet):
        ask(streams, listener, "SUBSCRIBE", "aaa@bookTicker")
    streams.forget(gone)
    ask(streams, quiet, "UNSUBSCRIBE", "aaa@bookTicker")
    exchange.advance(1, [11_000, 20_000], 1)
    streams.published(exchange.take_happened())
    assert gone.heard == quiet.heard == []
