"""What a person must know at once, in words; each vanishes by itself when it is over."""

from __future__ import annotations

from dataclasses import dataclass

from core.records import Severity, SwarmSnapshot, VenueState
from core.toggles import Consensus
from tui.figures import age

STALE_AFTER_S = 3.0


@dataclass(frozen=True, slots=True)
class Alert:
    severity: Severity
    text: str


def quorum(nodes: int, consensus: Consensus) -> int:
    """Nodes that must agree: a majority in Raft, ceil((n + f + 1) / 2) with f = (n - 1) // 3 otherwise."""
    if consensus is Consensus.RAFT:
        return nodes // 2 + 1
    faulty = (nodes - 1) // 3
    return -(-(nodes + faulty + 1) // 2)


def alerts(snapshot: SwarmSnapshot, now_ns: int) -> tuple[Alert, ...]:
    """The worst first. A swarm that has not run a cycle yet is starting, which is no alarm."""
    if not snapshot.cycles_total:
        return ()
    found: list[Alert] = []
    silent_s = (now_ns - snapshot.taken_ns) / 1e9
    if silent_s > STALE_AFTER_S:
        found.append(
            Alert(Severity.ERROR, f"no news from the swarm for {age(silent_s)}: every figure here is that old")
        )
    if snapshot.venue is VenueState.DOWN:
        found.append(
            Alert(Severity.ERROR, "venue is down: trading is paused; it resumes by itself when the venue is back")
        )
    if not snapshot.gateway_connected:
        found.append(Alert(Severity.ERROR, "gateway is away: no order can be sent until it is back"))
    found += _nodes(snapshot)
    if snapshot.venue is VenueState.RECONCILING:
        found.append(
            Alert(Severity.WARNING, "venue is back: comparing orders with its book; trading resumes when they agree")
        )
    return tuple(found)


def _nodes(snapshot: SwarmSnapshot) -> list[Alert]:
    found: list[Alert] = []
    away = [str(node.node) for node in snapshot.nodes if not node.reachable]
    total = len(snapshot.nodes)
    needed = quorum(total, snapshot.toggles.consensus)
    if snapshot.nodes and snapshot.leader is None:
        found.append(Alert(Severity.ERROR, "no leader: trading is paused until the nodes have elected one"))
    if away:
        subject = f"node {away[0]} is" if len(away) == 1 else f"nodes {', '.join(away)} are"
        left = total - len(away)
        if left < needed:
            text = f"{subject} unreachable: {left} of {total} are too few to agree ({needed} needed); trading is paused"
            found.append(Alert(Severity.ERROR, text))
        else:
            text = f"{subject} unreachable: {left} of {total} go on ({needed} needed to agree)"
            found.append(Alert(Severity.WARNING, text))
    return found
