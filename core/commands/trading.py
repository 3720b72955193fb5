"""`tradetui kill`, `reduce` and `resume`: the trading state, from the command line."""

from __future__ import annotations

import asyncio
import os
import pwd
import time

from rich.console import Console

from core.attach import SwarmClient, TradingAnswer
from core.session import Session, SessionError
from core.trading_state import TradingState

CONNECT_TIMEOUT_S = 10.0
STATE_OF = {"kill": TradingState.HALTED, "reduce": TradingState.REDUCING, "resume": TradingState.ACTIVE}


async def change_trading(session: Session, state: TradingState, reason: str, console: Console) -> bool:
    """Change the trading state of a running swarm and print what came of it; False where nobody obeyed.

    Raises SessionError when the session does not run.
    """
    if session.running() is None:
        raise SessionError(f"{session.directory.name} does not run; no order can leave it")
    client = SwarmClient(session, owns_swarm=False)
    await client.connect()
    try:
        await _linked(client)
        answer = await client.change_trading(
            state, reason or f"by {_user()}", lambda text: console.print(text, highlight=False)
        )
    finally:
        await client.close()
    console.print(f"swarm: {answer.swarm}", highlight=False)
    return is_obeyed(answer, state)


def is_obeyed(answer: TradingAnswer, state: TradingState) -> bool:
    """Whether the gateway, which alone sends orders, is in this state, or the swarm has committed it."""
    return answer.gateway.endswith(f" is {state}") or answer.swarm.endswith(f" is {state}")


async def _linked(client: SwarmClient) -> None:
    """Give both links a moment: whoever is there by then is told."""
    deadline = time.monotonic() + CONNECT_TIMEOUT_S
    while time.monotonic() < deadline:
        snapshot = client.snapshot()
        if snapshot.gateway_connected and snapshot.leader is not None:
            return
        await asyncio.sleep(0.02)


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
