"""A monitor's link to a running swarm: telemetry in, commands out, one immutable snapshot on demand.

The client owns nothing of the swarm: leaving it changes nothing. It dials every node and the gateway, keeps what they
push, and follows the supervisor's files where the session directory is on this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import json
import os
import signal
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from core.cycle_trace import SwarmTrace, chrome_trace, merged
from core.faults import CAPTIONS, Fault
from core.profile_export import write_export
from core.records import (
    CycleRecord,
    EventRow,
    OrderRow,
    Severity,
    SwarmSnapshot,
    VenueState,
)
from core.session import GATEWAY_ID, OPERATOR_ID, OPERATORS, Session, SessionError, is_alive
from core.telemetry_messages import (
    Control,
    GatewayReport,
    NodeReport,
    Telemetry,
    application,
    cycle_from_dict,
    epoch_from_dict,
    gateway_report_from_dict,
    node_report_from_dict,
    unpack,
)
from core.toggles import Toggles, parse_toggles
from core.trading_state import TradingState, encode_trading, sign_trading
from net.epoch import Epoch
from net.identity import Identity
from net.membership import Membership
from net.membership_change import sign_change
from net.messages import Application, Channel, Message
from net.quic import Endpoint
from net.transport import PeerEvent, PeerEventKind, TransportSettings

CYCLES_KEPT = 2_000
EVENTS_KEPT = 500
ORDERS_KEPT = 200
READ_ONLY = "this monitor is read-only"
FOLLOW_INTERVAL_S = 0.25
TRACE_TIMEOUT_S = 3.0
PUSH_INTERVAL_S = 0.1
CHANGE_ATTEMPTS = 5
REPLY_TIMEOUT_S = 60.0
GATEWAY_TIMEOUT_S = 5.0
PRESS_AGAIN_S = 10.0
"""A key is answered at the next cycle boundary, and a cycle of plain Python DTW takes seconds."""
STALE_AFTER_S = 1.5
"""A node that pushed nothing for this long is shown as unreachable."""


@dataclass(frozen=True, slots=True)
class TradingAnswer:
    """What became of a change of the trading state, in sentences."""

    gateway: str
    swarm: str
    orders_sent: int | None
    """Orders that the gateway had sent when it answered; None where it did not."""


class SwarmClient:
    """One attached monitor."""

    seekable = False

    def __init__(
        self,
        session: Session,
        *,
        owns_swarm: bool,
        keep_cycles: int = CYCLES_KEPT,
        push_interval_s: float = PUSH_INTERVAL_S,
        read_only: bool = False,
    ) -> None:
        """`owns_swarm`: this command started the swarm, so leaving asks whether it goes on. Nodes push news each
        `push_interval_s`. `read_only` refuses whatever would change the swarm.
        """
        self.read_only = read_only
        self._push_interval_s = push_interval_s
        self.owns_swarm = owns_swarm
        self.session = session
        self._settings = session.settings()
        self._nodes: dict[int, NodeReport] = {}
        self._heard: dict[int, float] = {}
        self._heard_ns = 0
        self._connected: set[int] = set()
        self._dialled: set[int] = set()
        self._gateway: GatewayReport | None = None
        self._cycles: deque[CycleRecord] = deque(maxlen=keep_cycles)
        self._seen_cycle = 0
        self._orders: OrderedDict[str, OrderRow] = OrderedDict()
        self._events: deque[EventRow] = deque(maxlen=EVENTS_KEPT)
        self._replies: dict[int, asyncio.Future[Any]] = {}
        self._request_ids = itertools.count(1)
        self._last_press_ns = 0
        self._events_offset = 0
        self._faults: dict[int, Fault] = {}
        self._phase = ""
        self._ready = False
        self._identity: Identity | None = None
        self._endpoint: Endpoint | None = None
        self._lock: IO[str] | None = None
        self._follower: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Start dialling; returns at once, links come up as processes do.

        Raises SessionError when as many monitors are attached as there are operator identities.
        """
        operator = self._take_operator()
        roster = self.session.roster()
        identity = Identity.load_or_create(self.session.key_file(f"operator-{operator - OPERATOR_ID}"), operator)
        self._identity = identity
        self._endpoint = Endpoint(
            identity, roster, ("127.0.0.1", 0), TransportSettings(), self._on_message, self._on_peer, None
        )
        await self._endpoint.start()
        self._dial(self.session.wanted_nodes())
        self._endpoint.dial(GATEWAY_ID)
        self._follower = asyncio.create_task(self._follow())

    def _dial(self, nodes: Iterable[int]) -> None:
        assert self._endpoint is not None
        for node in set(nodes) - self._dialled:
            self._dialled.add(node)
            self._endpoint.dial(node)

    def _take_operator(self) -> int:
        for k in range(OPERATORS):
            lock = (self.session.directory / "keys" / f"operator-{k}.lock").open("w")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                lock.close()
                continue
            self._lock = lock
            return OPERATOR_ID + k
        raise SessionError(f"{OPERATORS} monitors are attached to {self.session.directory}; leave one first")

    async def close(self) -> None:
        """Leave; the swarm goes on."""
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)
        if self._endpoint is not None:
            await self._endpoint.close()
        if self._lock is not None:
            self._lock.close()

    async def stop_swarm(self) -> None:
        """Ask the supervisor to stop everything and wait until it is gone."""
        await stop_session(self.session)

    async def press(self, key: str) -> str:
        """Send a toggle key to the leader; returns what happened, in a sentence."""
        if self.read_only:
            return f"{key} was not sent: {READ_ONLY}"
        return await self._change(Control.PRESS, {"key": key})

    async def set_toggles(self, toggles: Toggles) -> str:
        """Have the swarm run under exactly these toggles; returns what happened, in a sentence.

        Raises SessionError when this monitor is read-only.
        """
        if self.read_only:
            raise SessionError(READ_ONLY)
        return await self._change(Control.SET_TOGGLES, {"toggles": toggles.as_dict()})

    def keep_experiment(self, values: dict[str, Any]) -> None:
        """Append a finished experiment to the session (`core.experiment_log`)."""
        with (self.session.directory / "experiments.jsonl").open("a") as file:
            file.write(json.dumps(values) + "\n")

    async def _change(self, kind: Control, values: dict[str, Any]) -> str:
        reply = await self._ask_leader_until_taken(kind, values)
        return str(reply["text"]) if isinstance(reply, dict) else str(reply)

    async def _ask_leader_until_taken(self, kind: Control, values: dict[str, Any]) -> Any:
        """The answer, a dict, or a sentence where there is none."""
        reply = await self._ask_leader(kind, values)
        deadline = time.monotonic() + PRESS_AGAIN_S
        while isinstance(reply, dict) and reply.get("again") and time.monotonic() < deadline:
            # Nobody took it: the lead is changing hands.
            await asyncio.sleep(0.2)
            reply = await self._ask_leader(kind, values)
        return reply

    async def trace(self) -> SwarmTrace:
        """What the reachable nodes did when, over the last cycles."""
        reached = [node.node for node in self.snapshot().nodes if node.reachable]
        asked = (self._ask(node, Control.TRACE, {}, timeout_s=TRACE_TIMEOUT_S) for node in reached)
        answers = await asyncio.gather(*asked)
        return merged([answer for answer in answers if isinstance(answer, dict)])

    async def export_profile(self, directory: Path, svg: str, seconds: float) -> Path:
        """Sample the leader's event loop for `seconds` and write the whole snapshot folder below `directory`.

        Raises SessionError when no leader answers.
        """
        before = self.snapshot()
        trace = chrome_trace(await self.trace())
        reply = await self._ask_leader(Control.PROFILE, {"seconds": seconds}, timeout_s=seconds + 60)
        if not isinstance(reply, dict):
            raise SessionError(reply)
        return await asyncio.to_thread(
            write_export, directory, before, self._settings, svg, reply["files"] | {"trace.json": trace.encode()}
        )

    async def change_trading(
        self, state: TradingState, reason: str, on_gateway: Callable[[str], None] | None = None
    ) -> TradingAnswer:
        """Sign a change of the trading state; gateway and leader are told at the same moment.

        `on_gateway` hears the gateway's answer as it comes: the swarm's may take longer. Raises SessionError before the
        monitor has connected, and when it is read-only.
        """
        if self.read_only:
            raise SessionError(READ_ONLY)
        if self._identity is None or self._endpoint is None:
            raise SessionError("not connected yet")
        self._last_press_ns = max(time.time_ns(), self._last_press_ns + 1)
        change = sign_trading(state, self._last_press_ns, self._identity.id, reason, self._identity.sign)
        body = {"change": encode_trading(change)}
        committing = asyncio.create_task(self._ask_leader_until_taken(Control.TRADING, body))
        gateway = await self._ask(GATEWAY_ID, Control.TRADING, body, GATEWAY_TIMEOUT_S)
        heard = isinstance(gateway, dict)
        if on_gateway is not None:
            on_gateway(str(gateway["text"]) if heard else str(gateway))
        swarm = await committing
        return TradingAnswer(
            gateway=str(gateway["text"]) if heard else str(gateway),
            swarm=str(swarm["text"]) if isinstance(swarm, dict) else str(swarm),
            orders_sent=int(gateway["orders_sent"]) if heard else None,
        )

    async def running_epoch(self) -> Epoch:
        """The epoch that the leader is in. Raises SessionError when no leader answers."""
        deadline = time.monotonic() + REPLY_TIMEOUT_S
        while self.snapshot().leader is None and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        reply = await self._ask_leader(Control.EPOCH, {})
        if not isinstance(reply, dict) or "number" not in reply:
            raise SessionError(reply if isinstance(reply, str) else str(reply.get("text")))
        return epoch_from_dict(reply)

    async def change_members(self, change: Callable[[Membership], Membership]) -> None:
        """Sign a change of the membership, submit it, and wait until an epoch of those members runs.

        A change that another epoch overtook is made again over that one. Raises SessionError when it does not come
        about, MembershipError for what the mode cannot be.
        """
        assert self._identity is not None
        for _ in range(CHANGE_ATTEMPTS):
            epoch = await self.running_epoch()
            after = change(epoch.membership)
            if after == epoch.membership:
                return
            leader = self.snapshot().leader
            hint = leader if leader in after.voters else None
            payload = sign_change(epoch, after, hint, self._identity.id, self._identity.sign)
            await self._ask_leader(Control.CHANGE_MEMBERS, {"change": payload})
            deadline = time.monotonic() + REPLY_TIMEOUT_S
            while time.monotonic() < deadline and max(self._epochs(), default=0) <= epoch.number:
                await asyncio.sleep(0.05)
        raise SessionError(f"the membership did not change in {CHANGE_ATTEMPTS} attempts; see the event log")

    def _epochs(self) -> list[int]:
        return [report.status.replica.epoch for report in self._nodes.values() if report.status.replica is not None]

    async def kill_node(self, node: int) -> str:
        """SIGKILL the node's process; the supervisor starts it again. Returns what happened, in a sentence.

        Raises SessionError when no such process runs on this machine.
        """
        self._signal(node, signal.SIGKILL)
        self.session.add_event(Severity.WARNING, "monitor", f"fault on purpose: node {node} was killed")
        if self.session.read_faults().get(node) is Fault.PAUSED:
            self._note_fault(node, Fault.NONE)
        return f"node {node} was killed; the supervisor starts it again"

    async def set_fault(self, node: int, fault: Fault) -> str:
        """Have a node do wrong on purpose, or right again; every caption says so meanwhile. Returns what happened.

        Raises SessionError when the node does not take it.
        """
        if self.read_only:
            raise SessionError(READ_ONLY)
        if fault is Fault.PAUSED:
            self._signal(node, signal.SIGSTOP)
            self.session.add_event(Severity.WARNING, "monitor", f"fault on purpose: node {node} was paused")
            self._note_fault(node, fault)
            return f"node {node} is paused"
        if self.session.read_faults().get(node) is Fault.PAUSED:
            self._signal(node, signal.SIGCONT)
            self.session.add_event(Severity.INFO, "monitor", f"node {node} goes on")
            self._note_fault(node, Fault.NONE)
        deadline = time.monotonic() + PRESS_AGAIN_S
        reply = await self._ask(node, Control.FAULT, {"fault": fault.value})
        while not isinstance(reply, dict) and time.monotonic() < deadline:
            # A process that just went on has its links to make again.
            await asyncio.sleep(0.2)
            reply = await self._ask(node, Control.FAULT, {"fault": fault.value})
        if not isinstance(reply, dict):
            raise SessionError(reply)
        self._note_fault(node, fault)
        return str(reply["text"])

    def _note_fault(self, node: int, fault: Fault) -> None:
        self.session.set_fault(node, fault)
        self._faults = self.session.read_faults()

    def _signal(self, node: int, number: signal.Signals) -> None:
        if self.read_only:
            raise SessionError(READ_ONLY)
        state = self.session.running()
        processes = state.processes if state is not None else ()
        pid = next((process.pid for process in processes if process.name == f"node-{node}"), 0)
        if not pid or not is_alive(pid, str(self.session.directory)):
            raise SessionError(f"no process of node {node} runs on this machine")
        os.kill(pid, number)

    async def _ask_leader(self, kind: Control, values: dict[str, Any], timeout_s: float = REPLY_TIMEOUT_S) -> Any:
        leader = self.snapshot().leader
        if leader is None:
            return "no node leads at present; try again in a moment"
        return await self._ask(leader, kind, values, timeout_s)

    async def _ask(self, peer: int, kind: Control, values: dict[str, Any], timeout_s: float = REPLY_TIMEOUT_S) -> Any:
        """The answer of a node or the gateway, or a sentence that says why there is none."""
        if self._endpoint is None:
            return "not connected yet"
        name = "the gateway" if peer == GATEWAY_ID else f"node {peer}"
        request_id = next(self._request_ids)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._replies[request_id] = future
        try:
            if not self._endpoint.send(peer, application(Channel.CONTROL, kind, values, request_id=request_id)):
                return f"{name} cannot be reached"
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            return f"{name} gave no answer within {timeout_s:g} s"
        finally:
            del self._replies[request_id]

    def _on_peer(self, event: PeerEvent) -> None:
        if event.peer is None:
            return
        if event.kind is PeerEventKind.CONNECTED:
            self._connected.add(event.peer)
            assert self._endpoint is not None
            wanted = {"from_cycle": self._seen_cycle + 1, "interval_s": self._push_interval_s}
            subscribe = application(Channel.TELEMETRY, Telemetry.SUBSCRIBE, wanted)
            self._endpoint.send(event.peer, subscribe)
        elif event.kind is PeerEventKind.DISCONNECTED:
            self._connected.discard(event.peer)

    def _on_message(self, sender: int, message: Message) -> None:
        if not isinstance(message, Application):
            return
        if message.channel is Channel.CONTROL and message.kind == Control.REPLY:
            future = self._replies.get(message.request_id)
            if future is not None and not future.done():
                future.set_result(unpack(message.body))
        elif message.channel is Channel.TELEMETRY:
            self._on_telemetry(sender, message)

    def _on_telemetry(self, sender: int, message: Application) -> None:
        self._heard[sender] = time.monotonic()
        self._heard_ns = time.time_ns()
        values = unpack(message.body)
        if message.kind == Telemetry.CYCLES:
            for row in values:
                record = cycle_from_dict(row)
                if record.cycle > self._seen_cycle:
                    self._seen_cycle = record.cycle
                    self._cycles.append(record)
        elif message.kind == Telemetry.STATUS:
            report = node_report_from_dict(values)
            self._nodes[sender] = report
            if report.status.replica is not None:
                self._dial((*report.status.replica.voters, *report.status.replica.learners))
            self._events.extend(report.events)
        elif message.kind == Telemetry.GATEWAY:
            gateway = gateway_report_from_dict(values)
            self._gateway = gateway
            self._events.extend(gateway.events)
            for order in gateway.orders:
                self._orders[order.client_order_id] = order
                self._orders.move_to_end(order.client_order_id)
            while len(self._orders) > ORDERS_KEPT:
                self._orders.popitem(last=False)

    async def _follow(self) -> None:
        """Follow the supervisor's state and event files."""
        while True:
            state = self.session.read_swarm()
            if state is not None:
                self._phase, self._ready = state.phase, state.ready
                if self.session.running() is None and not state.phase.startswith(("failed", "stopped")):
                    self._phase = "failed: the supervisor is gone"
            self._faults = self.session.read_faults()
            events, self._events_offset = self.session.read_events(self._events_offset)
            self._events.extend(events)
            await asyncio.sleep(FOLLOW_INTERVAL_S)

    @property
    def phase(self) -> str:
        return self._phase

    @property
    def ready(self) -> bool:
        """The supervisor said that every process runs."""
        return self._ready

    @property
    def cycles(self) -> deque[CycleRecord]:
        """The records kept, oldest first."""
        return self._cycles

    def snapshot(self) -> SwarmSnapshot:
        """Everything a screen needs, as of now."""
        now = time.monotonic()
        reports = [self._with_reach(node, report, now) for node, report in sorted(self._nodes.items())]
        reachable = [report for report in reports if report.status.reachable]
        newest = max(reachable or reports, key=_progress, default=None)
        leader = _leader(reachable)
        gateway = self._gateway
        known = gateway is not None and GATEWAY_ID in self._connected
        venue = VenueState(gateway.venue) if known and gateway is not None else VenueState.UNKNOWN
        return SwarmSnapshot(
            taken_ns=self._heard_ns or time.time_ns(),
            session=self.session.directory.name,
            market=_market(newest, self._settings.data),
            nodes=tuple(report.status for report in reports),
            leader=leader,
            venue=venue,
            gateway_connected=GATEWAY_ID in self._connected,
            toggles=newest.toggles if newest else parse_toggles(self._settings.toggles),
            cycles=tuple(self._cycles),
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
            events=tuple(self._events),
            captions=(newest.captions if newest else self._settings.captions()) + self._fault_captions(),
            phase=self._phase,
            trading=gateway.trading if known and gateway else newest.trading if newest else "active",
            trading_reason=gateway.trading_reason if known and gateway else newest.trading_reason if newest else "",
            settings=self._settings.model_dump(),
        )

    def _fault_captions(self) -> tuple[str, ...]:
        return tuple(f"fault: node {node} {CAPTIONS[fault]}" for node, fault in sorted(self._faults.items()))

    def _with_reach(self, node: int, report: NodeReport, now: float) -> NodeReport:
        reachable = node in self._connected and now - self._heard.get(node, 0.0) < STALE_AFTER_S
        status = report.status
        if status.reachable == reachable:
            return report
        return replace(report, status=replace(status, reachable=reachable))

    def add_event(self, severity: Severity, text: str) -> None:
        """A line of the monitor's own in the event log."""
        self._events.append(EventRow(time.time_ns(), severity, "monitor", text))


def _progress(report: NodeReport) -> tuple[int, int]:
    replica = report.status.replica
    return (replica.commit_index if replica else -1, -report.status.node)


def _market(report: NodeReport | None, data: str) -> str:
    return report.market if report is not None else data


def _leader(reports: list[NodeReport]) -> int | None:
    """The node that says it leads, in the highest epoch and term."""
    found: tuple[int, int, int] | None = None
    for report in reports:
        replica = report.status.replica
        if replica is not None and replica.leader == report.status.node:
            found = max(found or (-1, -1, -1), (replica.epoch, replica.term, report.status.node))
    return found[2] if found else None


async def stop_session(session: Session, timeout_s: float = 60.0) -> bool:
    """Stop a session's supervisor and everything under it. False when none was running.

    Raises SessionError when it is still there after `timeout_s`.
    """
    state = session.running()
    if state is None:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(state.supervisor_pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout_s
    while session.running() is not None:
        if time.monotonic() > deadline:
            raise SessionError(f"the supervisor (process {state.supervisor_pid}) did not stop in {timeout_s:g} s")
        await asyncio.sleep(0.05)
    return True
