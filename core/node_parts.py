"""What a node is made of; `core.node.Node` puts it together and runs it."""

from __future__ import annotations

import asyncio
from collections import Counter

from core.accusations import Accusations
from core.agreement import PendingCommits
from core.config import Settings
from core.control_claims import ControlClaims
from core.cycle_trace import TraceBuffer
from core.faults import FaultyWire
from core.kernel_compiling import KernelSwitch
from core.leader import Leader
from core.node_checkpoint import NodeCheckpoint
from core.node_gossip import NodeGossip
from core.node_telemetry import NodeTelemetry
from core.opinions import Opinions
from core.order_flow import OrderFlow
from core.records import Severity
from core.swarm_state import SwarmState
from core.telemetry import CycleTracer
from core.trader import Trader
from net.identity import Identity
from net.messages import Application, Committed
from net.quic import Endpoint
from net.replica import Replica
from net.shell import ReplicaShell


class NodeParts:
    """The parts, by name, and what all of a node's work uses."""

    _node: int
    _settings: Settings
    _session_name: str
    _state: SwarmState
    _endpoint: Endpoint
    _peer_wire: FaultyWire
    _telemetry: NodeTelemetry
    _kernels: KernelSwitch
    _trader: Trader
    _trace: TraceBuffer
    _tracer: CycleTracer
    _claims: ControlClaims
    _replica: Replica
    _accusations: Accusations
    _gossip: NodeGossip
    _shell: ReplicaShell | None
    _leader: Leader
    _leading: asyncio.Task[None] | None
    _background: set[asyncio.Task[None]]
    _denials: Counter[int]
    _checkpoint: NodeCheckpoint
    _identity: Identity
    _operators_entries: dict[type, Committed]
    _opinions: Opinions
    _orders: OrderFlow
    _pending: PendingCommits
    _profiling: bool
    _profiled_from: int | None

    def _spawn(self, work: object) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._background.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and task.exception() is not None:
            error = task.exception()
            self.event(Severity.ERROR, f"{type(error).__name__}: {error}")

    def send(self, peer_id: int, message: Application, *, round_id: int = 0) -> bool:
        return self._endpoint.send(peer_id, message, round_id=round_id)

    def event(self, severity: Severity, text: str) -> None:
        self._telemetry.event(severity, text)
