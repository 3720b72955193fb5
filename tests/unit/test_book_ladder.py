"""The ladder: the venue's levels, our orders laid over them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from core.book_ladder import BookLadder, ladder
from core.gateway.ladders import Ladders
from core.orders.life_cycle import initialise
from core.orders.order import Order, OrderRequest, TimeInForce
from core.orders.scale import MarketScale
from core.quote_reading import QuoteReader
from core.records import OrderState
from core.telemetry_messages import Control, application, unpack
from net.messages import Application, Channel

SCALE = MarketScale.of(("AAPL", "MSFT"), 0.01, 0.001)


def order(side: int, ticks: int, lots: int, state: OrderState = OrderState.ACCEPTED, filled: int = 0) -> Order:
    request = OrderRequest("a" * 32, 0, side, lots, ticks, TimeInForce.GTC, 1, 1, 1, 0)
    return replace(initialise(request), state=state, cumulative_quantity=filled)


def test_own_orders_are_marked_with_what_they_have_left() -> None:
    own = [order(1, 9_999, 500, filled=200), order(1, 9_999, 100), order(-1, 10_002, 50, OrderState.PENDING_CANCEL)]
    own += [order(1, 9_998, 70, OrderState.FILLED), order(1, 9_998, 70, OrderState.INITIALISED)]
    found = ladder(SCALE, 0, [(9_999, 4_000), (9_998, 1_000)], [(10_001, 3_000)], own)
    assert [(each.price, each.quantity, each.own_quantity) for each in found.bids] == [
        (99.99, 4.0, pytest.approx(0.4)),
        (99.98, 1.0, 0.0),
    ]
    assert [(each.price, each.own_quantity) for each in found.asks] == [(100.01, 0.0), (100.02, pytest.approx(0.05))]
    assert BookLadder.from_dict(found.to_dict()) == found


def test_an_own_order_beyond_the_other_side_leaves_nothing_to_read_until_it_is_gone() -> None:
    reader = QuoteReader()
    levels = [(9_999, 4_000), (9_998, 1_000)], [(10_001, 3_000)]
    assert reader.read(ladder(SCALE, 0, *levels, [])) is not None
    crossed = ladder(SCALE, 0, *levels, [order(1, 10_003, 500)])
    assert crossed.bids[0].price > crossed.asks[0].price
    assert reader.read(crossed) is None
    after = reader.read(ladder(SCALE, 0, [(9_999, 6_000)], [(10_001, 3_000)], []))
    assert after is not None
    assert (after.flow, after.looks) == (pytest.approx(2.0), 1)


class Venue:
    def __init__(self) -> None:
        self.gate = asyncio.Event()

    async def depth(self, instrument: int, levels: int) -> tuple[Sequence[tuple[int, int]], Sequence[tuple[int, int]]]:
        await self.gate.wait()
        return [(9_999, 10)][:levels], [(10_001, 10)][:levels]


class Wire:
    def __init__(self) -> None:
        self.sent: list[tuple[int, int, dict[str, object]]] = []

    def send(self, peer_id: int, message: Application, *, round_id: int = 0) -> bool:
        self.sent.append((peer_id, message.request_id, unpack(message.body)))
        return True


def question(number: int, instrument: str = "MSFT", levels: int = 5) -> Application:
    body = {"instrument": instrument, "levels": levels}
    return application(Channel.CONTROL, Control.LADDER, body, request_id=number)


def test_one_question_at_a_time_of_each_monitor_and_bad_ones_are_told_why() -> None:
    async def session() -> None:
        wire, venue = Wire(), Venue()
        ladders = Ladders(wire, venue, SCALE, list)
        ladders.answer(300, question(1))
        ladders.answer(300, question(2))
        ladders.answer(301, question(3, instrument="NONE"))
        ladders.answer(302, question(4, levels=0))
        venue.gate.set()
        await asyncio.sleep(0.01)
        answers = {number: (peer, reply) for peer, number, reply in wire.sent}
        assert answers.keys() == {1, 3, 4}
        assert BookLadder.from_dict(answers[1][1]).bids[0].price == 99.99
        assert "'NONE' is not traded" in str(answers[3][1]["text"])
        assert answers[4][1]["refused"]
        ladders.answer(300, question(5))
        await asyncio.sleep(0.01)
        assert wire.sent[-1][:2] == (300, 5)
        without = Ladders(wire, object(), SCALE, list)
        without.answer(300, question(6))
        await asyncio.sleep(0.01)
        assert "protocol shows none" in str(wire.sent[-1][2]["text"])
        await ladders.close()

    asyncio.run(session())
