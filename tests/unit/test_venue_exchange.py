"""The exchange: coded rejects, idempotency, exact money, the replayed price, and coming back from its events."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.orders.order import TimeInForce as T
from core.orders.scale import MarketScale
from core.venue.account import VenueOrder
from core.venue.events import OrderReplaced, OrderStatus, VenueEvent
from core.venue.exchange import Exchange, NewOrder
from core.venue.fees import FeeSchedule
from core.venue.liquidity import LiquiditySettings, ladder
from core.venue.order_book import BUY, SELL
from core.venue.rejects import VenueReject
from core.venue.settings import AccountKind, ExchangeSettings, Halt

ME = 1
SCALE = MarketScale.of(["AAA", "BBB"], "0.01", "1")
CASH = 100_000_000  # quanta: 1,000,000.00
LIQUIDITY = LiquiditySettings(spread_bps=2.0, levels=3, level_spacing_bps=1.0, depth_per_level=10_000.0)
RULES = ExchangeSettings(liquidity=LIQUIDITY)


def exchange(rules: ExchangeSettings = RULES, reject_rate: float = 0.0) -> Exchange:
    made = Exchange(SCALE, rules, reject_rate=reject_rate)
    made.open_account(ME, CASH, 0)
    made.advance(0, [10_000, 20_000], 0)
    return made


def new(
    name: str, side: int = BUY, price: int = 10_100, lots: int = 10, terms: T = T.IOC, instrument: int = 0
) -> NewOrder:
    return NewOrder(name, instrument, side, price, lots, terms)


def drain(venue: Exchange) -> list[VenueEvent]:
    return [item.event for item in venue.take_happened()]


def refused(venue: Exchange, order: NewOrder) -> VenueReject:
    events = venue.events_total
    with pytest.raises(VenueReject) as caught:
        venue.place(ME, order, 1)
    assert venue.events_total == events, "a refused order must leave no trace"
    return caught.value


def test_the_ladder_is_around_the_close() -> None:
    bids, asks = ladder(10_000, 0.01, LIQUIDITY)
    assert [p for p, _ in bids] == [9_999, 9_998, 9_997]
    assert [p for p, _ in asks] == [10_001, 10_002, 10_003]
    assert all(abs(p * lots * 0.01 - 10_000) <= p * 0.01 for p, lots in bids + asks)


@pytest.mark.parametrize("close", [1, 2, 3, 49, 10_001, 10**9])
@pytest.mark.parametrize("spread", [0.0, 2.0, 1_000.0])
def test_the_ladder_is_never_crossed_and_never_below_a_tick(close: int, spread: float) -> None:
    bids, asks = ladder(close, 0.01, replace(LIQUIDITY, spread_bps=spread))
    prices = [p for p, _ in reversed(bids)] + [p for p, _ in asks]
    assert prices == sorted(set(prices))
    assert min(prices) >= 1
    assert len(asks) == 3
    assert all(lots >= 1 for _, lots in bids + asks)
    assert asks[0][0] >= close
    assert all(p <= close for p, _ in bids)


def test_a_trade_moves_exactly_lots_times_ticks_and_the_rounded_fee() -> None:
    venue = exchange()
    order, duplicate = venue.place(ME, new("a", lots=10), 5)
    assert not duplicate
    assert (order.status, order.executed_lots, order.value_quanta) == (OrderStatus.FILLED, 10, 100_010)
    assert order.fee_quanta == 100  # 0.1 % of 100,010 is 100.01
    account = venue.accounts[ME]
    assert (account.cash, account.base) == (CASH - 100_010 - 100, [10, 0])
    assert [t.fee_quanta for t in venue.trades_of(order)] == [100]


@pytest.mark.parametrize(("value", "fee"), [(499, 0), (500, 1), (1_499, 1), (1_500, 2), (0, 0)])
def test_fees_round_half_up(value: int, fee: int) -> None:
    assert FeeSchedule(taker_ppm=1_000).fee(value, is_maker=False) == fee


def test_the_same_id_and_terms_never_trade_twice() -> None:
    venue = exchange()
    first, _ = venue.place(ME, new("a"), 1)
    events = venue.events_total
    for _ in range(3):
        again, duplicate = venue.place(ME, new("a"), 2)
        assert duplicate
        assert again == first
    assert venue.events_total == events


def test_the_same_id_with_other_terms_is_refused_whatever_became_of_the_first() -> None:
    venue = exchange()
    venue.place(ME, new("a"), 1)
    for other in (new("a", lots=11), new("a", side=SELL), new("a", price=10_101), new("a", instrument=1)):
        reject = refused(venue, other)
        assert (reject.code, reject.message) == (-2010, "Duplicate order sent.")


@pytest.mark.parametrize(
    ("order", "code", "text"),
    [
        (new("x", lots=0), -1013, "LOT_SIZE"),
        (new("x", lots=1 << 50), -1013, "LOT_SIZE"),
        (new("x", price=1 << 50), -1013, "PRICE_FILTER"),
        (new("x", price=1 << 39, lots=1 << 39), -1013, "NOTIONAL"),
        (new("x", price=0, terms=T.GTC), -1102, "price"),
        (new("x", price=10_001, terms=T.POST_ONLY), -2010, "immediately match"),
        (new("x", price=10_000, lots=10_000_000, terms=T.GTC), -2010, "insufficient balance"),
    ],
)
def test_coded_rejects(order: NewOrder, code: int, text: str) -> None:
    reject = refused(exchange(), order)
    assert reject.code == code
    assert text in reject.message


def test_min_notional_and_open_order_limit() -> None:
    venue = exchange(replace(RULES, notional_min_quanta=1_000_000, open_orders_max=1))
    assert "NOTIONAL" in refused(venue, new("x", lots=1)).message
    venue.place(ME, new("rest", price=9_000, lots=1_000, terms=T.GTC), 1)
    assert "MAX_NUM_ORDERS" in refused(venue, new("y", lots=1_000)).message


def test_the_reject_rate_refuses_and_leaves_the_id_free() -> None:
    venue = exchange(reject_rate=1.0)
    assert "reject_rate" in refused(venue, new("a")).message
    assert "reject_rate" in refused(venue, new("a")).message


def test_no_price_yet_is_a_closed_market() -> None:
    venue = Exchange(SCALE, RULES)
    venue.open_account(ME, CASH, 0)
    assert refused(venue, new("a")).message == "Market is closed."


def test_spot_sells_and_spends_only_what_is_there() -> None:
    venue = exchange(replace(RULES, account=AccountKind.SPOT))
    assert refused(venue, new("short", side=SELL, price=9_900)).code == -2010
    venue.place(ME, new("buy", lots=10), 1)
    venue.place(ME, new("offer", side=SELL, price=11_000, lots=7, terms=T.GTC), 1)
    assert refused(venue, new("too much", side=SELL, price=11_000, lots=4, terms=T.GTC)).code == -2010
    venue.place(ME, new("bid", price=9_000, lots=11_000, terms=T.GTC), 1)
    assert refused(venue, new("over", price=9_000, lots=200, terms=T.GTC)).code == -2010
    assert refused(venue, NewOrder("market", 0, BUY, 0, 200, T.IOC)).code == -2010


def test_margin_may_go_short_up_to_its_leverage_and_may_always_reduce() -> None:
    rules = replace(RULES, leverage_max=1.0, liquidity=replace(LIQUIDITY, depth_per_level=10_000_000.0))
    venue = exchange(rules)
    venue.place(ME, new("short", side=SELL, price=9_900, lots=9_000), 1)
    assert venue.accounts[ME].base == [-9_000, 0]
    assert refused(venue, new("more", side=SELL, price=9_900, lots=2_000)).code == -2010
    assert refused(venue, new("elsewhere", side=BUY, price=20_100, lots=1_000, instrument=1)).code == -2010
    order, _ = venue.place(ME, new("back", side=BUY, price=10_100, lots=9_000), 1)
    assert order.status is OrderStatus.FILLED


def test_the_house_renews_its_quotes_at_a_step_and_not_within_one() -> None:
    venue = exchange()
    depth = sum(lots for _, lots in venue.depth(0, 9, 1)[1])
    order, _ = venue.place(ME, new("all", lots=depth + 5), 1)
    assert (order.status, order.executed_lots) == (OrderStatus.EXPIRED, depth)
    assert venue.depth(0, 9, 1)[1] == []
    assert venue.advance(1, [10_000, 20_000], 2)
    assert sum(lots for _, lots in venue.depth(0, 9, 2)[1]) == depth


def test_a_resting_order_fills_as_maker_when_the_price_reaches_it() -> None:
    venue = exchange()
    order, _ = venue.place(ME, new("bid", price=9_900, lots=10, terms=T.GTC), 1)
    assert order.status is OrderStatus.NEW
    drain(venue)
    venue.advance(1, [9_800, 20_000], 2)
    order = venue.order(ME, None, "bid")
    (trade,) = venue.trades_of(order)
    assert (order.status, trade.price_ticks, trade.is_maker) == (OrderStatus.FILLED, 9_900, True)
    assert trade.fee_quanta == 50  # 0.05 % of 99,000 is 49.5
    assert venue.open_orders(ME) == []


def test_the_price_never_goes_back() -> None:
    venue = exchange()
    assert venue.advance(5, [11_000, 20_000], 1)
    assert not venue.advance(5, [1, 1], 1)
    assert not venue.advance(4, [1, 1], 1)
    assert venue.closes == (11_000, 20_000)


@pytest.mark.parametrize("closes", [[10_000], [10_000, 0], [10_000, 20_000, 3]])
def test_bad_closes_are_refused_whole(closes: list[int]) -> None:
    venue = exchange()
    with pytest.raises(ValueError, match="closes"):
        venue.advance(1, closes, 1)
    assert venue.step == 0


def test_cancel_by_either_id_and_its_rejects() -> None:
    venue = exchange()
    order, _ = venue.place(ME, new("a", price=9_000, terms=T.GTC), 1)
    other, _ = venue.place(ME, new("b", price=9_000, terms=T.GTC), 1)
    assert venue.cancel(ME, None, "a", "c1", 2).status is OrderStatus.CANCELED
    assert venue.cancel(ME, other.order_id, None, "c2", 2).status is OrderStatus.CANCELED
    for order_id, name in ((order.order_id, None), (None, "a"), (None, "nobody"), (99, None)):
        with pytest.raises(VenueReject) as caught:
            venue.cancel(ME, order_id, name, "c3", 3)
        assert caught.value.code == -2011
    with pytest.raises(VenueReject) as caught:
        venue.order(ME, None, "nobody")
    assert caught.value.code == -2013


def test_nobody_sees_another_s_order() -> None:
    venue = exchange()
    venue.open_account(2, CASH, 0)
    order, _ = venue.place(ME, new("a", price=9_000, terms=T.GTC), 1)
    with pytest.raises(VenueReject):
        venue.order(2, order.order_id, None)
    assert venue.open_orders(2) == []


def test_two_accounts_trade_with_each_other_under_one_trade_id() -> None:
    venue = exchange()
    venue.open_account(2, CASH, 0)
    venue.place(ME, new("bid", price=10_000, lots=4, terms=T.GTC), 1)
    taker, _ = venue.place(2, new("hit", side=SELL, price=10_000, lots=4), 1)
    maker = venue.order(ME, None, "bid")
    assert maker.status is taker.status is OrderStatus.FILLED
    assert venue.trades_of(maker)[0].trade_id == venue.trades_of(taker)[0].trade_id
    assert venue.accounts[ME].base[0] == 4
    assert venue.accounts[2].base[0] == -4


def test_trades_by_id_and_page() -> None:
    venue = exchange()
    for i in range(5):
        venue.place(ME, new(f"t{i}", lots=1), 1)
    ids = [t.trade_id for t in venue.trades(ME, 0)]
    assert ids == sorted(set(ids))
    assert [t.trade_id for t in venue.trades(ME, 0, from_id=ids[2], limit=2)] == ids[2:4]
    assert venue.trades(ME, 1) == []


def test_events_are_numbered_and_bring_everything_back() -> None:
    venue = exchange()
    venue.place(ME, new("filled"), 1)
    venue.place(ME, new("bid 1", price=9_900, lots=10, terms=T.GTC), 1)
    venue.place(ME, new("bid 2", price=9_900, lots=20, terms=T.GTC), 1)
    venue.place(ME, new("gone", price=9_000, terms=T.GTC), 1)
    venue.cancel(ME, None, "gone", "c", 2)
    venue.advance(3, [9_950, 20_500], 3)
    events = drain(venue)
    assert [event.number for event in events] == list(range(1, len(events) + 1))

    back = Exchange(SCALE, RULES)
    back.restore(events)
    assert snapshot(back) == snapshot(venue)
    assert back.take_happened() == []
    again, duplicate = back.place(ME, new("filled"), 4)
    assert duplicate
    assert again == venue.order(ME, None, "filled")
    # Queues are back in time order, and both go on alike.
    for one in (venue, back):
        one.advance(4, [9_800, 20_500], 5)
    assert drain(back) == drain(venue)
    assert snapshot(back) == snapshot(venue)


def snapshot(venue: Exchange) -> tuple[object, ...]:
    account = venue.accounts[ME]
    names = ["filled", "bid 1", "bid 2", "gone"]
    orders: list[VenueOrder] = [venue.order(ME, None, name) for name in names]
    return venue.step, venue.closes, venue.events_total, account.cash, account.base, orders, venue.open_orders(ME)


OTHER = 2


def two_resting(venue: Exchange) -> None:
    """My order ahead of another's at 9,990."""
    venue.open_account(OTHER, CASH, 0)
    venue.place(ME, new("mine", price=9_990, lots=10, terms=T.GTC), 1)
    venue.place(OTHER, new("theirs", price=9_990, lots=10, terms=T.GTC), 1)


