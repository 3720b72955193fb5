"""What a toggle could do at most, by Amdahl's law, before it is tried.

The projection takes the exclusive time of the spans that a toggle acts on and divides it by what the toggle is meant to
save there; all else stays. It is an upper limit and says so: no toggle reaches it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

from core.spans import NAMES, PARENT
from core.statistics import SpanTable
from core.toggles import FIELD_OF_KEY, Consensus, DtwKernel, Serialization, Toggles, pressed

ACTS_ON: dict[str, tuple[str, ...]] = {
    "b": ("quic_coordination",),
    "s": ("quic_message_serialization",),
    "m": ("quic_consensus",),
    "o": ("order_validation", "order_placement"),
    "x": ("quic_network_send", "quic_consensus"),
    "z": (),
    "p": ("order_placement", "order_confirmation"),
    "c": ("order_confirmation",),
    "d": ("pattern_matching_dtw_single",),
}
"""The spans, each with what is nested in it, in which a toggle saves time. 0-RTT saves only at a reconnect."""

_RANK: dict[str, int] = {
    Serialization.MSGPACK: 0,
    Serialization.CAPNP: 1,
    Serialization.MSGPACK_COLUMNS: 1,
    Consensus.BFT: 0,
    Consensus.AUTO: 1,
    Consensus.RAFT: 2,
    DtwKernel.PYTHON: 0,
    DtwKernel.NUMBA: 1,
    DtwKernel.BATCH: 2,
    DtwKernel.TOPK: 3,
}
"""What is meant to be the faster of two values of a toggle; equal where neither is."""


@dataclass(frozen=True, slots=True)
class Projection:
    """`ratio` times as fast at most; `assumption` says what was taken for granted."""

    ratio: float
    assumption: str


def family(name: str) -> tuple[str, ...]:
    """The span and everything nested in it."""
    inside = [child for child in NAMES if child != NAMES[0] and PARENT[child] == name]
    return (name, *(each for child in inside for each in family(child)))


def amdahl(share: float, speedup: float) -> float:
    """Whole / remaining time when the part `share` (0 to 1) of it is `speedup` times as fast (Amdahl 1967)."""
    remaining = 1.0 - share + share / speedup
    return 1.0 / remaining if remaining > 0.0 else inf


def shares(table: SpanTable) -> dict[str, float]:
    """Share of wall time by span name, with everything nested in it, from exclusive times."""
    own = {row.name: row.exclusive_share for row in table.rows}
    return {name: sum(own[each] for each in family(name)) for name in NAMES}


def remaining(
    own: Mapping[str, float], toggles: Toggles, keys: Sequence[str], batch_max: int, orders_in_flight: int
) -> tuple[dict[str, float], str]:
    """What the projection leaves of each span's own time, in the unit of `own`, and what it takes for granted.

    Batching divides coordination by `batch_max` and parallel orders divide placement by `orders_in_flight`; the other
    toggles are credited with all the time of their spans. Keys that go to a slower value when pressed, as those that
    are on already do, save nothing.
    """
    factor = {"b": (float(batch_max), f"÷{batch_max}"), "p": (float(orders_in_flight), f"÷{orders_in_flight}")}
    left = dict(own)
    said = []
    for key in keys:
        if _rank(pressed(toggles, key), key) < _rank(toggles, key):
            said.append(f"{key} is on already")
            continue
        speedup, word = factor.get(key, (inf, "gone"))
        for span in ACTS_ON[key]:
            for each in family(span):
                left[each] = min(left[each], own[each] / speedup)
            said.append(f"{span} {word}")
    return left, ", ".join(dict.fromkeys(said)) or "nothing in a cycle"


def _rank(toggles: Toggles, key: str) -> int:
    value = getattr(toggles, FIELD_OF_KEY[key])
    return int(value) if isinstance(value, bool) else _RANK[value]


def what_if(
    table: SpanTable, toggles: Toggles, keys: Sequence[str], batch_max: int, orders_in_flight: int
) -> Projection:
    """The limit for `keys` all together, from a profile that ran under `toggles`; see `remaining`."""
    own = {row.name: row.exclusive_share for row in table.rows}
    left, said = remaining(own, toggles, keys, batch_max, orders_in_flight)
    rest = sum(left.values()) / (sum(own.values()) or 1.0)
    return Projection(1.0 / rest if rest > 0.0 else inf, said)
