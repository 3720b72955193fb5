"""What the monitor needs of a swarm: the client is handed in, so that tests drive the same screens with a fake."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from core.attach import TradingAnswer
from core.records import SwarmSnapshot
from core.trading_state import TradingState


class SwarmClient(Protocol):
    """A link to a running swarm. The monitor owns nothing: it reads snapshots and sends keys."""

    owns_swarm: bool
    """True when this command started the swarm, False when it attached to one."""

    def snapshot(self) -> SwarmSnapshot:
        """The latest state; cheap, never blocks, also while nothing is connected."""

    async def press(self, key: str) -> str:
        """Ask for the toggle or preset behind `key` (b s m o x z p c d 0 9); answers what happens, or why not."""

    async def change_trading(self, state: TradingState, reason: str) -> TradingAnswer:
        """Halt, reduce or resume trading; at the gateway at once, in the log as soon as it is committed."""

    async def export_profile(self, directory: Path, svg: str, seconds: float) -> Path:
        """Profile the leader's loop for `seconds`, write everything into a new folder below `directory`, return it."""

    async def stop_swarm(self) -> None:
        """End every process of the swarm."""

    async def close(self) -> None:
        """Leave; trading goes on."""
