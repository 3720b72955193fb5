"""The gateway process of a session: decisions in over QUIC, orders out to the venue, signed reports back."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from core.gateway.connectors import make_connector
from core.gateway.errors import GatewayError
from core.gateway.gateway import Gateway
from core.gateway.guard import GuardError, OrderGuard
from core.gateway.kill_switch import KillSwitch
from core.gateway.ladders import Ladders
from core.gateway.limits_gate import LimitsGate
from core.gateway.members import GatewayMembers
from core.gateway.monitor_feed import MonitorFeed
from core.gateway.reconcile import Difference
from core.gateway.release import Authority
from core.gateway.settings import GatewaySettings
from core.gateway.trading_gate import TradingGate
from core.genesis import genesis_state
from core.market.load import load_market
from core.orders.order import ExecutionReport
from core.orders.scale import MarketScale
from core.payload import REPORT_DTYPE, REPORT_LAYOUT, REPORT_STATES, report_bytes
from core.records import OrderState, Severity, VenueState
from core.session import GATEWAY_ID, OPERATOR_ID, Session
from core.swarm_state import CLOSED_STATES
from core.telemetry_messages import Control, OrderKind, Telemetry, application, unpack
from core.transport import listen_address, transport_settings
from net.identity import Identity
from net.membership import MembershipError
from net.messages import Application, Channel, Committed, CommittedEntries, Message
from net.quic import Endpoint
from net.transport import PeerEvent, PeerEventKind, is_refusal
from net.wire.codec import decode

REPORTS_MAX = 1_000
"""Reports of one answer; a leader that wants more asks again."""
ORDERS_REMEMBERED = 10_000
NEVER_COMMITTED = "prepared, and never committed in this place"


class GatewayProcess:
    """Translates between the swarm's messages and `Gateway`."""

    def __init__(self, session: Session, listen: str | None = None) -> None:
        settings = session.settings()
        roster = session.roster()
        entry = roster.get(GATEWAY_ID)
        assert entry is not None
        data = load_market(settings.data)
        scale = MarketScale.of(data.spec.symbols, data.spec.tick_size, data.spec.lot_size)
        self._identity = Identity.load_or_create(session.key_file("gateway"), GATEWAY_ID)
        state = genesis_state(settings, data.spec, roster)
        self._members = GatewayMembers(state.membership, session.folder("gateway") / "members")
        operators = {each.id: each.public_key for each in roster.of_role("operator")}
        limits = LimitsGate(operators, state.limits, session.folder("gateway") / "limits")
        self._guard = OrderGuard(self._members.membership, limits.limits, state.portfolio)
        self._endpoint = Endpoint(
            self._identity,
            roster,
            listen_address(entry, listen),
            transport_settings(settings),
            self._on_message,
            self._on_peer,
            tickets=session.folder("gateway") / "tickets",
        )
        self._feed = MonitorFeed(self._endpoint, data.spec)
        chosen = GatewaySettings(
            session.folder("gateway"),
            synchronous="FULL" if settings.durability == "strict" else "NORMAL",
            in_flight_max=settings.orders_in_flight,
            answer_timeout_ms=settings.answer_timeout_ms,
            reconcile_interval_s=settings.reconcile_interval_s,
        )
        connector = make_connector(session, settings, scale, chosen)
        self._replays = connector.replays
        self._gateway: Gateway[Committed] = Gateway(
            chosen,
            scale,
            connector,
            verify=lambda committed, payload: self._guard.verify(committed),
            on_report=self._on_report,
            on_venue_state=self._on_venue_state,
            on_difference=self._on_difference,
            on_error=lambda text: self._feed.event(Severity.ERROR, text),
        )
        self._ladders = Ladders(self._endpoint, connector, scale, self._gateway.open_orders)
        self._switch = KillSwitch(
            TradingGate(state.trading_keys, GATEWAY_ID, session.folder("gateway") / "trading"),
            limits,
            self._gateway,
            self._guard,
            self._feed,
            self._endpoint,
            sign=self._identity.sign,
            nodes=lambda: self._members.membership.nodes,
            link_loss_s=settings.kill_after_link_loss_s,
        )
        self._drain_s = settings.gateway_drain_s
        self._asked_by: dict[str, int] = {}
        self._prepared: dict[str, int] = {}
        self._outcomes: list[tuple[int, str, OrderState]] = []
        self._step = -1

    async def start(self) -> None:
        """Read the journal into the books, bind, and connect to the venue in the background."""
        sequence = 0
        while reports := self._gateway.reports_since(sequence):
            for report in reports:
                order = self._gateway.order(report.client_order_id)
                if order is not None:
                    self._guard.reported(report, order.request.step)
                    self._feed.restored(order)
            sequence = reports[-1].sequence
        self._switch.obey()
        await self._endpoint.start()
        self._feed.start()
        await self._gateway.start(wait=False)

    async def close(self) -> None:
        self._switch.close()
        for order in await self._gateway.drain(self._drain_s):
            text = f"order {order.request.client_order_id} is {order.state}: the venue's word did not come in time"
            print(f"{text}; the next start asks for it", file=sys.stderr)
        await self._feed.close()
        await self._ladders.close()
        await self._gateway.stop()
        await self._endpoint.close()

    def _on_peer(self, event: PeerEvent) -> None:
        peer = event.peer
        if peer is None or event.kind is PeerEventKind.REFUSED:
            if is_refusal(event):
                self._feed.event(Severity.WARNING, f"link refused: {event.reason}")
        elif event.kind is PeerEventKind.CONNECTED and peer < GATEWAY_ID:
            self._tell_venue(peer)
        elif event.kind is PeerEventKind.DISCONNECTED and peer >= OPERATOR_ID:
            self._feed.unsubscribe(peer)

    def _tell_venue(self, node: int) -> None:
        body = {"state": self._gateway.state.value}
        self._endpoint.send(node, application(Channel.ORDER, OrderKind.VENUE, body))

    def _on_message(self, sender: int, message: Message) -> None:
        if not isinstance(message, Application):
            return
        if message.channel is Channel.TELEMETRY and message.kind == Telemetry.SUBSCRIBE and sender >= OPERATOR_ID:
            self._feed.subscribe(sender)
        elif message.channel is Channel.CONTROL and message.kind == Control.TRADING and sender >= OPERATOR_ID:
            self._switch.on_operator(sender, message)
        elif message.channel is Channel.CONTROL and message.kind == Control.LADDER and sender >= OPERATOR_ID:
            self._ladders.answer(sender, message)
        elif message.channel is Channel.ORDER and sender in self._members.membership.nodes:
            self._on_order(sender, message)

    def _on_order(self, sender: int, message: Application) -> None:
        values = unpack(message.body)
        if message.kind == OrderKind.EXECUTE:
            self._execute(sender, values)
        elif message.kind == OrderKind.PREPARE:
            self._prepare(values)
        elif message.kind == OrderKind.REPORTS_SINCE:
            self._answer_reports(sender, int(values["sequence"]))
        elif message.kind == OrderKind.TRADING:
            self._switch.on_committed(sender, bytes(values["proof"]))
        elif message.kind == OrderKind.MEMBERS:
            self._on_members(sender, int(values["epoch"]), bytes(values["membership"]))

    def _on_members(self, sender: int, epoch: int, membership: bytes) -> None:
        try:
            if not self._members.heard(sender, epoch, membership):
                return
        except (MembershipError, OSError) as error:
            self._feed.event(Severity.WARNING, f"node {sender} names members that cannot be kept: {error}")
            return
        self._guard.set_members(self._members.membership, epoch)
        voters = ", ".join(map(str, self._members.membership.voters))
        self._feed.event(Severity.INFO, f"counts signatures of nodes {voters} from epoch {epoch} on")

    # Orders

    def _prepare(self, values: dict[str, Any]) -> None:
        """Optimistic execution: build, sign, encode and journal; nothing leaves before the certificate."""
        try:
            epoch, index, payload = int(values["epoch"]), int(values["index"]), bytes(values["payload"])
            requests = self._guard.requests(epoch, index, payload)
            self._discard_before(max((request.step for request in requests), default=0))
            self._gateway.prepare(requests)
            self._prepared |= {request.client_order_id: request.step for request in requests}
        except (GuardError, GatewayError, ValueError) as error:
            self._feed.event(Severity.WARNING, f"nothing prepared: {error}")

    def _discard_before(self, step: int) -> None:
        """What was prepared for an earlier step and never released was denied, or committed at another index."""
        stale = [name for name, prepared_step in self._prepared.items() if prepared_step < step]
        if stale:
            self._gateway.discard(stale, NEVER_COMMITTED)
            for name in stale:
                del self._prepared[name]

    def _execute(self, sender: int, values: dict[str, Any]) -> None:
        names = [str(name) for name in values["ids"]]
        try:
            self._release(sender, values, names)
        except (GuardError, GatewayError, ValueError) as error:
            self._feed.event(Severity.ERROR, f"refused orders of node {sender}: {error}")
            body = {"ids": names, "reason": str(error)}
            self._endpoint.send(sender, application(Channel.ORDER, OrderKind.REFUSED, body))
            return
        self._endpoint.send(sender, application(Channel.ORDER, OrderKind.JOURNALED, {"ids": names}))
        closed = [name for name in names if self._is_closed(name)]
        if closed:
            self._tell_closed(sender, closed)

    def _release(self, sender: int, values: dict[str, Any], names: list[str]) -> None:
        """Check, journal and send what is new. Orders that are known already keep their outcome."""
        proof = decode(bytes(values["proof"]))
        if not isinstance(proof, CommittedEntries) or len(proof.entries) != 1:
            raise GuardError("the proof is not one committed entry")
        committed = proof.entries[0]
        positions, part = [int(position) for position in values["positions"]], int(values["part"])
        self._guard.verify(committed)
        requests = self._guard.requests_at(committed, positions, part)
        if [request.client_order_id for request in requests] != names:
            raise GuardError("the client order ids are not those of the decisions")
        for name in names:
            self._asked_by[name] = sender
            self._prepared.pop(name, None)
        while len(self._asked_by) > ORDERS_REMEMBERED:
            del self._asked_by[next(iter(self._asked_by))]
        fresh = [request for request in requests if self._is_new(request.client_order_id)]
        if not fresh:
            return
        denials = self._guard.check(committed, fresh, part)
        sendable = [request for request in fresh if request.client_order_id not in denials]
        for request in fresh:
            if request.client_order_id in denials:
                self._gateway.deny([request], denials[request.client_order_id])
        if not sendable:
            return
        self._advance_venue(max(request.step for request in sendable))
        authority = Authority(
            int(values["epoch"]), int(values["term"]), committed, self._guard.payload(committed, part)
        )
        self._guard.reserve(sendable)
        try:
            self._gateway.submit(sendable, authority, int(values["in_flight"]))
        except Exception:
            self._guard.release(sendable)
            raise
        for request in sendable:
            self._feed.sent(request)

    def _is_new(self, name: str) -> bool:
        order = self._gateway.order(name)
        return order is None or order.state is OrderState.INITIALISED

    def _is_closed(self, name: str) -> bool:
        order = self._gateway.order(name)
        return order is not None and order.state in CLOSED_STATES

    def _advance_venue(self, step: int) -> None:
        """The swarm drives the replay clock: the venue's prices follow the step of the orders."""
        if step <= self._step or not self._replays:
            return
        self._step = step
        self._gateway.advance(step).add_done_callback(self._advanced)

    def _advanced(self, future: asyncio.Future[int]) -> None:
        if not future.cancelled() and future.exception() is not None:
            self._step = -1
            self._feed.event(Severity.WARNING, f"the venue's replay clock did not move: {future.exception()}")

    # What became of them

    def _on_report(self, report: ExecutionReport) -> None:
        order = self._gateway.order(report.client_order_id)
        step = order.request.step if order is not None else 0
        self._guard.reported(report, step)
        if order is not None:
            self._feed.reported(order)
        node = self._asked_by.get(report.client_order_id)
        if node is None:
            return
        if not self._outcomes:
            asyncio.get_running_loop().call_soon(self._tell_outcomes)
        self._outcomes.append((node, report.client_order_id, report.state))

    def _tell_outcomes(self) -> None:
        """One message a node for everything that one read from the venue brought."""
        outcomes, self._outcomes = self._outcomes, []
        for node in {node for node, _, _ in outcomes}:
            mine = {name: state for asked, name, state in outcomes if asked == node}
            placed = [name for name, state in mine.items() if state not in CLOSED_STATES]
            if placed:
                self._endpoint.send(node, application(Channel.ORDER, OrderKind.PLACED, {"ids": placed}))
            closed = [name for name, state in mine.items() if state in CLOSED_STATES]
            if closed:
                self._tell_closed(node, closed)

    def _tell_closed(self, node: int, names: list[str]) -> None:
        orders = [self._gateway.order(name) for name in names]
        states = [order.state.value for order in orders if order is not None]
        self._endpoint.send(node, application(Channel.ORDER, OrderKind.CLOSED, {"ids": names, "states": states}))

    def _answer_reports(self, sender: int, sequence: int) -> None:
        reports = self._gateway.reports_since(sequence, REPORTS_MAX)
        rows = np.zeros(len(reports), REPORT_DTYPE)
        for at, report in enumerate(reports):
            rows[at] = (
                report.sequence,
                report.trade_id,
                report.last_quantity,
                report.last_price_ticks,
                report.fee_quanta,
                report.client_order_id.encode(),
                REPORT_STATES.index(report.state),
            )
        signature = self._identity.sign(report_bytes(rows)) if len(reports) else b""
        layout = REPORT_LAYOUT if len(reports) else 0
        self._endpoint.send(
            sender, Application(Channel.ORDER, OrderKind.REPORTS, 0, 0, layout, rows.tobytes(), signature)
        )

    def _on_venue_state(self, state: VenueState, reason: str) -> None:
        severity = Severity.WARNING if state is VenueState.DOWN else Severity.INFO
        self._feed.event(severity, f"venue is {state.value}{': ' if reason else ''}{reason}")
        self._feed.venue = state
        self._switch.watch_link(state)
        if state is not VenueState.CONNECTED:
            self._step = -1
        for node in self._members.membership.nodes:
            self._tell_venue(node)

    def _on_difference(self, difference: Difference) -> None:
        self._feed.event(Severity.WARNING, f"reconciliation: {difference}")


async def run_gateway_process(
    session: Session, stopping: asyncio.Event, ready: Callable[[], None], listen: str | None = None
) -> None:
    """The body of process `gateway`: run until `stopping` is set."""
    body = GatewayProcess(session, listen)
    await body.start()
    ready()
    await stopping.wait()
    await body.close()
