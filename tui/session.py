"""What the monitor needs of a swarm: the client is handed in, so that tests drive the same screens with a fake."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from core.attach import TradingAnswer
from core.book_ladder import BookLadder
from core.cycle_trace import SwarmTrace
from core.faults import Fault
from core.profile_pair import PairDiff
from core.records import CycleRecord, SwarmSnapshot
from core.toggles import Toggles
from core.trading_state import TradingState


class SwarmClient(Protocol):
    """A link to a running swarm. The monitor owns nothing: it reads snapshots and sends keys."""

    owns_swarm: bool
    """True when this command started the swarm, False when it attached to one."""

    may_stop: bool
    """True where this monitor can end the swarm: it is on this machine and may change it."""

    seekable: bool
    """True for a recording (`core.replay`), which has a present that can be moved."""

    read_only: bool
    """True when nothing can be changed: a monitor that only looks on, or a recording."""

    @property
    def operator(self) -> int | None:
        """This monitor's id in the roster; compare with `SwarmSnapshot.in_control`. None for a recording."""

    async def take_control(self) -> str:
        """Be the one who may change the swarm; answers what happened. Raises where it is refused."""

    async def give_up_control(self) -> str:
        """Leave control to whoever acts next; answers what happened."""

    def snapshot(self) -> SwarmSnapshot:
        """The latest state; cheap, never blocks, also while nothing is connected."""

    @property
    def cycles(self) -> Sequence[CycleRecord]:
        """The latest records, oldest first."""

    async def set_toggles(self, toggles: Toggles) -> str:
        """Ask for exactly these toggles; answers what happens, or why not."""

    async def trace(self) -> SwarmTrace:
        """What the nodes did when, over the last cycles."""

    async def ladder(self, instrument: str, levels: int) -> BookLadder:
        """The venue's book of `instrument`; raises where it cannot be had."""

    async def kill_node(self, node: int) -> str:
        """Kill a node's process on purpose; answers what happens. Raises where it cannot."""

    async def set_fault(self, node: int, fault: Fault) -> str:
        """Have a node do wrong on purpose, or right again; answers what happens. Raises where it cannot."""

    def keep_experiment(self, values: dict[str, object]) -> None:
        """Keep a finished experiment (`core.experiment_log.to_dict`) with the session."""

    async def press(self, key: str) -> str:
        """Ask for the toggle or preset behind `key` (b s m o x z p c d 0 9); answers what happens, or why not."""

    async def change_trading(self, state: TradingState, reason: str) -> TradingAnswer:
        """Halt, reduce or resume trading; at the gateway at once, in the log as soon as it is committed."""

    async def export_profile(self, directory: Path, svg: str, seconds: float) -> Path:
        """Profile the leader's loop for `seconds`, write everything into a new folder below `directory`, return it."""

    async def export_pair(
        self,
        directory: Path,
        svg: str,
        seconds: float,
        first: Toggles,
        second: Toggles,
        tell: Callable[[str], None],
    ) -> tuple[Path, PairDiff]:
        """The same with the leader's profile under both settings, in folders `a` and `b`; the toggles are put back.

        `tell` gets a sentence where the swarm does not go back to them.
        """

    async def stop_swarm(self) -> None:
        """End every process of the swarm."""

    async def close(self) -> None:
        """Leave; trading goes on."""


@runtime_checkable
class Seekable(Protocol):
    """A recording: its present can be moved."""

    last_ns: int

    @property
    def now_ns(self) -> int:
        """The moment that is shown, Unix time."""

    def seek(self, at_ns: int) -> None:
        """Go on from `at_ns`, kept within the recording."""
