"""One process of `tradetui bench quic`: `python -m core.bench.quic_node FOLDER NODE CARRIER SETTINGS`.

Node 0 starts rounds, the others answer each message; a round is committed once a majority, node 0 counted, has it. It
takes commands as JSON lines on standard input, answers each with one JSON line, and ends when standard input closes.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvloop

from core.bench.quic_carriers import CODEC, Carrier, EndpointCarrier, StockCarrier, StreamCarrier, UdpCarrier
from net.batch import Batch, Batcher, BatchPolicy
from net.identity import Identity, Roster
from net.link_model import parse_links
from net.messages import AppendEntries, AppendEntriesReply, Entry, EntryKind, GossipDelta, GossipDigest, Message
from net.transport import PeerEvent, PeerEventKind, TransportSettings

ENTRY_BYTES = 200
QUESTION = GossipDigest(())
ANSWER = GossipDelta((), ())


def settings_of(values: dict[str, Any]) -> TransportSettings:
    """The settings of a case: field names of TransportSettings, `links` as the text of `--link`."""
    links = parse_links(values.pop("links", ""))
    # Retransmissions on a bad link must not count as a dead peer.
    patience_s = 5.0 if links else 0.5
    patient = TransportSettings(codec=CODEC, links=links, dead_after_s=patience_s, unanswered_dial_s=2 * patience_s)
    return replace(patient, **values)


class Rounds:
    """Rounds of node 0: in flight, committed, and how long each took."""

    def __init__(self, carrier: Carrier, peers: Sequence[int]) -> None:
        self._carrier = carrier
        self._peers = peers
        self._needed = (len(peers) + 1) // 2  # of the peers; node 0 makes the majority
        self._next = 1
        self._began: dict[int, tuple[int, tuple[float, ...]]] = {}
        self.latencies_ms: list[float] = []
        self.committed = 0
        self.on_commit: Callable[[], None] = lambda: None

    @property
    def in_flight(self) -> int:
        return len(self._began)

    def start(self, items_due_at: Sequence[float]) -> None:
        """One round of as many items; an item's latency runs from when it was due."""
        number = self._next
        self._next += 1
        entries = tuple(Entry(number, 1, EntryKind.DATA, bytes(ENTRY_BYTES)) for _ in items_due_at)
        self._began[number] = (self._needed, tuple(items_due_at))
        message = AppendEntries(1, 1, 0, number, 1, number - 1, number, entries)
        self._carrier.broadcast(self._peers, message, number)
        self._carrier.flush()

    def replied(self, reply: AppendEntriesReply) -> None:
        """One peer has the round."""
        waiting, due = self._began.get(reply.round, (0, ()))
        if not waiting:
            return
        if waiting > 1:
            self._began[reply.round] = (waiting - 1, due)
            return
        del self._began[reply.round]
        now = time.perf_counter()
        self.latencies_ms.extend([(now - each) * 1e3 for each in due])
        self.committed += 1
        self.on_commit()


