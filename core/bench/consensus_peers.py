"""Other people's consensus under the same closed loop: PySyncObj where installed, etcd where on the PATH.

Both are Raft. Ours is measured from within the leading process, and so is PySyncObj; etcd is asked by a client of its
JSON gateway over connections that stay open, one a proposal in flight.
"""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import json
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.session import LOOPBACK
from core.supervisor import ONE_THREAD

READY_TIMEOUT_S = 30.0
_PAYLOAD = base64.b64encode(bytes(128)).decode()


class PeerError(RuntimeError):
    """A peer did not start, or refused a command; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Peer:
    """`measure(nodes, in_flight, warm_up_s, seconds)` gives decided, took_s and sorted latencies_ms."""

    name: str
    durable: bool
    measure: Callable[[int, int, float, float], Awaitable[dict[str, Any]]]


def installed_peers() -> list[Peer]:
    """What this machine has to compare with; nothing is installed for it."""
    peers = []
    if importlib.util.find_spec("pysyncobj") is not None:
        peers.append(Peer("PySyncObj, in memory", False, _PySyncObj(durable=False).measure))
        peers.append(Peer("PySyncObj, each append synced", True, _PySyncObj(durable=True).measure))
    if shutil.which("etcd") is not None:
        peers.append(Peer("etcd", True, _measure_etcd))
    return peers


class _PySyncObj:
    def __init__(self, durable: bool) -> None:
        self._durable = durable

    async def measure(self, nodes: int, in_flight: int, warm_up_s: float, seconds: float) -> dict[str, Any]:
        addresses = [f"{LOOPBACK}:{port}" for port in _free_ports(nodes)]
        with tempfile.TemporaryDirectory(prefix="tradetui-bench-") as folder:
            configs = [
                {
                    "node": node,
                    "addresses": addresses,
                    "journal": str(Path(folder) / f"journal-{node}") if self._durable else None,
                    "in_flight": in_flight,
                    "warm_up_s": warm_up_s,
                    "seconds": seconds,
                }
                for node in range(nodes)
            ]
            commands = [[sys.executable, "-m", "core.bench.pysyncobj_node", json.dumps(each)] for each in configs]
            async with _running(commands) as processes:
                said = [json.loads(await _line(process, READY_TIMEOUT_S)) for process in processes]
                leader = next((at for at, each in enumerate(said) if each["leads"]), None)
                if leader is None:
                    raise PeerError("PySyncObj: its nodes disagree on who leads")
                stdin = processes[leader].stdin
                assert stdin is not None
                stdin.write(b"load\n")
                run: dict[str, Any] = json.loads(await _line(processes[leader], warm_up_s + seconds + READY_TIMEOUT_S))
                return run


async def _measure_etcd(nodes: int, in_flight: int, warm_up_s: float, seconds: float) -> dict[str, Any]:
    ports = _free_ports(2 * nodes)
    clients, peers = ports[:nodes], ports[nodes:]
    members = ",".join(f"n{node}=http://{LOOPBACK}:{port}" for node, port in enumerate(peers))
    with tempfile.TemporaryDirectory(prefix="tradetui-bench-") as folder:
        commands = [
            [
                *("etcd", "--name", f"n{node}", "--data-dir", f"{folder}/n{node}", "--log-level", "error"),
                *("--listen-client-urls", f"http://{LOOPBACK}:{clients[node]}"),
                *("--advertise-client-urls", f"http://{LOOPBACK}:{clients[node]}"),
                *("--listen-peer-urls", f"http://{LOOPBACK}:{peers[node]}"),
                *("--initial-advertise-peer-urls", f"http://{LOOPBACK}:{peers[node]}"),
                *("--initial-cluster", members),
            ]
            for node in range(nodes)
        ]
        async with _running(commands):
            leader = await _etcd_leader(clients)
            latencies_ms: list[float] = []
            stop_at = time.perf_counter() + warm_up_s + seconds
            loops = [asyncio.create_task(_etcd_loop(leader, at, stop_at, latencies_ms)) for at in range(in_flight)]
            await asyncio.sleep(warm_up_s)
            latencies_ms.clear()
            began = time.perf_counter()
            await asyncio.gather(*loops)
            return {
                "took_s": time.perf_counter() - began,
                "latencies_ms": sorted(latencies_ms),
                "decided": len(latencies_ms),
            }


async def _etcd_leader(ports: list[int]) -> int:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        for port in ports:
            try:
                reader, writer = await asyncio.open_connection(LOOPBACK, port)
                status = await _etcd_call(reader, writer, "/v3/maintenance/status", {})
                writer.close()
            except (OSError, asyncio.IncompleteReadError, ValueError):
                continue
            if status.get("leader") and status["leader"] == status["header"]["member_id"]:
                return port
        await asyncio.sleep(0.1)
    raise PeerError(f"etcd: no leader within {READY_TIMEOUT_S:g} s")


async def _etcd_loop(port: int, key: int, stop_at: float, latencies_ms: list[float]) -> None:
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    body = {"key": base64.b64encode(str(key).encode()).decode(), "value": _PAYLOAD}
    while (began := time.perf_counter()) < stop_at:
        answer = await _etcd_call(reader, writer, "/v3/kv/put", body)
        if "error" in answer:
            raise PeerError(f"etcd: {answer['error']}")
        latencies_ms.append((time.perf_counter() - began) * 1e3)
    writer.close()


async def _etcd_call(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, body: dict[str, str]
) -> dict[str, Any]:
    data = json.dumps(body).encode()
    writer.write(f"POST {path} HTTP/1.1\r\nHost: {LOOPBACK}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = int(head.split("content-length:", 1)[1].split("\r\n", 1)[0])
    answer: dict[str, Any] = json.loads(await reader.readexactly(length))
    return answer


@asynccontextmanager
async def _running(commands: list[list[str]]) -> AsyncIterator[list[asyncio.subprocess.Process]]:
    """These processes; nothing is left of them afterwards."""
    processes: list[asyncio.subprocess.Process] = []
    try:
        for command in commands:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env=os.environ | ONE_THREAD,
                limit=1 << 24,
            )
            processes.append(process)
        yield processes
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _line(process: asyncio.subprocess.Process, timeout_s: float) -> bytes:
    assert process.stdout is not None
    try:
        async with asyncio.timeout(timeout_s):
            line = await process.stdout.readline()
    except TimeoutError as error:
        raise PeerError(f"a peer's process says nothing within {timeout_s:g} s") from error
    if not line:
        raise PeerError("a peer's process ended")
    return line


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
