"""What a leader hands to the gateway, and what it gets back: the right to release, and how each order stands."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Generic, TypeVar

from core.records import OrderState

CertificateT = TypeVar("CertificateT")


@dataclass(frozen=True, slots=True)
class Authority(Generic[CertificateT]):
    """By what right orders are released. `epoch` and `term` are the office that the sender says it holds, and must not
    be lower than the fence; `certificate` proves that `payload`, the entry that the orders come from, is committed."""

    epoch: int
    term: int
    certificate: CertificateT
    payload: bytes
    proven: tuple[int, int] = (0, 0)
    """Epoch and term in which the certificate says that the entry was decided: as far as it may raise the fence."""
    by_quorum: bool = False
    """Whether a Byzantine quorum signed it: then the journal keeps that the orders' steps are decided."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """One order after `prepare`. `duplicate`: it was known before; `state` is how it stands."""

    client_order_id: str
    state: OrderState
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an order stood once the venue had answered. `duplicate`: it was released before, nothing was sent now."""

    client_order_id: str
    state: OrderState
    cumulative_quantity: int
    duplicate: bool
    reason: str


class Release:
    """Orders on their way. They are journalled, whatever becomes of this object."""

    def __init__(self, outcomes: list[asyncio.Future[Outcome] | Outcome]) -> None:
        self._outcomes = outcomes

    async def answered(self) -> tuple[Outcome, ...]:
        """Once the venue has answered every one, or it is known that it never will, in the order asked."""
        waiting = [item for item in self._outcomes if isinstance(item, asyncio.Future)]
        if waiting:
            # wait, not gather: a caller that gives up must not cancel what others wait for.
            await asyncio.wait(waiting)
        return tuple(item.result() if isinstance(item, asyncio.Future) else item for item in self._outcomes)
