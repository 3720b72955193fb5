"""What a node does for the cycle that it leads (`core.cycle.Agreement`) and for its leader (`core.leader.Swarm`)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from core.agreement import Decided
from core.applied import Applied
from core.cycle import Traffic
from core.cycle_trace import CycleTrace
from core.node_observer import ObservingNode
from core.payload import PayloadKind, ReportBatch, payload_kind
from core.records import CycleRecord, Severity
from core.session import GATEWAY_ID
from core.swarm_snapshot import proofs_of
from core.telemetry_messages import Control, application
from net.messages import Application, Channel
from net.mode_switch import SwitchOrder


class AgreeingNode(ObservingNode):
    """A node that comes to agree with the others."""

    async def agree(self, payloads: list[bytes], prepare: Callable[[int, int, bytes], None] | None) -> list[Decided]:
        return await self._pending.agree(payloads, lambda values: self._propose(values, prepare))

    def _propose(self, payloads: list[bytes], prepare: Callable[[int, int, bytes], None] | None) -> None:
        assert self._shell is not None
        before = 0 if prepare is None else self._replica.status().last_index
        self._shell.propose(payloads)
        if prepare is None:
            return
        epoch, last = self._replica.epoch, self._replica.status().last_index
        one_each = last - before >= len(payloads)  # else they travel as one batch
        for back, payload in enumerate(reversed(payloads)):
            if payload_kind(payload) is PayloadKind.DECISIONS:
                prepare(epoch, last - back if one_each else last, payload)

    def refused(self, payload: bytes) -> None:
        """Part of the replica's observer: what this node proposed is not ordered."""
        what = payload_kind(payload).name.lower()
        reason = (
            f"{what} made for other members, or signed wrongly: the voters of epoch {self._replica.epoch} refuse them"
        )
        self._pending.refused(payload, reason)

    async def commit(self, payload: bytes) -> Applied:
        """Have one payload decided; what it did. Raises LeadershipLostError and RefusedError."""
        ((_, applied),) = await self.agree([payload], None)
        return applied

    def place(self) -> tuple[int, int]:
        return self._replica.epoch, self._replica.term

    def switch_mode(self, order: SwitchOrder) -> None:
        assert self._shell is not None
        self._shell.switch_mode(order)

    def traffic(self) -> Traffic:
        """With the other nodes: orders to the gateway and telemetry are no part of coming to agree."""
        links = [link for link in self._endpoint.links() if link.peer < GATEWAY_ID]
        return Traffic(
            self._replica.status().rounds,
            sum(link.messages_sent + link.messages_received for link in links),
            sum(link.datagrams_sent + link.datagrams_received for link in links),
            sum(link.bytes_sent + link.bytes_received for link in links),
        )

    def take_reports(self) -> ReportBatch | None:
        return self._leader.take_reports()

    def entries_unproven(self) -> int:
        return self._checkpoint.entries_unproven

    def _ask_for_proofs(self) -> None:
        if self._checkpoint.entries_unproven:
            self._endpoint.broadcast(self._peers(), application(Channel.CONTROL, Control.PROOFS_WANTED))

    def _on_proofs(self, sender: int, message: Application) -> None:
        if message.kind == Control.PROOFS_WANTED:
            proofs = proofs_of(self._state)
            self.send(sender, Application(Channel.CONTROL, Control.PROOFS, 0, 0, 0, b"", proofs))
        elif message.kind == Control.PROOFS and self._checkpoint.entries_unproven:
            with contextlib.suppress(ValueError):
                self._checkpoint.adopt(message.body)

    def _refused_by_gateway(self, reason: str) -> None:
        self.event(Severity.ERROR, f"the gateway refused orders: {reason}")

    def _on_cycle(self, record: CycleRecord) -> None:
        """Publish a cycle, unless the profiler slowed it."""
        start_ns, end_ns, intervals = self._tracer.last_intervals
        self._trace.cycles.append(CycleTrace(record.cycle, self._node, start_ns, end_ns, intervals, record.step))
        if self._profiled_from is None:
            self._telemetry.add_cycle(record)
        elif not self._profiling:
            first, self._profiled_from = self._profiled_from, None
            text = f"cycles {first} to {record.cycle} ran under the profiler and are in no statistic"
            self.event(Severity.INFO, text)
