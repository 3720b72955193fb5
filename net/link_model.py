"""Emulated links: delay, jitter and loss for the datagrams between two members, on purpose and by name.

Sans-I/O: a datagram's fate comes from the model and a generator that was handed in, so that the same model drives a
socket (`net.udp.EmulatedSocket`) and virtual time. A direction is emulated where its datagrams are sent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from types import MappingProxyType
from typing import Final

DELAY_S_MAX: Final = 10.0
_TIME: Final = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s)")
_SHARE: Final = re.compile(r"(\d+(?:\.\d+)?)%")
_PAIR: Final = re.compile(r"(\d+)-(\d+)")
_SECONDS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


class LinkModelError(ValueError):
    """The description of a link is wrong; the text says what and what is allowed."""


@dataclass(frozen=True, slots=True)
class LinkModel:
    """One direction of a link. Each datagram takes `delay_s`, give or take up to `jitter_s` (uniform), so jitter
    reorders; `loss` of them (0 to 1) never arrive.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0

    def fate(self, random: Random) -> float | None:
        """Seconds until the next datagram arrives, None where it is lost."""
        if self.loss and random.random() < self.loss:
            return None
        if not self.jitter_s:
            return self.delay_s
        return max(0.0, self.delay_s + random.uniform(-self.jitter_s, self.jitter_s))


PLAIN: Final = LinkModel()


@dataclass(frozen=True, slots=True)
class LinkModels:
    """What lies between every two members: `default`, save for the pairs named, lower id first."""

    default: LinkModel = PLAIN
    pairs: Mapping[tuple[int, int], LinkModel] = field(default_factory=lambda: MappingProxyType({}))

    def __bool__(self) -> bool:
        """Whether anything is emulated at all."""
        return any(model != PLAIN for model in (self.default, *self.pairs.values()))

    def between(self, one: int, other: int) -> LinkModel:
        """The model of either direction between two members."""
        return self.pairs.get((min(one, other), max(one, other)), self.default)


def parse_links(text: str) -> LinkModels:
    """`delay=4ms,jitter=1ms,loss=0.5%` for every pair; `0-1:delay=40ms` for one; several separated by `;`.

    An empty text emulates nothing. Raises LinkModelError.
    """
    default: LinkModel | None = None
    pairs: dict[tuple[int, int], LinkModel] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        head, colon, rest = part.partition(":")
        if not colon:
            if default is not None:
                raise LinkModelError(f"link {text!r}: two models for every pair; name a pair as in 0-1:delay=4ms")
            default = _parse_model(part)
            continue
        found = _PAIR.fullmatch(head.strip())
        if found is None or found[1] == found[2]:
            raise LinkModelError(f"link {part!r}: {head!r} names no pair of members; write 0-1")
        pair = (min(int(found[1]), int(found[2])), max(int(found[1]), int(found[2])))
        if pair in pairs:
            raise LinkModelError(f"link {text!r}: the pair {head} is named twice")
        pairs[pair] = _parse_model(rest)
    return LinkModels(default or PLAIN, MappingProxyType(pairs))


def _parse_model(text: str) -> LinkModel:
    values: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = (piece.strip() for piece in part.partition("="))
        if name in values:
            raise LinkModelError(f"link {text!r}: {name} stands twice")
        if name in ("delay", "jitter"):
            found = _TIME.fullmatch(value)
            if found is None or float(found[1]) * _SECONDS[found[2]] > DELAY_S_MAX:
                raise LinkModelError(f"link {text!r}: {name}={value} must be a time up to 10 s, such as 4ms")
            values[name] = float(found[1]) * _SECONDS[found[2]]
        elif name == "loss":
            found = _SHARE.fullmatch(value)
            if found is None or float(found[1]) > 100:
                raise LinkModelError(f"link {text!r}: loss={value} must be a percentage, such as 0.5%")
            values[name] = float(found[1]) / 100
        else:
            raise LinkModelError(f"link {text!r}: {name!r} is unknown; use delay, jitter and loss")
    model = LinkModel(values.get("delay", 0.0), values.get("jitter", 0.0), values.get("loss", 0.0))
    if model.jitter_s > model.delay_s:
        raise LinkModelError(f"link {text!r}: jitter must not exceed delay")
    return model
