"""Decisions at the gateway's desk: whatever is wrong with one, the leader hears of it and the others are served."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.decision import Side
from core.gateway.connector import ConnectorError
from core.gateway.gateway import Gateway
from core.gateway.order_desk import OrderDesk
from core.gateway.order_trace import OrderTrace
from core.gateway.settings import GatewaySettings
from core.payload import encode_decisions
from core.records import OrderState as S
from core.records import Severity
from core.telemetry_messages import OrderKind, unpack
from core.toggles import Serialization
from net.membership import all_voters
from net.messages import Committed, CommittedEntries, Mode
from net.payload_batch import PAYLOADS_MAX
from net.wire.codec import encode
from net.wire.kinds import CodecKind
from tests.unit.fake_connector import SCALE, FakeConnector, run_gateway
from tests.unit.test_guard import NODES, at_step, byzantine, led, make_guard, payload_of
from tests.unit.test_kill_switch import FakeFeed, FakeWire
from tests.unit.test_swarm_state import KEYS, batch, proposals

LEADER, OTHER, STEP = 0, 2, 0
VOTERS = all_voters({node: KEYS[node].verify_key.encode() for node in NODES})


class DeskFeed(FakeFeed):
    def sent(self, request: object) -> None:
        pass

    def reported(self, order: object) -> None:
        pass


class Desk:
    """A desk at a real gateway over a fake venue."""

    def __init__(self, directory: Path) -> None:
        self.trace = OrderTrace()
        self.connector, self.feed, self.wire, self.guard = FakeConnector(), DeskFeed(), FakeWire(), make_guard()
        self.gateway: Gateway[Committed] = Gateway(
            GatewaySettings(directory, synchronous="NORMAL"),
            SCALE,
            self.connector,
            verify=lambda committed, payload: self.guard.verify(committed),
            on_report=lambda report: self.desk.reported(report),
            on_venue_state=lambda state, reason: None,
            on_difference=lambda difference: None,
            on_answer=self.trace.answered,
        )
        parts: tuple[Any, ...] = (self.gateway, self.guard, self.feed, self.wire)
        self.desk = OrderDesk(*parts, replays=False, trace=self.trace)

    def message(self, payload: bytes | Committed, **changes: Any) -> dict[str, Any]:
        """EXECUTE of the first order of `payload`."""
        committed = byzantine(payload) if isinstance(payload, bytes) else payload
        (order,) = self.guard.requests_at(committed, [0])
        values: dict[str, Any] = {
            "epoch": 1,
            "term": 4,
            "in_flight": 1,
            "part": 0,
            "positions": [0],
            "ids": [order.client_order_id],
            "proof": encode(CommittedEntries(1, 1, (committed,)), CodecKind.CAPNP),
        }
        return values | changes

    def answer(self) -> tuple[int, Any]:
        node, message = self.wire.sent[-1]
        assert node == LEADER
        return message.kind, unpack(message.body)


PAYLOAD = payload_of((0, Side.BUY, 10, 5_000))


def run(directory: Path, work: Callable[[Desk], Awaitable[None]]) -> None:
    run_gateway(lambda: Desk(directory), work)


def test_a_decided_order_is_journalled_and_sent_once(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        values = desk.message(PAYLOAD)
        for _ in range(2):
            desk.desk.execute(LEADER, values, STEP)
            assert desk.answer() == (OrderKind.JOURNALED, {"ids": values["ids"]})
        assert [each.client_order_id for each in desk.connector.placed] == values["ids"]

    run(tmp_path, work)


def of_a_raft_epoch(desk: Desk) -> dict[str, Any]:
    """EXECUTE of an order of epoch 2, which is Raft's; the desk knows of epoch 1 alone."""
    entry = led(PAYLOAD)
    committed = replace(entry, epoch=2, certificate=replace(entry.certificate, epoch=2))
    (order,) = desk.guard.requests_at(committed, [0])
    proof = encode(CommittedEntries(2, 1, (committed,)), CodecKind.CAPNP)
    return desk.message(PAYLOAD, epoch=2, ids=[order.client_order_id], proof=proof)


