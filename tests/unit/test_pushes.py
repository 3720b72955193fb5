"""What nodes and gateway push to whoever attaches, goes and comes back."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest

import core.push_schedule
from core.decision import Side
from core.gateway.monitor_feed import ROWS_KEPT, MonitorFeed
from core.market.load import load_market
from core.node_telemetry import NodeTelemetry
from core.orders.order import Order, OrderRequest, TimeInForce
from core.push_schedule import PUSH_INTERVAL_S, PushSchedule
from core.records import EventRow, OrderState, Severity
from core.telemetry_messages import NodeReport, Telemetry, gateway_report, node_report
from net.messages import Application
from tests.tui.fixtures import FakeSession

OPERATOR = 2_000


class Wire:
    def __init__(self) -> None:
        self.sent: list[Application] = []

    def send(self, peer_id: int, message: Application, *, round_id: int = 0) -> bool:
        self.sent.append(message)
        return True

    def events(self) -> list[str]:
        """Of the pushes since the last call."""
        read: dict[int, Any] = {Telemetry.STATUS: node_report, Telemetry.GATEWAY: gateway_report}
        reports = [read[message.kind](message.body) for message in self.sent]
        self.sent.clear()
        return [event.text for report in reports for event in report.events]


def order(name: str) -> Order:
    request = OrderRequest(name, 0, Side.BUY, 1, 100, TimeInForce.GTC, 1, 1, 1, 0)
    return Order(request, OrderState.ACCEPTED)


def status(events: tuple[EventRow, ...]) -> NodeReport:
    snapshot = FakeSession(seed=5, cycles=1).snapshot()
    return NodeReport(snapshot.nodes[0], snapshot.toggles, 1, 2, 3, (), 1.0, 2.0, events, (), "us-stocks")


def test_a_node_tells_who_comes_back_what_it_does_not_know_yet_once() -> None:
    """A recorder that was killed with news in hand comes back under the same name."""
    wire = Wire()
    telemetry = NodeTelemetry("node 0", wire, status)
    telemetry.event(Severity.INFO, "one")
    telemetry.subscribe(OPERATOR, 1, 0)
    telemetry._push(OPERATOR)
    telemetry._push(OPERATOR)
    assert wire.events() == ["one"]
    heard_ns = telemetry.events()[-1].time_ns
    telemetry.event(Severity.INFO, "two")
    telemetry._push(OPERATOR)
    assert wire.events() == ["two"]
    telemetry.subscribe(OPERATOR, 1, heard_ns)
    telemetry._push(OPERATOR)
    assert wire.events() == ["two"], "pushed, and never heard"
    telemetry.subscribe(OPERATOR, 1, 0)
    telemetry._push(OPERATOR)
    assert wire.events() == ["one", "two"]


def test_who_stops_says_the_last_of_it() -> None:
    wire = Wire()
    telemetry = NodeTelemetry("node 0", wire, status)
    telemetry.subscribe(OPERATOR, 1, 0, 1.0)
    telemetry.event(Severity.INFO, "last")
    asyncio.run(telemetry.close())
    assert wire.events() == ["last"]


class WallClock:
    """Its sleeps take no time but their own, which is `late_s` too long."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, now_s: float = 1_800_000_000.03, late_s: float = 0.0) -> None:
        self.now_s, self.late_s = now_s, late_s
        self._sleep = asyncio.sleep
        monkeypatch.setattr(core.push_schedule.asyncio, "sleep", self._pass)
        monkeypatch.setattr(core.push_schedule.time, "time", lambda: self.now_s)

    async def _pass(self, seconds: float) -> None:
        self.now_s += seconds + self.late_s
        await self._sleep(0)

    async def pushes(self, turns: int, *, leads: bool) -> list[tuple[int, float]]:
        """Who was pushed to when; the second subscriber asks for news each second."""
        told: list[tuple[int, float]] = []
        schedule = PushSchedule(lambda operator: told.append((operator, self.now_s)), lambda: leads)
        schedule.add(OPERATOR, PUSH_INTERVAL_S)
        schedule.add(OPERATOR + 1, 1.0)
        schedule.start()
        for _ in range(turns):
            await self._sleep(0)
        schedule.remove(OPERATOR)
        schedule.remove(OPERATOR + 1)
        await schedule.close()
        return told


def test_who_leads_is_heard_more_often_than_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = WallClock(monkeypatch)
    for leads, a_second in ((True, 10), (False, 2.5)):
        told = [operator for operator, _ in asyncio.run(clock.pushes(202, leads=leads))]
        assert told.count(OPERATOR) == pytest.approx(20 * a_second, abs=a_second)
        assert told.count(OPERATOR + 1) == pytest.approx(20, abs=1), "who asks for less gets that of both"


@pytest.mark.parametrize("late_s", [0.0, -0.001, 0.004])
def test_every_process_pushes_at_the_same_tenths_of_a_second(monkeypatch: pytest.MonkeyPatch, late_s: float) -> None:
    for began_s in (1_800_000_000.03, 1_800_000_000.27):
        clock = WallClock(monkeypatch, began_s, late_s)
        told = asyncio.run(clock.pushes(100, leads=False))
        assert len(told) > 10
        assert {operator for operator, at_s in told[:2] if at_s < began_s + 0.16} == {OPERATOR, OPERATOR + 1}, "at once"
        for operator, at_s in told[2:]:
            step_s = 0.4 if operator == OPERATOR else 1.0
            assert abs(at_s - round(at_s / step_s) * step_s) < 0.006


def test_late_timers_and_a_clock_that_is_set_back_leave_out_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = WallClock(monkeypatch, late_s=0.37)
    told = asyncio.run(clock.pushes(100, leads=True))
    slow = [at_s for operator, at_s in told if operator != OPERATOR]
    assert max(after - before for before, after in pairwise(slow)) < 1.9
    clock.late_s, before = 0.0, clock.now_s

    async def set_back() -> list[tuple[int, float]]:
        pushes = asyncio.ensure_future(clock.pushes(100, leads=True))
        await clock._sleep(0)
        clock.now_s -= 3600.0
        return await pushes

    told = asyncio.run(set_back())
    assert clock.now_s < before - 3500.0
    assert len(told) > 90


def test_the_gateway_tells_no_event_twice_to_who_was_away() -> None:
    wire = Wire()
    feed = MonitorFeed(wire, load_market("us-stocks").spec)
    feed.event(Severity.INFO, "one")
    feed.subscribe(OPERATOR)
    feed._push(OPERATOR)
    assert wire.events() == ["one"]
    heard_ns = feed._events[-1][1].time_ns
    feed.event(Severity.INFO, "two")
    feed.subscribe(OPERATOR, heard_ns)
    feed._push(OPERATOR)
    feed._push(OPERATOR)
    assert wire.events() == ["two"]


def test_orders_that_nobody_could_be_told_of_are_counted() -> None:
    wire = Wire()
    feed = MonitorFeed(wire, load_market("us-stocks").spec)
    feed.subscribe(OPERATOR)
    for number in range(ROWS_KEPT + 50):
        feed.reported(order(f"o-{number}"))
    feed._push(OPERATOR)
    assert wire.events() == [], "who comes is told of the newest, and of no others"
    for number in range(ROWS_KEPT + 7):
        feed.reported(order(f"o-{number}"))
    feed._push(OPERATOR)
    assert wire.events() == ["7 orders changed faster than they can be told: a monitor lacks them"]
    feed._push(OPERATOR)
    assert wire.events() == []