@pytest.mark.parametrize(("price", "lots", "keeps"), [(9_990, 4, True), (9_990, 12, False), (9_991, 10, False)])
def test_less_quantity_keeps_its_place_and_any_other_change_loses_it(price: int, lots: int, keeps: bool) -> None:
    venue = exchange()
    two_resting(venue)
    order = venue.replace(ME, None, "mine", "mine-2", price, lots, 2)
    assert (order.client_order_id, order.price_ticks, order.quantity_lots) == ("mine-2", price, lots)
    queue = [name for name, _, _ in venue._books[0].queue(BUY, 9_990)]
    mine, theirs = order.order_id, venue.order(OTHER, None, "theirs").order_id
    assert queue == ([mine, theirs] if keeps else [theirs, mine] if price == 9_990 else [theirs])
    with pytest.raises(VenueReject, match="-2013"):
        venue.order(ME, None, "nobody")
    restored = Exchange(SCALE, RULES)
    restored.restore(drain(venue))
    assert [name for name, _, _ in restored._books[0].queue(BUY, 9_990)] == queue
    assert restored.open_orders(ME) == venue.open_orders(ME)
    assert restored.accounts[ME].locked_cash(RULES) == venue.accounts[ME].locked_cash(RULES)


def test_a_replacement_that_crosses_trades() -> None:
    venue = exchange()
    venue.place(ME, new("mine", price=9_990, lots=10, terms=T.GTC), 1)
    order = venue.replace(ME, None, "mine", "mine-2", 10_001, 10, 2)
    assert (order.status, order.executed_lots, order.value_quanta) == (OrderStatus.FILLED, 10, 100_010)
    assert venue.open_orders(ME) == []
    assert venue.accounts[ME].base[0] == 10


