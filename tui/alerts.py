"""What a person must know at once, in words; each vanishes by itself when it is over."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from core.drift import Look
from core.records import Severity, SwarmSnapshot, VenueState
from core.toggles import Consensus
from core.trading_state import TradingState
from tui.figures import age, plain

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


def voters(snapshot: SwarmSnapshot) -> tuple[int, ...]:
    """Who votes, by the word of the node that is farthest; every node while none has said so."""
    told = [each.replica for each in snapshot.nodes if each.reachable and each.replica is not None]
    farthest = max(told, key=lambda replica: (replica.epoch, replica.commit_index), default=None)
    if farthest is not None and farthest.voters:
        return farthest.voters
    return tuple(each.node for each in snapshot.nodes)


def alerts(snapshot: SwarmSnapshot, now_ns: int, drift: Look | None = None) -> tuple[Alert, ...]:
    """The worst first. `drift` is the latest look.

    A swarm that has run no cycle yet is starting, which is no alarm unless it failed.
    """
    found: list[Alert] = []
    if has_failed(snapshot):
        # The supervisor says so, or its place does: nobody starts a process again now.
        found.append(Alert(Severity.ERROR, plain(snapshot.phase)))
    if not snapshot.cycles_total:
        return tuple(found)
    silent_s = (now_ns - snapshot.taken_ns) / 1e9
    if silent_s > STALE_AFTER_S:
        found.append(
            Alert(Severity.ERROR, f"no news from the swarm for {age(silent_s)}: every figure here is that old")
        )
    if snapshot.trading == TradingState.HALTED:
        text = f"HALTED, {snapshot.trading_reason}: no order leaves; `tradetui resume` ends it"
        found.append(Alert(Severity.ERROR, text))
    if snapshot.trading == TradingState.REDUCING:
        text = f"reducing, {snapshot.trading_reason}: only orders that reduce a position; `tradetui resume` ends it"
        found.append(Alert(Severity.WARNING, text))
    if snapshot.venue is VenueState.DOWN:
        found.append(
            Alert(Severity.ERROR, "venue is down: trading is paused; it resumes by itself when the venue is back")
        )
    if not snapshot.gateway_connected:
        found.append(Alert(Severity.ERROR, "gateway is away: no order can be sent until it is back"))
    found += _accusations(snapshot)
    found += _disagreements(snapshot)
    found += _nodes(snapshot)
    if snapshot.venue is VenueState.RECONCILING:
        found.append(
            Alert(Severity.WARNING, "venue is back: comparing orders with its book; trading resumes when they agree")
        )
    if drift is not None and drift.drifting:
        found.append(Alert(Severity.WARNING, f"drift: {drift.text}"))
    return tuple(found)


def has_failed(snapshot: SwarmSnapshot) -> bool:
    """Whether the swarm could not be started or kept up; `phase` says why."""
    return snapshot.phase.startswith("failed")


def accused(snapshot: SwarmSnapshot) -> dict[int, list[int]]:
    """Nodes that f + 1 others hold signed proof against, each with its accusers: one of them at least is honest."""
    found: dict[int, list[int]] = {}
    for node in snapshot.nodes:
        for accusation in node.accusations:
            if accusation.proven:
                found.setdefault(accusation.culprit, []).append(node.node)
    honest_one = (len(snapshot.nodes) - 1) // 3 + 1
    return {culprit: accusers for culprit, accusers in found.items() if len(accusers) >= honest_one}


def _accusations(snapshot: SwarmSnapshot) -> list[Alert]:
    """Evidence does not go away: these stay as long as a node that keeps it is known."""
    proven = accused(snapshot)
    found = []
    for culprit, accusers in sorted(proven.items()):
        reason = next(
            a.reason
            for node in snapshot.nodes
            for a in node.accusations
            if node.node == accusers[0] and a.culprit == culprit
        )
        text = f"node {culprit} equivocated: {plain(reason)} (proof at {_names(accusers)})"
        found.append(Alert(Severity.ERROR, text))
    suspected: dict[int, tuple[str, list[int]]] = {}
    for node in snapshot.nodes:
        for accusation in node.accusations:
            if accusation.culprit not in proven:
                suspected.setdefault(accusation.culprit, (accusation.reason, []))[1].append(node.node)
    for culprit, (reason, accusers) in sorted(suspected.items()):
        found.append(Alert(Severity.WARNING, f"node {culprit} misbehaved: {plain(reason)} (says {_names(accusers)})"))
    return found


def _disagreements(snapshot: SwarmSnapshot) -> list[Alert]:
    """Two nodes that applied the same entries and hold different states: this must never be."""
    pairs = {
        (min(node.node, peer), max(node.node, peer)): index
        for node in snapshot.nodes
        for peer, index in node.disagreements
    }
    found = []
    while pairs:
        often = Counter(node for pair in pairs for node in pair)
        odd = max(often, key=lambda node: (often[node], -node))
        mine = {pair: index for pair, index in pairs.items() if odd in pair}
        others = sorted(node for pair in mine for node in pair if node != odd)
        index = min(mine.values())
        text = (
            f"node {odd} and {_names(others)} hold different states behind entry {index:,}: stop and compare their logs"
        )
        found.append(Alert(Severity.ERROR, text))
        pairs = {pair: at for pair, at in pairs.items() if pair not in mine}
    return found


def _names(nodes: list[int]) -> str:
    return f"node {nodes[0]}" if len(nodes) == 1 else f"nodes {', '.join(map(str, sorted(nodes)))}"


def _nodes(snapshot: SwarmSnapshot) -> list[Alert]:
    found: list[Alert] = []
    away = [str(node.node) for node in snapshot.nodes if not node.reachable]
    voting = voters(snapshot)
    total = len(voting)
    needed = quorum(total, snapshot.toggles.consensus)
    if snapshot.nodes and snapshot.leader is None:
        found.append(Alert(Severity.ERROR, "no leader: trading is paused until the nodes have elected one"))
    if away:
        subject = f"node {away[0]} is" if len(away) == 1 else f"nodes {', '.join(away)} are"
        reachable = {each.node for each in snapshot.nodes if each.reachable}
        left = sum(node in reachable for node in voting)
        if left < needed:
            text = f"{subject} unreachable: {left} of {total} are too few to agree ({needed} needed); trading is paused"
            found.append(Alert(Severity.ERROR, text))
        else:
            text = f"{subject} unreachable: {left} of {total} go on ({needed} needed to agree)"
            found.append(Alert(Severity.WARNING, text))
    return found
