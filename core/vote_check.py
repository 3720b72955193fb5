"""What a replica asks of an entry before it votes for it: a function of the entry and of the state behind one index."""

from __future__ import annotations

from enum import Enum

from core.limits import check
from core.payload import DecisionBatch, PayloadError, decode
from core.recent_exposure import KEPT_INDICES
from core.swarm_state import JUDGED_INDICES_MAX, SwarmState, marked
from net.membership import Membership
from net.messages import EntryKind
from net.payload_batch import PayloadBatchError, decode_payloads


class ContentVerdict(Enum):
    """What a replica makes of a payload that it is asked to vote for."""

    ACCEPT = "accept"
    REFUSE = "refuse"
    """No honest leader proposes this."""
    WAIT = "wait"
    """The state that the payload was judged on is still to come here."""


def judge_entry(
    state: SwarmState,
    kind: EntryKind,
    payload: bytes,
    members: Membership,
    *,
    leads: bool,
    limits: bool = True,
    index: int | None = None,
) -> ContentVerdict:
    """`judge_content` of every payload of an entry: one that is refused refuses all, one that waits holds all.

    `members` are those of the epoch that it is proposed in. Without `limits` a pure function of the epoch and the
    entry, whenever it is asked.
    """
    if kind is EntryKind.BATCH:
        try:
            payloads = decode_payloads(payload)
        except PayloadBatchError:
            return ContentVerdict.REFUSE
    elif kind is EntryKind.DATA:
        payloads = (payload,)
    else:
        return ContentVerdict.ACCEPT
    waits = False
    for each in payloads:
        verdict = judge_content(state, each, members, leads=leads, limits=limits, index=index)
        if verdict is ContentVerdict.REFUSE:
            return verdict
        waits |= verdict is ContentVerdict.WAIT
    return ContentVerdict.WAIT if waits else ContentVerdict.ACCEPT


def judge_content(
    state: SwarmState,
    payload: bytes,
    members: Membership | None = None,
    *,
    leads: bool,
    limits: bool = True,
    index: int | None = None,
) -> ContentVerdict:
    """The check at a Byzantine vote: `SwarmState.content_is_valid`, and the proposer's word on the limits is true
    behind the very entry that it names. So an order beyond the limits is refused, unless its proposer says itself that
    it is denied.

    Honest replicas never refuse an honest leader. The check is a function of the payload and of the state behind
    one index, the same on all; who has not reached that index waits; who has left it far behind lets the payload
    pass, since it then commits as a denial (`SwarmState.apply`). `index` is the entry's own, where that is known:
    no honest proposer has seen a state that does not come before it. `leads`: a leader, asked before it takes over
    another node's payload, looks further back than any voter that is a window behind it. `members`: whose opinions
    count, by default those whom this state knows; it may stand before the entry that changed them.
    """
    try:
        value = decode(payload)
    except PayloadError:
        return ContentVerdict.REFUSE
    if not state.value_is_valid(value, members or state.membership, signatures=True):
        return ContentVerdict.REFUSE
    if not isinstance(value, DecisionBatch):
        return ContentVerdict.ACCEPT
    if index is not None and value.judged_index >= index:
        return ContentVerdict.REFUSE
    if not limits:
        return ContentVerdict.ACCEPT
    if value.judged_index > state.applied_index:
        return ContentVerdict.WAIT
    if value.judged_index < state.applied_index - (KEPT_INDICES if leads else JUDGED_INDICES_MAX):
        return ContentVerdict.ACCEPT
    then = state.recent.at(value.judged_index)
    if then is None:
        return ContentVerdict.ACCEPT
    vetoes = check(value.proposals, then, marked(then.marks, value.proposals), then.limits)
    stated = value.limit_vetoes or bytes(value.proposals.size)
    return ContentVerdict.ACCEPT if vetoes.tobytes() == stated else ContentVerdict.REFUSE
