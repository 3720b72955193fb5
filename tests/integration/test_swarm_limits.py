"""Limits changed in a trading swarm, by the command line's own code: nodes and gateway obey, orders shrink."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import pytest
from rich.console import Console

from core.commands.limits import set_limits, show_limits
from core.session import Session, SessionError
from tests.integration.books import check_books
from tests.integration.swarm import RunningSwarm, running_swarm, until
from tests.integration.test_swarm import settle

pytestmark = [pytest.mark.swarm, pytest.mark.timeout(300)]


async def narrowed(swarm: RunningSwarm, order_notional_max: float) -> None:
    """Set it, and wait until every node and the gateway obey."""
    heard = sum("obeys the limits" in text for text in swarm.events())
    said = Console(file=io.StringIO(), width=200)
    await set_limits(swarm.session, {"order_notional_max": order_notional_max}, said)
    assert f"order_notional_max {order_notional_max:,.10g}" in said.file.getvalue()  # type: ignore[attr-defined]
    await until(
        lambda: sum("obeys the limits" in text for text in swarm.events()) > heard, 30, "the gateway obeys new limits"
    )
    shown = swarm.snapshot
    await until(lambda: shown().limits["order_notional_max"] == order_notional_max, 10, "the monitor shows it")


def test_limits_change_while_the_swarm_trades_in_both_modes(tmp_path: Path) -> None:
    async def narrow() -> Session:
        async with running_swarm(tmp_path, toggles="b,m=bft,p", cycles=80) as swarm:
            await narrowed(swarm, 20_000)
            with pytest.raises(SessionError, match="gross_exposure_soft"):
                await set_limits(swarm.session, {"gross_exposure_max": 10.0}, Console(file=io.StringIO()))
            known = {order.client_order_id for order in swarm.snapshot().orders}
            await swarm.cycles(5)
            fresh = [order for order in swarm.snapshot().orders if order.client_order_id not in known]
            assert all(order.quantity * order.limit_price <= 20_000 for order in fresh)
            await swarm.client.press("m")
            await until(lambda: swarm.client.cycles[-1].toggles.consensus == "raft", 60, "Raft")
            await narrowed(swarm, 15_000)
            swarm.kill("gateway")
            await until(lambda: swarm.snapshot().cycles_total >= 80, 150, "the last cycle")
            await settle(swarm)
            said = Console(file=io.StringIO(), width=200)
            await show_limits(swarm.session, said)
            assert "15,000" in said.file.getvalue()  # type: ignore[attr-defined]
            return swarm.session

    session = asyncio.run(narrow())
    assert (session.folder("gateway") / "limits").is_file()
    check_books(session)
