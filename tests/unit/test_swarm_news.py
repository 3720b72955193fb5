"""What one monitor has heard: who is reachable when, whose word counts, what the captions name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from core.faults import Fault
from core.records import InControl, LogEnd, OrderRow
from core.session import GATEWAY_ID
from core.swarm_news import STALE_AFTER_S, OrderChanges, SwarmNews
from core.telemetry_messages import GatewayReport, NodeReport, Telemetry, cycle_to_dict, pack, report_message
from tests.tui.fixtures import FakeSession
from tui.alerts import alerts, voters

SESSION = FakeSession(seed=5, cycles=30)


def report(node: int, **changes: Any) -> bytes:
    snapshot = SESSION.snapshot()
    values = NodeReport(
        status=snapshot.nodes[node],
        toggles=snapshot.toggles,
        cycles_total=30,
        decisions_total=600,
        denied_total=0,
        positions=snapshot.positions,
        cash=1.0,
        equity=2.0,
        events=(),
        captions=("modelled liquidity",),
        market="us-stocks",
    )
    return report_message(replace(values, **changes)).body


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def heard() -> tuple[SwarmNews, Clock]:
    clock = Clock()
    news = SwarmNews(clock=clock)
    for node in range(4):
        news.connected.add(node)
        news.hear(node, Telemetry.STATUS, report(node))
    return news, clock


def reachable(news: SwarmNews) -> list[bool]:
    return [node.reachable for node in news.snapshot().nodes]


def test_a_mute_node_is_unreachable_in_time_and_back_with_its_first_word(heard: tuple[SwarmNews, Clock]) -> None:
    news, clock = heard
    assert reachable(news) == [True] * 4
    clock.now += STALE_AFTER_S / 2
    for node in (0, 1, 3):
        news.hear(node, Telemetry.STATUS, report(node))
    clock.now += STALE_AFTER_S / 2 + 0.01
    assert reachable(news) == [True, True, False, True]
    assert news.snapshot().leader is None, "node 2 led, and nobody hears it"
    news.hear(2, Telemetry.STATUS, report(2))
    assert reachable(news) == [True] * 4
    assert news.snapshot().leader == 2


def test_a_member_that_was_never_heard_is_shown_once_others_told_of_it_for_a_while() -> None:
    """Whoever attaches while a node's host is gone has not heard of that node by itself."""
    clock = Clock()
    news = SwarmNews(clock=clock)
    told = SESSION.snapshot().nodes[2]
    assert told.replica is not None
    replica = replace(told.replica, commit_index=told.replica.commit_index + 1, voters=(0, 1, 2), learners=(3,))
    members = replace(told, replica=replica)
    news.connected = {0, 2, 3}
    for node in (0, 3):
        news.hear(node, Telemetry.STATUS, report(node))
    news.hear(2, Telemetry.STATUS, report(2, status=members))
    assert [node.node for node in news.snapshot().nodes] == [0, 2, 3], "it may be about to speak"
    clock.now += STALE_AFTER_S
    news.hear(2, Telemetry.STATUS, report(2, status=members))
    nodes = news.snapshot().nodes
    assert [(node.node, node.reachable) for node in nodes] == [(0, False), (1, False), (2, True), (3, False)]
    assert nodes[1].replica is None
    assert "nodes 0, 1, 3 are unreachable" in " ".join(alert.text for alert in alerts(news.snapshot(), 0))
    news.connected.add(1)
    news.hear(1, Telemetry.STATUS, report(1))
    assert [node.reachable for node in news.snapshot().nodes] == [False, True, True, False]


