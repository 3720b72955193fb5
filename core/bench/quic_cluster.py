"""Processes of `tradetui bench quic`: keys, roster, start, command, end."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from core.session import LOOPBACK, free_udp_ports
from core.supervisor import ONE_THREAD
from net.identity import Identity, Roster, RosterEntry

ANSWER_TIMEOUT_S: Final = 180.0


class QuicBenchError(RuntimeError):
    """A process of the bench did not do what was asked; the text says which, and its last words."""


class QuicCluster:
    """`nodes` processes with one carrier; node 0 leads."""

    def __init__(self, folder: Path, nodes: int, carrier: str, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self.nodes = nodes
        self._carrier = carrier
        self._settings = settings
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        folder.mkdir(parents=True)
        entries = []
        for node, port in enumerate(free_udp_ports(nodes)):
            key = Identity.load_or_create(folder / "keys" / f"node-{node}.key", node).public_key
            entries.append(RosterEntry(node, f"node-{node}", "node", key, (LOOPBACK, port)))
        self.roster = Roster(entries)
        self.roster.save(folder / "roster.toml")

    async def start(self, node: int, **changed: Any) -> None:
        """Start the process of `node`, with settings `changed` for this life."""
        with (self.folder / f"node-{node}.err").open("ab") as errors:
            self._processes[node] = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "core.bench.quic_node",
                str(self.folder),
                str(node),
                self._carrier,
                json.dumps({**self._settings, **changed}),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env=os.environ | ONE_THREAD,
                limit=1 << 24,
            )
        await self._read(node)

    async def start_all(self) -> None:
        """All processes, and wait until node 0 reaches every other."""
        # The others first: a stock client does not dial twice.
        for node in (*range(1, self.nodes), 0):
            await self.start(node)
        for _ in range(1_000):
            if (await self.ask(0, do="connected"))["connected"] == self.nodes - 1:
                return
            await asyncio.sleep(0.02)
        raise QuicBenchError(f"{self._carrier}: node 0 does not reach all others{self._last_words(0)}")

    async def ask(self, node: int, **command: Any) -> dict[str, Any]:
        """One command and its answer. Raises QuicBenchError where the process is gone, refuses or is silent."""
        process = self._processes[node]
        assert process.stdin is not None
        process.stdin.write(json.dumps(command).encode() + b"\n")
        reply = await self._read(node)
        if "error" in reply:
            raise QuicBenchError(f"{self._carrier}, node {node}: {reply['error']}")
        return reply

    async def _read(self, node: int) -> dict[str, Any]:
        stdout = self._processes[node].stdout
        assert stdout is not None
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                line = await stdout.readline()
        except TimeoutError as error:
            raise QuicBenchError(f"{self._carrier}, node {node}: no answer{self._last_words(node)}") from error
        if not line:
            raise QuicBenchError(f"{self._carrier}, node {node} is gone{self._last_words(node)}")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _last_words(self, node: int) -> str:
        words = (self.folder / f"node-{node}.err").read_text(errors="replace").strip().splitlines()
        return f": {words[-1][:300]}" if words else ""

    async def stop(self, node: int) -> None:
        """End a process in good order, as its standard input closes."""
        process = self._processes.pop(node)
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def close(self) -> None:
        """End every process."""
        await asyncio.gather(*(self.stop(node) for node in list(self._processes)))


@asynccontextmanager
async def running(folder: Path, nodes: int, carrier: str = "endpoint", **settings: Any) -> AsyncIterator[QuicCluster]:
    """A started cluster; nothing is left of it afterwards."""
    cluster = QuicCluster(folder, nodes, carrier, settings)
    try:
        await cluster.start_all()
        yield cluster
    finally:
        await cluster.close()
