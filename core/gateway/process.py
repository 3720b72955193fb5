"""The gateway process of a session: decisions in over QUIC, orders out to the venue, signed reports back."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import numpy as np

from core.gateway.connectors import make_connector
from core.gateway.gateway import Gateway
from core.gateway.guard import OrderGuard
from core.gateway.kill_switch import KillSwitch
from core.gateway.ladders import Ladders
from core.gateway.limits_gate import LimitsGate
from core.gateway.members import GatewayMembers
from core.gateway.monitor_feed import MonitorFeed
from core.gateway.order_desk import OrderDesk
from core.gateway.order_trace import OrderTrace
from core.gateway.reconcile import Difference
from core.gateway.settings import GatewaySettings
from core.gateway.trace_answers import TraceAnswers
from core.gateway.trading_gate import TradingGate
from core.gateway.venue_times import VenueTimes
from core.genesis import genesis_state
from core.market.load import load_market
from core.orders.scale import MarketScale
from core.payload import REPORT_DTYPE, REPORT_LAYOUT, REPORT_STATES, report_bytes
from core.push_schedule import LAST_WORD_S
from core.records import Severity, VenueState
from core.session import GATEWAY_ID, OPERATOR_ID, Session
from core.telemetry_messages import Control, OrderKind, Telemetry, application, unpack
from core.toggle_change import MODE_OF
from core.toggles import parse_toggles
from core.transport import listen_address, transport_settings
from core.venue.credentials import load_credentials
from net.identity import Identity
from net.membership import MembershipError
from net.messages import Application, Channel, Committed, Message, Mode
from net.payload_batch import PAYLOADS_MAX
from net.quic import Endpoint
from net.transport import PeerEvent, PeerEventKind, is_refusal

REPORTS_MAX = 1_000
"""Reports of one answer; a leader that wants more asks again."""


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
        first_mode = MODE_OF[parse_toggles(settings.toggles).consensus]
        self._members = GatewayMembers(state.membership, first_mode, session.folder("gateway") / "members")
        operators = {each.id: each.public_key for each in roster.of_role("operator")}
        limits = LimitsGate(operators, state.limits, session.folder("gateway") / "limits")
        self._guard = OrderGuard(self._members.membership, self._members.modes, limits.limits, state.portfolio)
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
        trace = OrderTrace()
        self._gateway: Gateway[Committed] = Gateway(
            chosen,
            scale,
            connector,
            verify=lambda committed, payload: self._guard.verify(committed),
            on_report=lambda report: self._desk.reported(report),
            on_venue_state=self._on_venue_state,
            on_difference=self._on_difference,
            on_error=lambda text: self._feed.event(Severity.ERROR, text),
            on_answer=trace.answered,
        )
        self._desk = OrderDesk(self._gateway, self._guard, self._feed, self._endpoint, connector.replays, trace)
        venue = VenueTimes(session.venue_rest_port_file, lambda: load_credentials(session.venue_keys_file))
        self._traces = TraceAnswers(self._endpoint, trace, venue if connector.replays else None)
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
            voters=lambda: self._members.membership.voters,
            link_loss_s=settings.kill_after_link_loss_s,
        )
        self._drain_s = settings.gateway_drain_s

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
        for instrument, index, step in self._gateway.decided_steps():
            # Which payload of the entry it was is not journalled: what stands in the same entry is not held against it.
            self._guard.decided.take(instrument, (index, PAYLOADS_MAX), step)
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
        await self._traces.close()
        await self._gateway.stop()
        await self._endpoint.delivered(LAST_WORD_S)
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
        try:
            self._dispatch(sender, message)
        except Exception as error:
            # Whatever a sender gets wrong, or the journal: it is shown, and everybody else is served on.
            text = f"message {message.channel.name.lower()} {message.kind} of {sender} failed: {error!r}"
            self._feed.event(Severity.ERROR, text)

    def _dispatch(self, sender: int, message: Application) -> None:
        if message.channel is Channel.TELEMETRY and message.kind == Telemetry.SUBSCRIBE and sender >= OPERATOR_ID:
            wanted = unpack(message.body)
            self._feed.subscribe(sender, int(wanted["events_after_ns"]), float(wanted["interval_s"]))
        elif message.channel is Channel.CONTROL and message.kind == Control.TRADING and sender >= OPERATOR_ID:
            self._switch.on_operator(sender, message)
        elif message.channel is Channel.CONTROL and message.kind == Control.LADDER and sender >= OPERATOR_ID:
            self._ladders.answer(sender, message)
        elif message.channel is Channel.CONTROL and message.kind == Control.TRACE and sender >= OPERATOR_ID:
            self._traces.answer(sender, message)
        elif message.channel is Channel.ORDER and sender in self._members.membership.nodes:
            self._on_order(sender, message)

    def _on_order(self, sender: int, message: Application) -> None:
        values = unpack(message.body)
        if message.kind == OrderKind.EXECUTE:
            self._desk.execute(sender, values, message.step)
        elif message.kind == OrderKind.PREPARE:
            self._desk.prepare(sender, values)
        elif message.kind == OrderKind.REPORTS_SINCE:
            self._answer_reports(sender, int(values["sequence"]))
        elif message.kind == OrderKind.TRADING:
            if "applied" in values:
                self._switch.on_applied(sender, bytes(values["applied"]))
            else:
                self._switch.on_committed(sender, bytes(values["proof"]))
        elif message.kind == OrderKind.MEMBERS:
            self._on_members(sender, int(values["epoch"]), Mode(values["mode"]), bytes(values["membership"]))

    def _on_members(self, sender: int, epoch: int, mode: Mode, membership: bytes) -> None:
        try:
            if not self._members.heard(sender, epoch, mode, membership):
                return
        except (MembershipError, OSError) as error:
            self._feed.event(Severity.WARNING, f"node {sender} names members that cannot be kept: {error}")
            return
        self._guard.set_members(self._members.membership, self._members.modes)
        self._desk.epoch_known()
        voters = ", ".join(map(str, self._members.membership.voters))
        self._feed.event(
            Severity.INFO, f"counts signatures of nodes {voters} from epoch {epoch} on, {mode.name.lower()}"
        )

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
            self._desk.forget_step()
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
