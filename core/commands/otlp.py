"""`tradetui otlp`: sends a running swarm's cycles to an OpenTelemetry collector. Nothing is sent unless it runs."""

from __future__ import annotations

import argparse
import asyncio
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from rich.console import Console

from core.config import ConfigError
from core.session import Session, SessionError, find_session

INTERVAL_S = 0.5
TIMEOUT_S = 5.0
TOLD_EVERY_S = 10.0


def add_otlp_command(commands: Any) -> None:
    """Add the sub-command to an argparse sub-parser collection."""
    otlp = commands.add_parser("otlp", help="send traces and metrics of a running swarm to an OpenTelemetry collector")
    otlp.add_argument("session", type=Path, nargs="?", metavar="SESSION", help="default: the one that runs")
    otlp.add_argument("--endpoint", default="http://127.0.0.1:4318", metavar="URL", help="OTLP over HTTP")
    otlp.add_argument("--seconds", type=float, default=0.0, metavar="S", help="end after so long; 0: without end")
    otlp.set_defaults(run=_otlp)


def _otlp(arguments: argparse.Namespace, console: Console) -> int:
    if not arguments.endpoint.startswith(("http://", "https://")) or arguments.seconds < 0:
        raise ConfigError(
            f"otlp wants --endpoint http://HOST:PORT, not {arguments.endpoint!r}, and --seconds of 0 or more"
        )
    session = find_session(arguments.session)
    sent = asyncio.run(export(session, arguments.endpoint.rstrip("/"), arguments.seconds, console))
    return 0 if sent else 1


async def export(session: Session, endpoint: str, seconds: float, console: Console) -> int:
    """Send until `seconds` are over (0: for ever); returns the cycles that a collector took. Raises SessionError
    where the swarm does not run, or ends before.

    Nodes keep the traces of their last 20 cycles and are asked twice a second: of a faster swarm some are left out. All
    are asked for what they have not told yet; what becomes of orders after their cycle is sent when it is known.
    Durations are of cycles that began after this did: whoever was started again counts none a second time.
    """
    from core.attach import SwarmClient
    from core.otlp import OtlpError, metrics_request, trace_request
    from core.statistics import newer_than
    from core.trace_backlog import TraceBacklog

    session.must_run()
    client = SwarmClient(session, owns_swarm=False, read_only=True, push_interval_s=INTERVAL_S)
    name, sent, failed = session.directory.name, 0, ""
    began = told = time.monotonic()
    counted = 0
    backlog, marks = TraceBacklog(), dict[int, int]()
    began_ns = since_ns = time.time_ns()
    await client.connect()
    try:
        while not seconds or time.monotonic() < began + seconds:
            await asyncio.sleep(INTERVAL_S)
            trace = await client.trace_after(marks)
            snapshot = client.snapshot()
            backlog.hear(trace, snapshot.cycles)
            cycles = backlog.ready()
            fresh = [record for record in newer_than(snapshot.cycles, counted) if record.started_ns >= began_ns]
            try:
                traces = trace_request(name, cycles) if cycles else b""
                metrics = metrics_request(name, snapshot, fresh, since_ns) if fresh else b""
            except OtlpError as error:
                raise SessionError(str(error)) from None
            # each by itself: a collector may take the one and not the other
            try:
                if traces:
                    await asyncio.to_thread(post, f"{endpoint}/v1/traces", traces)
                    backlog.sent()
                    sent += sum(cycle.is_new for cycle in cycles)
            except OSError as error:
                failed = f"{endpoint}/v1/traces: {error}"
            try:
                if metrics:
                    await asyncio.to_thread(post, f"{endpoint}/v1/metrics", metrics)
                    counted, since_ns = fresh[-1].cycle, snapshot.taken_ns
            except OSError as error:
                failed = f"{endpoint}/v1/metrics: {error}"
            if time.monotonic() > told + TOLD_EVERY_S:
                told = time.monotonic()
                _tell(sent, failed, console)
            session.must_run()
    finally:
        await client.close()
        _tell(sent, failed, console)
    return sent


def _tell(sent: int, failed: str, console: Console) -> None:
    console.print(f"{sent:,} cycles sent{f'; last failure: {failed}' if failed else ''}", highlight=False)


def post(url: str, body: bytes) -> None:
    """One OTLP request. Raises OSError where nobody takes it: what it held is lost, trading is not held up."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/x-protobuf"}, method="POST")
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
        response.read()