@pytest.mark.parametrize(
    ("name", "price", "lots", "code"),
    [
        ("taken", 9_991, 10, -2010),
        ("new", 9_990, 10, -2038),
        ("new", 9_990, 0, -2038),
        ("new", 0, 10, -1013),
        ("new", 1 << 50, 10, -1013),
        ("new", 9_990, 1 << 50, -1013),
        ("new", 10_001, 10, -2010),
        ("new", 9_991, 10_000_000, -2010),
    ],
)
def test_a_refused_replacement_leaves_the_order_as_it_was(name: str, price: int, lots: int, code: int) -> None:
    venue = exchange()
    venue.place(ME, new("taken", price=9_000, terms=T.GTC), 1)
    before, _ = venue.place(ME, new("mine", price=9_990, lots=10, terms=T.POST_ONLY), 1)
    events, locked = venue.events_total, venue.accounts[ME].locked_cash(RULES)
    with pytest.raises(VenueReject) as caught:
        venue.replace(ME, None, "mine", name, price, lots, 2)
    assert caught.value.code == code
    assert venue.order(ME, None, "mine") == before
    assert (venue.events_total, venue.accounts[ME].locked_cash(RULES)) == (events, locked)


def partly_filled() -> tuple[list[VenueEvent], int]:
    """Events that leave "mine", a bid through the house's offers, with what these held filled, and how much that is."""
    venue = exchange()
    depth = sum(lots for _, lots in venue.depth(0, 9, 1)[1])
    order, _ = venue.place(ME, new("mine", price=10_100, lots=3 * depth, terms=T.GTC), 1)
    assert order.executed_lots == depth
    return drain(venue), depth


