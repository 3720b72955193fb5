"""What `tradetui otlp` costs a running swarm: blocks of cycles with it on and off, A B B A, on one machine.

The whole of it is on that machine: nodes, gateway and venue that tell what they did, the exporter that makes it OTLP,
and a collector that takes it and does nothing else. While it is off nobody asks, and nothing is packed or sent; what
gateway and venue keep of each order all the same is timed by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.progress import Progress

from core.attach import SwarmClient
from core.bench.cycle_blocks import cycles_from_now
from core.bench.processor import processor_s
from core.bench.rows import ROUNDS_MIN, Row, row_of_pairs
from core.commands.otlp import export
from core.cycle_trace import Stage
from core.gateway.connector import Refusal
from core.gateway.order_trace import OrderTrace
from core.orders.order import OrderRequest, TimeInForce
from core.otlp import OtlpError, trace_request
from core.records import CycleRecord
from core.session import Session, SessionError
from core.venue.order_times import OrderTimes

FIRST_TIMEOUT_S = 30.0
BLOCKS_LONGER = 3
"""An exporter asks twice a second: a block must see that more than once."""


@dataclass(frozen=True, slots=True)
class Replicate:
    """Of blocks A B B A, with export and without. Means, not medians: few cycles of a block hold all of the cost."""

    wall_ms: tuple[float, float]
    """Of a cycle."""
    processor_ms: tuple[float, float]
    """Of all processes, a cycle."""


class ExportSwitch:
    """Exports while it is on."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._exporting: asyncio.Task[int] | None = None
        self._arrived = asyncio.Event()
        self._endpoint = ""
        self.requests = 0
        self.bytes_taken = 0

    @contextlib.asynccontextmanager
    async def collector(self) -> AsyncIterator[None]:
        """The collector listens within this block; exporting has ended with it."""
        server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self._endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield
        finally:
            await self.set(False)
            server.close()
            await server.wait_closed()

    async def set(self, on: bool) -> None:
        """Returns once traces arrive, or nothing is exported any more. Raises SessionError where none arrive."""
        if on and self._exporting is None:
            self._arrived.clear()
            console = Console(quiet=True)
            self._exporting = asyncio.create_task(export(self._session, self._endpoint, 0.0, console))
            arrived = asyncio.create_task(self._arrived.wait())
            await asyncio.wait({arrived, self._exporting}, timeout=FIRST_TIMEOUT_S, return_when="FIRST_COMPLETED")
            arrived.cancel()
            if self._exporting.done():
                self._exporting.result()
            if not self._arrived.is_set():
                raise SessionError(f"no traces within {FIRST_TIMEOUT_S:g} s of exporting")
        elif not on and self._exporting is not None:
            exporting, self._exporting = self._exporting, None
            exporting.cancel()
            await asyncio.wait({exporting})
            if not exporting.cancelled():
                exporting.result()

    def processor_s(self) -> float:
        """Used by all processes of the swarm and by this one, which exports."""
        state = self._session.read_swarm()
        pids = [process.pid for process in state.processes if process.pid] if state is not None else []
        return time.process_time() + sum(map(processor_s, pids))

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = int(head.partition("content-length:")[2].partition("\r\n")[0])
            await reader.readexactly(length)
            self.requests += 1
            self.bytes_taken += length
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
            if "/v1/traces" in head.partition("\r\n")[0]:
                self._arrived.set()
        writer.close()


async def export_rows(
    client: SwarmClient, session: Session, replicates: int, block_cycles: int, console: Console
) -> list[Row]:
    """Measure on a running swarm. No rows where the protobufs are not installed. Raises SessionError."""
    try:
        trace_request(session.directory.name, [])
    except OtlpError as error:
        console.print(f"what exporting costs is not measured: {error}", style="dim")
        return []
    switch, pairs = ExportSwitch(session), []
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("export on, off, off, on", total=replicates)
        async with switch.collector():
            for turn in range(replicates):
                pairs.append(await _replicate(client, switch, block_cycles * BLOCKS_LONGER, first_on=turn % 2 == 0))
                progress.advance(bar)
    kept = Row("otlp.off_order_ns", "ns an order", kept_order_ns())
    return [*cost_rows(pairs), kept, Row("otlp.request_bytes", "bytes a request", switch.bytes_taken / switch.requests)]


async def _replicate(client: SwarmClient, switch: ExportSwitch, count: int, *, first_on: bool) -> Replicate:
    found: dict[bool, list[float]] = {True: [], False: []}
    used: dict[bool, list[float]] = {True: [], False: []}
    for on in (first_on, not first_on, not first_on, first_on):
        await switch.set(on)
        began_s, first = switch.processor_s(), client.cycles[-1].cycle
        found[on] += await cycles_from_now(client, count, _began_after(time.time_ns()))
        used[on].append((switch.processor_s() - began_s) * 1e3 / (client.cycles[-1].cycle - first))
    wall_ms = (statistics.fmean(found[True]), statistics.fmean(found[False]))
    return Replicate(wall_ms, (statistics.fmean(used[True]), statistics.fmean(used[False])))


def _began_after(since_ns: int) -> Callable[[CycleRecord], bool]:
    return lambda record: record.started_ns >= since_ns


def cost_rows(replicates: Sequence[Replicate]) -> list[Row]:
    """The ratios of cycle time and of processor time; none of fewer replicates than have an interval."""
    if len(replicates) < ROUNDS_MIN:
        return []
    off, on = [each.wall_ms[1] for each in replicates], [each.wall_ms[0] for each in replicates]
    used_off, used_on = [each.processor_ms[1] for each in replicates], [each.processor_ms[0] for each in replicates]
    return [
        row_of_pairs("otlp.cycle_ms", "ms a cycle, export off", off, "export on", on),
        row_of_pairs("otlp.processor_ms", "ms of all processes a cycle, export off", used_off, "export on", used_on),
    ]


def kept_order_ns(repeats: int = 20, orders: int = 100) -> float:
    """Median cost of keeping when gateway and venue had one order in hand, both together, nanoseconds."""
    trace, times, costs = OrderTrace(), OrderTimes(), []
    request = OrderRequest("tt-order", 0, 1, 1, 1, TimeInForce.IOC, step=0, epoch=1, index=1, position=0)
    answer = Refusal(0, "")
    for _ in range(repeats):
        began_ns = time.perf_counter_ns()
        for _ in range(orders):
            trace.add(Stage.EXECUTE, time.perf_counter_ns(), 0, ("tt-order",))
            trace.answered(request, time.perf_counter_ns(), answer)
            times.request()
            times.order(1, "tt-order")
            times.journalled()
        costs.append((time.perf_counter_ns() - began_ns) / orders)
    return statistics.median(costs)