def test_a_member_that_was_removed_and_comes_again_is_awaited_anew() -> None:
    clock = Clock()
    news = SwarmNews(clock=clock)
    told = SESSION.snapshot().nodes[2]
    assert told.replica is not None
    news.connected = {2}

    def members(later: int, *voters: int) -> list[int]:
        assert told.replica is not None
        replica = replace(told.replica, commit_index=told.replica.commit_index + later, voters=voters, learners=())
        news.hear(2, Telemetry.STATUS, report(2, status=replace(told, replica=replica)))
        return [node.node for node in news.snapshot().nodes]

    assert members(1, 1, 2) == [2]
    clock.now += STALE_AFTER_S
    assert members(1, 1, 2) == [1, 2]
    assert members(2, 2) == [2]
    assert members(3, 1, 2) == [2], "it may be about to speak"
    clock.now += STALE_AFTER_S
    assert members(3, 1, 2) == [1, 2]


def log(node: int, tenth: int, committed: int, last: int = 0) -> bytes:
    """What a node says of its log at a tenth of a second."""
    status = SESSION.snapshot().nodes[node]
    assert status.replica is not None
    replica = replace(status.replica, commit_index=committed, last_index=last or committed)
    return report(node, status=replace(status, replica=replica), told_ns=tenth * 100_000_000)


