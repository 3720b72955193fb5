"""`tradetui limits`: what the swarm may do at most, and changing that while it trades."""

from __future__ import annotations

import asyncio
import time
from dataclasses import fields, replace
from math import isfinite

from rich.console import Console
from rich.table import Table

from core.attach import SwarmClient
from core.limits import Limits
from core.market.load import load_market
from core.session import Session, SessionError

TIMEOUT_S = 10.0
NAMES = tuple(each.name for each in fields(Limits))


def parse_changes(words: list[str]) -> dict[str, float]:
    """`order_notional_max=150000` and its like, by name. Raises SessionError naming the bad word."""
    changes = {}
    for word in words:
        name, equals, value = word.partition("=")
        if name not in NAMES or not equals:
            raise SessionError(f"{word!r} sets no limit; want NAME=VALUE with a name of {', '.join(NAMES)}")
        try:
            number = float(value.replace(",", "").replace("_", ""))
        except ValueError:
            raise SessionError(f"{word!r}: {value!r} is no number") from None
        if not isfinite(number):
            raise SessionError(f"{word!r}: there is no swarm without a limit; want a number")
        changes[name] = number
    return changes


def changed(before: Limits, changes: dict[str, float], quantum: float) -> Limits:
    """`before` with `changes`, which are in quote currency (`quantum` of it a unit) and, for the band, basis points.

    Raises SessionError where the whole makes no sense; then nothing is changed.
    """
    try:
        return replace(before, **_in_quanta(changes, quantum))
    except ValueError as error:
        raise SessionError(str(error)) from None


async def show_limits(session: Session, console: Console) -> None:
    """Print the limits that the swarm has. Raises SessionError where it does not run."""
    client = await _connected(session)
    try:
        console.print(_table(client.snapshot().limits))
    finally:
        await client.close()


async def set_limits(session: Session, changes: dict[str, float], console: Console) -> None:
    """Change some limits of a running swarm. Raises SessionError where it does not run, or refuses them."""
    client = await _connected(session)
    try:
        spec = load_market(session.settings().data).spec
        quantum = spec.tick_size * spec.lot_size
        before = Limits(**_in_quanta(client.snapshot().limits, quantum))
        text = await client.change_limits(changed(before, changes, quantum))
        console.print(text, highlight=False)
    finally:
        await client.close()


async def _connected(session: Session) -> SwarmClient:
    """A client that has heard what the limits are. Raises SessionError."""
    if session.running() is None:
        raise SessionError(f"{session.directory.name} does not run")
    client = SwarmClient(session, owns_swarm=False)
    await client.connect()
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        snapshot = client.snapshot()
        if snapshot.limits and snapshot.leader is not None:
            return client
        await asyncio.sleep(0.02)
    await client.close()
    raise SessionError(f"no leader of {session.directory.name} answered within {TIMEOUT_S:g} s")


def _in_quanta(values: dict[str, float], quantum: float) -> dict[str, int]:
    return {name: round(value) if name.endswith("_bps") else round(value / quantum) for name, value in values.items()}


def _table(limits: dict[str, float]) -> Table:
    table = Table("limit", "value", "unit")
    for name, value in limits.items():
        table.add_row(name, f"{value:,.10g}", "basis points" if name.endswith("_bps") else "quote currency")
    return table
