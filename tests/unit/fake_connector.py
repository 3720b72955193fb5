"""A venue connection without a venue: it answers at once or when told, and fails as told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from core.gateway.connector import AccountTrade, Answer, Balances, Connector, EncodedOrder, LinkHandler, VenueUpdate
from core.gateway.gateway import Gateway
from core.gateway.reconcile import Difference
from core.gateway.release import Authority
from core.gateway.settings import GatewaySettings
from core.orders.order import ExecutionReport, OrderRequest, TimeInForce
from core.orders.scale import MarketScale
from core.records import VenueState

INSTRUMENTS = 5
SCALE = MarketScale.of([f"S{i}" for i in range(INSTRUMENTS)], "0.01", "1")


class FakeConnector:
    """Keeps what was placed and cancelled; `answer` says the venue's word on an order."""

    captions: tuple[str, ...] = ()
    replays = False

    def __init__(self) -> None:
        self.placed: list[OrderRequest] = []
        self.cancelled: list[OrderRequest] = []
        self.encoded = 0
        self.answers: dict[str, Callable[[Answer], None]] = {}
        self.at_venue: dict[str, VenueUpdate] = {}
        self.fail_connect: list[Exception] = []
        """Raised by the next connects, in order."""
        self.fail_query: list[Exception] = []
        self.connects = 0

    async def connect(self, handler: LinkHandler) -> None:
        self.connects += 1
        if self.fail_connect:
            raise self.fail_connect.pop(0)

    async def close(self) -> None:
        pass

    def encode(self, request: OrderRequest) -> EncodedOrder:
        self.encoded += 1
        return EncodedOrder(request, 0, b"")

    def place(self, order: EncodedOrder, answered: Callable[[Answer], None]) -> None:
        self.placed.append(order.request)
        self.answers[order.request.client_order_id] = answered

    def recall_unsent(self, reason: str) -> None:
        """`place` sends at once."""

    def cancel(self, request: OrderRequest, answered: Callable[[Answer], None]) -> None:
        self.cancelled.append(request)

    async def query(self, request: OrderRequest) -> VenueUpdate | None:
        if self.fail_query:
            raise self.fail_query.pop(0)
        return self.at_venue.get(request.client_order_id)

    async def open_orders(self) -> Sequence[VenueUpdate]:
        return []

    async def trades_after(self, instrument: int, trade_id: int) -> Sequence[AccountTrade]:
        return []

    async def balances(self) -> Balances:
        return Balances(0, (0,) * INSTRUMENTS)

    async def cannot_arrive(self, signed_until_ms: int) -> None:
        pass

    def advance(self, step: int) -> asyncio.Future[int]:
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        done.set_result(step)
        return done


class FakeTrader:
    """A gateway over a `FakeConnector`, or another connector, and all that it said."""

    def __init__(self, directory: Path, prepared_max: int = 100, connector: Connector | None = None) -> None:
        self.connector: Any = FakeConnector() if connector is None else connector
        self.states: list[tuple[VenueState, str]] = []
        self.reports: list[ExecutionReport] = []
        self.differences: list[Difference] = []
        self.errors: list[str] = []
        settings = GatewaySettings(
            directory, synchronous="NORMAL", backoff_min_ms=1, backoff_max_ms=2, prepared_max=prepared_max
        )
        self.gateway: Gateway[bytes] = Gateway(
            settings,
            SCALE,
            self.connector,
            verify=lambda certificate, payload: None,
            on_report=self.reports.append,
            on_venue_state=lambda state, reason: self.states.append((state, reason)),
            on_difference=self.differences.append,
            on_error=self.errors.append,
        )


class HasGateway(Protocol):
    gateway: Gateway[Any]


T = TypeVar("T", bound=HasGateway)


def run_gateway(make: Callable[[], T], work: Callable[[T], Awaitable[None]], *, start: bool = True) -> None:
    """Run `work` on what `make` gives, with its gateway started unless `work` does that, and stopped in any case."""

    async def bounded() -> None:
        made = make()
        try:
            async with asyncio.timeout(10):
                if start:
                    await made.gateway.start()
                await work(made)
        finally:
            await made.gateway.stop()

    asyncio.run(bounded())


def authority(epoch: int = 1, term: int = 1, proven: tuple[int, int] | None = None) -> Authority[bytes]:
    """The office of a leader; its certificate proves as much, unless `proven` says otherwise."""
    return Authority(epoch, term, b"certificate", b"payload", (epoch, term) if proven is None else proven)


def request(name: str, instrument: int = 0, side: int = 1, lots: int = 10, step: int = 1) -> OrderRequest:
    return OrderRequest(name, instrument, side, lots, 100, TimeInForce.IOC, step, epoch=1, index=1, position=0)
