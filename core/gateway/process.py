"""The gateway process of a session: decisions in over QUIC, orders out to the venue, signed reports back."""

from __future__ import annotations

import asyncio
from collections import deque

from core.gateway.binance import BinanceConnector
from core.gateway.errors import GatewayError
from core.gateway.gateway import Gateway
from core.gateway.guard import GuardError, OrderGuard
from core.gateway.monitor_feed import MonitorFeed
from core.gateway.settings import GatewaySettings
from core.genesis import genesis_state
from core.market.load import load_market
from core.orders.order import ExecutionReport
from core.orders.scale import MarketScale
from core.records import Severity
from core.session import GATEWAY_ID, OPERATOR_ID, Session
from core.telemetry_messages import OrderKind, Telemetry, application, unpack
from core.venue.credentials import load_credentials
from net.certificate import Verifier
from net.identity import Identity
from net.messages import Application, Channel, Committed, Message
from net.quic import Endpoint
from net.transport import PeerEvent, PeerEventKind, TransportSettings

REPORTS_MAX = 1_000
"""Reports of one answer; a leader that wants more asks again."""
LEADERS_REMEMBERED = 64


class GatewayProcess:
    """Translates between the swarm's messages and `Gateway`."""

    def __init__(self, session: Session) -> None:
        settings = session.settings()
        roster = session.roster()
        entry = roster.get(GATEWAY_ID)
        assert entry is not None
        assert entry.address is not None
        data = load_market(settings.data)
        scale = MarketScale.of(data.spec)
        self._nodes = settings.nodes
        self._identity = Identity.load_or_create(session.key_file("gateway"), GATEWAY_ID)
        state = genesis_state(settings, data.spec, roster)
        verifier = Verifier({node.id: node.public_key for node in roster.of_role("node")})
        self._guard = OrderGuard(verifier, state.limits, state.portfolio, settings.nodes)
        self._endpoint = Endpoint(
            self._identity, roster, entry.address, TransportSettings(), self._on_message, self._on_peer
        )
        self._feed = MonitorFeed(self._endpoint, data.spec)
        port = int(session.venue_port_file.read_text())
        connector = BinanceConnector(
            f"ws://127.0.0.1:{port}/ws-api/v3", load_credentials(session.venue_keys_file), scale
        )
        self._gateway: Gateway[Committed] = Gateway(
            GatewaySettings(
                session.folder("gateway"),
                synchronous="FULL" if settings.durability == "strict" else "NORMAL",
                in_flight_max=settings.orders_in_flight,
                answer_timeout_ms=5_000 + 2 * (settings.venue_latency_ms + settings.venue_jitter_ms),
            ),
            scale,
            connector,
            verify=lambda committed, payload: self._guard.verify(committed),
            on_report=self._on_report,
            on_venue_state=self._on_venue_state,
            on_difference=self._on_difference,
        )
        self._asked_by: dict[str, int] = {}
        self._closed: deque[ExecutionReport] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._step = -1

    async def start(self) -> None:
        """Read the journal into the books, bind, and connect to the venue in the background."""
        sequence = 0
        while reports := self._gateway.reports_since(sequence):
            for report in reports:
                self._keep_books(report)
            sequence = reports[-1].sequence
        await self._endpoint.start()
        for node in range(self._nodes):
            self._endpoint.dial(node)
        self._feed.start()
        await self._gateway.start(wait=False)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._feed.close()
        await self._gateway.stop()
        await self._endpoint.close()

    def _on_peer(self, event: PeerEvent) -> None:
        peer = event.peer
        if peer is None or event.kind is PeerEventKind.REFUSED:
            self._feed.event(Severity.WARNING, f"link refused: {event.reason}")
        elif event.kind is PeerEventKind.CONNECTED and peer < self._nodes:
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
        elif message.channel is Channel.ORDER and sender < self._nodes:
            self._on_order(sender, message)

    def _on_order(self, sender: int, message: Application) -> None:
        values = unpack(message.body)
        if message.kind == OrderKind.EXECUTE:
            self._execute(sender, values)
        elif message.kind == OrderKind.PREPARE:
            self._prepare(values)
        elif message.kind == OrderKind.REPORTS_SINCE:
            self._answer_reports(sender, int(values["sequence"]))

    # Orders

    def _prepare(self, values: dict[str, object]) -> None:
        """Optimistic execution: build, sign, encode and journal; nothing leaves before the certificate."""
        try:
            epoch, index, payload = int(values["epoch"]), int(values["index"]), bytes(values["payload"])  # type: ignore
            requests = self._guard.requests(epoch, index, payload)
            self._gateway.prepare(requests)
        except (GuardError, GatewayError, ValueError) as error:
            self._feed.event(Severity.WARNING, f"nothing prepared: {error}")

    def _execute(self, sender: int, values: dict[str, object]) -> None:
        names = [str(name) for name in values["ids"]]  # type: ignore[attr-defined]
        try:
            released, step = self._release(sender, values, names)
        except (GuardError, GatewayError, ValueError) as error:
            self._feed.event(Severity.ERROR, f"refused orders of node {sender}: {error}")
            body = {"ids": names, "reason": str(error)}
            self._endpoint.send(sender, application(Channel.ORDER, OrderKind.REFUSED, body))
            return
        self._endpoint.send(sender, application(Channel.ORDER, OrderKind.JOURNALED, {"ids": names}))
        task = asyncio.create_task(self._follow(sender, released))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
