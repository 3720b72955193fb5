"""One trading cycle on the leading node: from the market step to its orders, every stage under its span."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from core.applied import Applied, OpenDecision
from core.config import Settings
from core.faults import beyond_limits
from core.opinions import Opinions
from core.order_flow import Fence, OrderFlow
from core.payload import DecisionBatch, ReportBatch, encode_decisions, encode_reports
from core.records import CycleRecord
from core.swarm_state import SwarmState
from core.telemetry import CycleTracer
from core.toggles import Consensus, Toggles
from core.trader import Trader
from kernels.readiness import postponed
from net.batch import Batcher
from net.messages import Committed

Decided = tuple[Committed, Applied]


class Agreement(Protocol):
    """What the cycle needs of its node."""

    async def agree(self, payloads: list[bytes], prepare: Callable[[int, int, bytes], None] | None) -> list[Decided]:
        """Put payloads to the vote; returns when all are committed.

        Raises LeadershipLostError, and RefusedError for what the voters of the epoch do not vote for.
        """

    def place(self) -> tuple[int, int]:
        """Present epoch and term."""

    def traffic(self) -> Traffic:
        """Counters since the process started."""

    def take_reports(self) -> ReportBatch | None:
        """Execution reports of the gateway that are not committed yet."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Consensus rounds, and what went between this node and the others, since the process started."""

    rounds: int
    messages: int
    datagrams: int
    bytes_on_wire: int


