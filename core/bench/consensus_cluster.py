"""A cluster of consensus processes on loopback for benches and proofs: start, command, kill, start again, reap."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from core.session import LOOPBACK, OPERATOR_ID, free_udp_ports
from core.supervisor import ONE_THREAD
from net.epoch import Epoch, make_epoch
from net.identity import Identity, Roster, RosterEntry
from net.membership import decode_membership
from net.messages import Mode
from net.mode_switch import sign_switch

READY_TIMEOUT_S = 60.0
SPARES = 2
"""Nodes with a key and an address that are no members at first."""


class ClusterError(RuntimeError):
    """A process of the cluster did not do what was asked; the text says which, and its last words."""


class ConsensusCluster:
    """`nodes` processes, each a replica with its own log and QUIC endpoint."""

    def __init__(self, folder: Path, nodes: int, mode: str, durability: str, settings: dict[str, Any]) -> None:
        self.folder = folder
        self.nodes = nodes
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._turns: dict[int, asyncio.Lock] = {}
        folder.mkdir(parents=True, exist_ok=True)
        config = {"nodes": nodes, "mode": mode, "durability": durability, "settings": settings}
        (folder / "bench.json").write_text(json.dumps(config))
        ports = free_udp_ports(nodes + SPARES)
        entries = []
        for node, port in enumerate(ports):
            key = Identity.load_or_create(folder / "keys" / f"node-{node}.key", node).public_key
            entries.append(RosterEntry(node, f"node-{node}", "node", key, (LOOPBACK, port)))
        self.operator = Identity.load_or_create(folder / "keys" / "operator.key", OPERATOR_ID)
        entries.append(RosterEntry(OPERATOR_ID, "operator", "operator", self.operator.public_key))
        self.roster = Roster(entries)
        self.roster.save(folder / "roster.toml")

    async def start(self, node: int) -> None:
        """Start the process of `node` from its folder. Raises ClusterError where it does not come up."""
        with (self.folder / f"node-{node}.err").open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "core.bench.consensus_node",
                str(self.folder),
                str(node),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env=os.environ | ONE_THREAD,
                limit=1 << 24,
            )
        self._processes[node] = process
        self._turns[node] = asyncio.Lock()
        async with self._turns[node]:
            await self._read(node, READY_TIMEOUT_S)

    async def start_all(self) -> None:
        await asyncio.gather(*(self.start(node) for node in range(self.nodes)))

    @property
    def running(self) -> tuple[int, ...]:
        return tuple(sorted(node for node, process in self._processes.items() if process.returncode is None))

    async def kill(self, node: int) -> None:
        """SIGKILL, and wait until it is gone."""
        process = self._processes[node]
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()

    async def ask(self, node: int, timeout_s: float = 60.0, **command: Any) -> dict[str, Any]:
        """One command and its answer. Raises ClusterError where the process is gone, refuses, or does not answer."""
        process = self._processes[node]
        assert process.stdin is not None
        async with self._turns[node]:
            try:
                process.stdin.write(json.dumps(command).encode() + b"\n")
                await process.stdin.drain()
            except (BrokenPipeError, ConnectionResetError) as error:
                raise ClusterError(f"node {node} is gone{self._last_words(node)}") from error
            reply = await self._read(node, timeout_s)
        if "error" in reply:
            raise ClusterError(f"node {node}: {reply['error']}")
        return reply

    async def _read(self, node: int, timeout_s: float) -> dict[str, Any]:
        stdout = self._processes[node].stdout
        assert stdout is not None
        try:
            async with asyncio.timeout(timeout_s):
                line = await stdout.readline()
        except TimeoutError as error:
            raise ClusterError(f"node {node}: no answer within {timeout_s:g} s{self._last_words(node)}") from error
        if not line:
            raise ClusterError(f"node {node} is gone{self._last_words(node)}")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _last_words(self, node: int) -> str:
        words = (self.folder / f"node-{node}.err").read_text(errors="replace").strip().splitlines()
        return f": {words[-1][:300]}" if words else ""

    async def statuses(self) -> dict[int, dict[str, Any]]:
        """What every running node says of itself."""
        running = self.running
        replies = await asyncio.gather(*(self.ask(node, do="status") for node in running))
        return dict(zip(running, replies, strict=True))

    async def switch(self, node: int, mode: str) -> None:
        """Have `node` hand in the operator's order to switch from its epoch to `mode`; nothing where that mode runs.

        Raises ClusterError as `ask` does, and where another epoch began meanwhile.
        """
        epoch = running_epoch(await self.ask(node, do="status"))
        if Mode[mode] is not epoch.mode:
            order = sign_switch(epoch, Mode[mode], self.operator.id, self.operator.sign)
            await self.ask(node, do="switch", mode=mode, author=order.author, signature=order.signature.hex())

    async def leader(self, timeout_s: float = 30.0) -> int:
        """The node that leads and knows it."""
        found: list[int] = []

        def one(statuses: dict[int, dict[str, Any]]) -> bool:
            newest = max(status["epoch"] for status in statuses.values())
            found[:] = [node for node, status in statuses.items() if status["is_leader"] and status["epoch"] == newest]
            return bool(found)

        await self.until(one, timeout_s, "a node leads")
        return found[0]

    async def until(self, holds: Callable[[dict[int, dict[str, Any]]], bool], timeout_s: float, what: str) -> float:
        """Wait until `holds` of the statuses; the seconds it took. Raises ClusterError after `timeout_s`."""
        began = time.monotonic()
        while not holds(statuses := await self.statuses()):
            if time.monotonic() - began > timeout_s:
                raise ClusterError(f"{what}: not within {timeout_s:g} s; {statuses}")
            await asyncio.sleep(0.02)
        return time.monotonic() - began

    async def close(self) -> None:
        """End every process."""
        for node in self.running:
            await self.kill(node)


def running_epoch(status: dict[str, Any]) -> Epoch:
    """The epoch of a node that says this of itself: what the operator signs over."""
    return make_epoch(
        status["epoch"],
        Mode[status["mode"]],
        status["base_index"],
        bytes.fromhex(status["base_digest"]),
        status["hint"],
        decode_membership(bytes.fromhex(status["membership"])),
    )


@asynccontextmanager
async def running_cluster(
    folder: Path, nodes: int, mode: str, durability: str = "fdatasync", **settings: Any
) -> AsyncIterator[ConsensusCluster]:
    """A started cluster whose first leader is known; nothing is left of it afterwards."""
    cluster = ConsensusCluster(folder, nodes, mode, durability, settings)
    try:
        await cluster.start_all()
        await cluster.leader()
        yield cluster
    finally:
        await cluster.close()
