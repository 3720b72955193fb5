"""One node of a consensus bench: the product's replica, log and QUIC endpoint, and a state machine that only counts.

It is run as `python -m core.bench.consensus_node FOLDER NODE`, takes commands as JSON lines on standard input, and
answers each with one JSON line. It ends when standard input closes.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import uvloop

from core.essential import end_process
from core.garbage_collection import tune_garbage_collection
from net.identity import Identity, Roster
from net.incarnation import claim_incarnation
from net.log import DurableLog
from net.membership import Membership, encode_membership
from net.messages import Application, Committed, EntryKind, GossipDelta, GossipDigest, Message, Mode
from net.mode_switch import SwitchOrder
from net.payload_batch import payloads_of
from net.quic import Endpoint
from net.replica import Replica
from net.settings import ConsensusSettings
from net.shell import ReplicaShell
from net.transport import TransportSettings
from net.wire.kinds import CodecKind

PAYLOAD_BYTES = 128
_ID = struct.Struct("<Q")


class CountingState:
    """Counts payloads by their first 8 bytes, each once, and chains them in the order in which they were decided."""

    def __init__(self) -> None:
        self.chain = bytes(32)
        self.seen: set[int] = set()
        self.repeated = 0

    def apply(self, payload: bytes) -> None:
        (number,) = _ID.unpack_from(payload)
        if number in self.seen:
            # A node that died between append and commit may have had it ordered twice: at least once, as promised.
            self.repeated += 1
            return
        self.seen.add(number)
        self.chain = sha256(self.chain + payload).digest()

    def to_bytes(self) -> bytes:
        seen = np.fromiter(self.seen, "<u8", len(self.seen))
        return self.chain + _ID.pack(self.repeated) + np.sort(seen).tobytes()

    def restore(self, data: bytes) -> None:
        self.chain = data[:32]
        (self.repeated,) = _ID.unpack_from(data, 32)
        self.seen = set(np.frombuffer(data, "<u8", offset=40).tolist())


class Load:
    """A closed loop: so many proposals in flight, each of so many payloads, the next when one is decided."""

    def __init__(self, propose: Callable[[list[bytes]], None], first_id: int, in_flight: int, batch: int) -> None:
        self._propose = propose
        self._next_id = first_id
        self._in_flight = in_flight
        self._batch = batch
        self._waiting: dict[int, float] = {}
        self._loop = asyncio.get_running_loop()
        self._due = 0
        self._stopped = False
        self.latencies_ms: list[float] = []
        self.decided = 0

    def start(self) -> None:
        self._due = self._in_flight
        self._start_due()

    def stop(self) -> None:
        self._stopped = True

    def _start_due(self) -> None:
        """What became free in one turn of the loop goes in one call, as a node hands over what its clients ask."""
        payloads: list[bytes] = []
        for _ in range(self._due):
            for _ in range(self._batch):
                payloads.append(_ID.pack(self._next_id) + bytes(PAYLOAD_BYTES - _ID.size))
                self._next_id += 1
            self._waiting[self._next_id - 1] = time.perf_counter()
        self._due = 0
        self._propose(payloads)

    def decided_payload(self, payload: bytes) -> None:
        """A payload was decided, perhaps one of ours."""
        (number,) = _ID.unpack_from(payload)
        began = self._waiting.pop(number, None)
        if began is None:
            return
        self.latencies_ms.append((time.perf_counter() - began) * 1e3)
        self.decided += self._batch
        if not self._stopped:
            if not self._due:
                # Not from within the commit: the shell is applying its effects.
                self._loop.call_soon(self._start_due)
            self._due += 1


class BenchNode:
    """Everything of one process."""

    def __init__(self, folder: Path, node: int) -> None:
        config = json.loads((folder / "bench.json").read_text())
        self._node = node
        self._nodes = range(config["nodes"])
        self._state = CountingState()
        self._load: Load | None = None
        self._commit_times: deque[float] = deque(maxlen=1)
        self.signatures = 0
        self.restored_at = 0
        identity = Identity.load_or_create(folder / "keys" / f"node-{node}.key", node)
        roster = Roster.load(folder / "roster.toml")
        entry = roster.get(node)
        assert entry is not None
        assert entry.address is not None
        self._identity = identity
        transport = TransportSettings(codec=CodecKind.MSGPACK_COLUMNS)
        self._endpoint = Endpoint(identity, roster, entry.address, transport, self._on_message, lambda event: None)
        self._log = DurableLog(folder / f"node-{node}" / "log", config["durability"])
        claim_incarnation(self._log, folder / "keys" / f"node-{node}.started")
        first = {each.id: each.public_key for each in roster.of_role("node") if each.id < config["nodes"]}
        self._replica = Replica.recover(
            self._log.read_all(),
            node,
            first,
            self._sign,
            Random(),
            mode=Mode[config["mode"]],
            leader_hint=0,
            settings=ConsensusSettings(**config["settings"]),
            authorities={each.id: each.public_key for each in roster.of_role("operator")},
            joining=node not in first,
        )
        self._shell: ReplicaShell | None = None

    def _sign(self, data: bytes) -> bytes:
        self.signatures += 1
        return self._identity.sign(data)

    async def start(self) -> None:
        await self._endpoint.start()
        for peer in self._replica.nodes:
            if peer != self._node:
                self._endpoint.dial(peer)
        self._shell = ReplicaShell(self._replica, self._log, self._endpoint, self)
        self._shell.start()

    def _on_message(self, sender: int, message: Message) -> None:
        if self._shell is not None and not isinstance(message, Application | GossipDelta | GossipDigest):
            self._shell.deliver(sender, message)

    # What the replica tells (net.shell.Observer).

    def committed(self, entry: Committed, denied: bool, recovered: bool) -> None:
        if denied or entry.entry.kind not in (EntryKind.DATA, EntryKind.BATCH):
            return
        self._commit_times.append(time.monotonic())
        for payload in payloads_of(entry.entry):
            self._state.apply(payload)
            if self._load is not None:
                self._load.decided_payload(payload)

    def checkpoint(self, index: int) -> bytes:
        return self._state.to_bytes()

    def restore(self, index: int, state: bytes) -> None:
        self.restored_at = index
        self._state.restore(state)

    def leader_changed(self, leader: int | None, term: int) -> None: ...

    def epoch_started(self, epoch: int, mode: Mode, base_index: int, membership: Membership) -> None:
        for peer in membership.nodes:
            if peer != self._node:
                self._endpoint.dial(peer)

    def evidence(self, culprit: int, reason: str, proof: bytes) -> None:
        print(f"evidence against node {culprit}: {reason}", file=sys.stderr, flush=True)

    def stranded(self, peer: int, index: int) -> None:
        raise AssertionError(f"the members never change, and the checkpoint of {index} has signers that are unknown")

    def refused(self, payload: bytes) -> None:
        raise AssertionError(f"{len(payload)} bytes are refused, and this bench refuses nothing")

    def failed(self, error: Exception) -> None:
        end_process(error)

    # Commands.

    async def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._shell is not None
        match command["do"]:
            case "status":
                return self._status()
            case "load":
                return await self._run_load(command)
            case "propose":
                ids = [int(number) for number in command["ids"]]
                self._shell.propose([_ID.pack(number) + bytes(PAYLOAD_BYTES - _ID.size) for number in ids])
                return {}
            case "decided":
                return {"missing": [number for number in command["ids"] if number not in self._state.seen]}
            case "switch":
                order = SwitchOrder(Mode[command["mode"]], command["author"], bytes.fromhex(command["signature"]))
                self._shell.switch_mode(order)
                return {}
            case "change":
                self._shell.change_membership(bytes.fromhex(command["change"]))
                return {}
        raise ValueError(f"unknown command {command}")

    def _status(self) -> dict[str, Any]:
        status = self._replica.status()
        epoch = self._replica.running_epoch
        return {
            "leader": status.leader,
            "is_leader": self._replica.is_leader,
            "mode": status.mode.name,
            "epoch": status.epoch,
            "role": status.role,
            "commit_index": status.commit_index,
            "checkpoint_index": status.checkpoint_index,
            "first_index": status.first_index,
            "restored_at": self.restored_at,
            "voters": status.voters,
            "decided": len(self._state.seen),
            "repeated": self._state.repeated,
            "chain": self._state.chain.hex(),
            "base_index": epoch.base_index,
            "base_digest": epoch.base_digest.hex(),
            "hint": epoch.leader_hint,
            "membership": encode_membership(epoch.membership).hex(),
            "last_commit_s": self._commit_times[-1] if self._commit_times else 0.0,
        }

    async def _run_load(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._shell is not None
        load = self._load = Load(self._shell.propose, command["first_id"], command["in_flight"], command["batch"])
        load.start()
        await asyncio.sleep(command["warm_up_s"])
        load.latencies_ms.clear()
        decided = load.decided
        messages, signatures = self._endpoint.messages_sent, self.signatures
        datagrams, syncs, rounds = self._endpoint.datagrams_sent, self._shell.syncs, self._replica.status().rounds
        cpu_s, began = _cpu_s(), time.perf_counter()
        await asyncio.sleep(command["seconds"])
        took_s = time.perf_counter() - began
        result = {
            "took_s": took_s,
            "decided": load.decided - decided,
            "latencies_ms": sorted(load.latencies_ms),
            "messages": self._endpoint.messages_sent - messages,
            "datagrams": self._endpoint.datagrams_sent - datagrams,
            "signatures": self.signatures - signatures,
            "syncs": self._shell.syncs - syncs,
            "rounds": self._replica.status().rounds - rounds,
            "cpu_s": _cpu_s() - cpu_s,
        }
        load.stop()
        return result


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def _main(folder: Path, node: int) -> None:
    body = BenchNode(folder, node)
    await body.start()
    tune_garbage_collection()
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print(json.dumps({"ready": os.getpid()}), flush=True)
    while line := await reader.readline():
        try:
            reply = await body.answer(json.loads(line))
        except (ValueError, RuntimeError) as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    uvloop.run(_main(Path(sys.argv[1]), int(sys.argv[2])))
