"""What an operator's monitor does to change the toggles: read the running epoch, sign for it, have it committed."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from core.session import SessionError
from core.swarm_questions import obeyed
from core.telemetry_messages import Control, epoch_from_dict
from core.toggle_change import CONSENSUS_OF, ToggleChange, encode_toggles
from core.toggles import Toggles, from_dict
from net.epoch import Epoch
from net.mode_switch import SwitchError

SIGN_AGAIN_S = 10.0
"""Another epoch may begin while what was signed for this one waits for a cycle boundary."""


async def change_toggles(
    ask_leader: Callable[[Control, dict[str, Any]], Awaitable[Any]],
    sign: Callable[[Toggles, Epoch], ToggleChange],
    change: Callable[[Toggles], Toggles],
) -> str:
    """Have the swarm run under what `change` makes of its toggles; returns what happened, in a sentence.

    What another epoch overtakes is made and signed anew over that one, for `SIGN_AGAIN_S`. `ask_leader` answers with a
    dict, or with a sentence where there is no answer. Raises SessionError where the swarm refuses, or cannot run so;
    what `change` raises.
    """
    deadline = time.monotonic() + SIGN_AGAIN_S
    while True:
        running = await ask_leader(Control.EPOCH, {})
        if not isinstance(running, dict):
            return str(running)
        epoch = epoch_from_dict(obeyed(running))
        # A node that lies about the mode gets an order that counts nowhere, since it covers the lie. So what is wanted
        # is made for this very epoch, and not kept for another one.
        wanted = change(replace(from_dict(running["toggles"]), consensus=CONSENSUS_OF[epoch.mode]))
        try:
            signed = encode_toggles(sign(wanted, epoch))
        except SwitchError as error:
            raise SessionError(str(error)) from None
        reply = await ask_leader(Control.SET_TOGGLES, {"change": signed})
        if not isinstance(reply, dict):
            return str(reply)
        if not obeyed(reply).get("stale") or time.monotonic() > deadline:
            return str(reply["text"])
