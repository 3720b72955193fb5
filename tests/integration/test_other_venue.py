"""A swarm that trades with another venue than its own, by keys from the environment that nobody but its gateway has."""

from __future__ import annotations

import asyncio
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from core.config import load_settings
from core.market.load import load_market
from core.orders.order import TimeInForce
from core.orders.scale import MarketScale
from core.venue.credentials import load_credentials
from core.venue.exchange import NewOrder
from core.venue.process import TRADER, Venue
from core.venue.replay import ReplayedPrices
from core.venue.server import unix_ms
from core.venue.settings import VenueSettings
from tests.integration.swarm import RunningSwarm, process_ids, running_swarm, until

pytestmark = [pytest.mark.swarm, pytest.mark.timeout(240)]


def holding(secret: str, folder: Path) -> list[str]:
    found = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith((".tmp", ".wal"))]
    return [str(path) for path in found if secret.encode() in path.read_bytes()]


def environment_of(swarm: RunningSwarm, name: str) -> bytes:
    return Path(f"/proc/{swarm.pid(name)}/environ").read_bytes()


@pytest.mark.parametrize("protocol", ["binance", "ccxt"])
def test_keys_stay_with_the_gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str) -> None:
    """Another venue on loopback: no `--live` is wanted. ccxt at the session's own venue, through its REST interface."""
    if protocol == "ccxt":
        pytest.importorskip("ccxt.pro", reason="ccxt is not installed here")

    async def elsewhere() -> None:
        data = load_market(load_settings().data)
        scale = MarketScale.of(data.spec.symbols, data.spec.tick_size, data.spec.lot_size)
        venue = Venue(VenueSettings(tmp_path / "venue", tmp_path / "venue.json"), scale, ReplayedPrices(data))
        port = await venue.start()
        keys = load_credentials(tmp_path / "venue.json")
        monkeypatch.setenv("TRADETUI_VENUE_API_KEY", keys.api_key)
        monkeypatch.setenv("TRADETUI_VENUE_API_SECRET", keys.secret)
        try:
            away = {"venue_address": f"ws://127.0.0.1:{port}", "reconcile_interval_s": 0.5}
            async with running_swarm(tmp_path, **away) as swarm:
                await until(lambda: venue.exchange.orders_of(TRADER), 60, "an order at the other venue")
                venue.exchange.place(TRADER, NewOrder("by-hand", 0, 1, 1, 1, TimeInForce.GTC), unix_ms())
                venue.server.publish()
                told = "gateway: reconciliation: foreign order by-hand: journal absent, venue accepted; left alone"
                await until(lambda: told in swarm.events(), 30, "the monitor is told of a stranger's order")
                assert "venue" not in process_ids(swarm.session)
                assert keys.secret.encode() in environment_of(swarm, "gateway")
                for node in range(4):
                    assert keys.secret.encode() not in environment_of(swarm, f"node-{node}")
                words = " ".join(swarm.events())
                assert keys.secret not in words
                assert keys.api_key not in words
        finally:
            await venue.stop()
        assert holding(keys.secret, tmp_path / "session") == []
        assert holding(keys.api_key, tmp_path / "session") == []

    async def own() -> None:
        async with running_swarm(tmp_path, gateway_protocol="ccxt") as swarm:
            await swarm.cycles(3)
            await until(lambda: swarm.snapshot().orders_filled_total > 0, 60, "an order filled through ccxt")

    asyncio.run(own() if protocol == "ccxt" else elsewhere())


def test_run_refuses_to_send_orders_away_without_live(tmp_path: Path) -> None:
    config = tmp_path / "far.toml"
    config.write_text('venue_address = "wss://venue.example/ws-api/v3"\n')
    for flags, words in (([], "add --live"), (["--live"], "at a terminal")):
        command = [sys.executable, "-m", "tui.commands", "run", "--cycles", "1", "--config", str(config), *flags]
        done = subprocess.run(
            command,
            env={"TRADETUI_HOME": str(tmp_path), "PATH": ""},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2
        assert words in " ".join(done.stderr.split())
        assert not (tmp_path / "sessions").exists()


def test_a_person_types_where_orders_go(tmp_path: Path) -> None:
    """At a terminal, with `--live`: another text than the address starts nothing."""
    config = tmp_path / "far.toml"
    config.write_text('venue_address = "wss://venue.example/ws-api/v3"\n')
    command = [sys.executable, "-m", "tui.commands", "run", "--cycles", "1", "--config", str(config), "--live"]
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command,
        env={"TRADETUI_HOME": str(tmp_path), "PATH": ""},
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.write(ours, b"yes\n")
        out, said = process.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert process.returncode == 2
    assert "Type wss://venue.example/ws-api/v3 to go on" in out
    assert "was not typed: nothing is started" in " ".join(said.split())
    assert not (tmp_path / "sessions").exists()
