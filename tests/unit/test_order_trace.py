"""When gateway and venue had an order in hand: kept as it happens, and told to whoever asks."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from core.cycle_trace import OrderInterval, Stage, clock_now, gathered
from core.gateway.connector import Answer, ConnectorError, NoAnswer, Refusal
from core.gateway.order_trace import INTERVALS_KEPT, PROBLEM_CHARACTERS_MAX, OrderTrace
from core.gateway.trace_answers import TraceAnswers
from core.gateway.venue_times import VenueTimes
from core.session import GATEWAY_ID
from core.telemetry_messages import Control, OrderKind, application, unpack
from core.venue.credentials import Credentials
from core.venue.order_times import ORDERS_KEPT, OrderTimes
from net.messages import Channel
from tests.unit.fake_connector import request
from tests.unit.test_kill_switch import FakeWire
from tests.unit.test_order_desk import LEADER, PAYLOAD, STEP, Desk, run
from tests.unit.test_venue_api import api, call, limit, signed

MONITOR = 300


def told(desk: Desk) -> list[OrderInterval]:
    return desk.trace.between(0, time.perf_counter_ns())


def test_an_order_leaves_its_times_at_the_desk_and_on_the_wire(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        values = desk.message(PAYLOAD)
        (name,) = values["ids"]
        desk.desk.prepare(LEADER, {"epoch": 1, "index": 1, "payload": PAYLOAD})
        desk.desk.execute(LEADER, values, STEP)
        prepared, executed = told(desk)
        assert (prepared.stage, prepared.step, prepared.orders) == (Stage.PREPARE, STEP, ())
        assert (executed.stage, executed.step, executed.orders) == (Stage.EXECUTE, STEP, (name,))
        desk.connector.answers[name](Refusal(-2010, "Insufficient balance."))
        placed = told(desk)[-1]
        assert (placed.stage, placed.step, placed.orders) == (Stage.PLACE, STEP, (name,))
        assert (placed.error_type, placed.problem) == ("-2010", "Insufficient balance.")
        assert prepared.end_ns <= executed.start_ns <= placed.start_ns <= executed.end_ns <= placed.end_ns

    run(tmp_path, work)


def test_a_refused_message_leaves_its_reason_and_none_of_its_names(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        desk.desk.execute(LEADER, desk.message(PAYLOAD) | {"ids": ["x" * 5_000]}, 7)
        assert desk.answer()[0] == OrderKind.REFUSED
        (refused,) = told(desk)
        assert (refused.stage, refused.step, refused.orders) == (Stage.EXECUTE, 7, ())
        assert refused.error_type == "GuardError"
        assert "client order ids are not those" in refused.problem

    run(tmp_path, work)


def test_what_is_kept_is_bounded() -> None:
    trace, times = OrderTrace(), OrderTimes()
    trace.refused(0, 1, ValueError(), "x" * 5_000)
    assert len(trace.between(0, time.perf_counter_ns())[0].problem) == PROBLEM_CHARACTERS_MAX
    for number in range(max(INTERVALS_KEPT, ORDERS_KEPT) + 10):
        trace.add(Stage.EXECUTE, number, number)
        times.request()
        times.order(1, str(number))
        times.journalled()
    assert len(trace.between(0, time.perf_counter_ns())) == INTERVALS_KEPT
    assert len(times.after(1, 0)) == ORDERS_KEPT


def test_no_answer_says_whether_the_link_went() -> None:
    trace = OrderTrace()
    answers: list[Answer] = [NoAnswer("no answer within 5 ms"), NoAnswer("cut", link_lost=True)]
    for number, answer in enumerate(answers):
        trace.answered(request(f"o{number}"), time.perf_counter_ns(), answer)
    found = trace.between(0, time.perf_counter_ns())
    assert [(each.error_type, each.problem) for each in found] == [
        ("no_answer", "no answer within 5 ms"), ("link_lost", "cut"),
    ]  # fmt: skip


class Venue:
    """Handled an order just now, and one that the gateway's answer is too early for."""

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails
        self.asked: list[int] = []

    async def after(self, after_ns: int) -> list[tuple[str, int, int]]:
        self.asked.append(after_ns)
        if self.fails:
            raise ConnectorError("down")
        now_ns = time.perf_counter_ns()
        return [("a", after_ns + 1, after_ns + 2), ("later", now_ns, now_ns + 10**9)]


def ask(trace: OrderTrace, venue: Venue | None, after_ns: int) -> dict[str, Any]:
    async def work() -> dict[str, Any]:
        wire = FakeWire()
        answers = TraceAnswers(wire, trace, venue)
        answers.answer(MONITOR, application(Channel.CONTROL, Control.TRACE, {"after_ns": after_ns}, request_id=9))
        async with asyncio.timeout(5):
            while not wire.sent:
                await asyncio.sleep(0)
        await answers.close()
        ((peer, message),) = wire.sent
        assert (peer, message.kind, message.request_id) == (MONITOR, Control.REPLY, 9)
        values: dict[str, Any] = unpack(message.body)
        return values

    return asyncio.run(work())


def test_the_gateway_tells_its_own_times_and_the_venues_each_once() -> None:
    trace, venue = OrderTrace(), Venue()
    trace.add(Stage.EXECUTE, time.perf_counter_ns(), 3, ("a",))
    first = ask(trace, venue, 0)
    assert first["node"] == GATEWAY_ID
    orders = gathered([first]).orders
    assert {(each.stage, each.step, each.orders) for each in orders} == {
        (Stage.EXECUTE, 3, ("a",)), (Stage.MATCH, -1, ("a",)),
    }  # fmt: skip
    assert [each.stage for each in gathered([ask(trace, venue, first["until_ns"])]).orders] == [Stage.MATCH]
    assert venue.asked == [0, first["until_ns"]]


def test_a_venue_that_is_away_or_anothers_has_no_times_and_the_gateway_still_tells_its_own() -> None:
    trace = OrderTrace()
    trace.add(Stage.EXECUTE, time.perf_counter_ns(), 3, ("a",))
    for venue in (Venue(fails=True), None):
        (own,) = gathered([ask(trace, venue, 0)]).orders
        assert own.stage is Stage.EXECUTE


def test_the_venue_tells_each_account_of_its_own_orders() -> None:
    spot = api()
    began_ns = clock_now()["until_ns"]
    for name in ("first", "second"):
        spot.times.request()
        assert "result" in call(spot, "order.place", limit(name))
        spot.times.journalled()
    spot.times.request()
    call(spot, "openOrders.status", signed())
    spot.times.journalled()
    first, second = call(spot, "replay.times", signed(after=began_ns))["result"]["orders"]
    assert [first[0], second[0]] == ["first", "second"]
    assert began_ns <= first[1] <= first[2] <= second[1] <= second[2]
    assert call(spot, "replay.times", signed(after=first[2]))["result"]["orders"] == [second]
    assert spot.times.after(2, 0) == [], "another account's"


def test_a_venue_that_cannot_be_asked_is_an_error_with_a_reason(tmp_path: Path) -> None:
    times = VenueTimes(tmp_path / "rest.port", lambda: Credentials("key", "secret"))

    async def asked() -> str:
        try:
            await times.after(0)
        except ConnectorError as error:
            return str(error)
        return ""

    assert "rest.port" in asyncio.run(asked()), "not there yet"
    (tmp_path / "rest.port").write_text("1")
    assert "the venue tells no times" in asyncio.run(asked())
