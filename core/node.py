"""One node process: its own feed, agents, replica, durable log and links; it runs the cycle while it leads."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from core.accusations import Accusations
from core.agreement import Decided, LeadershipLostError, PendingCommits
from core.config import Settings
from core.control_claims import ControlClaims
from core.control_pages import ControlPages, load_or_create_token
from core.cycle import Cycle, Traffic
from core.cycle_trace import CycleTrace, TraceBuffer, Work
from core.decision import Veto
from core.essential import essential
from core.faults import EquivocatingWire, Fault, FaultyWire, contrary
from core.genesis import genesis_state
from core.kernel_compiling import CompilerError, KernelSwitch, all_compiled, compile_in_subprocess
from core.leader import MODE_OF, Leader
from core.limits_change import LimitsChange
from core.market.load import load_market
from core.node_checkpoint import NodeCheckpoint
from core.node_commands import CommandedNode
from core.node_gossip import NodeGossip
from core.node_telemetry import NodeTelemetry
from core.opinions import Opinions
from core.order_flow import OrderFlow
from core.payload import (
    CODEC_OF,
    PayloadKind,
    ReportBatch,
    ToggleChange,
    payload_kind,
)
from core.records import CycleRecord, Severity, VenueState
from core.session import GATEWAY_ID, OPERATOR_ID, Session
from core.swarm_snapshot import proofs_of
from core.swarm_state import ContentVerdict
from core.telemetry import CycleTracer
from core.telemetry_messages import (
    Control,
    OrderKind,
    application,
    unpack,
)
from core.trader import Trader
from core.trading_state import TradingChange, TradingState
from core.transport import listen_address, transport_settings
from net.certificate import with_word
from net.http import PlainHttpServer
from net.identity import Identity, Roster
from net.incarnation import claim_incarnation
from net.log import DurableLog
from net.membership import Membership, encode_membership
from net.messages import (
    Application,
    Channel,
    Committed,
    CommittedEntries,
    EntryKind,
    GossipDelta,
    GossipDigest,
    Message,
    Mode,
)
from net.quic import Endpoint
from net.replica import Replica
from net.settings import ConsensusSettings
from net.shell import ReplicaShell, Wire
from net.transport import PeerEvent, PeerEventKind, is_refusal
from net.wire.codec import encode
from net.wire.kinds import CodecKind

LEARN_INTERVAL_S = 1.0


class Node(CommandedNode):
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
        self._telemetry = NodeTelemetry(f"node {node}", self._endpoint, self._report)
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

    def _judge(self, step: int, proposals: NDArray[np.void], proposed_ns: int) -> NDArray[np.void]:
        opinions = self._trader.judge(step, proposals, proposed_ns)
        return contrary(opinions) if self._peer_wire.fault is Fault.LYING else opinions

    def _validate(self, kind: EntryKind, payload: bytes) -> bool:
        if self._peer_wire.fault is Fault.OVERLIMIT:
            return True
        leads = self._replica.leader == self._node
        # On the fast path all replicas must judge alike whenever they are asked (`net.bft_fast`, F5).
        limits = not self._settings.fast_path
        return self._state.judge_entry(kind, payload, leads=leads, limits=limits) is not ContentVerdict.REFUSE

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
        await self._http.close()
        if self._shell is not None:
            self._shell.stop()
        await self._endpoint.close()
        self._log.close()
        self._trader.close()

    # What the replica tells (net.shell.Observer).

    def committed(self, entry: Committed, denied: bool, recovered: bool) -> None:
        applied = self._state.apply(entry, witnessed=not denied)
        self._gossip.applied()
        self._denials.update(veto for veto in applied.vetoes if veto not in (Veto.NONE, Veto.DUPLICATE))
        if applied.problem:
            self.event(Severity.WARNING, f"entry {entry.entry.index} changed nothing: {applied.problem}")
        if applied.accepted and not recovered:
            self._trader.accepted(len(applied.accepted))
        if applied.closed_trades:
            self._trader.remember(applied.closed_trades)
        if recovered:
            return
        for payload, part in applied.parts:
            if isinstance(part.payload, ToggleChange):
                self._apply_toggles()
            if isinstance(part.payload, TradingChange | LimitsChange) and not part.problem:
                self._operator_changed(entry, part.payload)
            self._pending.committed(payload, (entry, part))

    def _operator_changed(self, entry: Committed, change: TradingChange | LimitsChange) -> None:
        state = self._state
        if isinstance(change, LimitsChange):
            self.event(Severity.WARNING, f"new limits, entry {entry.entry.index}: {self._limits_text()}")
        else:
            severity = Severity.INFO if state.trading is TradingState.ACTIVE else Severity.WARNING
            self.event(severity, f"trading is {state.trading}, entry {entry.entry.index}: {state.trading_reason}")
        self._operators_entries[type(change)] = entry
        self._tell_operators_words()

    def _tell_operators_words(self) -> None:
        """The gateway believes the certificate, whichever node brings it; a Raft one needs the leader's word."""
        for entry in self._operators_entries.values():
            raft = entry.certificate.mode is not Mode.BFT
            if raft and self._replica.leader != self._node:
                continue
            proof = CommittedEntries(entry.epoch, entry.entry.index, (self._with_word(entry) if raft else entry,))
            body = {"proof": encode(proof, CodecKind.CAPNP)}
            self._endpoint.send(GATEWAY_ID, application(Channel.ORDER, OrderKind.TRADING, body))

    def checkpoint(self, index: int) -> bytes:
        """The state behind entry `index`, which was applied last."""
        self._trader.learn()
        return self._checkpoint.take(index)

    def restore(self, index: int, state: bytes) -> None:
        """The log goes on from a snapshot: what was waited for may have been decided before it."""
        self._checkpoint.restore(index, state)
        self._gossip.forget_hashes()
        self._stop_leading()
        self._orders.gateway_lost(f"the state was restored at entry {index}")
        self._apply_toggles()
        self.event(Severity.INFO, f"restored from the snapshot at entry {index:,}")

    def leader_changed(self, leader: int | None, term: int) -> None:
        if leader == self._node:
            self.event(Severity.INFO, f"leads in {self._replica.mode.name.lower()} term {term}")
            if self._leading is None or self._leading.done():
                self._leading = essential(self._lead())
        else:
            self._stop_leading()

    def epoch_started(self, epoch: int, mode: Mode, base_index: int, membership: Membership) -> None:
        voters = ", ".join(map(str, membership.voters))
        self.event(Severity.INFO, f"epoch {epoch}: {mode.name.lower()} from index {base_index + 1}, voters {voters}")
        self._opinions.set_voters(self._fellow_voters(), self._state.opinion_quorum)
        self._gossip.set_members(self._gossiping(membership))
        for peer in self._peers():
            self._endpoint.dial(peer)
        self._tell_members()

    def _peers(self) -> tuple[int, ...]:
        return tuple(node for node in self._replica.membership.nodes if node != self._node)

    def _gossiping(self, membership: Membership) -> dict[int, bytes]:
        """The members, and this node: one that is to join listens already."""
        return {**membership.keys, self._node: self._identity.public_key}

    def _fellow_voters(self) -> tuple[int, ...]:
        return tuple(node for node in self._state.membership.voters if node != self._node)

    def _tell_members(self) -> None:
        """The gateway believes who votes once f + 1 voters have said it."""
        body = {"epoch": self._replica.epoch, "membership": encode_membership(self._replica.membership)}
        self._endpoint.send(GATEWAY_ID, application(Channel.ORDER, OrderKind.MEMBERS, body))

    def evidence(self, culprit: int, reason: str, proof: bytes) -> None:
        if self._accusations.add(culprit, reason, proof):
            self.event(Severity.ERROR, f"evidence against node {culprit}: {reason}")

    def _on_disagreement(self, peer: int, index: int) -> None:
        self.event(Severity.ERROR, f"node {peer} holds another state than this node behind entry {index}")

    def _stop_leading(self) -> None:
        self._pending.fail("the lead went to another node")
        self._leader.stand_down()
        if self._leading is not None:
            self._leading.cancel()
            self._leading = None

    async def _lead(self) -> None:
        while True:
            try:
                await self._leader.run()
            except LeadershipLostError as error:
                if self._replica.leader != self._node:
                    return
                self.event(Severity.WARNING, f"starts again: {error}")
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                self.event(Severity.ERROR, f"the cycle failed: {type(error).__name__}: {error}")
                raise

    # What the cycle and the leader need (core.cycle.Agreement, core.leader.Swarm).

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

    async def commit(self, payload: bytes) -> None:
        await self.agree([payload], None)

    def place(self) -> tuple[int, int]:
        return self._replica.epoch, self._replica.term

    def mode(self) -> Mode:
        return self._replica.mode

    def switch_mode(self, mode: Mode) -> None:
        assert self._shell is not None
        self._shell.switch_mode(mode)

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

    def _with_word(self, committed: Committed) -> Committed:
        """A Raft core's proof has no signer; whoever leads gives its word to the gateway."""
        return with_word(committed, self._node, self._identity.sign)

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

    def _apply_toggles(self) -> None:
        toggles = self._state.toggles
        self._endpoint.set_codec(CODEC_OF[toggles.serialization])
        self._endpoint.set_multiplexing(toggles.stream_multiplexing)
        self._endpoint.set_zero_rtt(toggles.zero_rtt)

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
