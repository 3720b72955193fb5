"""A link to a running swarm: what nodes and gateway push comes in, one immutable snapshot goes out on demand.

Whoever is linked owns nothing of the swarm: leaving it changes nothing. The link dials every node and the gateway,
keeps what they push (`core.swarm_news`), and follows what its place (`core.swarm_place`) tells beside that.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Required, TypedDict

from core.book_ladder import BookLadder
from core.config import Settings
from core.cycle_trace import SwarmTrace, gathered, merged
from core.push_schedule import PUSH_INTERVAL_S
from core.records import CycleRecord, EventRow, InControl, Severity, SwarmSnapshot
from core.session import GATEWAY_ID, Session, SessionError
from core.swarm_news import CYCLES_KEPT, STALE_AFTER_S, OrderChanges, SwarmNews
from core.swarm_place import Address, LocalPlace, RemotePlace, SwarmPlace
from core.swarm_questions import REPLY_TIMEOUT_S, NotTaken, Questions, obeyed
from core.telemetry_messages import Control, Telemetry, application
from core.transport import monitor_transport_settings
from net.identity import Identity
from net.messages import Application, Channel, Message
from net.quic import Endpoint
from net.transport import PeerEvent, PeerEventKind

FOLLOW_INTERVAL_S = 0.25
TRACE_TIMEOUT_S = 3.0
LADDER_TIMEOUT_S = 5.0


class LinkOptions(TypedDict, total=False):
    """Keywords of a `SwarmLink`, as it tells of them."""

    owns_swarm: Required[bool]
    keep_cycles: int
    push_interval_s: float
    read_only: bool
    order_changes: OrderChanges | None


class SwarmLink:
    """Hears everybody, asks, and changes nothing."""

    seekable = False

    def __init__(
        self,
        session: Session | RemotePlace,
        *,
        owns_swarm: bool,
        keep_cycles: int = CYCLES_KEPT,
        push_interval_s: float = PUSH_INTERVAL_S,
        read_only: bool = False,
        order_changes: OrderChanges | None = None,
    ) -> None:
        """`owns_swarm`: this command started the swarm, so leaving asks whether it goes on. Nodes push news each
        `push_interval_s`. `read_only` refuses whatever would change the swarm; with an observer's key the nodes do.
        `order_changes` gets every order that is heard of, also those that a snapshot has no room for.
        """
        self._place: SwarmPlace = (
            session if isinstance(session, RemotePlace) else LocalPlace(session, read_only=read_only)
        )
        self.session = None if isinstance(session, RemotePlace) else session
        self.read_only = read_only or self._place.read_only
        self.owns_swarm = owns_swarm and self.session is not None
        self.may_stop = self.session is not None and not self.read_only
        self._push_interval_s = push_interval_s
        stale_after_s = max(STALE_AFTER_S, 2.5 * push_interval_s)
        self._news = SwarmNews(keep_cycles, order_changes=order_changes, stale_after_s=stale_after_s)
        self._news.session, self._news.settings = self._place.name, self._place.settings
        self._questions = Questions()
        self._dialled: set[int] = set()
        self._ready = False
        self._identity: Identity | None = None
        self._endpoint: Endpoint | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def connect(self) -> None:
        """Start dialling; returns at once, links come up as processes do.

        Raises SessionError when as many monitors are attached as there are identities for them.
        """
        self._identity, roster = self._place.open()
        listen = "127.0.0.1" if self.session is not None else "0.0.0.0"
        self._endpoint = Endpoint(
            self._identity,
            roster,
            (listen, 0),
            monitor_transport_settings(self._push_interval_s),
            self._on_message,
            self._on_peer,
        )
        self._questions.endpoint = self._endpoint
        await self._endpoint.start()
        self._dial(self._place.first_peers())
        self._spawn(self._follow())

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _dial(self, peers: Mapping[int, Address | None]) -> None:
        assert self._endpoint is not None
        for peer in peers.keys() - self._dialled:
            self._dialled.add(peer)
            self._endpoint.dial(peer, peers[peer])

    async def close(self) -> None:
        """Leave; the swarm goes on."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._endpoint is not None:
            await self._endpoint.close()
        self._place.close()

    @property
    def operator(self) -> int | None:
        """This monitor's id in the roster."""
        return self._identity.id if self._identity is not None else None

    @property
    def in_control(self) -> bool:
        """Whether the nodes say that this monitor is."""
        holder = self.holder()
        return holder is not None and holder.operator == self.operator

    def holder(self) -> InControl | None:
        """Who is in control, as far as the nodes tell."""
        return self._news.in_control()

    def keep_experiment(self, values: dict[str, Any]) -> None:
        """Append a finished experiment to the session (`core.experiment_log`)."""
        self._place.keep_experiment(values)

    async def trace(self) -> SwarmTrace:
        """What the reachable nodes, the gateway and the session's own venue did when, over the last cycles."""
        return merged(await self._ask_traces({}))

    async def trace_after(self, marks: dict[int, int]) -> SwarmTrace:
        """The same, but only what ended since the last call with these `marks` (peer to its clock), which move on."""
        answers = await self._ask_traces(marks)
        marks.update((answer["node"], answer["until_ns"]) for answer in answers)
        return gathered(answers)

    async def _ask_traces(self, marks: Mapping[int, int]) -> list[dict[str, Any]]:
        snapshot = self.snapshot()
        reached = [node.node for node in snapshot.nodes if node.reachable]
        reached += [GATEWAY_ID] if snapshot.gateway_connected else []
        bodies = ((peer, {"after_ns": marks.get(peer, 0)}) for peer in reached)
        asked = (self._ask(peer, Control.TRACE, body, TRACE_TIMEOUT_S) for peer, body in bodies)
        answers = await asyncio.gather(*asked)
        return [answer for answer in answers if isinstance(answer, dict) and not answer.get("refused")]

    async def ladder(self, instrument: str, levels: int) -> BookLadder:
        """The venue's book, own orders marked. Raises SessionError where it cannot be had."""
        body = {"instrument": instrument, "levels": levels}
        return BookLadder.from_dict(obeyed(await self._ask(GATEWAY_ID, Control.LADDER, body, LADDER_TIMEOUT_S)))

    @property
    def identity(self) -> Identity:
        """Who signs here. Raises SessionError before `connect`."""
        if self._identity is None:
            raise SessionError("not connected yet")
        return self._identity

    def epochs(self) -> list[int]:
        """The epoch that each node was last in."""
        return self._news.epochs()

    async def ask_leader(self, kind: Control, values: dict[str, Any], timeout_s: float = REPLY_TIMEOUT_S) -> Any:
        leader = self.snapshot().leader
        if leader is None:
            return NotTaken("no node leads at present; try again in a moment")
        return await self._ask(leader, kind, values, timeout_s)

    async def _ask(self, peer: int, kind: Control, values: dict[str, Any], timeout_s: float = REPLY_TIMEOUT_S) -> Any:
        return await self._questions.ask(peer, kind, values, timeout_s)

    def _on_peer(self, event: PeerEvent) -> None:
        if event.peer is None:
            return
        if event.kind is PeerEventKind.CONNECTED:
            self._news.connected.add(event.peer)
            self._greet(event.peer)
        elif event.kind is PeerEventKind.DISCONNECTED:
            self._news.connected.discard(event.peer)
            self._questions.link_lost(event.peer)

    def _greet(self, peer: int) -> None:
        wanted = {**self._news.wanted_of(peer), "interval_s": self._push_interval_s}
        self._send(peer, application(Channel.TELEMETRY, Telemetry.SUBSCRIBE, wanted))
        if peer < GATEWAY_ID and self._news.settings is None:
            self._spawn(self._ask_for_session(peer))

    def _send(self, peer: int, message: Application) -> None:
        assert self._endpoint is not None
        self._endpoint.send(peer, message)

    async def _ask_for_session(self, node: int) -> None:
        reply = await self._ask(node, Control.SESSION, {})
        if isinstance(reply, dict) and "settings" in reply:
            self._news.session = f"{reply['name']} at {self._place.name}"
            try:
                self._news.settings = Settings(**reply["settings"])
            except ValueError as error:
                self.add_event(Severity.WARNING, f"node {node} runs under settings that are not known here: {error}")

    def _on_message(self, sender: int, message: Message) -> None:
        if not isinstance(message, Application):
            return
        if message.channel is Channel.CONTROL and message.kind == Control.REPLY:
            self._questions.answered(message)
        elif message.channel is Channel.TELEMETRY:
            report = self._news.hear(sender, message.kind, message.body)
            if report is not None and report.status.replica is not None:
                self._dial(dict.fromkeys((*report.status.replica.voters, *report.status.replica.learners)))

    async def _follow(self) -> None:
        """Follow what the place tells beside the nodes."""
        failure = ""
        while True:
            try:
                told = self._place.read_news()
            except (OSError, ValueError, KeyError) as error:
                if failure != (failure := f"the session's files cannot be read: {type(error).__name__}: {error}"):
                    self._news.add_events([EventRow(time.time_ns(), Severity.ERROR, "monitor", failure)])
            else:
                failure = ""
                self._news.phase, self._ready, self._news.faults = told.phase, told.ready, told.faults
                self._news.add_events(told.events)
            await asyncio.sleep(FOLLOW_INTERVAL_S)

    @property
    def phase(self) -> str:
        return self._news.phase

    @property
    def ready(self) -> bool:
        """The supervisor said that every process runs."""
        return self._ready

    @property
    def cycles(self) -> deque[CycleRecord]:
        """The records kept, oldest first."""
        return self._news.cycles

    def snapshot(self) -> SwarmSnapshot:
        """Everything a screen needs, as of now."""
        return self._news.snapshot()

    def add_event(self, severity: Severity, text: str) -> None:
        """A line of the monitor's own in the event log."""
        self._news.add_events([EventRow(time.time_ns(), severity, "monitor", text)])