def test_a_replacement_by_less_than_the_new_quotes_fill_is_refused() -> None:
    events, depth = partly_filled()
    venue = Exchange(SCALE, RULES)
    venue.restore(events)  # a restart renews the house's quotes: the next touch of the book trades with them
    with pytest.raises(VenueReject, match=f"-2038 .* {2 * depth} lots are executed already"):
        venue.replace(ME, None, "mine", "mine-2", 10_099, depth + 2, 3)
    order = venue.order(ME, None, "mine")
    assert (order.executed_lots, order.status) == (2 * depth, OrderStatus.PARTIALLY_FILLED)
    back = Exchange(SCALE, RULES)
    back.restore(events + drain(venue))
    assert back.open_orders(ME) == venue.open_orders(ME) == [order]


def test_a_journal_that_replaced_by_what_was_executed_already_comes_back() -> None:
    events, depth = partly_filled()
    events.append(OrderReplaced(events[-1].number + 1, 3, 1, "mine-2", 10_099, depth - 1, False))
    venue = Exchange(SCALE, RULES)
    venue.restore(events)
    assert venue.order(ME, None, "mine-2").status is OrderStatus.FILLED
    assert venue.open_orders(ME) == []
    assert venue.accounts[ME].locked_cash(RULES) == 0
    assert venue.depth(0, 9, 4)[0][0][0] == 9_999


