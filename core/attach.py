"""A monitor attached to a running swarm: what it sees of it (`core.swarm_link`), and what its operator commands."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from core.change_toggles import change_toggles
from core.config import Settings
from core.control_claims import LABEL_CHARACTERS_MAX, Claim
from core.cycle_trace import chrome_trace
from core.faults import Fault
from core.limits import Limits
from core.limits_change import encode_limits, sign_limits
from core.profile_export import write_export
from core.profile_pair import PairDiff, difference, take_pair, write_pair
from core.records import Severity
from core.session import GATEWAY_ID, Session, SessionError
from core.swarm_link import FOLLOW_INTERVAL_S, LinkOptions, SwarmLink
from core.swarm_place import RemotePlace
from core.swarm_questions import is_to_be_repeated, obeyed
from core.telemetry_messages import Control, application
from core.toggle_change import ToggleChange, sign_toggles
from core.toggles import TOGGLE_KEYS, Toggles, pressed
from core.trading_state import TradingState, encode_trading, sign_trading
from net.epoch import Epoch
from net.messages import Channel

READ_ONLY = "this monitor is read-only"
GATEWAY_TIMEOUT_S = 5.0
CLAIM_TIMEOUT_S = 5.0
PRESS_AGAIN_S = 10.0
"""A key is answered at the next cycle boundary, and a cycle of plain Python DTW takes seconds."""


@dataclass(frozen=True, slots=True)
class TradingAnswer:
    """What became of a change of the trading state, in sentences."""

    gateway: str
    swarm: str
    orders_sent: int | None
    """Orders that the gateway had sent when it answered; None where it did not."""


class SwarmClient(SwarmLink):
    """One attached monitor."""

    def __init__(self, session: Session | RemotePlace, **link: Unpack[LinkOptions]) -> None:
        """Raises as `SwarmLink`, whose keywords these are."""
        super().__init__(session, **link)
        self._last_press_ns = 0
        self._changing = asyncio.Lock()
        self._claim: Claim | None = None

    async def stop_swarm(self) -> None:
        """Ask the supervisor to stop everything and wait until it is gone."""
        if self.session is None:
            raise SessionError("a swarm is stopped on its own machine: `tradetui stop`")
        await stop_session(self.session)

    # Control

    async def take_control(self) -> str:
        """Claim control on every node, whoever has it; returns what happened. Raises SessionError where refused."""
        if self.read_only:
            raise SessionError(READ_ONLY)
        self._claim = Claim(time.time_ns(), True, _label())
        return await self._tell_claim(self._claim)

    async def give_up_control(self) -> str:
        """Leave control to whoever acts next. Raises SessionError where nobody hears it."""
        self._claim = None
        return await self._tell_claim(Claim(time.time_ns(), False, _label()))

    async def take_control_if_free(self) -> None:
        """Once the swarm has been heard: claim control, unless somebody has it."""
        while not self._news.epochs():
            await asyncio.sleep(FOLLOW_INTERVAL_S)
        if self.holder() is None:
            with contextlib.suppress(SessionError):  # nobody hears it: then nobody is in control, and all may act
                await self.take_control()

    async def _tell_claim(self, claim: Claim) -> str:
        """To every node that is there; a node that comes back is told when it is linked."""
        nodes = sorted(peer for peer in self._news.connected if peer < GATEWAY_ID)
        asked = (self._ask(node, Control.CLAIM, claim.to_dict(), CLAIM_TIMEOUT_S) for node in nodes)
        replies = await asyncio.gather(*asked)
        texts: list[str] = []
        failure = SessionError("no node can be reached")
        for reply in replies:
            try:
                texts.append(str(obeyed(reply)["text"]))
            except SessionError as error:
                failure = error
        if not texts:
            raise failure
        return texts[0]

    # Toggles

    async def press(self, key: str) -> str:
        """Change the toggles as the key says; returns what happened, in a sentence."""
        if self.read_only:
            return f"{key} was not sent: {READ_ONLY}"
        if key not in TOGGLE_KEYS:
            return f"{key!r} is no toggle"
        try:
            return f"{key}: {await self._change_toggles(lambda toggles: pressed(toggles, key))}"
        except SessionError as error:
            return f"{key}: {error}"

    async def set_toggles(self, toggles: Toggles) -> str:
        """Have the swarm run under exactly these toggles; returns what happened, in a sentence.

        Raises SessionError when this monitor is read-only or not in control, or the swarm cannot run under them.
        """
        if self.read_only:
            raise SessionError(READ_ONLY)
        return await self._change_toggles(lambda _: toggles)

    async def _change_toggles(self, change: Callable[[Toggles], Toggles]) -> str:
        async with self._changing:
            return await change_toggles(self._ask_leader_until_taken, self._sign_toggles, change)

    def _sign_toggles(self, toggles: Toggles, epoch: Epoch) -> ToggleChange:
        self._last_press_ns = max(time.time_ns(), self._last_press_ns + 1)
        return sign_toggles(toggles, epoch, self._last_press_ns, self.identity.id, self.identity.sign)

    async def _ask_leader_until_taken(self, kind: Control, values: dict[str, Any]) -> Any:
        """The answer, a dict, or a sentence where there is none."""
        reply = await self.ask_leader(kind, values)
        deadline = time.monotonic() + PRESS_AGAIN_S
        while is_to_be_repeated(kind, reply) and time.monotonic() < deadline:
            await asyncio.sleep(0.2)
            reply = await self.ask_leader(kind, values)
        return reply

    async def export_profile(self, directory: Path, svg: str, seconds: float) -> Path:
        """Sample the leader's event loop for `seconds` and write the whole snapshot folder below `directory`.

        A read-only monitor writes all but the profile: sampling slows the leader. Raises SessionError when no leader
        answers, or another monitor is in control.
        """
        before = self.snapshot()
        files = {"trace.json": chrome_trace(await self.trace()).encode()}
        if not self.read_only:
            files |= (await self.profile(seconds))["files"]
        return await asyncio.to_thread(write_export, directory, before, self._known_settings(), svg, files)

    async def export_pair(
        self,
        directory: Path,
        svg: str,
        seconds: float,
        first: Toggles,
        second: Toggles,
        tell: Callable[[str], None],
    ) -> tuple[Path, PairDiff]:
        """As `export_profile`, with the leader's profile under both settings and their difference by function.

        `tell` gets a sentence where the swarm does not go back to the toggles that it had.

        Raises SessionError, TimeoutError or ValueError where a profile does not come about.
        """
        before = self.snapshot()
        one, other = await take_pair(self, first, second, seconds, tell)
        diff = difference(one, other)
        folder = await asyncio.to_thread(write_export, directory, before, self._known_settings(), svg, {})
        await asyncio.to_thread(write_pair, folder, one, other, diff)
        return folder, diff

    async def profile(self, seconds: float) -> dict[str, Any]:
        """Sample the leader's loop: `files` by name, `decisions` that were committed meanwhile. Raises SessionError."""
        return obeyed(await self.ask_leader(Control.PROFILE, {"seconds": seconds}, timeout_s=seconds + 60))

    async def time_spans(self, on: bool) -> str:
        """Have the leader time its spans, or only its cycles. Raises SessionError."""
        return str(obeyed(await self.ask_leader(Control.TIMERS, {"on": on}))["text"])

    def _known_settings(self) -> Settings:
        return self._news.settings or Settings.model_construct()

    async def change_trading(
        self, state: TradingState, reason: str, on_gateway: Callable[[str], None] | None = None
    ) -> TradingAnswer:
        """Sign a change of the trading state; gateway and leader are told at the same moment.

        `on_gateway` hears the gateway's answer as it comes: the swarm's may take longer. Raises SessionError before the
        monitor has connected, and when it is read-only.
        """
        if self.read_only:
            raise SessionError(READ_ONLY)
        identity = self.identity
        self._last_press_ns = max(time.time_ns(), self._last_press_ns + 1)
        change = sign_trading(state, self._last_press_ns, identity.id, reason, identity.sign)
        body = {"change": encode_trading(change)}
        committing = asyncio.create_task(self._ask_leader_until_taken(Control.TRADING, body))
        gateway = await self._ask(GATEWAY_ID, Control.TRADING, body, GATEWAY_TIMEOUT_S)
        heard = isinstance(gateway, dict)
        if on_gateway is not None:
            on_gateway(str(gateway["text"]) if heard else str(gateway))
        swarm = await committing
        return TradingAnswer(
            gateway=str(gateway["text"]) if heard else str(gateway),
            swarm=str(swarm["text"]) if isinstance(swarm, dict) else str(swarm),
            orders_sent=int(gateway["orders_sent"]) if heard else None,
        )

    async def change_limits(self, limits: Limits) -> str:
        """Sign new limits and have the swarm commit them; what became of it, in a sentence.

        Raises SessionError before the monitor has connected, when it is read-only, and where the swarm refuses them.
        """
        if self.read_only:
            raise SessionError(READ_ONLY)
        self._last_press_ns = max(time.time_ns(), self._last_press_ns + 1)
        change = sign_limits(limits, self._last_press_ns, self.identity.id, self.identity.sign)
        reply = await self._ask_leader_until_taken(Control.LIMITS, {"change": encode_limits(change)})
        return str(obeyed(reply)["text"])

    # Faults

    async def kill_node(self, node: int) -> str:
        """SIGKILL the node's process; the supervisor starts it again. Returns what happened, in a sentence.

        Raises SessionError when no such process runs on this machine.
        """
        self._signal(node, signal.SIGKILL)
        self._place.add_event(Severity.WARNING, f"fault on purpose: node {node} was killed")
        if self._news.faults.get(node) is Fault.PAUSED:
            self._note_fault(node, Fault.NONE)
        return f"node {node} was killed; the supervisor starts it again"

    async def set_fault(self, node: int, fault: Fault) -> str:
        """Have a node do wrong on purpose, or right again; every caption says so meanwhile. Returns what happened.

        Raises SessionError when the node does not take it.
        """
        if self.read_only:
            raise SessionError(READ_ONLY)
        if fault is Fault.PAUSED:
            self._signal(node, signal.SIGSTOP)
            self._place.add_event(Severity.WARNING, f"fault on purpose: node {node} was paused")
            self._note_fault(node, fault)
            return f"node {node} is paused"
        if self._news.faults.get(node) is Fault.PAUSED:
            self._signal(node, signal.SIGCONT)
            self._place.add_event(Severity.INFO, f"node {node} goes on")
            self._note_fault(node, Fault.NONE)
        deadline = time.monotonic() + PRESS_AGAIN_S
        reply = await self._ask(node, Control.FAULT, {"fault": fault.value})
        while not isinstance(reply, dict) and time.monotonic() < deadline:
            # A process that just went on has its links to make again.
            await asyncio.sleep(0.2)
            reply = await self._ask(node, Control.FAULT, {"fault": fault.value})
        text = str(obeyed(reply)["text"])
        self._note_fault(node, fault)
        return text

    def _note_fault(self, node: int, fault: Fault) -> None:
        self._place.note_fault(node, fault)
        self._news.faults = self._place.read_faults()

    def _signal(self, node: int, number: signal.Signals) -> None:
        if self.read_only:
            raise SessionError(READ_ONLY)
        holder = self.holder()
        if holder is not None and holder.operator != self.operator:
            raise SessionError(f"{holder.name} is in control; C takes over")
        self._place.signal(node, number)

    def _greet(self, peer: int) -> None:
        super()._greet(peer)
        if peer < GATEWAY_ID and self._claim is not None:
            self._send(peer, application(Channel.CONTROL, Control.CLAIM, self._claim.to_dict()))


def _label() -> str:
    """Who sits at this monitor: `ann@desk`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    label = f"{user}@{socket.gethostname()}"[:LABEL_CHARACTERS_MAX]
    return label if label.isprintable() else ""


async def stop_session(session: Session, timeout_s: float = 60.0) -> bool:
    """Stop a session's supervisor and everything under it. False when none was running.

    Raises SessionError when it is still there after `timeout_s`.
    """
    state = session.running()
    if state is None:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(state.supervisor_pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout_s
    while session.running() is not None:
        if time.monotonic() > deadline:
            raise SessionError(f"the supervisor (process {state.supervisor_pid}) did not stop in {timeout_s:g} s")
        await asyncio.sleep(0.05)
    return True
