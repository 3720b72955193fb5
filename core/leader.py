"""What the leading node does: take over, trade cycle after cycle, apply toggles, reconcile with the gateway."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from core.agreement import LeadershipLostError, RefusedError
from core.applied import Applied
from core.config import Settings
from core.cycle import Cycle
from core.market.pace import parse_pace
from core.order_flow import Fence, GatewayAwayError, OrderFlow
from core.payload import REPORT_DTYPE, ReportBatch, encode_reports, encode_toggle_change
from core.records import CycleRecord, Severity, VenueState
from core.session import GATEWAY_ID
from core.swarm_snapshot import is_proven
from core.swarm_state import SwarmState
from core.telemetry_messages import OrderKind, application
from core.toggle_change import CONSENSUS_OF, ToggleChange
from core.toggles import Toggles
from core.trading_state import TradingState
from net.messages import Application, Channel
from net.mode_switch import SwitchOrder

CHANGES_QUEUED_MAX = 64
CHECK_INTERVAL_S = 0.05
REPORTS_TIMEOUT_S = 2.0
SWITCH_TIMEOUT_S = 10.0
PROOFS_TIMEOUT_S = 5.0


class Swarm(Protocol):
    """What the leader needs of its node."""

    def place(self) -> tuple[int, int]: ...

    async def commit(self, payload: bytes) -> Applied:
        """Raises LeadershipLostError and RefusedError (`core.agreement`)."""

    def switch_mode(self, order: SwitchOrder) -> None: ...

    def entries_unproven(self) -> int: ...

    def send(self, peer_id: int, message: Application, *, round_id: int = 0) -> bool: ...

    def event(self, severity: Severity, text: str) -> None: ...


@dataclass(frozen=True, slots=True)
class ToggleAnswer:
    """What became of a change of the toggles, in a sentence."""

    text: str
    stale: bool = False
    """The epoch that it was signed for is over: it counts for nothing until it is signed anew."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A change of toggles that waits for the next cycle boundary."""

    change: ToggleChange
    future: asyncio.Future[ToggleAnswer]


class NotLeadingError(RuntimeError):
    """The change may have been taken; the node that leads now tells, or takes it."""


