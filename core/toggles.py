"""The optimisations that an engineer switches while the swarm trades.

One frozen value; a change takes effect at a cycle boundary on every node, and every cycle record carries the value it
ran under, so that no statistic mixes two settings.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any


class Serialization(StrEnum):
    MSGPACK = "msgpack"
    """Plain maps, row by row: the baseline."""
    CAPNP = "capnp"
    """Columns as one packed record array, read without copying."""
    MSGPACK_COLUMNS = "msgpack-columns"
    """MessagePack with the same record array as a binary field."""


class Consensus(StrEnum):
    BFT = "bft"
    RAFT = "raft"
    AUTO = "auto"
    """A router sends critical decisions to BFT and the rest to Raft."""


class DtwKernel(StrEnum):
    PYTHON = "python"
    NUMBA = "numba"
    BATCH = "batch"
    """SIMD across patterns: the default."""
    TOPK = "topk"
    """Pruned top-k by lower bounds."""


@dataclass(frozen=True, slots=True)
class Toggles:
    """The keys b s m o x z p c d."""

    batching: bool = False
    serialization: Serialization = Serialization.MSGPACK
    consensus: Consensus = Consensus.BFT
    optimistic_execution: bool = False
    stream_multiplexing: bool = False
    zero_rtt: bool = False
    parallel_orders: bool = False
    async_confirmation: bool = False
    dtw_kernel: DtwKernel = DtwKernel.BATCH

    def as_dict(self) -> dict[str, bool | str]:
        """JSON-ready: field name to bool or string."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: str(v) if isinstance(v, StrEnum) else v for name, v in values.items()}

    def label(self) -> str:
        """Short and readable: `b s=capnp m=auto o- x z p c d=batch`, off ones with a minus."""
        parts = []
        for key, name in FIELD_OF_KEY.items():
            value = getattr(self, name)
            parts.append(f"{key}={value}" if isinstance(value, StrEnum) else key if value else f"{key}-")
        return " ".join(parts)


FIELD_OF_KEY = {
    "b": "batching",
    "s": "serialization",
    "m": "consensus",
    "o": "optimistic_execution",
    "x": "stream_multiplexing",
    "z": "zero_rtt",
    "p": "parallel_orders",
    "c": "async_confirmation",
    "d": "dtw_kernel",
}
TOGGLE_KEYS = (*FIELD_OF_KEY, "0", "9")

BASELINE = Toggles()
OPTIMISED = Toggles(
    batching=True,
    serialization=Serialization.CAPNP,
    consensus=Consensus.AUTO,
    optimistic_execution=True,
    stream_multiplexing=True,
    zero_rtt=True,
    parallel_orders=True,
    async_confirmation=True,
)
PRESETS = {"baseline": BASELINE, "optimised": OPTIMISED}
_CYCLES: dict[type, tuple[StrEnum, ...]] = {
    Serialization: tuple(Serialization),
    Consensus: tuple(Consensus),
    DtwKernel: (DtwKernel.BATCH, DtwKernel.TOPK, DtwKernel.PYTHON, DtwKernel.NUMBA),
}


def pressed(toggles: Toggles, key: str) -> Toggles:
    """The toggles after one key press: `0` and `9` are the presets, a letter flips or advances its toggle.

    Raises KeyError for a key that is no toggle.
    """
    if key == "0":
        return replace(BASELINE, dtw_kernel=toggles.dtw_kernel)
    if key == "9":
        return replace(OPTIMISED, dtw_kernel=toggles.dtw_kernel)
    name = FIELD_OF_KEY[key]
    value = getattr(toggles, name)
    if isinstance(value, bool):
        return _with(toggles, name, not value)
    order = _CYCLES[type(value)]
    return _with(toggles, name, order[(order.index(value) + 1) % len(order)])


def _with(toggles: Toggles, name: str, value: Any) -> Toggles:
    return replace(toggles, **{name: value})


def parse_toggles(text: str) -> Toggles:
    """`baseline`, `optimised`, or a list such as `b,s,m=raft` applied to the baseline (`-b` switches off).

    A bare letter takes the optimised preset's value. Raises ValueError that names the bad part and what is allowed.
    """
    toggles = BASELINE
    for position, part in enumerate(p.strip() for p in text.split(",")):
        if part in PRESETS:
            if position:
                raise ValueError(f"toggles: preset {part!r} must come first in {text!r}")
            toggles = PRESETS[part]
            continue
        key, _, value = part.partition("=")
        off = key.startswith("-")
        key = key.removeprefix("-")
        if key not in FIELD_OF_KEY or (off and value):
            allowed = ", ".join(FIELD_OF_KEY)
            raise ValueError(f"toggles: {part!r} is unknown; use {' or '.join(PRESETS)} or keys from {allowed}")
        toggles = _assign(toggles, key, value, off)
    return toggles


def _assign(toggles: Toggles, key: str, value: str, off: bool) -> Toggles:
    name = FIELD_OF_KEY[key]
    kind: Any = type(getattr(toggles, name))
    if kind is bool:
        if value not in ("", "on", "off"):
            raise ValueError(f"toggles: {key}={value!r} must be on or off")
        return _with(toggles, name, not off and value != "off")
    if off:
        return _with(toggles, name, getattr(BASELINE, name))
    if not value:
        return _with(toggles, name, getattr(OPTIMISED, name))
    try:
        return _with(toggles, name, kind(value))
    except ValueError:
        raise ValueError(f"toggles: {key}={value!r} must be one of {', '.join(kind)}") from None


def from_dict(values: dict[str, bool | str]) -> Toggles:
    """The inverse of `as_dict`. Raises ValueError or TypeError on an unknown field or value."""
    kinds: dict[str, Any] = {field.name: type(getattr(BASELINE, field.name)) for field in fields(Toggles)}
    unknown = set(values) - set(kinds)
    if unknown:
        raise ValueError(f"toggles: unknown fields {sorted(unknown)}")
    return Toggles(**{name: kinds[name](value) for name, value in values.items()})
