"""What an operator's monitor does to change who votes: read the running epoch, sign the change, wait for the next."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from core.attach import SwarmClient
from core.session import SessionError
from core.swarm_questions import REPLY_TIMEOUT_S
from core.telemetry_messages import Control, epoch_from_dict
from net.epoch import Epoch
from net.membership import Membership
from net.membership_change import sign_change

CHANGE_ATTEMPTS = 5


async def running_epoch(client: SwarmClient) -> Epoch:
    """The epoch that the leader is in. Raises SessionError when no leader answers."""
    deadline = time.monotonic() + REPLY_TIMEOUT_S
    while client.snapshot().leader is None and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    reply = await client.ask_leader(Control.EPOCH, {})
    if not isinstance(reply, dict) or "number" not in reply:
        raise SessionError(reply if isinstance(reply, str) else str(reply.get("text")))
    return epoch_from_dict(reply)


async def change_members(client: SwarmClient, change: Callable[[Membership], Membership]) -> None:
    """Sign a change of the membership, submit it, and wait until an epoch of those members runs.

    A change that another epoch overtook is made again over that one. Raises SessionError when it does not come
    about, MembershipError for what the mode cannot be.
    """
    identity = client.identity
    for _ in range(CHANGE_ATTEMPTS):
        epoch = await running_epoch(client)
        after = change(epoch.membership)
        if after == epoch.membership:
            return
        leader = client.snapshot().leader
        hint = leader if leader in after.voters else None
        payload = sign_change(epoch, after, hint, identity.id, identity.sign)
        await client.ask_leader(Control.CHANGE_MEMBERS, {"change": payload})
        deadline = time.monotonic() + REPLY_TIMEOUT_S
        while time.monotonic() < deadline and max(client.epochs(), default=0) <= epoch.number:
            await asyncio.sleep(0.05)
    raise SessionError(f"the membership did not change in {CHANGE_ATTEMPTS} attempts; see the event log")
