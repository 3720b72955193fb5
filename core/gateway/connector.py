"""What the gateway needs of a venue, whatever protocol it speaks. Integer ticks, lots and quanta only."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from core.orders.order import OrderRequest
from core.records import OrderState

SKEW_MS_MAX: Final = 500
"""Of the venue's clock from ours; beyond it orders would be refused at random (Binance allows 1,000 ms ahead)."""


@dataclass(frozen=True, slots=True)
class VenueTrade:
    """One fill, as the venue tells it. `trade_id` is unique within an instrument, and rises there as trades happen."""

    trade_id: int
    quantity_lots: int
    price_ticks: int
    fee_quanta: int
    ts_ns: int


@dataclass(frozen=True, slots=True)
class VenueUpdate:
    """The venue's word on one order, as an answer or unasked. May come late, twice, or overtaken by a later one."""

    client_order_id: str
    venue_order_id: int
    instrument: int
    state: OrderState
    """ACCEPTED, PARTIALLY_FILLED, FILLED, CANCELLED, EXPIRED or REJECTED."""
    cumulative_quantity: int
    trades: tuple[VenueTrade, ...]
    """Those that this message tells; where they do not add up to `cumulative_quantity`, the rest must be asked for."""
    reason: str
    ts_ns: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """The venue refused a request; it changed nothing."""

    code: int
    message: str


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """The request may or may not have reached the venue: the link went, or the answer did not come in time."""

    reason: str
    link_lost: bool = False
    """`lost` was told, or is about to be; asking on this link is of no use."""


Answer = VenueUpdate | Refusal | NoAnswer


@dataclass(frozen=True, slots=True)
class AccountTrade:
    """A trade of the account with the venue's id of its order."""

    venue_order_id: int
    instrument: int
    side: int
    trade: VenueTrade


@dataclass(frozen=True, slots=True)
class Balances:
    """What the account holds, open orders' share included: cash in quanta, lots per instrument."""

    cash_quanta: int
    base_lots: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EncodedOrder:
    """An order ready for the wire: validated, signed, encoded. `signed_ms` on the gateway's clock, Unix."""

    request: OrderRequest
    signed_ms: int
    body: bytes


class ConnectorError(RuntimeError):
    """Connecting or asking failed; the text says what to do."""


class LinkHandler(Protocol):
    """What the owner of a connector is told."""

    def updated(self, update: VenueUpdate) -> None:
        """An update that no request asked for."""

    def drained(self) -> None:
        """Everything of one read was handed over: a good moment to commit."""

    def lost(self, reason: str) -> None:
        """The link is gone. Every pending request was answered with NoAnswer before."""


class Connector(Protocol):
    """One venue account over one link."""

    captions: tuple[str, ...]
    """What the venue says must stand beside its results."""
    replays: bool
    """The venue plays a recording, whose clock we move."""

    async def connect(self, handler: LinkHandler) -> None:
        """Connect, check clock and market, subscribe. Raises ConnectorError or OSError; it is then closed."""

    async def close(self) -> None:
        """Close the link; `lost` is not told."""

    def encode(self, request: OrderRequest) -> EncodedOrder:
        """Sign and encode an order. Nothing leaves. Raises ConnectorError without credentials."""

    def place(self, order: EncodedOrder, answered: Callable[[Answer], None]) -> None:
        """Send now, pipelined. `answered` is called exactly once, never from within this call unless there is no link.

        An order signed too long ago is signed anew.
        """

    def cancel(self, request: OrderRequest, answered: Callable[[Answer], None]) -> None:
        """Ask for a cancel; as `place`."""

    def recall_unsent(self, reason: str) -> None:
        """The kill switch: when this returns no order leaves any more, not even one that was placed before.

        Orders that are held back before the wire are answered with NoAnswer; those on it stay as they are. Nothing to
        do where `place` writes at once.
        """

    async def query(self, request: OrderRequest) -> VenueUpdate | None:
        """How an order stands, with all its trades; None where the venue knows no such order. Raises ConnectorError."""

    async def open_orders(self) -> Sequence[VenueUpdate]:
        """Every open order of the account. Raises ConnectorError."""

    async def trades_after(self, instrument: int, trade_id: int) -> Sequence[AccountTrade]:
        """The account's trades with a higher id, oldest first. Raises ConnectorError."""

    async def balances(self) -> Balances:
        """Raises ConnectorError."""

    async def cannot_arrive(self, signed_until_ms: int) -> None:
        """Returns once no request signed before `signed_until_ms` (gateway's clock) can still be taken by the venue."""

    def advance(self, step: int) -> Future[int]:
        """Move a replaying venue to a market step. The future holds the step that it is at."""