class Cycle:
    """Runs cycles one by one; owned by a node while it leads."""

    def __init__(
        self,
        node: int,
        settings: Settings,
        state: SwarmState,
        trader: Trader,
        opinions: Opinions,
        orders: OrderFlow,
        agreement: Agreement,
        tracer: CycleTracer,
        overlimit: Callable[[], bool],
    ) -> None:
        """`overlimit` tells whether to propose beyond the limits: a fault on purpose (`core.faults`)."""
        self._node = node
        self._settings = settings
        self._state = state
        self._trader = trader
        self._opinions = opinions
        self._orders = orders
        self._agreement = agreement
        self._tracer = tracer
        self._overlimit = overlimit
        self._last_end_ns = 0
        self._numpy_kernels = 0

    def forget_last(self) -> None:
        """The next cycle does not follow at once upon the last: the wait between them belongs to neither."""
        self._last_end_ns = 0

    async def run(self, step: int, toggles: Toggles) -> CycleRecord:
        """One cycle at market step `step`.

        Raises LeadershipLostError, RefusedError or GatewayAwayError; then nothing is half-done that the log does not
        finish.
        """
        tracer, trader = self._tracer, self._trader
        tracer.begin(self._last_end_ns or None)
        started_ns = time.time_ns()
        self._numpy_kernels = len(postponed())
        before = self._agreement.traffic()
        epoch, term = self._agreement.place()
        trader.ingest(step, tracer)
        await trader.match_patterns(toggles.dtw_kernel, tracer)
        trader.read_news(tracer)
        trader.query_memory(tracer)
        trader.vote(tracer)
        trader.assess_risk(tracer)
        proposals = trader.propose(tracer)
        proposals = proposals[self._state.decided_step[proposals["instrument"]] < step]
        with tracer.coordination():
            decided = await self._coordinate(step, proposals, toggles)
        accepted = [decision for _, applied in decided for decision in applied.accepted]
        if accepted:
            with tracer.span("order_execution"):
                await self._execute(accepted, toggles)
        return self._finish(step, toggles, started_ns, before, (epoch, term), decided, accepted)

    async def _execute(self, accepted: list[OpenDecision], toggles: Toggles) -> None:
        epoch, term = self._agreement.place()
        await self._orders.execute(accepted, toggles, self._settings.orders_in_flight, Fence(epoch, term))

    async def _coordinate(self, step: int, proposals: NDArray[np.void], toggles: Toggles) -> list[Decided]:
        """Opinions and consensus on every proposal: one after another, or in batches under way together."""
        if not toggles.batching:
            decided = []
            for row in range(proposals.size):
                decided += await self._decide(step, proposals[row : row + 1], toggles, reports=row == 0)
            return decided
        collected = [await self._batches(proposals[rows]) for rows in self._routed(proposals, toggles)]
        batches = [batch for part in collected for batch in part]
        rounds = [self._decide(step, rows, toggles, reports=k == 0) for k, rows in enumerate(batches)]
        # Where one fails the others still come to their end: the next cycle must not begin beside them.
        ended = await asyncio.gather(*rounds, return_exceptions=True)
        return [item for part in ended for item in _result(part)]

    def _routed(self, proposals: NDArray[np.void], toggles: Toggles) -> list[NDArray[np.intp]]:
        """Rows that may share a batch: in auto mode a critical decision does not hold up the others."""
        everything = np.arange(proposals.size)
        if toggles.consensus is not Consensus.AUTO:
            return [everything]
        critical = self._state.critical_rows(proposals)
        return [rows for rows in (everything[~critical], everything[critical]) if rows.size]

    async def _batches(self, proposals: NDArray[np.void]) -> list[NDArray[np.void]]:
        settings = self._settings
        batcher: Batcher[int] = Batcher(settings.batch_policy, settings.batch_max, settings.batch_wait_ms / 1e3)
        now = time.monotonic()
        ready = [batch for row in range(proposals.size) for batch in batcher.add(row, now)]
        ready += batcher.pipe_idle(now)
        while (deadline := batcher.next_deadline()) is not None:
            # The timer policy waits for company, which in a cycle does not come: that is what the adaptive one saves.
            await asyncio.sleep(max(0.0, deadline - time.monotonic()))
            ready += batcher.poll(time.monotonic())
        return [proposals[list(batch.items)] for batch in ready]

    async def _decide(
        self, step: int, proposals: NDArray[np.void], toggles: Toggles, *, reports: bool
    ) -> list[Decided]:
        """Gather opinions on these proposals, put them to the vote, return what was decided."""
        overlimit = self._overlimit()
        if overlimit:
            proposals = beyond_limits(proposals, self._state.limits)
        opinions = await self._opinions.ask(step, proposals)
        payloads = []
        if reports and (reported := self._agreement.take_reports()) is not None:
            payloads.append(encode_reports(reported, toggles.serialization))
        index, vetoes = self._state.judge_limits(proposals)
        batch = DecisionBatch(step, self._node, proposals, opinions, index, b"" if overlimit else vetoes)
        payloads.append(encode_decisions(batch, toggles.serialization))
        prepare = self._orders.prepare if toggles.optimistic_execution else None
        with self._tracer.span("quic_consensus"):
            return await self._agreement.agree(payloads, prepare)

    def _finish(
        self,
        step: int,
        toggles: Toggles,
        started_ns: int,
        before: Traffic,
        place: tuple[int, int],
        decided: list[Decided],
        accepted: list[OpenDecision],
    ) -> CycleRecord:
        self._last_end_ns, times = self._tracer.finish()
        after = self._agreement.traffic()
        committed = sum(len(applied.vetoes) for _, applied in decided)
        filled, unfilled = self._orders.take_closed()
        return CycleRecord(
            cycle=self._state.cycles_done,
            step=step,
            lap=self._trader.lap,
            leader=self._node,
            epoch=place[0],
            term=place[1],
            started_ns=started_ns,
            wall_ms=times.wall_ms,
            untimed_ms=times.untimed_ms,
            toggles=toggles,
            count=times.count,
            inclusive_ms=times.inclusive_ms,
            exclusive_ms=times.exclusive_ms,
            background_ms=times.background_ms,
            rounds=after.rounds - before.rounds,
            messages=after.messages - before.messages,
            datagrams=after.datagrams - before.datagrams,
            bytes_on_wire=after.bytes_on_wire - before.bytes_on_wire,
            decisions_committed=committed,
            decisions_denied=sum(applied.denied for _, applied in decided),
            orders_sent=len(accepted),
            orders_filled=filled,
            orders_rejected=unfilled,
            numpy_kernels=self._numpy_kernels,
        )


def _result(ended: list[Decided] | BaseException) -> list[Decided]:
    if isinstance(ended, BaseException):
        raise ended
    return ended
