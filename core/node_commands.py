"""What operators may ask of a node, and its answers."""

from __future__ import annotations

import asyncio
from typing import Any

from core.agreement import LeadershipLostError, RefusedError
from core.applied import Applied
from core.control_claims import Claim
from core.faults import CAPTIONS, Fault
from core.leader import NotLeadingError
from core.limits_change import decode_limits
from core.node_report import ReportingNode
from core.payload import (
    encode_limits_change,
    encode_trading_change,
)
from core.process_profile import profile_loop, render
from core.records import Severity
from core.telemetry_messages import (
    Control,
    Telemetry,
    application,
    epoch_to_dict,
    unpack,
)
from core.toggle_change import decode_toggles
from core.trading_state import decode_trading
from net.messages import (
    Application,
    Channel,
)


class CommandedNode(ReportingNode):
    """A node that does what it is told, where who says so may."""

    async def commit(self, payload: bytes) -> Applied:
        raise NotImplementedError

    def _on_operator(self, sender: int, message: Application) -> None:
        if message.channel is Channel.TELEMETRY and message.kind == Telemetry.SUBSCRIBE:
            wanted = unpack(message.body)
            since = int(wanted["from_cycle"]), int(wanted["events_after_ns"])
            self._telemetry.subscribe(sender, *since, float(wanted["interval_s"]))
        elif message.channel is Channel.CONTROL:
            self._spawn(self._answer(sender, message))

    async def _answer(self, sender: int, message: Application) -> None:
        try:
            reply = await self._obey(sender, message.kind, unpack(message.body) if message.body else {})
        except (ValueError, KeyError, TypeError) as error:
            reply = {"text": f"refused: {error}", "refused": True}
        self.send(sender, application(Channel.CONTROL, Control.REPLY, reply, request_id=message.request_id))

    async def _obey(self, sender: int, kind: int, values: dict[str, Any]) -> dict[str, object]:
        """Do what a monitor asks; the answer. Raises ValueError, KeyError or TypeError where it may or can not."""
        refusal = self._claims.refusal(sender, kind)
        if refusal is not None:
            raise ValueError(refusal)
        if kind == Control.SET_TOGGLES:
            return await self._change_toggles(bytes(values["change"]))
        if kind == Control.TRADING:
            return await self._commit_trading(bytes(values["change"]))
        if kind == Control.LIMITS:
            return await self._commit_limits(bytes(values["change"]))
        if kind == Control.EPOCH:
            return epoch_to_dict(self._replica.running_epoch) | {"toggles": self._state.toggles.as_dict()}
        if kind == Control.CHANGE_MEMBERS:
            assert self._shell is not None
            self._shell.change_membership(bytes(values["change"]))
            return {"text": "submitted"}
        if kind == Control.TRACE:
            return self._trace.to_dict(int(values.get("after_ns", 0)))
        if kind == Control.FAULT:
            return {"text": self._inject(Fault(values["fault"]))}
        if kind == Control.TIMERS:
            self._tracer.timing = bool(values["on"])
            return {"text": f"node {self._node} times its spans{'' if self._tracer.timing else ' no more'}"}
        if kind == Control.PROFILE:
            return await self._profile(float(values["seconds"]))
        if kind == Control.SESSION:
            return {"name": self._session_name, "settings": self._settings.model_dump(mode="json")}
        if kind == Control.CLAIM:
            return {"text": self._claim(sender, Claim.from_dict(values))}
        return {"text": f"unknown command {kind}"}

    def _claim(self, sender: int, claim: Claim) -> str:
        before = self._claims.holder
        text = self._claims.claim(sender, claim)
        if self._claims.holder != before:
            self.event(Severity.INFO, text)
        return text

    def _inject(self, fault: Fault) -> str:
        if fault is Fault.PAUSED:
            raise ValueError("a process cannot pause itself")
        self._peer_wire.fault = fault
        if fault is not Fault.NONE:
            self.event(Severity.WARNING, f"fault on purpose: {CAPTIONS[fault]}")
            return f"node {self._node} {CAPTIONS[fault]}"
        self.event(Severity.INFO, "no fault on purpose any more")
        return f"node {self._node} does as it should"

    async def _change_toggles(self, data: bytes) -> dict[str, object]:
        """Have the toggles that an operator signed; `stale` where the epoch that it was signed for is over."""
        change = decode_toggles(data)
        if not self._state.may_change(change):
            raise ValueError("the change of the toggles is not signed by an operator")
        not_taken: dict[str, object] = {"text": f"node {self._node} does not lead; press again", "again": True}
        if self._leading is None:
            return not_taken
        try:
            answer = await self._leader.change_toggles(change)
        except NotLeadingError:
            return not_taken
        return {"text": answer.text, "stale": answer.stale}

    async def _commit_trading(self, data: bytes) -> dict[str, object]:
        """Put a signed change of the trading state to the vote at once, in the middle of a cycle too."""
        change = decode_trading(data)
        if not change.is_signed(self._state.trading_keys):
            raise ValueError("the change of the trading state is not signed by one who may")
        if self._leading is None:
            return {"text": f"node {self._node} does not lead; press again", "again": True}
        try:
            await self.commit(encode_trading_change(change))
        except LeadershipLostError:
            return {"text": "the lead changes hands; press again", "again": True}
        except RefusedError as error:
            return {"text": f"refused: {error}"}
        if self._state.trading_pressed_ns != change.pressed_ns:
            return {"text": f"a later change came first: trading is {self._state.trading}"}
        return {"text": f"committed: trading is {self._state.trading}"}

    async def _commit_limits(self, data: bytes) -> dict[str, object]:
        """Put new limits that an operator signed to the vote."""
        change = decode_limits(data)
        if not self._state.may_change(change):
            raise ValueError("the change of the limits is not signed by an operator")
        if self._leading is None:
            return {"text": f"node {self._node} does not lead; ask again", "again": True}
        try:
            await self.commit(encode_limits_change(change))
        except LeadershipLostError:
            return {"text": "the lead changes hands; ask again", "again": True}
        except RefusedError as error:
            return {"text": f"refused: {error}"}
        if self._state.limits_signed_ns != change.signed_ns:
            return {"text": f"a later change came first: {self._limits_text()}"}
        return {"text": f"committed: {self._limits_text()}"}

    async def _profile(self, seconds: float) -> dict[str, object]:
        if self._profiling:
            raise ValueError("a profile is being taken already")
        self._profiling = True
        self._profiled_from = self._profiled_from or self._state.cycles_done + 1
        try:
            before = self._state.decisions_committed
            session = await profile_loop(seconds, f"node {self._node}, {self._state.toggles.label()}")
            decisions = self._state.decisions_committed - before
            return {"files": await asyncio.to_thread(render, session), "decisions": decisions}
        finally:
            self._profiling = False