def test_a_log_is_compared_with_what_the_leader_had_when_it_spoke(heard: tuple[SwarmNews, Clock]) -> None:
    """Whoever does not lead is heard less often: its news of then beside the leader's of now would be a lag."""
    news, clock = heard
    for tenth in range(60):
        clock.now += 0.1
        news.hear(2, Telemetry.STATUS, log(2, tenth, 1_000 + 10 * tenth, 1_003 + 10 * tenth))
        for node, behind in ((0, 0), (1, 7), (3, -1)):
            if tenth % 4 == node:
                news.hear(node, Telemetry.STATUS, log(node, tenth, 1_000 + 10 * tenth - behind))
        if tenth >= 8:
            nodes = news.snapshot().nodes
            assert [node.lag_entries for node in nodes] == [0, 7, 0, 0]
            assert nodes[0].leader_log == LogEnd(1_000 + 10 * (tenth // 4 * 4), 1_003 + 10 * (tenth // 4 * 4))
    clock.now += 1.0
    news.hear(1, Telemetry.STATUS, log(1, 70, 1_500))
    assert news.snapshot().nodes[1].lag_entries == 90, "against the leader's last word, where it has none of that time"
    clock.now += STALE_AFTER_S - 0.5
    news.hear(1, Telemetry.STATUS, log(1, 80, 1_500))
    assert news.snapshot().leader is None
    assert {node.lag_entries for node in news.snapshot().nodes} == {None}, "and nobody's word while nobody leads"


def test_a_lost_link_is_shown_at_once(heard: tuple[SwarmNews, Clock]) -> None:
    news, _ = heard
    news.connected.discard(1)
    assert reachable(news) == [True, False, True, True]


def test_the_latest_claim_that_a_reachable_node_holds_to_counts(heard: tuple[SwarmNews, Clock]) -> None:
    news, _ = heard
    assert news.in_control() is None
    older, later = InControl(200, "operator-0", "", 10), InControl(201, "operator-1", "", 20)
    news.hear(0, Telemetry.STATUS, report(0, in_control=older))
    news.hear(3, Telemetry.STATUS, report(3, in_control=later))
    assert news.in_control() == news.snapshot().in_control == later
    news.connected.discard(3)
    assert news.in_control() == older


def test_captions_name_the_faults_that_nodes_tell_of_and_those_of_the_session(heard: tuple[SwarmNews, Clock]) -> None:
    news, _ = heard
    news.hear(3, Telemetry.STATUS, report(3, fault=str(Fault.LYING)))
    news.faults = {1: Fault.PAUSED}
    faults = [caption for caption in news.snapshot().captions if caption.startswith("fault")]
    assert faults == ["fault: node 1 is paused", "fault: node 3 lies about what it judges"]


def test_cycles_are_kept_once_and_the_oldest_go() -> None:
    news = SwarmNews(keep_cycles=10)
    rows = [cycle_to_dict(record) for record in SESSION.cycles]
    news.hear(0, Telemetry.CYCLES, pack(rows))
    news.hear(1, Telemetry.CYCLES, pack(rows[5:]))
    assert [record.cycle for record in news.cycles] == list(range(21, 31))
    assert news.wanted_of(0) == news.wanted_of(1) == {"from_cycle": 31, "events_after_ns": 0}
    assert news.wanted_of(2)["from_cycle"] == 1


@pytest.mark.parametrize(("keep", "kept"), [(100, range(1, 31)), (10, range(21, 31)), (4, range(27, 31))])
def test_a_former_leaders_cycles_are_taken_behind_its_successors(keep: int, kept: range) -> None:
    """Whoever attaches after a change of leaders hears of them in the order in which its links come up."""
    news = SwarmNews(keep_cycles=keep)
    rows = [cycle_to_dict(record) for record in SESSION.cycles]
    news.hear(1, Telemetry.CYCLES, pack(rows[25:28]))
    assert news.wanted_of(0)["from_cycle"] == 1
    news.hear(0, Telemetry.CYCLES, pack(rows[:25]))
    news.hear(1, Telemetry.CYCLES, pack(rows[27:]))
    assert [record.cycle for record in news.cycles] == list(kept)


def test_a_node_that_was_removed_is_not_missed(heard: tuple[SwarmNews, Clock]) -> None:
    news, clock = heard
    clock.now += STALE_AFTER_S + 0.01
    status = SESSION.snapshot().nodes[0]
    for node in (0, 1, 2):
        snapshot = SESSION.snapshot().nodes[node]
        assert snapshot.replica is not None
        replica = replace(snapshot.replica, voters=(0, 1, 2))
        news.hear(node, Telemetry.STATUS, report(node, status=replace(snapshot, replica=replica)))
    assert [node.node for node in news.snapshot().nodes] == [0, 1, 2]
    assert status.replica is not None
    assert voters(news.snapshot()) == (0, 1, 2)
    # One that is away and still votes is missed.
    replica = replace(status.replica, voters=(0, 1, 2, 3))
    news.hear(0, Telemetry.STATUS, report(0, status=replace(status, replica=replace(replica, epoch=9))))
    assert [node.node for node in news.snapshot().nodes] == [0, 1, 2, 3]
    assert any("3 of 4 go on" in alert.text for alert in alerts(news.snapshot(), news.snapshot().taken_ns))


def test_every_order_that_changes_is_taken_once_also_beyond_what_a_snapshot_has_room_for() -> None:
    changes = OrderChanges(10_000)
    news = SwarmNews(order_changes=changes)
    orders = [replace(SESSION.snapshot().orders[0], client_order_id=f"o-{number}") for number in range(1_000)]
    for first in range(0, len(orders), 200):
        news.hear(GATEWAY_ID, Telemetry.GATEWAY, gateway_report(orders[first : first + 200]))
    filled = replace(orders[0], filled_quantity=5.0)
    news.hear(GATEWAY_ID, Telemetry.GATEWAY, gateway_report([filled]))
    taken, dropped = changes.take()
    assert [order.client_order_id for order in taken] == [f"o-{number}" for number in (*range(1, 1_000), 0)]
    assert taken[-1].filled_quantity == 5.0
    assert dropped == 0
    assert len(news.snapshot().orders) < len(orders)
    assert changes.take() == ([], 0)


def test_changed_orders_that_nobody_takes_in_time_are_counted() -> None:
    changes = OrderChanges(3)
    for number in range(5):
        changes.add(replace(SESSION.snapshot().orders[0], client_order_id=f"o-{number}"))
    taken, dropped = changes.take()
    assert ([order.client_order_id for order in taken], dropped) == (["o-2", "o-3", "o-4"], 2)


def gateway_report(orders: list[OrderRow]) -> bytes:
    return report_message(GatewayReport(1, "connected", len(orders), 0, 0, tuple(orders))).body
