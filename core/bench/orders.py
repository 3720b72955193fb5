"""`tradetui bench orders`: what parallel orders and async confirmation do to the order path, at named venue latencies.

The product's gateway with its journal (synced) in this process, the product's venue in another, the WebSocket between.
One cycle is eight orders of eight instruments, as `core.order_flow` sends them under each setting of the two toggles:
one after another or eight in flight; waiting for each fill, or going on once they are journalled. All settings are
interleaved in one run. Certificates are not checked here: `tradetui bench consensus` measures consensus.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import uvloop
from rich.console import Console

from core.bench.order_streams import LADDER_TICKS, random_messages, run_plain
from core.bench.order_venue import CLOSE_TICKS, INSTRUMENTS, SCALE, keys_file
from core.bench.rows import Row, interleaved, row_of_pairs, table_of, write_rows
from core.gateway.binance import BinanceConnector
from core.gateway.gateway import Gateway
from core.gateway.release import Authority
from core.gateway.settings import GatewaySettings
from core.orders.identity import client_order_id
from core.orders.order import ExecutionReport, OrderRequest, TimeInForce
from core.records import OrderState
from core.session import LOOPBACK, SessionError
from core.venue.credentials import load_credentials
from core.venue.fees import FeeSchedule
from kernels.order_book import EXPIRE_TAKER, Matched, match_messages

LATENCIES_MS: Final = (0.0, 1.0, 3.0, 10.0)
CYCLES: Final = 5
"""Cycles in a row of one setting and round."""
ROUNDS: Final = 12
WARM_CYCLES: Final = 10
BOOK_MESSAGES: Final = 50_000


@dataclass(frozen=True, slots=True)
class OrderMode:
    """One setting of the two toggles."""

    name: str
    parallel: bool
    background: bool
    """Go on once the orders are journalled."""


MODES: Final = (
    OrderMode("off", parallel=False, background=False),
    OrderMode("parallel", parallel=True, background=False),
    OrderMode("async", parallel=False, background=True),
    OrderMode("both", parallel=True, background=True),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """Of one setting and round."""

    blocked_ms: float
    """That a cycle waits for its orders, mean."""
    orders_per_s: float
    """Until every order of the round was confirmed."""


class OrderPath:
    """A gateway at a benchmark venue, and the eight orders of a cycle."""

    def __init__(self, directory: Path, port: int) -> None:
        settings = GatewaySettings(directory / "gateway")
        connector = BinanceConnector(
            lambda: (LOOPBACK, port), lambda: load_credentials(keys_file(directory)), SCALE, settings
        )
        self.gateway: Gateway[None] = Gateway(
            settings,
            SCALE,
            connector,
            verify=lambda certificate, payload: None,
            on_report=self._reported,
            on_venue_state=lambda state, reason: None,
            on_difference=lambda difference: None,
        )
        self._index = 0
        self._unconfirmed = 0
        self._confirmed = asyncio.Event()

    def _reported(self, report: ExecutionReport) -> None:
        if report.state is OrderState.FILLED:
            self._unconfirmed -= 1
            if self._unconfirmed == 0:
                self._confirmed.set()

    def _orders(self) -> list[OrderRequest]:
        self._index += 1
        side = 1 if self._index % 2 else -1
        limit = CLOSE_TICKS + side * CLOSE_TICKS // 100
        return [
            OrderRequest(
                client_order_id(1, self._index, position, b"bench"),
                position,
                side,
                10,
                limit,
                TimeInForce.IOC,
                step=0,
                epoch=1,
                index=self._index,
                position=position,
            )
            for position in range(INSTRUMENTS)
        ]

    async def measure(self, mode: OrderMode, cycles: int) -> Measured:
        """Run `cycles` cycles under `mode`, and wait for their last confirmation."""
        orders = [self._orders() for _ in range(cycles)]
        self._unconfirmed = cycles * INSTRUMENTS
        self._confirmed.clear()
        blocked_s = 0.0
        began = time.perf_counter()
        for batch in orders:
            started = time.perf_counter()
            await self._cycle(batch, mode)
            blocked_s += time.perf_counter() - started
            # Whatever else a cycle does gives the event loop its turn.
            await asyncio.sleep(0)
        await self._confirmed.wait()
        return Measured(blocked_s / cycles * 1e3, cycles * INSTRUMENTS / (time.perf_counter() - began))

    async def _cycle(self, orders: list[OrderRequest], mode: OrderMode) -> None:
        authority: Authority[None] = Authority(1, 1, None, b"")
        together = [orders] if mode.parallel or mode.background else [[order] for order in orders]
        for part in together:
            release = self.gateway.submit(part, authority, INSTRUMENTS if mode.parallel else 1)
            if not mode.background:
                await release.answered()


async def _measure_latency(latency_ms: float, rounds: int) -> dict[str, list[Measured]]:
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tradetui-bench-orders-")))
        command = [sys.executable, "-m", "core.bench.order_venue", str(directory), str(latency_ms)]
        venue = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        stack.push_async_callback(venue.wait)
        stack.callback(venue.terminate)
        assert venue.stdout is not None
        line = await venue.stdout.readline()
        if not line.strip().isdigit():
            raise SessionError("the venue of the benchmark did not start; run `tradetui doctor`")
        path = OrderPath(directory, int(line))
        await path.gateway.start()
        stack.push_async_callback(path.gateway.stop)
        found: dict[str, list[Measured]] = {mode.name: [] for mode in MODES}
        for mode in MODES:
            await path.measure(mode, WARM_CYCLES)
        for turn in range(rounds):
            start = turn % len(MODES)
            for mode in MODES[start:] + MODES[:start]:
                found[mode.name].append(await path.measure(mode, CYCLES))
        return found


def rows_of(latency_ms: float, found: dict[str, list[Measured]]) -> list[Row]:
    """The rows of one latency."""

    def blocked(mode: str) -> list[float]:
        return [measured.blocked_ms for measured in found[mode]]

    def throughput(mode: str) -> list[float]:
        return [measured.orders_per_s for measured in found[mode]]

    at = f"{latency_ms:g}ms"
    cycle, rate = f"ms a cycle of {INSTRUMENTS} orders", "orders/s"
    both, parallel = throughput("both"), throughput("parallel")
    return [
        row_of_pairs(f"orders.parallel.{at}", cycle, blocked("parallel"), "one after another", blocked("off")),
        row_of_pairs(f"orders.async.{at}", cycle, blocked("async"), "waiting for each fill", blocked("off")),
        row_of_pairs(f"orders.both.{at}", rate, both, "both off", throughput("off"), higher_is_better=True),
        row_of_pairs(f"orders.both.over_parallel.{at}", rate, both, "parallel", parallel, higher_is_better=True),
    ]


def book_row(rounds: int) -> Row:
    """The compiled matching engine against the plain one, on the same messages; both are checked to agree first."""
    messages, fees = random_messages(BOOK_MESSAGES, seed=1), FeeSchedule()

    def compiled() -> Matched:
        return match_messages(messages, LADDER_TICKS, EXPIRE_TAKER, fees.maker_ppm, fees.taker_ppm)

    def plain() -> Matched:
        return run_plain(messages, EXPIRE_TAKER, fees)

    if not all(np.array_equal(ours, theirs) for ours, theirs in zip(compiled(), plain(), strict=True)):
        raise RuntimeError("the two matching engines do not agree; their figures would mean nothing")
    seconds = interleaved({"compiled": compiled, "plain": plain}, rounds)
    rates = {name: [BOOK_MESSAGES / each for each in found] for name, found in seconds.items()}
    name = f"orders.book.{BOOK_MESSAGES}"
    return row_of_pairs(name, "messages/s", rates["compiled"], "plain Python", rates["plain"], higher_is_better=True)


def bench_orders(latencies_ms: Sequence[float], rounds: int, json_file: Path | None, console: Console) -> list[Row]:
    """Measure, print, and write `--json`. Raises SessionError where the venue does not start, ValueError for fewer
    rounds than an interval needs."""
    rows: list[Row] = []
    for latency_ms in latencies_ms:
        console.print(f"venue latency {latency_ms:g} ms (injected): {rounds} rounds", style="dim")
        rows += rows_of(latency_ms, uvloop.run(_measure_latency(latency_ms, rounds)))
    rows.append(book_row(rounds))
    console.print(table_of("order path", rows))
    if json_file is not None:
        settings = {
            "venue_latency_ms": list(latencies_ms),
            "orders_a_cycle": INSTRUMENTS,
            "cycles_a_round": CYCLES,
            "rounds": rounds,
            "journal": "SQLite WAL, synchronous FULL",
            "certificates": "not checked",
        }
        write_rows(json_file, settings, rows)
    return rows
