"""A connector that can show the venue's book. Not every protocol can: order entry by FIX has none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from core.book_ladder import Level


@runtime_checkable
class BookSource(Protocol):
    """Beside `core.gateway.connector.Connector`."""

    async def depth(self, instrument: int, levels: int) -> tuple[Sequence[Level], Sequence[Level]]:
        """The best `levels` of bids and asks, the best first. Raises ConnectorError."""
