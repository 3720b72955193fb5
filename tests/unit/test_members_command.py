"""`tradetui members`: what a change that was left half-way leaves, and how it is brought to its end."""

from __future__ import annotations

import asyncio
import io
import os
import signal
from pathlib import Path

import pytest
from rich.console import Console

import core.commands.members
from core.commands.members import remove_node
from core.config import load_settings, write_settings
from core.faults import Fault
from core.session import Session, SessionError, SwarmState
from net.epoch import Epoch, first_epoch
from net.membership import Member, Membership
from net.messages import Mode


class Swarm:
    """Led by node 0; its members are nodes 0 to 3."""

    closed = False

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    session = Session(tmp_path)
    write_settings(load_settings(), session.settings_file)
    state = SwarmState(4711, 0, "running", True)
    monkeypatch.setattr(Session, "running", lambda self: state)

    async def connected(_: Session) -> Swarm:
        return Swarm()

    async def epoch(_: Swarm) -> Epoch:
        return first_epoch(Mode.RAFT, 0, Membership(tuple(Member(k, bytes(32), voter=True) for k in range(4))))

    monkeypatch.setattr(core.commands.members, "_connected", connected)
    monkeypatch.setattr(core.commands.members, "running_epoch", epoch)
    return session


def test_the_process_of_a_node_that_is_out_already_can_still_be_ended(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    signals: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: signals.append((pid, number)))
    session.want_nodes((0, 1, 2, 3, 4))  # a Ctrl-C came between the change and this
    session.set_fault(4, Fault.SILENT)
    session.set_fault(2, Fault.SLOW)
    said = io.StringIO()
    asyncio.run(remove_node(session, 4, Console(file=said)))
    assert session.wanted_nodes() == (0, 1, 2, 3)
    assert signals == [(4711, signal.SIGUSR1)]
    assert session.read_faults() == {2: Fault.SLOW}, "every caption would name a node that is not there"
    assert said.getvalue() == "node 4 is no member; its process ends\n"
    with pytest.raises(SessionError, match="node 4 is no member; members are 0, 1, 2, 3"):
        asyncio.run(remove_node(session, 4, Console(file=said)))
