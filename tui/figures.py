"""Numbers and outside text as the screen writes them: fixed precision, so that columns stand still."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Iterable, Sequence

SPARKS = " ▁▂▃▄▅▆▇█"
EIGHTHS = " ▏▎▍▌▋▊▉█"


def milliseconds(value_ms: float) -> str:
    """At most five characters below 10 s: `0.62`, `17.2`, `172`, `2,130`."""
    if value_ms < 10.0:
        return f"{value_ms:.2f}" if value_ms < 9.995 else f"{value_ms:.1f}"
    if value_ms < 99.95:
        return f"{value_ms:.1f}"
    return f"{value_ms:,.0f}"


def rate(per_second: float) -> str:
    """`0`, `0.82`, `58.2`, `412`."""
    if per_second == 0.0:
        return "0"
    return milliseconds(per_second)


def percent(share: float) -> str:
    """Whole percent; `<1%` for what is there but small."""
    if share <= 0.0:
        return "0%"
    return "<1%" if share < 0.005 else f"{100.0 * share:.0f}%"


def money(value: float) -> str:
    """Signed, two decimals: profit and loss are told apart without colour."""
    return f"{value:+,.2f}"


def quantity(value: float) -> str:
    """Units without idle zeros: `40`, `0.125`."""
    return f"{value:,.6f}".rstrip("0").rstrip(".")


def decimal_places(prices: Iterable[float]) -> int:
    """As many as the prices have, 2 at the least: a tick may be far below a cent."""
    written = (f"{price:.8f}".rstrip("0") for price in prices)
    return max((2, *(len(price.partition(".")[2]) for price in written)))


def shortened(text: str, width: int) -> str:
    """`text` in exactly `width` cells, ended with `…` where it is longer."""
    return f"{text:<{width}}" if len(text) <= width else f"{text[: width - 1]}…"


def age(seconds: float) -> str:
    """`12 s`, `3 min 20 s`."""
    whole = max(0, int(seconds))
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"


def clock(time_ns: int) -> str:
    """Local time of day, HH:MM:SS."""
    return time.strftime("%H:%M:%S", time.localtime(time_ns / 1e9))


def plain(text: str) -> str:
    """`text` from another process, made safe to draw: control and zero-width characters become `?`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isprintable() and not unicodedata.combining(c) else "?" for c in text)


def sparkline(values: Sequence[float | None], width: int, height: int = 1) -> list[str]:
    """`height` lines of exactly `width` cells, the newest value at the right, from 0 to the largest value shown.

    The largest stops an eighth of a line below the top, so that two sparklines under each other stay apart.

    None is a blank; 0 draws the lowest mark, so that "nothing happened" differs from "not known".
    """
    shown = list(values)[-width:] if width > 0 else []
    top = max((value for value in shown if value is not None), default=0.0)
    levels = [
        0 if value is None else max(1, round(value / top * (8 * height - 1))) if top > 0.0 else 1 for value in shown
    ]
    lines = []
    for row in range(height):
        floor = 8 * (height - 1 - row)
        lines.append("".join(SPARKS[min(8, max(0, level - floor))] for level in levels).rjust(width))
    return lines


def bar_scale(longest_ms: float) -> float:
    """The next round figure at or above `longest_ms`: 1, 1.2, 1.5, 2, 3, 4, 5, 6 or 8 times a power of ten."""
    if longest_ms <= 0.0:
        return 1.0
    power = 1e-3
    while True:
        for step in (1.0, 1.2, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0):
            if step * power >= longest_ms:
                return step * power
        power *= 10.0
