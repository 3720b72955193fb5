"""A monitor that has only an address, a roster and a key; what its key lets it do; who is in control of the swarm."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from core.attach import SwarmClient
from core.faults import Fault
from core.session import GATEWAY_ID, SessionError
from core.swarm_place import RemotePlace
from core.telemetry_messages import Control
from core.toggles import OPTIMISED
from core.trading_state import TradingState
from net.identity import Identity, Roster, RosterEntry
from tests.integration.swarm import RunningSwarm, running_swarm, until
from tests.tui.terminal import Terminal

pytestmark = [pytest.mark.swarm, pytest.mark.timeout(240)]
HERE = {"PYTHONPATH": str(Path(__file__).parents[2])}


def place(swarm: RunningSwarm, key: str, node: int = 1) -> RemotePlace:
    session = swarm.session
    entry = session.roster().get(node)
    assert entry is not None
    assert entry.address is not None
    return RemotePlace("{}:{}".format(*entry.address), session.roster_file, session.key_file(key))


async def refused(ask: Callable[[], Awaitable[object]]) -> str:
    with pytest.raises(SessionError) as caught:
        await ask()
    return str(caught.value)


def test_observers_and_operators_from_elsewhere(tmp_path: Path) -> None:
    async def sitting() -> None:
        async with running_swarm(tmp_path, toggles="baseline") as swarm:
            await an_observer_changes_nothing(swarm)
            await operators_hand_control_over(swarm)
            await the_command_shows_it(swarm)

    asyncio.run(sitting())


async def an_observer_changes_nothing(swarm: RunningSwarm) -> None:
    observer = SwarmClient(place(swarm, "observer-7"), owns_swarm=False)
    await observer.connect()
    try:
        await until(lambda: len(observer.snapshot().nodes) == 4 and observer.cycles, 30, "every node is found")
        await until(lambda: observer.snapshot().gateway_connected, 10, "and the gateway")
        await until(lambda: swarm.session.directory.name in observer.snapshot().session, 10, "and its name")
        book = await observer.ladder(observer.snapshot().positions[0].instrument, 5)
        assert len(book.bids) == len(book.asks) == 5
        assert book.bids[0].price < book.asks[0].price
        assert observer.read_only
        assert "read-only" in await observer.press("b")
        observer.read_only = False  # a monitor that was tampered with
        looks_on = "an observer looks on"
        assert looks_on in await observer.press("b")
        assert looks_on in await refused(lambda: observer.set_toggles(OPTIMISED))
        assert looks_on in await refused(lambda: observer.set_fault(2, Fault.SILENT))
        assert looks_on in await refused(observer.take_control)
        assert looks_on in await refused(lambda: observer.export_profile(swarm.session.directory, "", 0.1))
        members = await observer.ask_leader(Control.CHANGE_MEMBERS, {"change": b""})
        assert looks_on in members["text"]
        assert "machine" in await refused(lambda: observer.kill_node(0))
        answer = await observer.change_trading(TradingState.HALTED, "not mine to say")
        assert "may not" in answer.gateway
        assert looks_on in answer.swarm
        await swarm.cycles(2)
        snapshot = swarm.snapshot()
        assert (snapshot.trading, snapshot.toggles.batching) == ("active", False)
        assert not any(caption.startswith("fault") for caption in snapshot.captions)
    finally:
        await observer.close()


async def operators_hand_control_over(swarm: RunningSwarm) -> None:
    here = swarm.client
    elsewhere = SwarmClient(place(swarm, "operator-6", node=3), owns_swarm=False)
    await elsewhere.connect()
    try:
        await until(lambda: elsewhere.cycles and elsewhere.snapshot().gateway_connected, 30, "it is linked")
        await here.take_control_if_free()
        await until(lambda: here.in_control and elsewhere.holder() == here.holder(), 5, "both see who")
        assert "is in control; C takes over" in await elsewhere.press("b")
        assert "is in control" in await refused(lambda: elsewhere.set_fault(2, Fault.SLOW))
        await elsewhere.take_control_if_free()
        assert not elsewhere.in_control, "it is not free"
        assert "operator-6" in await elsewhere.take_control()
        await until(lambda: elsewhere.in_control and not here.in_control, 5, "handed over")
        assert "operator-6" in await here.press("b")
        assert "b: now" in await elsewhere.press("b")
        await elsewhere.set_fault(2, Fault.SLOW)
        await until(lambda: any("node 2 sends" in c for c in elsewhere.snapshot().captions), 5, "the node names it")
        await elsewhere.set_fault(2, Fault.NONE)
    finally:
        await elsewhere.close()
    await until(lambda: here.holder() is None, 5, "who leaves is in control no more")
    assert "b: now" in await here.press("b")


async def the_command_shows_it(swarm: RunningSwarm) -> None:
    session, where = swarm.session, place(swarm, "operator-5")
    command = [sys.executable, "-m", "tui.commands", "attach", where.name]
    command += ["--roster", str(session.roster_file), "--key", str(session.key_file("operator-5"))]
    with Terminal(command, 120, 40, HERE) as monitor:

        def shows(word: str) -> Callable[[], bool]:
            return lambda: (monitor.pump(0.02), word in monitor.text())[1]

        await until(shows(" in control "), 60, "it takes control, for nobody has it")
        holder = swarm.client.holder()
        assert holder is not None
        assert holder.name == "operator-5"
        await swarm.client.take_control()
        await until(shows("operator-0"), 10, "it says who has it now")
        monitor.send(b"b")
        try:
            await until(shows("C takes over"), 10, "and refuses nothing silently")
        except AssertionError:
            print(monitor.text())
            raise
        monitor.send(b"C")
        await until(lambda: (monitor.pump(0.02), not swarm.client.in_control)[1], 10, "a key takes it back")


def test_who_is_no_member_or_names_no_node_is_told_what_to_do(tmp_path: Path) -> None:
    node, gateway, me = (Identity.generate(i) for i in (0, GATEWAY_ID, 210))
    roster_file, key = tmp_path / "roster.toml", tmp_path / "me.key"
    entries = [
        RosterEntry(0, "node-0", "node", node.public_key, ("127.0.0.1", 7000)),
        RosterEntry(GATEWAY_ID, "gateway", "gateway", gateway.public_key, ("127.0.0.1", 7100)),
    ]
    Roster(entries).save(roster_file)
    with pytest.raises(SessionError, match="keys new"):
        RemotePlace("127.0.0.1:7000", roster_file, key)
    me = Identity.load_or_create(key, 210)
    with pytest.raises(SessionError, match=me.public_key.hex()):
        RemotePlace("127.0.0.1:7000", roster_file, key)
    Roster([*entries, RosterEntry(210, "me", "observer", me.public_key)]).save(roster_file)
    with pytest.raises(SessionError, match=r"node 0 127\.0\.0\.1:7000.*--node N"):
        RemotePlace("127.0.0.1:7001", roster_file, key)
    with pytest.raises(SessionError, match="must be host:port"):
        RemotePlace("127.0.0.1", roster_file, key)
    assert RemotePlace("127.0.0.1:7001", roster_file, key, node=0).first_peers()[0] == ("127.0.0.1", 7001)
    assert RemotePlace("localhost:7000", roster_file, key).read_only
