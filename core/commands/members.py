"""`tradetui members`: who votes, and admitting and removing nodes while the swarm trades."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import chain

from rich.console import Console
from rich.table import Table

from core.attach import SwarmClient
from core.change_members import change_members, running_epoch
from core.faults import Fault
from core.session import NODES_MAX, Session, SessionError
from net.consensus import ReplicaStatus
from net.membership import Member, Membership, MembershipError

TIMEOUT_S = 120.0
NEAR_ENTRIES = 64
"""A learner this close to the log's end is given its vote."""


async def show_members(session: Session, console: Console) -> None:
    """Print every member, whether it votes, and how far it is."""
    client = await _connected(session)
    try:
        membership = (await running_epoch(client)).membership
        table = Table("node", "part", "entry", "reachable")
        for member in membership.members:
            status = next((each for each in client.snapshot().nodes if each.node == member.node), None)
            replica = status.replica if status is not None else None
            table.add_row(
                str(member.node),
                "voter" if member.voter else "learner",
                f"{replica.commit_index:,}" if replica is not None else "-",
                "yes" if status is not None and status.reachable else "no",
            )
        console.print(table)
    finally:
        await client.close()


async def add_node(session: Session, console: Console) -> int:
    """Start a further node, let it learn the log, and give it a vote; returns its id. A node that an earlier call left
    without its vote comes first.

    Raises SessionError where there is no room, or it does not come about within `TIMEOUT_S` a step.
    """
    client = await _connected(session)
    try:
        membership = (await running_epoch(client)).membership
        without_vote = (member.node for member in membership.members if not member.voter)
        free = (each for each in range(NODES_MAX) if each not in membership.nodes)
        node = next(chain(without_vote, free), None)
        entry = session.roster().get(node) if node is not None else None
        if node is None or entry is None or entry.address is None:
            raise SessionError(f"this session has keys for {NODES_MAX} nodes, and all are members; remove one first")
        _want(session, tuple(dict.fromkeys((*session.wanted_nodes(), node))))
        console.print(f"node {node}: starting")
        await _until(lambda: _runs(session, node), f"node {node} starts")
        began = time.monotonic()
        learner = Member(node, entry.public_key, voter=False)
        await change_members(client, lambda before: _with(before, learner))
        console.print(f"node {node}: learning the log")
        await _until(lambda: _is_near(client, node), f"node {node} catches up")
        index = _commit_index(client, node)
        console.print(f"node {node}: at entry {index:,} after {time.monotonic() - began:.1f} s")
        await change_members(client, lambda before: _with(before, replace(learner, voter=True)))
        await _until(lambda: node in _newest(client).voters, f"node {node} votes")
        console.print(f"node {node} votes; voters are {', '.join(map(str, _newest(client).voters))}")
        return node
    finally:
        await client.close()


async def remove_node(session: Session, node: int, console: Console) -> None:
    """Take `node` out of the swarm and end its process, that of one that is out already too.

    Raises SessionError where it is neither a member nor runs, or is needed.
    """
    client = await _connected(session)
    try:
        before = (await running_epoch(client)).membership
        if before.member(node) is None and node in session.wanted_nodes():
            # An earlier `add` or `remove` was left half-way.
            _dismiss(session, node)
            console.print(f"node {node} is no member; its process ends")
            return
        if before.member(node) is None:
            raise SessionError(f"node {node} is no member; members are {', '.join(map(str, before.nodes))}")
        if len(before.voters) <= 4 and node in before.voters:
            raise SessionError(f"{len(before.voters)} nodes vote; Byzantine agreement needs 4: add one first")
        await change_members(client, lambda members: _without(members, node))
        _dismiss(session, node)
        console.print(f"node {node} is out; voters are {', '.join(map(str, _newest(client).voters))}")
    finally:
        await client.close()


async def _connected(session: Session) -> SwarmClient:
    if session.running() is None:
        raise SessionError(f"{session.directory.name} does not run; start it with `tradetui --session DIR`")
    client = SwarmClient(session, owns_swarm=False)
    await client.connect()
    try:
        await _until(lambda: client.snapshot().leader is not None, "a node leads")
    except SessionError:
        await client.close()
        raise
    return client


async def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise SessionError(f"{what}: not within {TIMEOUT_S:g} s; see the event log of the monitor")
        await asyncio.sleep(0.05)


def _want(session: Session, nodes: tuple[int, ...]) -> None:
    state = session.running()
    if state is None:
        raise SessionError("the supervisor is gone")
    session.want_nodes(nodes)
    os.kill(state.supervisor_pid, signal.SIGUSR1)


def _dismiss(session: Session, node: int) -> None:
    _want(session, tuple(each for each in session.wanted_nodes() if each != node))
    session.set_fault(node, Fault.NONE)  # nobody is left to do wrong, and the next under this name does right


def _runs(session: Session, node: int) -> bool:
    state = session.read_swarm()
    return state is not None and any(
        process.name == f"node-{node}" and process.state == "running" for process in state.processes
    )


def _with(before: Membership, member: Member) -> Membership:
    rows = {each.node: each for each in before.members} | {member.node: member}
    return Membership(tuple(rows[node] for node in sorted(rows)))


def _without(before: Membership, node: int) -> Membership:
    after = Membership(tuple(each for each in before.members if each.node != node))
    if not after.voters:
        raise MembershipError("nobody would vote")
    return after


def _newest(client: SwarmClient) -> ReplicaStatus:
    replicas = [status.replica for status in client.snapshot().nodes if status.replica is not None]
    return max(replicas, key=lambda replica: (replica.epoch, replica.commit_index))


def _commit_index(client: SwarmClient, node: int) -> int:
    status = next((each for each in client.snapshot().nodes if each.node == node), None)
    return status.replica.commit_index if status is not None and status.replica is not None else 0


def _is_near(client: SwarmClient, node: int) -> bool:
    return _commit_index(client, node) >= max(1, _newest(client).commit_index - NEAR_ENTRIES)
