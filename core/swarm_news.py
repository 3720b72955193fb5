"""What nodes and gateway have told one monitor, and the immutable snapshot of it."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from operator import attrgetter
from typing import Any

from core.config import Settings
from core.faults import CAPTIONS, Fault
from core.log_ends import LogEnds
from core.records import CycleRecord, EventRow, InControl, NodeStatus, OrderRow, SwarmSnapshot, VenueState
from core.session import GATEWAY_ID
from core.telemetry_messages import (
    GatewayReport,
    NodeReport,
    Telemetry,
    cycle_from_dict,
    gateway_report,
    node_report,
    unpack,
)
from core.toggles import parse_toggles

CYCLES_KEPT = 2_000
EVENTS_KEPT = 500
ORDERS_KEPT = 200
STALE_AFTER_S = 1.5
"""Of pushes two to ten times a second."""


class OrderChanges:
    """The orders that changed since they were last taken, each as it was last; so many at most."""

    def __init__(self, kept_max: int) -> None:
        self._kept_max = kept_max
        self._orders: OrderedDict[str, OrderRow] = OrderedDict()
        self._dropped = 0

    def add(self, order: OrderRow) -> None:
        """Takes the place of what was kept of the same order; with too many the oldest goes, and is counted."""
        self._orders[order.client_order_id] = order
        self._orders.move_to_end(order.client_order_id)
        if len(self._orders) > self._kept_max:
            self._orders.popitem(last=False)
            self._dropped += 1

    def take(self) -> tuple[list[OrderRow], int]:
        """Those kept, the one that changed first in front, and how many had to go; from here on it is empty."""
        taken = list(self._orders.values()), self._dropped
        self._orders.clear()
        self._dropped = 0
        return taken


class SwarmNews:
    """Takes what is pushed; gives snapshots."""

    def __init__(
        self,
        keep_cycles: int = CYCLES_KEPT,
        clock: Callable[[], float] = time.monotonic,
        order_changes: OrderChanges | None = None,
        stale_after_s: float = STALE_AFTER_S,
    ) -> None:
        """A snapshot has the latest orders only; `order_changes` gets every one. A node that pushed nothing for
        `stale_after_s` is shown as unreachable.
        """
        self._clock = clock
        self._stale_after_s = stale_after_s
        self._order_changes = order_changes
        self._nodes: dict[int, NodeReport] = {}
        self._log_ends = LogEnds()
        self._heard: dict[int, float] = {}
        self._awaited: dict[int, float] = {}
        self._heard_ns = 0
        self._gateway: GatewayReport | None = None
        self._orders: OrderedDict[str, OrderRow] = OrderedDict()
        self._events: deque[EventRow] = deque(maxlen=EVENTS_KEPT)
        self.connected: set[int] = set()
        """Who is linked now."""
        self.cycles: deque[CycleRecord] = deque(maxlen=keep_cycles)
        """Oldest first."""
        self._heard_cycle: dict[int, int] = {}
        self._heard_event_ns: dict[int, int] = {}
        self.session = ""
        self.settings: Settings | None = None
        """The session's; None until they are known."""
        self._dump: tuple[Settings, dict[str, Any]] | None = None
        self.faults: dict[int, Fault] = {}
        """Those that the session's files name; nodes tell of their own."""
        self.phase = ""

    def add_events(self, events: Iterable[EventRow]) -> None:
        self._events.extend(events)

    def hear(self, sender: int, kind: int, body: bytes) -> NodeReport | None:
        """Take a push of `sender`; returns the report where it was a node's status. Raises ValueError for garbage."""
        self._heard[sender] = self._clock()
        self._heard_ns = time.time_ns()
        if kind == Telemetry.CYCLES:
            for row in unpack(body):
                self._add_cycle(sender, cycle_from_dict(row))
        elif kind == Telemetry.STATUS:
            report = node_report(body)
            self._nodes[sender] = report
            self._log_ends.hear(report)
            self._add_events(sender, report.events)
            return report
        elif kind == Telemetry.GATEWAY:
            gateway = gateway_report(body)
            self._add_events(sender, gateway.events)
            self._hear_gateway(gateway)
        return None

    def _add_cycle(self, sender: int, record: CycleRecord) -> None:
        """Each node tells of the cycles that it led: those of a former leader may come behind its successor's."""
        self._heard_cycle[sender] = max(record.cycle, self._heard_cycle.get(sender, 0))
        if not self.cycles or record.cycle > self.cycles[-1].cycle:
            self.cycles.append(record)
            return
        place = bisect_left(self.cycles, record.cycle, key=attrgetter("cycle"))
        is_full = len(self.cycles) == self.cycles.maxlen
        if self.cycles[place].cycle == record.cycle or (is_full and place == 0):
            return
        if is_full:
            self.cycles.popleft()
            place -= 1
        self.cycles.insert(place, record)

    def _add_events(self, sender: int, events: tuple[EventRow, ...]) -> None:
        self._events.extend(events)
        if events:
            self._heard_event_ns[sender] = events[-1].time_ns

    def wanted_of(self, peer: int) -> dict[str, int]:
        """What `peer` need not tell again: the first cycle that is new here, and the time of its last event known."""
        return {"from_cycle": self._heard_cycle.get(peer, 0) + 1, "events_after_ns": self._heard_event_ns.get(peer, 0)}

    def _hear_gateway(self, gateway: GatewayReport) -> None:
        self._gateway = gateway
        for order in gateway.orders:
            self._orders[order.client_order_id] = order
            self._orders.move_to_end(order.client_order_id)
            if self._order_changes is not None:
                self._order_changes.add(order)
        while len(self._orders) > ORDERS_KEPT:
            self._orders.popitem(last=False)

    def epochs(self) -> list[int]:
        """The epoch that each node was last in."""
        return [report.status.replica.epoch for report in self._nodes.values() if report.status.replica is not None]

    def in_control(self) -> InControl | None:
        """The latest claim that a reachable node holds to."""
        now = self._clock()
        return _in_control([r for node, r in self._nodes.items() if self._with_reach(node, r, now).status.reachable])

    def snapshot(self) -> SwarmSnapshot:
        """Everything a screen needs, as of now."""
        now = self._clock()
        reports = [self._with_reach(node, report, now) for node, report in sorted(self._nodes.items())]
        reachable = [report for report in reports if report.status.reachable]
        newest = max(reachable or reports, key=_progress, default=None)
        members = _members(newest if reachable else None)
        shown = [r for r in reports if r.status.reachable or not members or r.status.node in members]
        leader = _leader(reachable)
        heard = [self._log_ends.beside_leader(report, leader) for report in shown]
        gateway = self._gateway
        known = gateway is not None and GATEWAY_ID in self.connected
        settings = self.settings if self.settings is not None else Settings.model_construct()
        return SwarmSnapshot(
            taken_ns=self._heard_ns or time.time_ns(),
            session=self.session,
            market=newest.market if newest is not None else settings.data,
            nodes=tuple(sorted([*heard, *self._unheard(members, now)], key=attrgetter("node"))),
            leader=leader,
            venue=VenueState(gateway.venue) if known and gateway is not None else VenueState.UNKNOWN,
            gateway_connected=GATEWAY_ID in self.connected,
            toggles=newest.toggles if newest else parse_toggles(settings.toggles),
            cycles=tuple(self.cycles),
            cycles_total=max((report.cycles_total for report in reports), default=0),
            decisions_total=max((report.decisions_total for report in reports), default=0),
            denied_total=max((report.denied_total for report in reports), default=0),
            orders_sent_total=gateway.orders_sent if gateway else 0,
            orders_filled_total=gateway.orders_filled if gateway else 0,
            orders_rejected_total=gateway.orders_rejected if gateway else 0,
            orders=tuple(reversed(self._orders.values())),
            positions=newest.positions if newest else (),
            cash=newest.cash if newest else 0.0,
            equity=newest.equity if newest else 0.0,
            results=newest.results if newest else None,
            events=tuple(self._events),
            captions=(newest.captions if newest else settings.captions()) + self._fault_captions(reachable),
            phase=self.phase,
            trading=gateway.trading if known and gateway else newest.trading if newest else "active",
            trading_reason=gateway.trading_reason if known and gateway else newest.trading_reason if newest else "",
            limits=newest.limits if newest else {},
            settings=self._dumped(settings),
            in_control=_in_control(reachable),
            denials=newest.denials if newest else (),
        )

    def _dumped(self, settings: Settings) -> dict[str, Any]:
        """One object for all snapshots: they are taken ten times a second, and hundreds are kept to scrub through."""
        if self._dump is None or self._dump[0] is not settings:
            self._dump = settings, settings.model_dump()
        return self._dump[1]

    def _fault_captions(self, reachable: list[NodeReport]) -> tuple[str, ...]:
        told = {report.status.node: Fault(report.fault) for report in reachable if report.fault != Fault.NONE}
        faults = told | self.faults
        return tuple(f"fault: node {node} {CAPTIONS[fault]}" for node, fault in sorted(faults.items()))

    def _unheard(self, members: frozenset[int], now: float) -> tuple[NodeStatus, ...]:
        """Members that others have told of for a while, and that never said a word themselves."""
        silent = sorted(members - self._nodes.keys())
        # A member that is gone or was heard is forgotten: should it come again, it is awaited anew.
        self._awaited = {node: self._awaited.get(node, now) for node in silent}
        return tuple(
            NodeStatus(node, 0, False, 0, 0, "never heard", None, (), "")
            for node in silent
            if now - self._awaited[node] >= self._stale_after_s
        )

    def _with_reach(self, node: int, report: NodeReport, now: float) -> NodeReport:
        reachable = node in self.connected and now - self._heard.get(node, 0.0) < self._stale_after_s
        if report.status.reachable == reachable:
            return report
        return replace(report, status=replace(report.status, reachable=reachable))


def _members(newest: NodeReport | None) -> frozenset[int]:
    """Who is in the swarm by the word of who is farthest; empty while nobody says. A node that is away and not among
    them is removed, not lost; one that is to join is there before that.
    """
    replica = newest.status.replica if newest is not None else None
    return frozenset((*replica.voters, *replica.learners)) if replica is not None and replica.voters else frozenset()


def _progress(report: NodeReport) -> tuple[int, int]:
    replica = report.status.replica
    return (replica.commit_index if replica else -1, -report.status.node)


def _leader(reports: list[NodeReport]) -> int | None:
    """The node that says it leads, in the highest epoch and term."""
    found: tuple[int, int, int] | None = None
    for report in reports:
        replica = report.status.replica
        if replica is not None and replica.leader == report.status.node:
            found = max(found or (-1, -1, -1), (replica.epoch, replica.term, report.status.node))
    return found[2] if found else None


def _in_control(reports: list[NodeReport]) -> InControl | None:
    """The latest claim that a node holds to."""
    holders = [report.in_control for report in reports if report.in_control is not None]
    return max(holders, key=lambda holder: holder.claimed_ns, default=None)