class Leader:
    """Trades while its node leads; `run` ends by LeadershipLostError or by being cancelled."""

    def __init__(
        self,
        settings: Settings,
        state: SwarmState,
        cycle: Cycle,
        orders: OrderFlow,
        swarm: Swarm,
        on_cycle: Callable[[CycleRecord], None],
    ) -> None:
        self._settings = settings
        self._state = state
        self._cycle = cycle
        self._orders = orders
        self._swarm = swarm
        self._on_cycle = on_cycle
        self._pace = parse_pace(settings.pace)
        self._asked: deque[_Asked] = deque(maxlen=CHANGES_QUEUED_MAX)
        self._reports: ReportBatch | None = None
        self._reports_arrived = asyncio.Event()
        self._next_start = 0.0
        self.venue = VenueState.UNKNOWN
        self.activity = "following"

    async def change_toggles(self, change: ToggleChange) -> ToggleAnswer:
        """Have the toggles that an operator signed from the next cycle boundary on."""
        if len(self._asked) >= CHANGES_QUEUED_MAX:
            return ToggleAnswer(f"{CHANGES_QUEUED_MAX} changes of the toggles are waiting already")
        future: asyncio.Future[ToggleAnswer] = asyncio.get_running_loop().create_future()
        self._asked.append(_Asked(change, future))
        return await future

    def take_reports(self) -> ReportBatch | None:
        """The gateway's newest signed batch, if it says something that is not committed yet."""
        batch, self._reports = self._reports, None
        if batch is None or int(batch.reports["sequence"][-1]) <= self._state.last_report:
            return None
        return batch

    def deliver(self, message: Application) -> None:
        """A message of the gateway."""
        if message.kind == OrderKind.REPORTS:
            reports = np.frombuffer(message.records, REPORT_DTYPE)
            self._reports = ReportBatch(reports, message.body) if reports.size else None
            self._reports_arrived.set()
        else:
            self._orders.deliver(message)

    def venue_changed(self, state: VenueState) -> None:
        """The gateway's word on the venue, or UNKNOWN when the gateway itself is away."""
        if state is self.venue:
            return
        self.venue = state
        if state is not VenueState.CONNECTED:
            self._orders.gateway_lost(f"venue is {state.value}")

    async def run(self) -> None:
        """Lead until cancelled or until the lead is lost."""
        self._cycle.forget_last()
        try:
            await self._reconcile()
            while True:
                await self._between_cycles()
                try:
                    record = await self._cycle.run(self._state.cycles_done, self._state.toggles)
                except (GatewayAwayError, RefusedError) as error:
                    in_doubt = isinstance(error, GatewayAwayError)
                    what = "orders are in doubt" if in_doubt else "the cycle begins anew"
                    self._swarm.event(Severity.WARNING, f"{what}: {error}")
                    self._cycle.forget_last()
                    await self._reconcile()
                    continue
                self._on_cycle(record)
                self._request_reports()
        finally:
            self.activity = "following"
            self.stand_down()

    async def _between_cycles(self) -> None:
        """Apply changes of the toggles; wait while trading must rest, and say why."""
        waited = False
        while True:
            if await self._apply_changes():
                waited = True
            reason = self._rest_reason()
            if reason is None:
                break
            self.activity = reason
            waited = True
            if self._state.open_decisions and self.venue is VenueState.CONNECTED:
                await self._commit_reports()
            await asyncio.sleep(CHECK_INTERVAL_S)
            if reason.startswith("paused") and self.venue is VenueState.CONNECTED:
                await self._reconcile()
        pause_s = self._next_start - time.monotonic()
        if pause_s > 0:
            self.activity = f"leading, pace {self._settings.pace}"
            await asyncio.sleep(pause_s)
            waited = True
        self._next_start = max(self._next_start, time.monotonic() - 1.0) + self._pace.seconds_per_step
        if waited:
            self._cycle.forget_last()
        if self._pace.seconds_per_step == 0:
            self.activity = "leading"

    def _rest_reason(self) -> str | None:
        if self._settings.cycles and self._state.cycles_done >= self._settings.cycles:
            return f"done: {self._settings.cycles} cycles"
        if self._state.trading is TradingState.HALTED:
            return f"halted: {self._state.trading_reason}"
        if self.venue is VenueState.CONNECTED:
            return None
        if self.venue is VenueState.UNKNOWN:
            return "paused: the gateway is away"
        return f"paused: venue is {self.venue.value}"

    async def _apply_changes(self) -> bool:
        """Commit the toggles that were asked for, and switch the protocol where an operator ordered it. True if any."""
        if not self._asked and self._state.switch_order is None:
            return False
        await self._follow_order()
        while self._asked:
            asked = self._asked.popleft()
            answer: ToggleAnswer | None = None
            try:
                answer = await self._carry_out(asked.change)
            finally:
                _tell(asked.future, answer)
        return True

    async def _carry_out(self, change: ToggleChange) -> ToggleAnswer:
        """Commit `change`, unless another leader has, and switch where it orders that."""
        state = self._state
        if state.toggles_signed_ns != change.signed_ns:
            try:
                applied = await self._swarm.commit(encode_toggle_change(change))
            except RefusedError as error:
                return ToggleAnswer(f"refused: {error}")
            if state.toggles_signed_ns != change.signed_ns:
                return ToggleAnswer(f"refused: {applied.problem}; press again", applied.stale)
        await self._follow_order()
        if state.toggles == change.toggles:
            return ToggleAnswer(f"now {state.toggles.label()}")
        if state.switch_order is not None:
            return ToggleAnswer(f"consensus is still {state.toggles.consensus}; the switch goes on")
        text = f"consensus stays {state.toggles.consensus}: another epoch began before the switch; press again"
        return ToggleAnswer(text, stale=True)

    def stand_down(self) -> None:
        """Another node leads: changes that wait here are for it to take. Each counts once, whoever is asked again."""
        while self._asked:
            _tell(self._asked.popleft().future, None)

    async def _follow_order(self) -> None:
        """Switch the protocol as the log has an operator's order for it, until another epoch runs."""
        order = self._state.switch_order
        if order is None:
            return
        wanted = CONSENSUS_OF[order.mode]
        self.activity = f"switching consensus to {wanted}"
        self._swarm.switch_mode(order)
        deadline = time.monotonic() + SWITCH_TIMEOUT_S
        while self._state.switch_order == order:
            if time.monotonic() > deadline:
                self._swarm.event(Severity.ERROR, f"consensus did not switch within {SWITCH_TIMEOUT_S:g} s; trying on")
                return
            await asyncio.sleep(0.002)

    def _request_reports(self) -> bool:
        """Ask the gateway for what happened since the last committed report; the answer rides in the next cycle."""
        self._reports_arrived.clear()
        body = {"sequence": self._state.last_report}
        return self._swarm.send(GATEWAY_ID, application(Channel.ORDER, OrderKind.REPORTS_SINCE, body))

    async def _reconcile(self) -> None:
        """After taking over, or after the gateway or the venue was away: commit every report there is, then hand over
        every accepted decision whose order has not ended. The gateway sends no order twice.
        """
        while self.venue is not VenueState.CONNECTED:
            self.activity = self._rest_reason() or "waiting for the venue"
            if self._settings.cycles and self._state.cycles_done >= self._settings.cycles:
                return
            await self._apply_changes()
            await asyncio.sleep(CHECK_INTERVAL_S)
        self.activity = "reconciling orders"
        await self._commit_reports()
        await self._wait_for_proofs()
        orphans = [each for each in self._state.open_decisions.values() if is_proven(each.committed)]
        if orphans:
            epoch, term = self._swarm.place()
            self._swarm.event(Severity.INFO, f"handing {len(orphans)} open decisions to the gateway")
            one_by_one = Toggles()
            try:
                await self._orders.execute(orphans, one_by_one, 1, Fence(epoch, term))
            except GatewayAwayError as error:
                self._swarm.event(Severity.WARNING, f"orders stay in doubt: {error}")
                return
            await self._commit_reports()

    async def _wait_for_proofs(self) -> None:
        """After a restore from a peer's snapshot, certificates of open decisions are still on their way."""
        deadline = time.monotonic() + PROOFS_TIMEOUT_S
        while missing := self._swarm.entries_unproven():
            self.activity = f"waiting for the proofs of {missing} entries"
            if time.monotonic() > deadline:
                text = f"no peer gave the proofs of {missing} entries: their orders are not handed over"
                self._swarm.event(Severity.ERROR, text)
                return
            await asyncio.sleep(CHECK_INTERVAL_S)

    async def _commit_reports(self) -> None:
        while self.venue is VenueState.CONNECTED:
            if not self._request_reports():
                raise LeadershipLostError("the gateway cannot be reached")
            try:
                async with asyncio.timeout(REPORTS_TIMEOUT_S):
                    await self._reports_arrived.wait()
            except TimeoutError:
                self._swarm.event(Severity.WARNING, "the gateway gave no reports in time; asking again")
                continue
            batch = self.take_reports()
            if batch is None:
                return
            try:
                await self._swarm.commit(encode_reports(batch, self._state.toggles.serialization))
            except RefusedError as error:
                text = f"the gateway's reports count for nothing, asking again: {error}; is its key that of the roster?"
                self._swarm.event(Severity.ERROR, text)
                await asyncio.sleep(REPORTS_TIMEOUT_S)


def _tell(future: asyncio.Future[ToggleAnswer], answer: ToggleAnswer | None) -> None:
    """Answer, or say that this node cannot."""
    if future.done():
        return
    if answer is None:
        future.set_exception(NotLeadingError("the lead went to another node"))
    else:
        future.set_result(answer)
