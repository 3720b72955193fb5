"""The names of the markets that ship with the product; apart from `load`, as whoever asks for a name loads nothing."""

from __future__ import annotations

from typing import Final

SHIPPED_MARKETS: Final = ("us-stocks", "futures-ticks")
