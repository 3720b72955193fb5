"""Matching: price before time, what each time in force does, self-trade prevention."""

from __future__ import annotations

import pytest

from core.orders.order import TimeInForce as T
from core.venue.order_book import BUY, SELL, OrderBook, Outcome, SelfTradePrevention

ME, YOU, THEM = 1, 2, 3


def book_with_asks(*asks: tuple[int, int, int, int], prevention: SelfTradePrevention | None = None) -> OrderBook:
    """Asks as (order id, owner, price, lots)."""
    book = OrderBook(prevention or SelfTradePrevention.EXPIRE_TAKER)
    for order_id, owner, price, lots in asks:
        assert book.submit(order_id, owner, SELL, price, lots, T.GTC).outcome is Outcome.RESTING
    return book


def test_better_price_first_then_earlier_order() -> None:
    book = book_with_asks((1, YOU, 101, 5), (2, YOU, 100, 5), (3, THEM, 100, 5))
    match = book.submit(9, ME, BUY, 101, 12, T.IOC)
    assert [(t.maker_order_id, t.price_ticks, t.quantity_lots) for t in match.trades] == [
        (2, 100, 5),
        (3, 100, 5),
        (1, 101, 2),
    ]
    assert match.outcome is Outcome.FILLED
    assert book.depth(SELL, 10) == [(101, 3)]
    assert book.queue(SELL, 101) == [(1, YOU, 3)]


def test_a_partly_filled_maker_keeps_its_place() -> None:
    book = book_with_asks((1, YOU, 100, 5), (2, THEM, 100, 5))
    book.submit(8, ME, BUY, 100, 2, T.IOC)
    match = book.submit(9, ME, BUY, 100, 4, T.IOC)
    assert [(t.maker_order_id, t.quantity_lots, t.maker_leaves) for t in match.trades] == [(1, 3, 0), (2, 1, 4)]


def test_gtc_rests_with_what_is_left() -> None:
    book = book_with_asks((1, YOU, 100, 5))
    match = book.submit(9, ME, BUY, 100, 8, T.GTC)
    assert (match.outcome, match.leaves) == (Outcome.RESTING, 3)
    assert book.best(BUY) == 100
    assert book.best(SELL) is None


def test_ioc_lets_the_rest_expire() -> None:
    book = book_with_asks((1, YOU, 100, 5))
    match = book.submit(9, ME, BUY, 100, 8, T.IOC)
    assert (match.outcome, match.leaves, len(match.trades)) == (Outcome.EXPIRED, 3, 1)
    assert len(book) == 0


def test_fok_fills_whole_or_leaves_the_book_alone() -> None:
    book = book_with_asks((1, YOU, 100, 5), (2, YOU, 102, 5))
    match = book.submit(8, ME, BUY, 101, 6, T.FOK)
    assert (match.outcome, match.trades) == (Outcome.EXPIRED, ())
    assert book.depth(SELL, 10) == [(100, 5), (102, 5)]
    assert book.submit(9, ME, BUY, 102, 6, T.FOK).outcome is Outcome.FILLED


def test_post_only_rests_or_is_refused() -> None:
    book = book_with_asks((1, YOU, 100, 5))
    assert book.submit(8, ME, BUY, 100, 1, T.POST_ONLY).outcome is Outcome.WOULD_TAKE
    assert book.submit(9, ME, BUY, 99, 1, T.POST_ONLY).outcome is Outcome.RESTING
    assert book.depth(SELL, 1) == [(100, 5)]


def test_market_takes_any_price_and_expires_on_an_empty_book() -> None:
    book = book_with_asks((1, YOU, 100, 5), (2, YOU, 900, 5))
    assert [t.price_ticks for t in book.submit(8, ME, BUY, None, 6, T.IOC).trades] == [100, 900]
    book = OrderBook()
    assert book.submit(9, ME, BUY, None, 6, T.IOC).outcome is Outcome.EXPIRED


def test_sell_side_mirrors_buy_side() -> None:
    book = OrderBook()
    book.submit(1, YOU, BUY, 99, 5, T.GTC)
    book.submit(2, YOU, BUY, 100, 5, T.GTC)
    match = book.submit(9, ME, SELL, 99, 7, T.IOC)
    assert [(t.maker_order_id, t.price_ticks, t.quantity_lots) for t in match.trades] == [(2, 100, 5), (1, 99, 2)]


@pytest.mark.parametrize(
    ("prevention", "outcome", "trades", "prevented", "left"),
    [
        (SelfTradePrevention.EXPIRE_TAKER, Outcome.SELF_TRADE, [1], (), [(100, 5), (101, 5)]),
        (SelfTradePrevention.EXPIRE_MAKER, Outcome.FILLED, [1, 3], (2,), [(101, 2)]),
        (SelfTradePrevention.EXPIRE_BOTH, Outcome.SELF_TRADE, [1], (2,), [(101, 5)]),
    ],
)
def test_self_trade_prevention(
    prevention: SelfTradePrevention,
    outcome: Outcome,
    trades: list[int],
    prevented: tuple[int, ...],
    left: list[tuple[int, int]],
) -> None:
    book = book_with_asks((1, YOU, 100, 5), (2, ME, 100, 5), (3, YOU, 101, 5), prevention=prevention)
    match = book.submit(9, ME, BUY, 101, 8, T.GTC)
    assert match.outcome is outcome
    assert [t.maker_order_id for t in match.trades] == trades
    assert match.prevented == prevented
    assert book.depth(SELL, 10) == left


def test_fok_counts_only_what_self_trade_prevention_lets_it_take() -> None:
    book = book_with_asks((1, YOU, 100, 5), (2, ME, 100, 5), (3, YOU, 100, 5))
    assert book.submit(8, ME, BUY, 100, 6, T.FOK).outcome is Outcome.EXPIRED
    assert book.submit(9, ME, BUY, 100, 5, T.FOK).outcome is Outcome.FILLED


def test_cancel_returns_what_was_left_once() -> None:
    book = book_with_asks((1, YOU, 100, 5), (2, YOU, 100, 3))
    assert book.cancel(1) == 5
    assert book.cancel(1) is None
    assert book.depth(SELL, 10) == [(100, 3)]
    assert book.cancel(2) == 3
    assert book.best(SELL) is None


def test_cost_walks_the_other_side() -> None:
    book = book_with_asks((1, YOU, 100, 5), (2, YOU, 103, 5))
    assert book.cost(BUY, 7) == (7, 5 * 100 + 2 * 103)
    assert book.cost(BUY, 7, limit=100) == (5, 500)
    assert book.cost(BUY, 99) == (10, 1015)


def test_an_id_that_rests_already_is_refused_and_changes_nothing() -> None:
    book = book_with_asks((1, YOU, 100, 5))
    with pytest.raises(ValueError, match="order 1"):
        book.submit(1, ME, BUY, 100, 5, T.GTC)
    with pytest.raises(ValueError, match="0 lots"):
        book.submit(2, ME, BUY, 100, 0, T.GTC)
    assert book.depth(SELL, 10) == [(100, 5)]
