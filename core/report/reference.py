"""The reference profile that reports are compared with, and what in it does not add up, from its own figures."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

from core.spans import NAMES, PARENT, ROOT


@dataclass(frozen=True, slots=True)
class ReferenceProfile:
    """Totals over all cycles, ms, as its nested timers counted them."""

    cycles: int
    wall_ms: float
    flat_sum_ms: float
    orders: int
    count: dict[str, int]
    total_ms: dict[str, float]

    def inclusive_share(self, name: str) -> float:
        """Of wall time, 0 to 1."""
        return self.total_ms[name] / self.wall_ms

    def exclusive_ms(self, name: str) -> float:
        """Total without what is nested in it; `untimed` for what no span covers."""
        if name == "untimed":
            return self.wall_ms - sum(self.total_ms[child] for child in PARENT if PARENT[child] == ROOT)
        if name == ROOT:
            return 0.0
        return self.total_ms[name] - sum(self.total_ms[child] for child in PARENT if PARENT[child] == name)


@cache
def reference_profile() -> ReferenceProfile:
    """The profile shipped with this package."""
    data = json.loads(resources.files("core.report").joinpath("reference_profile.json").read_text())
    operations = data["operations"]
    return ReferenceProfile(
        cycles=data["cycles"],
        wall_ms=data["wall_ms"],
        flat_sum_ms=data["flat_sum_ms"],
        orders=data["orders"],
        count={name: operations[name]["count"] for name in NAMES},
        total_ms={name: operations[name]["total_ms"] for name in NAMES},
    )


def known_flaws(reference: ReferenceProfile) -> tuple[str, ...]:
    """Where its own figures contradict its conclusions; each number is computed here from its table."""
    total = reference.total_ms
    coordination, consensus = total["quic_coordination"], total["quic_consensus"]
    send, serialization = total["quic_network_send"], total["quic_message_serialization"]
    orders, confirmation = total["order_execution"], total["order_confirmation"]
    each = confirmation / reference.count["order_confirmation"]
    wall, cycles = reference.wall_ms, reference.cycles
    twice = coordination + consensus
    thrice = coordination + consensus + send
    return (
        f"Its {reference.flat_sum_ms:,.2f} ms is a flat sum of nested timers; wall time is {wall:,.2f} ms.",
        f"Coordination ({coordination:,.2f} ms) already holds send, consensus and serialization: QUIC is"
        f" {coordination / wall:.1%} of wall time, neither {twice / reference.flat_sum_ms:.1%} ({twice:,.2f} ms) nor"
        f" {thrice / reference.flat_sum_ms:.1%} ({thrice:,.2f} ms), which count consensus twice.",
        f"Order execution holds confirmation: {orders:,.2f} ms, {orders / wall:.1%} of wall time, not"
        f" {orders + confirmation:,.2f} ms. Confirmation is {each:.2f} ms"
        f" an order and {confirmation / cycles:.2f} ms a cycle.",
        f"{reference.exclusive_ms('untimed') / wall:.1%} of its wall time"
        f" ({reference.exclusive_ms('untimed') / cycles:.2f} ms a cycle) is in no span.",
        f"Serialization is {serialization:.2f} ms for all {cycles} calls, {serialization / cycles:.4f} ms each: a"
        " faster codec alone could save nothing there.",
        f"{reference.orders} orders in {cycles} cycles: nothing to batch or to run in parallel.",
        "Its sends, votes and confirmations were timed waits with no votes counted; here they are real, so that its"
        " absolute times are no yardstick. Compare shares.",
        "Its cycle made at most one proposal and compared one window with its patterns; a cycle here makes one proposal"
        " and compares one window per instrument.",
    )
