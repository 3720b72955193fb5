"""The operators' word at the gateway: the kill switch, and the limits. Whatever else fails, a halt is obeyed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from core.gateway.gateway import Gateway
from core.gateway.guard import GuardError, OrderGuard
from core.gateway.limits_gate import LimitsGate
from core.gateway.monitor_feed import MonitorFeed
from core.gateway.trading_gate import TradingGate
from core.limits_change import LimitsChange
from core.payload import decode as decode_payload
from core.records import Severity, VenueState
from core.session import GATEWAY_ID
from core.telemetry_messages import Control, OrderKind, application, unpack
from core.trading_state import TradingChange, TradingState, decode_trading, encode_trading, sign_trading
from net.messages import Application, Channel, Committed, CommittedEntries, Mode
from net.payload_batch import payloads_of
from net.quorum import byzantine_faults
from net.wire.codec import decode


class Wire(Protocol):
    def send(self, peer_id: int, message: Application, *, round_id: int = 0) -> bool: ...


class KillSwitch:
    """Hears who may change the trading state or the limits, and makes gateway and guard obey."""

    def __init__(
        self,
        gate: TradingGate,
        limits: LimitsGate,
        gateway: Gateway[Committed],
        guard: OrderGuard,
        feed: MonitorFeed,
        wire: Wire,
        *,
        sign: Callable[[bytes], bytes],
        nodes: Callable[[], Sequence[int]],
        voters: Callable[[], Sequence[int]],
        link_loss_s: float,
    ) -> None:
        """`sign` is the gateway's own; `nodes` hear of a halt by it, f + 1 `voters` are believed. It halts
        `link_loss_s` after the venue's link went (0: never).
        """
        self._gate = gate
        self._limits = limits
        self._gateway = gateway
        self._guard = guard
        self._feed = feed
        self._wire = wire
        self._sign = sign
        self._nodes = nodes
        self._voters = voters
        self._said: dict[tuple[int, type], TradingChange | LimitsChange] = {}
        """The last changes that nodes say they have applied, by node and kind."""
        self._link_loss_s = link_loss_s
        self._link_loss: asyncio.TimerHandle | None = None
        self._was_connected = False
        self._told = (TradingState.ACTIVE, "")

    def close(self) -> None:
        if self._link_loss is not None:
            self._link_loss.cancel()

    def on_operator(self, sender: int, message: Application) -> None:
        """An operator's change: obeyed at once where it is stricter; a looser one is the swarm's to commit."""
        try:
            change = decode_trading(bytes(unpack(message.body)["change"]))
            if change.signer != sender:
                raise ValueError(f"operator {sender} brought the word of {change.signer}")
            self._take(lambda: self._gate.hear(change))
            waits = "" if self._gate.state is change.state else ", until the swarm has committed this"
            text = f"the gateway is {self._gate.state}{waits}"
        except (ValueError, KeyError, TypeError) as error:
            text = f"refused: {error}"
        gateway = self._gateway
        body = {"text": text, "orders_sent": gateway.orders_sent, "cancels_sent": gateway.cancels_sent}
        answer = application(Channel.CONTROL, Control.REPLY, body, request_id=message.request_id)
        self._wire.send(sender, answer)

    def on_committed(self, sender: int, proof: bytes) -> None:
        """A committed change of the trading state or of the limits, brought by a node."""
        try:
            entry = self._proven(proof)
            values = [decode_payload(payload) for payload in payloads_of(entry.entry)]
            if not any(isinstance(value, TradingChange | LimitsChange) for value in values):
                raise GuardError(f"entry {entry.entry.index} holds no operator's word")
        except ValueError as error:
            self._refused(sender, error)
            return
        # The halt comes first: no other change in the same entry may keep it from being obeyed.
        if any(isinstance(value, TradingChange) for value in values):
            try:
                self._take(lambda: self._gate.committed(entry))
            except ValueError as error:
                self._refused(sender, error)
        for value in values:
            if isinstance(value, LimitsChange):
                self._change_limits(sender, value, f"entry {entry.entry.index}")

    def on_applied(self, sender: int, payload: bytes) -> None:
        """The last change of the trading state or of the limits that a node has applied, with no proof but its signer's
        word: obeyed once f + 1 voters say the same, as one of them is honest.
        """
        try:
            change = decode_payload(payload)
            if not isinstance(change, TradingChange | LimitsChange):
                raise GuardError("what was applied is no operator's word")
            if sender not in self._voters():
                return
            kind = type(change)
            self._said[sender, kind] = change
            saying = sum(self._said.get((voter, kind)) == change for voter in self._voters())
            if saying <= byzantine_faults(len(self._voters())):
                return
            if isinstance(change, LimitsChange):
                self._change_limits(sender, change, f"{saying} nodes")
            else:
                self._take(lambda: self._gate.agreed(change))
        except ValueError as error:
            self._refused(sender, error)

    def _proven(self, proof: bytes) -> Committed:
        message = decode(proof)
        if not isinstance(message, CommittedEntries) or len(message.entries) != 1:
            raise GuardError("the proof is not one committed entry")
        entry = message.entries[0]
        self._guard.verify_certificate(entry)
        if entry.certificate.mode is Mode.AUTO and entry.witness is None:
            # An operator's word is critical: without its witness the state machine denied it.
            raise GuardError(f"entry {entry.entry.index} is critical and has no Byzantine certificate")
        return entry

    def _change_limits(self, sender: int, change: LimitsChange, whose: str) -> None:
        try:
            if self._limits.committed(change):
                self._guard.set_limits(change.limits)
                self._feed.event(Severity.WARNING, f"obeys the limits of {whose}")
        except (ValueError, OSError) as error:
            self._refused(sender, error)

    def _refused(self, sender: int, error: Exception) -> None:
        self._feed.event(Severity.ERROR, f"refused an operator's word from node {sender}: {error}")

    def _take(self, word: Callable[[], bool]) -> None:
        """Let the gate take a word, and obey the gate, whatever became of its file. Raises ValueError (refused)."""
        try:
            word()
        except OSError as error:
            text = f"the trading state is {self._gate.state} and could not be kept for a restart: {error}"
            self._feed.event(Severity.ERROR, text)
        finally:
            # Also where nothing changed: an earlier change may have been obeyed by half only.
            self.obey()

    def obey(self) -> None:
        """Make gateway and guard do as the gate says. Safe to repeat."""
        state, reason = self._gate.state, self._gate.reason
        self._guard.trading = state
        self._feed.trading, self._feed.trading_reason = state, reason
        if state is TradingState.HALTED:
            self._halt(reason)
        else:
            self._gateway.resume()
        if self._told != (state, reason):
            self._told = state, reason
            severity = Severity.INFO if state is TradingState.ACTIVE else Severity.WARNING
            self._feed.event(severity, f"trading is {state}{': ' if reason else ''}{reason}")

    def _halt(self, reason: str) -> None:
        try:
            self._gateway.halt(f"kill switch: {reason}")
        except Exception as error:
            # Nothing leaves any more: that comes first in `halt`. What failed is the journal, or the cancels.
            self._feed.event(Severity.ERROR, f"trading is halted, but not all was done: {error!r}")

    # A venue that stays away

    def watch_link(self, state: VenueState) -> None:
        """A venue that stays away pulls the kill switch: nobody knows what its orders do meanwhile."""
        if state is VenueState.CONNECTED:
            self._was_connected = True
            if self._link_loss is not None:
                self._link_loss.cancel()
                self._link_loss = None
        elif self._was_connected and self._link_loss is None and self._link_loss_s:
            loop = asyncio.get_running_loop()
            self._link_loss = loop.call_later(self._link_loss_s, self._halt_by_link_loss)

    def _halt_by_link_loss(self) -> None:
        reason = f"no link to the venue for {self._link_loss_s:g} s"
        change = sign_trading(TradingState.HALTED, time.time_ns(), GATEWAY_ID, reason, self._sign)
        before = self._gate.state
        self._take(lambda: self._gate.hear(change))
        if self._gate.state is before:
            return
        body = {"change": encode_trading(change)}
        for node in self._nodes():
            self._wire.send(node, application(Channel.ORDER, OrderKind.TRADING, body))
