"""What a node does as its replica decides: apply, keep, lead, and tell the gateway."""

from __future__ import annotations

import asyncio

from core.agreement import LeadershipLostError
from core.decision import Veto
from core.essential import end_process, essential
from core.limits_change import LimitsChange
from core.node_commands import CommandedNode
from core.payload import CODEC_OF, encode_limits_change, encode_trading_change
from core.records import Severity
from core.session import GATEWAY_ID
from core.telemetry_messages import OrderKind, application
from core.toggle_change import CONSENSUS_OF, MODE_OF, ToggleChange
from core.trading_state import TradingChange, TradingState
from net.certificate import with_word
from net.membership import Membership, encode_membership
from net.messages import ENDS_EPOCH, Channel, Committed, CommittedEntries, Mode
from net.mode_switch import SwitchOrder
from net.wire.codec import encode
from net.wire.kinds import CodecKind


class ObservingNode(CommandedNode):
    """The observer of the node's replica (`net.shell.Observer`)."""

    def _apply_toggles(self) -> None:
        toggles = self._state.toggles
        self._endpoint.set_codec(CODEC_OF[toggles.serialization])
        self._endpoint.set_multiplexing(toggles.stream_multiplexing)
        self._endpoint.set_zero_rtt(toggles.zero_rtt)

    def committed(self, entry: Committed, denied: bool, recovered: bool) -> None:
        order = self._state.switch_order
        applied = self._state.apply(entry, denied)
        self._gossip.applied()
        self._denials.update(veto for veto in applied.vetoes if veto not in (Veto.NONE, Veto.DUPLICATE))
        if applied.problem:
            self.event(Severity.WARNING, f"entry {entry.entry.index} changed nothing: {applied.problem}")
        if applied.accepted and not recovered:
            self._trader.accepted(len(applied.accepted))
        if applied.closed_trades:
            self._trader.remember(applied.closed_trades)
        if applied.strays and not recovered:
            text = f"{len(applied.strays)} fills of orders that the swarm did not decide or had closed"
            what = f"{text} ({', '.join(applied.strays[:3])}…)"
            self.event(Severity.ERROR, f"{what}: the gateway's position is not the swarm's; run `tradetui verify`")
        if recovered:
            return
        if order is not None and entry.entry.kind in ENDS_EPOCH and not denied:
            self._say_what_became_of(order)
        for payload, part in applied.parts:
            if isinstance(part.payload, ToggleChange):
                self._apply_toggles()
            if isinstance(part.payload, TradingChange | LimitsChange) and not part.problem:
                self._operator_changed(entry, part.payload)
            self._pending.committed(payload, (entry, part))

    def _say_what_became_of(self, order: SwitchOrder) -> None:
        """Another epoch began while `order` waited: by it, or before it."""
        running = self._state.toggles.consensus
        if MODE_OF[running] is not order.mode and self._leading is not None:
            wanted = CONSENSUS_OF[order.mode]
            text = f"consensus stays {running}: another epoch began before it could become {wanted}; press again"
            self.event(Severity.WARNING, text)

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
        """The gateway believes the certificate, whichever node brings it; a Raft one needs the leader's word. And it
        believes f + 1 voters that say what they applied: a snapshot brings no certificate, and a leader may die.
        """
        for word in self._operators_words():
            self._endpoint.send(GATEWAY_ID, application(Channel.ORDER, OrderKind.TRADING, {"applied": word}))
        for entry in self._operators_entries.values():
            raft = entry.certificate.mode is not Mode.BFT
            if raft and self._replica.leader != self._node:
                continue
            proof = CommittedEntries(entry.epoch, entry.entry.index, (self._with_word(entry) if raft else entry,))
            body = {"proof": encode(proof, CodecKind.CAPNP)}
            self._endpoint.send(GATEWAY_ID, application(Channel.ORDER, OrderKind.TRADING, body))

    def _operators_words(self) -> list[bytes]:
        """The last changes that hold here, as payloads of the log, whether applied, recovered or of a snapshot."""
        trading, limits = self._state.trading_change, self._state.limits_change
        words = [] if trading is None else [encode_trading_change(trading)]
        return words if limits is None else [*words, encode_limits_change(limits)]

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
        self._tell_operators_words()
        self.event(Severity.INFO, f"restored from the snapshot at entry {index:,}")

    def leader_changed(self, leader: int | None, term: int) -> None:
        if leader == self._node:
            self.event(Severity.INFO, f"leads in {self._replica.mode.name.lower()} term {term}")
            self._tell_operators_words()
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
        """The gateway believes who votes, and in which mode, once f + 1 voters have said it."""
        replica = self._replica
        membership = encode_membership(replica.membership)
        body = {"epoch": replica.epoch, "mode": int(replica.mode), "membership": membership}
        self._endpoint.send(GATEWAY_ID, application(Channel.ORDER, OrderKind.MEMBERS, body))

    def evidence(self, culprit: int, reason: str, proof: bytes) -> None:
        if self._accusations.add(culprit, reason, proof):
            self.event(Severity.ERROR, f"evidence against node {culprit}: {reason}")

    def stranded(self, peer: int, index: int) -> None:
        text = (
            f"node {peer} sends a checkpoint of entry {index} with signers unknown here: it makes them up, or they"
            " joined while this node was away, and it cannot follow until enough of the voters that it knows are back"
        )
        self.event(Severity.WARNING, text)

    def failed(self, error: Exception) -> None:
        """What is on disk is all that this node can vouch for: the process that is started next recovers from it."""
        end_process(error)

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

    def _with_word(self, committed: Committed) -> Committed:
        """A Raft core's proof has no signer; whoever leads gives its word to the gateway."""
        return with_word(committed, self._node, self._identity.sign)
