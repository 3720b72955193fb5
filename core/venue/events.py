"""What happened at the exchange, numbered. State is these events applied in order, live and after a restart alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import msgpack


class OrderStatus(StrEnum):
    """Binance Spot's order statuses."""

    NEW = "NEW"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    EXPIRED = "EXPIRED"
    EXPIRED_IN_MATCH = "EXPIRED_IN_MATCH"
    """Ended by self-trade prevention."""


@dataclass(frozen=True, slots=True)
class AccountOpened:
    number: int
    time_ms: int
    owner: int
    cash_quanta: int


@dataclass(frozen=True, slots=True)
class StepAdvanced:
    """The recorded price moved to this market step; `closes` in ticks, one an instrument."""

    number: int
    time_ms: int
    step: int
    closes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class OrderAccepted:
    number: int
    time_ms: int
    order_id: int
    client_order_id: str
    owner: int
    instrument: int
    side: int
    price_ticks: int
    """0 for a market order."""
    quantity_lots: int
    time_in_force: str
    step: int


@dataclass(frozen=True, slots=True)
class Traded:
    """One side of one trade. The house's side is not recorded."""

    number: int
    time_ms: int
    order_id: int
    trade_id: int
    price_ticks: int
    quantity_lots: int
    fee_quanta: int
    is_maker: bool


@dataclass(frozen=True, slots=True)
class OrderEnded:
    """Cancelled or expired with something left. A filled order needs no such event."""

    number: int
    time_ms: int
    order_id: int
    status: str
    cancel_client_order_id: str


@dataclass(frozen=True, slots=True)
class OrderReplaced:
    """An open order with other terms. The client's new id names it from now on; the venue's id stays."""

    number: int
    time_ms: int
    order_id: int
    client_order_id: str
    price_ticks: int
    quantity_lots: int
    """Whole quantity, what is executed included."""
    keeps_place: bool
    """Only the quantity fell: the order stays where it stood in its queue."""


VenueEvent = AccountOpened | StepAdvanced | OrderAccepted | Traded | OrderEnded | OrderReplaced

_KINDS: Final[tuple[type[Any], ...]] = (AccountOpened, StepAdvanced, OrderAccepted, Traded, OrderEnded, OrderReplaced)
_CODE: Final = {kind: code for code, kind in enumerate(_KINDS)}


def pack_events(events: Sequence[VenueEvent]) -> bytes:
    """Events as MessagePack rows: kind, then fields in order."""
    return bytes(msgpack.packb([(_CODE[type(event)], *_fields(event)) for event in events]))


def unpack_events(data: bytes) -> list[VenueEvent]:
    """The inverse of `pack_events`. Raises ValueError for anything else."""
    try:
        rows = msgpack.unpackb(data, use_list=False)
        return [_KINDS[row[0]](*row[1:]) for row in rows]
    except (ValueError, TypeError, IndexError, msgpack.UnpackException) as error:
        raise ValueError(f"no venue events: {data[:40]!r} ({error})") from error


def _fields(event: VenueEvent) -> tuple[Any, ...]:
    return tuple(getattr(event, name) for name in event.__slots__)