def test_what_is_not_open_is_not_replaced() -> None:
    venue = exchange()
    venue.place(ME, new("gone"), 1)
    for name in ("gone", "never"):
        with pytest.raises(VenueReject, match="-2011"):
            venue.replace(ME, None, name, "x", 9_000, 5, 2)


def test_a_halt_refuses_orders_takes_cancels_and_ends() -> None:
    venue = exchange(replace(RULES, halts=(Halt(0, 1, 2),)))
    venue.place(ME, new("rest", price=9_990, terms=T.GTC), 1)
    venue.advance(1, [9_900, 20_000], 2)
    assert venue.order(ME, None, "rest").is_open, "nothing trades in a halt, whatever the price"
    reject = refused(venue, new("x"))
    assert (reject.code, reject.message) == (-2010, "Market is closed.")
    with pytest.raises(VenueReject, match="Market is closed"):
        venue.replace(ME, None, "rest", "x", 9_991, 10, 2)
    assert venue.depth(0, 5, 2)[1] == []
    venue.place(ME, new("other", price=20_100, instrument=1), 2)
    assert venue.cancel(ME, None, "rest", "c", 2).status is OrderStatus.CANCELED
    venue.advance(3, [9_900, 20_000], 3)
    assert venue.place(ME, new("y"), 3)[0].status is OrderStatus.FILLED


def test_a_halt_without_a_range_is_refused() -> None:
    with pytest.raises(ValueError, match="want 0 <= first <= last"):
        Halt(0, 5, 4)