def test_orders_that_come_ahead_of_the_word_on_their_epoch_wait_for_it(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        values = of_a_raft_epoch(desk)
        desk.desk.execute(LEADER, values, STEP)
        assert not desk.wire.sent
        assert not desk.connector.placed
        desk.guard.set_members(VOTERS, {1: Mode.BFT, 2: Mode.RAFT})
        desk.desk.epoch_known()
        assert desk.answer() == (OrderKind.JOURNALED, {"ids": values["ids"]})
        assert [each.client_order_id for each in desk.connector.placed] == values["ids"]
        desk.desk.epoch_known()
        assert len(desk.connector.placed) == 1

    run(tmp_path, work)


def test_orders_of_an_epoch_that_nobody_tells_of_are_refused_at_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.gateway.order_desk.HOLD_S", 0.02)
    monkeypatch.setattr("core.gateway.order_desk.HELD_MAX", 1)

    async def work(desk: Desk) -> None:
        values = of_a_raft_epoch(desk)
        desk.desk.execute(LEADER, values, STEP)
        desk.desk.execute(LEADER, values, STEP)
        kind, body = desk.answer()
        assert (kind, len(desk.wire.sent)) == (OrderKind.REFUSED, 1), "one waits, no more fit"
        assert "too few nodes have told of it yet" in body["reason"]
        for _ in range(200):
            if len(desk.wire.sent) == 2:
                break
            await asyncio.sleep(0.01)
        assert "too few nodes told of their epoch within" in desk.answer()[1]["reason"]
        desk.guard.set_members(VOTERS, {1: Mode.BFT, 2: Mode.BFT})
        desk.desk.epoch_known()
        desk.desk.execute(LEADER, values, STEP)
        assert "a certificate of mode raft, epoch 2 is of mode bft" in desk.answer()[1]["reason"]
        assert not desk.connector.placed

    run(tmp_path, work)


@pytest.mark.parametrize(
    "error",
    [
        sqlite3.OperationalError("disk full"),
        ConnectorError("no credentials"),
        OverflowError("too large"),
        KeyError("x"),
        TypeError("y"),
    ],
)
def test_whatever_fails_the_leader_is_refused_and_not_left_waiting(tmp_path: Path, error: Exception) -> None:
    def fail(*args: object) -> None:
        raise error

    async def work(desk: Desk) -> None:
        values = desk.message(PAYLOAD)
        desk.connector.encode = fail  # type: ignore[method-assign, assignment]
        desk.desk.execute(LEADER, values, STEP)
        kind, body = desk.answer()
        assert (kind, body["ids"]) == (OrderKind.REFUSED, values["ids"])
        assert repr(error) == body["reason"]
        assert desk.feed.errors() == [f"refused orders of node {LEADER}: {error!r}"]
        assert not desk.guard.portfolio.reserved_buy.any()
        del desk.connector.encode
        desk.desk.execute(LEADER, values, STEP)
        assert desk.answer()[0] == OrderKind.JOURNALED

    run(tmp_path, work)


@pytest.mark.parametrize(
    "changes",
    [
        {"ids": None},
        {"ids": ["tt-other"]},
        {"proof": b"junk"},
        {"proof": None},
        {"positions": ["x"]},
        {"positions": [5]},
        {"epoch": None},
        {"part": 2**70},
        {"in_flight": 0},
        {"in_flight": 2**40},
    ],
)
def test_malformed_words_are_shown_and_refused_and_nothing_is_journalled(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    async def work(desk: Desk) -> None:
        good = desk.message(PAYLOAD)
        desk.desk.execute(LEADER, good | changes, STEP)
        assert desk.answer()[0] == OrderKind.REFUSED
        assert len(desk.feed.errors()) == 1
        assert not desk.connector.placed
        assert desk.gateway.order(good["ids"][0]) is None
        desk.desk.execute(LEADER, good, STEP)
        assert desk.answer()[0] == OrderKind.JOURNALED

    run(tmp_path, work)


@pytest.mark.parametrize("missing", ["ids", "epoch", "term", "in_flight", "part", "positions", "proof"])
def test_a_missing_field_is_refused(tmp_path: Path, missing: str) -> None:
    async def work(desk: Desk) -> None:
        values = desk.message(PAYLOAD)
        del values[missing]
        desk.desk.execute(LEADER, values, STEP)
        assert desk.answer()[0] == OrderKind.REFUSED
        assert missing in desk.feed.errors()[0]

    run(tmp_path, work)


def test_an_in_flight_of_nothing_journals_no_denial_either(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        too_much = payload_of((0, Side.BUY, 10**9, 5_000))
        desk.desk.execute(LEADER, desk.message(too_much, in_flight=0), STEP)
        assert desk.answer()[0] == OrderKind.REFUSED
        assert not desk.gateway.reports_since(0)

    run(tmp_path, work)


def test_one_certificate_fences_as_far_as_it_proves(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        desk.desk.execute(LEADER, desk.message(PAYLOAD, epoch=2**62, term=2**62), STEP)
        assert desk.answer()[0] == OrderKind.JOURNALED
        assert desk.gateway.fence == (1, 4)

    run(tmp_path, work)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"epoch": 1, "index": 1, "payload": b"junk"},
        {"epoch": 2**63, "index": 1, "payload": PAYLOAD},
        {"epoch": 1, "index": 2**63, "payload": PAYLOAD},
        {"epoch": -1, "index": 2**80, "payload": PAYLOAD},
        {"epoch": None, "index": 1, "payload": PAYLOAD},
    ],
)
def test_what_cannot_be_prepared_is_shown_and_stops_nobody(tmp_path: Path, values: dict[str, Any]) -> None:
    async def work(desk: Desk) -> None:
        desk.desk.prepare(OTHER, values)
        ((severity, text),) = desk.feed.events
        assert severity is Severity.WARNING
        assert f"nothing prepared for node {OTHER}" in text
        desk.desk.execute(LEADER, desk.message(PAYLOAD), STEP)
        assert desk.answer()[0] == OrderKind.JOURNALED

    run(tmp_path, work)


def test_a_later_step_of_another_node_denies_nothing_that_was_prepared(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        values = desk.message(PAYLOAD)
        desk.desk.prepare(LEADER, {"epoch": 1, "index": 1, "payload": PAYLOAD})
        later = encode_decisions(batch(proposals(2**40, (0, Side.BUY, 10, 5_000))), Serialization.CAPNP)
        desk.desk.prepare(OTHER, {"epoch": 1, "index": 2, "payload": later})
        encoded = desk.connector.encoded
        desk.desk.execute(LEADER, values, STEP)
        assert desk.answer()[0] == OrderKind.JOURNALED
        assert desk.connector.encoded == encoded, "it was built before the commit"
        assert desk.gateway.order(values["ids"][0]).state is S.SUBMITTED  # type: ignore[union-attr]
        assert not desk.gateway.reports_since(0)

    run(tmp_path, work)


def test_what_the_swarm_denied_is_refused_with_an_error_and_not_journalled_also_after_a_restart(tmp_path: Path) -> None:
    first, again = at_step(3, 5), at_step(3, 6, quantity=11)

    async def refused(desk: Desk, committed: Committed) -> None:
        values = desk.message(committed)
        desk.desk.execute(LEADER, values, STEP)
        assert desk.answer()[0] == OrderKind.REFUSED
        assert "decided before" in desk.feed.errors()[-1]
        assert desk.gateway.order(values["ids"][0]) is None

    async def before(desk: Desk) -> None:
        desk.desk.execute(LEADER, desk.message(first), STEP)
        assert desk.answer()[0] == OrderKind.JOURNALED
        await refused(desk, again)
        assert len(desk.connector.placed) == 1
        assert not desk.gateway.reports_since(0)

    async def after(desk: Desk) -> None:
        assert desk.gateway.decided_steps() == [(0, 5, 3)]
        desk.guard.decided.take(0, (5, PAYLOADS_MAX), 3)  # as the process does when it starts
        desk.desk.execute(LEADER, desk.message(first), STEP)
        assert desk.answer()[0] != OrderKind.REFUSED, "the very order is known"
        await refused(desk, again)
        desk.desk.execute(LEADER, desk.message(at_step(4, 7)), STEP)
        desk.desk.execute(LEADER, desk.message(at_step(1, 2)), STEP)
        assert desk.answer()[0] == OrderKind.JOURNALED, "an older entry is no second decision"
        assert desk.gateway.decided_steps() == [(0, 7, 4)]

    run(tmp_path, before)
    run(tmp_path, after)
