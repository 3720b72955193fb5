"""How fast a recording is played."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

_RATE = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*/\s*s")


@dataclass(frozen=True, slots=True)
class Pace:
    text: str
    """As the user wrote it."""
    seconds_per_step: float
    """0 plays as fast as the swarm can."""


def parse_pace(text: str) -> Pace:
    """`max`, or steps a second such as `1/s`, `20/s`, `0.5/s`. Raises ValueError that names a bad value."""
    cleaned = text.strip().lower()
    if cleaned == "max":
        return Pace(text=cleaned, seconds_per_step=0.0)
    match = _RATE.fullmatch(cleaned)
    steps_per_second = float(match.group(1)) if match else 0.0
    if steps_per_second <= 0.0 or not math.isfinite(1.0 / steps_per_second):
        raise ValueError(f"pace {text!r} is neither `max` nor steps a second above 0 such as `1/s`, `20/s` or `0.5/s`")
    return Pace(text=cleaned, seconds_per_step=1.0 / steps_per_second)
