"""One node process: its own feed, agents, replica, durable log and links; it runs the cycle while it leads."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from core.accusations import Accusations
from core.agreement import PendingCommits
from core.config import Settings
from core.control_claims import ControlClaims
from core.control_pages import ControlPages, load_or_create_token
from core.cycle import Cycle
from core.cycle_trace import TraceBuffer, Work
from core.faults import EquivocatingWire, Fault, FaultyWire, contrary
from core.genesis import genesis_state
from core.kernel_compiling import CompilerError, KernelSwitch, all_compiled, compile_in_subprocess
from core.leader import Leader
from core.market.load import load_market
from core.node_agreement import AgreeingNode
from core.node_checkpoint import NodeCheckpoint
from core.node_gossip import NodeGossip
from core.node_telemetry import NodeTelemetry
from core.opinions import Opinions
from core.order_flow import OrderFlow
from core.push_schedule import LAST_WORD_S
from core.records import Severity, VenueState
from core.session import GATEWAY_ID, OPERATOR_ID, Session
from core.telemetry import CycleTracer
from core.telemetry_messages import (
    OrderKind,
    unpack,
)
from core.toggle_change import MODE_OF
from core.trader import Trader
from core.transport import listen_address, transport_settings
from core.vote_check import ContentVerdict, judge_entry
from net.http import PlainHttpServer
from net.identity import Identity, Roster
from net.incarnation import claim_incarnation
from net.log import DurableLog
from net.membership import Membership
from net.messages import (
    Application,
    Channel,
    Committed,
    EntryKind,
    GossipDelta,
    GossipDigest,
    Message,
)
from net.quic import Endpoint
from net.replica import Replica
from net.settings import ConsensusSettings
from net.shell import ReplicaShell, Wire
from net.transport import PeerEvent, PeerEventKind, is_refusal

LEARN_INTERVAL_S = 1.0
STEPS_AHEAD_MAX = 256
"""Beyond the newest decision: a node that judged a proposal of the far future would leave its own present behind."""


class Node(AgreeingNode):
    """Everything of one node process; see `run_node_process` for its life."""

    def __init__(self, node: int, session: Session, listen: str | None = None, *, compiles: bool = False) -> None:
        """`compiles`: nobody else compiles the kernels."""
        settings = session.settings()
        self._node = node
        self._settings = settings
        self._session_name = session.directory.name
        self._identity = Identity.load_or_create(session.key_file(f"node-{node}"), node)
        folder = session.folder(f"node-{node}")
        roster = session.roster()
        identity = self._identity
        entry = roster.get(node)
        assert entry is not None
        data = load_market(settings.data)
        self._state = genesis_state(settings, data.spec, roster)
        self._tracer = CycleTracer()
        self._endpoint = Endpoint(
            identity,
            roster,
            listen_address(entry, listen),
            transport_settings(settings),
            self._on_message,
            self._on_peer,
            self._tracer,
            tickets=folder / "tickets",
        )
        self._endpoint.early_message = lambda peer: self._gossip.digest() if peer < GATEWAY_ID else None
        self._peer_wire = FaultyWire(self._endpoint, _first_fault(node, settings, session))
        self._telemetry = NodeTelemetry(f"node {node}", self._endpoint, self._report, self._leads)
        self._compiles = compiles
        self._kernels = KernelSwitch()
        self._trader = Trader(settings, data, self._state, folder, self.event)
        self._trace = TraceBuffer(node)
        judge = self._trace.timed(Work.JUDGING, self._judge, names_step=True)
        pages = ControlPages(
            load_or_create_token(session.http_token_file), self._endpoint, self._report, self._telemetry.events
        )
        self._claims = ControlClaims(roster)
        self._endpoint.http_answer = pages.answer
        self._http = PlainHttpServer(pages.answer)
        pages.unanswered = lambda: self._http.unanswered
        self._opinions = Opinions(
            node, self._fellow_voters(), self._state.opinion_quorum, self._peer_wire, identity.sign, judge
        )
        self._orders = OrderFlow(self._endpoint, GATEWAY_ID, self._tracer, self._with_word, self._refused_by_gateway)
        self._pending = PendingCommits()
        self._log = DurableLog(folder / "log", "none" if settings.durability == "none" else "fdatasync")
        self._lost_disk = claim_incarnation(self._log, session.started_file(f"node-{node}"))
        self._replica = self._make_replica(identity, roster)
        self._accusations = Accusations(folder / "evidence.jsonl")
        durable = settings.durability != "none"
        self._checkpoint = NodeCheckpoint(self._state, folder / "proofs", durable=durable)
        self._gossip = NodeGossip(
            node,
            self._gossiping(self._state.membership),
            identity.sign,
            self._peer_wire,
            self._state,
            self._trader.memory_digest,
            lambda: self._trader.step,
            self._on_disagreement,
        )
        self._shell: ReplicaShell | None = None
        cycle = Cycle(
            node,
            settings,
            self._state,
            self._trader,
            self._opinions,
            self._orders,
            self,
            self._tracer,
            lambda: self._peer_wire.fault is Fault.OVERLIMIT,
        )
        self._leader = Leader(settings, self._state, cycle, self._orders, self, self._on_cycle)
        self._leading: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._operators_entries: dict[type, Committed] = {}
        self._denials: Counter[int] = Counter()
        self._profiling = False
        self._profiled_from: int | None = None

    def _make_replica(self, identity: Identity, roster: Roster) -> Replica:
        keys = self._state.membership.voter_keys
        timeout_s = self._settings.election_timeout_ms / 1e3
        return Replica.recover(
            self._log.read_all(),
            self._node,
            keys,
            identity.sign,
            random.Random(),
            mode=MODE_OF[self._state.toggles.consensus],
            leader_hint=0,
            settings=ConsensusSettings(
                election_timeout_min_s=timeout_s,
                election_timeout_max_s=2 * timeout_s,
                checkpoint_interval_entries=self._settings.checkpoint_interval_entries,
                fast_path=self._settings.fast_path,
            ),
            validate=self._validate,
            critical=self._state.payload_is_critical,
            joining=self._node not in keys,
            authorities={entry.id: entry.public_key for entry in roster.of_role("operator")},
        )

    def _judge(self, step: int, proposals: NDArray[np.void], proposed_ns: int) -> NDArray[np.void] | None:
        if step > int(self._state.decided_step.max()) + STEPS_AHEAD_MAX:
            return None
        opinions = self._trader.judge(step, proposals, proposed_ns)
        return contrary(opinions) if self._peer_wire.fault is Fault.LYING else opinions

    def _leads(self) -> bool:
        return self._replica.leader == self._node

    def _validate(self, kind: EntryKind, payload: bytes, members: Membership, index: int | None) -> bool:
        if self._peer_wire.fault is Fault.OVERLIMIT:
            return True
        leads = self._leads()
        # On the fast path all replicas must judge alike whenever they are asked (`net.bft_fast`, F5).
        limits = not self._settings.fast_path
        verdict = judge_entry(self._state, kind, payload, members, leads=leads, limits=limits, index=index)
        # A vote does not wait: replicas apply what the leader judged on a moment after they vote. What they could not
        # check is denied as it is applied, where the limits are checked again.
        return verdict is not ContentVerdict.REFUSE

    async def start(self) -> None:
        """Replay the log, bind the socket, dial everybody."""
        await self._endpoint.start()
        if self._settings.http_port:
            await self._http.start(self._settings.http_port + self._node)
        faults, sign, replica = self._peer_wire, self._identity.sign, self._replica
        wire: Wire = EquivocatingWire(
            faults,
            self._node,
            sign,
            lambda: replica.byzantine_context,
            lambda: faults.fault is Fault.EQUIVOCATING,
            self._settings.fast_path,
        )
        if self._lost_disk:
            self.event(Severity.WARNING, "the log is gone: votes again once the others have admitted the new disk")
        self._shell = ReplicaShell(self._replica, self._log, wire, self)
        self._shell.start()
        self._deliver = self._trace.timed(Work.CONSENSUS, self._shell.deliver)
        self._apply_toggles()
        self._tell_members()
        self._endpoint.dial(GATEWAY_ID)
        self._telemetry.start()
        self._spawn(self._learn_forever())
        if self._kernels.missing:
            self._spawn(self._switch_kernels())
        self._spawn(self._gossip.run())

    async def close(self) -> None:
        """Stop leading, close the links and the log."""
        self._stop_leading()
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._telemetry.close()
        await self._endpoint.delivered(LAST_WORD_S)
        await self._http.close()
        if self._shell is not None:
            self._shell.stop()
        await self._endpoint.close()
        self._log.close()
        self._trader.close()

    async def _switch_kernels(self) -> None:
        if self._compiles and not all_compiled():
            self._spawn(self._compile())
        await self._kernels.run()
        self.event(Severity.INFO, "every kernel is compiled: numpy computes none any more")

    async def _compile(self) -> None:
        try:
            await compile_in_subprocess(lambda line: self.event(Severity.INFO, f"compiling kernels: {line}"))
        except CompilerError as error:
            self.event(Severity.ERROR, f"the kernels do not compile, numpy computes: {error}")

    async def _learn_forever(self) -> None:
        """A follower learns from closed trades once a second; the leader does in its cycle."""
        while True:
            await asyncio.sleep(LEARN_INTERVAL_S)
            self._ask_for_proofs()
            if self._leading is None:
                self._trader.learn()

    # What the transport tells.

    def _on_peer(self, event: PeerEvent) -> None:
        peer = event.peer
        if is_refusal(event):
            self.event(Severity.WARNING, f"link to {'a stranger' if peer is None else peer} refused: {event.reason}")
        elif peer == GATEWAY_ID and event.kind is PeerEventKind.CONNECTED:
            self._tell_members()
            self._tell_operators_words()
        elif peer is not None and event.kind is PeerEventKind.DISCONNECTED:
            if peer == GATEWAY_ID:
                self._leader.venue_changed(VenueState.UNKNOWN)
            if peer >= OPERATOR_ID:
                self._telemetry.unsubscribe(peer)
                self._claims.gone(peer)
            else:
                self.event(Severity.WARNING, f"lost {_name(peer)}: {event.reason}")

    def _on_message(self, sender: int, message: Message) -> None:
        if sender < GATEWAY_ID and not self._peer_wire.hears:
            return
        if isinstance(message, GossipDigest | GossipDelta):
            if sender < GATEWAY_ID:
                self._gossip.deliver(sender, message)
            return
        if not isinstance(message, Application):
            if sender < GATEWAY_ID and self._shell is not None:
                self._deliver(sender, message)
        elif message.channel is Channel.OPINION and sender < GATEWAY_ID:
            self._opinions.deliver(sender, message)
        elif message.channel is Channel.CONTROL and sender < GATEWAY_ID:
            self._on_proofs(sender, message)
        elif message.channel is Channel.ORDER and sender == GATEWAY_ID:
            if message.kind == OrderKind.TRADING:
                self._spawn(self._commit_trading(bytes(unpack(message.body)["change"])))
            elif message.kind == OrderKind.VENUE:
                self._leader.venue_changed(VenueState(unpack(message.body)["state"]))
            else:
                self._leader.deliver(message)
        elif sender >= OPERATOR_ID:
            self._on_operator(sender, message)


def _first_fault(node: int, settings: Settings, session: Session) -> Fault:
    """What a setting says, or what an operator switched on before the process was started again."""
    if settings.fault_equivocate_node == node:
        return Fault.EQUIVOCATING
    if settings.fault_overlimit_node == node:
        return Fault.OVERLIMIT
    asked = session.read_faults().get(node, Fault.NONE)
    return Fault.NONE if asked is Fault.PAUSED else asked


def _name(peer: int) -> str:
    return "the gateway" if peer == GATEWAY_ID else f"node {peer}"


async def run_node_process(
    node: int,
    session: Session,
    stopping: asyncio.Event,
    ready: Callable[[], None],
    listen: str | None = None,
    *,
    compiles: bool = False,
) -> None:
    """The body of process `node-K`: run until `stopping` is set. `compiles`: no supervisor compiles the kernels."""
    body = Node(node, session, listen, compiles=compiles)
    await body.start()
    ready()
    await stopping.wait()
    await body.close()
