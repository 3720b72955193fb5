"""What an entry of the log did when it was applied to the replicated state."""

from __future__ import annotations

from dataclasses import dataclass

from core.payload import Payload
from core.portfolio import ClosedTrade
from net.messages import Committed


@dataclass(frozen=True, slots=True)
class OpenDecision:
    """An accepted decision whose order has not ended yet, with the proof that lets the gateway send it."""

    client_order_id: str
    committed: Committed
    part: int
    """Which of the entry's payloads (`net.payload_batch`); 0 where it holds one."""
    position: int
    step: int
    instrument: int
    side: int
    quantity: int
    limit_price: int


@dataclass(frozen=True, slots=True)
class Applied:
    """What one entry did."""

    payload: Payload | None = None
    accepted: tuple[OpenDecision, ...] = ()
    """Decisions that become orders."""
    denied: int = 0
    vetoes: tuple[int, ...] = ()
    """Veto code by row of a decision batch."""
    closed_trades: tuple[ClosedTrade, ...] = ()
    strays: tuple[str, ...] = ()
    """Client order ids of fills that no open decision answers for: the gateway's position has them, this one not."""
    problem: str = ""
    """Why the entry changed nothing, where it is malformed or refused whole."""
    stale: bool = False
    """It was refused as an operator's word for another epoch: signed anew it may count."""
    parts: tuple[tuple[bytes, Applied], ...] = ()
    """What each payload of the entry did, in order; the fields above are their sum."""


def sum_of(parts: list[tuple[bytes, Applied]]) -> Applied:
    """What the payloads of one entry did together."""
    results = [applied for _, applied in parts]
    return Applied(
        payload=results[0].payload if len(results) == 1 else None,
        accepted=tuple(decision for each in results for decision in each.accepted),
        denied=sum(each.denied for each in results),
        vetoes=tuple(veto for each in results for veto in each.vetoes),
        closed_trades=tuple(trade for each in results for trade in each.closed_trades),
        strays=tuple(name for each in results for name in each.strays),
        problem="; ".join(each.problem for each in results if each.problem),
        stale=any(each.stale for each in results),
        parts=tuple(parts),
    )