class BenchNode:
    """Everything of one process."""

    def __init__(self, folder: Path, node: int, carrier: str, settings: dict[str, Any]) -> None:
        identity = Identity.load_or_create(folder / "keys" / f"node-{node}.key", node)
        roster = Roster.load(folder / "roster.toml")
        self._node = node
        self._peers = [entry.id for entry in roster if entry.id != node]
        self._first_message: asyncio.Future[None] | None = None
        self._rounds: Rounds | None = None
        self._carrier: Carrier
        if carrier == "endpoint":
            endpoint = EndpointCarrier(
                identity, roster, settings_of(settings), self._on_message, self._on_peer, folder / f"tickets-{node}"
            )
            endpoint.endpoint.early_message = lambda peer: QUESTION
            self._carrier = endpoint
        elif carrier == "udp":
            self._carrier = UdpCarrier(identity, roster, self._on_message)
        elif carrier.endswith("+streams"):
            self._carrier = StreamCarrier(carrier.removesuffix("+streams"), identity, roster, self._on_message)
        else:
            self._carrier = StockCarrier(carrier, identity, roster, self._on_message)

    async def start(self) -> None:
        await self._carrier.start()

    def _on_message(self, peer: int, message: Message) -> None:
        if isinstance(message, AppendEntries):
            reply = AppendEntriesReply(1, 1, self._node, True, message.prev_log_index, 0, message.round)
            self._carrier.broadcast((peer,), reply, message.round)
        elif isinstance(message, AppendEntriesReply):
            if self._rounds is not None:
                self._rounds.replied(message)
        elif isinstance(message, GossipDigest):
            self._carrier.broadcast((peer,), ANSWER, 0)
        elif self._first_message is not None and not self._first_message.done():
            self._first_message.set_result(None)

    def _on_peer(self, event: PeerEvent) -> None:
        if self._node == 0 and event.kind is PeerEventKind.CONNECTED and not event.resumed and event.peer is not None:
            self._carrier.broadcast((event.peer,), QUESTION, 0)

    async def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        match command.pop("do"):
            case "connected":
                return {"connected": self._carrier.connected()}
            case "rounds":
                return await self._measured(self._closed_loop(**command))
            case "offered":
                return await self._measured(self._open_loop(**command))
            case "reconnect":
                return await self._reconnected()
            case "status":
                return self._status()
        raise ValueError(f"unknown command {command}")

    async def _measured(self, work: Any) -> dict[str, Any]:
        datagrams, cpu_s, began = self._carrier.datagrams(), _cpu_s(), time.perf_counter()
        rounds: Rounds = await work
        latencies = sorted(rounds.latencies_ms)
        return {
            "took_s": time.perf_counter() - began,
            "rounds": rounds.committed,
            "items": len(latencies),
            "p50_ms": latencies[len(latencies) // 2],
            "p99_ms": latencies[int(len(latencies) * 0.99)],
            "datagrams": self._carrier.datagrams() - datagrams,
            "cpu_s": _cpu_s() - cpu_s,
        }

    async def _closed_loop(self, count: int, in_flight: int = 1, peers: int | None = None) -> Rounds:
        """`count` rounds, `in_flight` at a time."""
        loop = asyncio.get_running_loop()
        rounds = self._rounds = Rounds(self._carrier, self._peers[:peers])
        done: asyncio.Future[None] = loop.create_future()
        started = min(count, in_flight)

        def next_round() -> None:
            nonlocal started
            if started < count:
                started += 1
                loop.call_soon(lambda: rounds.start((time.perf_counter(),)))
            elif rounds.committed == count and not done.done():
                done.set_result(None)

        rounds.on_commit = next_round
        for _ in range(started):
            rounds.start((time.perf_counter(),))
        async with asyncio.timeout(120):
            await done
        return rounds

    async def _open_loop(self, per_s: float, seconds: float, policy: str) -> Rounds:
        """Items at an even rate, whatever the rounds do; batched as `policy` says. Every item is waited for."""
        rounds = self._rounds = Rounds(self._carrier, self._peers)
        batcher: Batcher[float] = Batcher(BatchPolicy(policy))
        began, count, made = time.perf_counter(), int(per_s * seconds), 0

        def go(batches: Sequence[Batch[float]]) -> None:
            for batch in batches:
                rounds.start(batch.items)

        def idle() -> None:
            if not rounds.in_flight:
                go(batcher.pipe_idle(time.perf_counter()))

        rounds.on_commit = idle
        async with asyncio.timeout(seconds + 60):
            while len(rounds.latencies_ms) < count:
                now = time.perf_counter()
                while made < count and (due := began + made / per_s) <= now:
                    made += 1
                    go(batcher.add(due, now))
                idle()
                go(batcher.poll(now))
                wait_s = 0.001 if made == count else began + made / per_s - now
                if (deadline := batcher.next_deadline()) is not None:
                    wait_s = min(wait_s, deadline - now)
                await asyncio.sleep(max(0.0, wait_s))
        return rounds

    async def _reconnected(self) -> dict[str, Any]:
        """Wait for the first answer of peer 1, and for the ticket of the next life."""
        carrier = self._carrier
        assert isinstance(carrier, EndpointCarrier)
        endpoint = carrier.endpoint
        async with asyncio.timeout(30):
            while not endpoint.links()[0].first_message_ms or not endpoint._tickets.holds(1):
                await asyncio.sleep(0.002)
        link = endpoint.links()[0]
        return {"first_message_ms": link.first_message_ms, "resumed": link.resumed}

    def _status(self) -> dict[str, Any]:
        carrier = self._carrier
        status: dict[str, Any] = {"resident_bytes": _resident_bytes(), "cpu_s": _cpu_s()}
        if isinstance(carrier, EndpointCarrier):
            endpoint = carrier.endpoint
            status |= {
                "open_streams": sum(link.open_streams for link in endpoint.links()),
                "retries_sent": endpoint.retries_sent,
                "strangers_shed": endpoint.strangers_shed,
                "datagrams_lost": endpoint.datagrams_lost,
                "refusals": dict(endpoint.refusals),
            }
        return status

    async def close(self) -> None:
        await self._carrier.close()


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def _main(folder: Path, node: int, carrier: str, settings: dict[str, Any]) -> None:
    body = BenchNode(folder, node, carrier, settings)
    await body.start()
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print(json.dumps({"ready": os.getpid()}), flush=True)
    while line := await reader.readline():
        try:
            reply = await body.answer(json.loads(line))
        except (ValueError, RuntimeError, TimeoutError) as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)
    await body.close()


if __name__ == "__main__":
    FOLDER, NODE, CARRIER, SETTINGS = sys.argv[1:]
    RUN = asyncio.run if CARRIER.endswith("+asyncio") else uvloop.run
    RUN(_main(Path(FOLDER), int(NODE), CARRIER.removesuffix("+asyncio"), json.loads(SETTINGS)))
