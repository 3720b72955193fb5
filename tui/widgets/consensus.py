"""How the nodes agree: protocol, leader, rounds, and the state of every peer."""

from __future__ import annotations

from textual.geometry import Size

from core.records import NodeStatus, PeerLink, SwarmSnapshot, VenueState
from core.toggles import Consensus
from net.messages import Mode
from tui.alerts import accused, quorum, voters
from tui.figures import milliseconds, plain, rate
from tui.view import View
from tui.widgets.panel import Panel, Part, Row

HEARD_LATELY_S = 3.0


class ConsensusPanel(Panel):
    """Summary, one row a node, and the links to gateway and venue."""

    TICKS_A_DRAW = 2
    _node_count = 0

    def heading(self, view: View) -> str:
        if self.size.width >= 40:
            return "Consensus"
        mode, epoch, term = _mode(view.snapshot)
        return f"Consensus {mode} epoch {epoch} {_term_word(mode)} {term}"

    def draw(self, view: View) -> None:
        if len(view.snapshot.nodes) != self._node_count:
            self._node_count = len(view.snapshot.nodes)
            self.refresh(layout=True)
        super().draw(view)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Where the stylesheet says `auto`: a row a node, two for the summary, one or two for what surrounds it."""
        return self._node_count + (4 if viewport.height >= 46 else 3)

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        snapshot = view.snapshot
        nodes = list(snapshot.nodes)
        out = [_summary(snapshot), _rounds(view, width)] if width >= 40 else [_rounds(view, width)]
        spare = height - len(out) - len(nodes)
        if spare >= 2:
            out.append(_proof(snapshot))
        if spare < 0:  # too many to show: those that need a person first, then the leader
            nodes.sort(key=lambda node: (node.reachable, node.node != snapshot.leader, node.node))
            nodes = nodes[: height - len(out) - 1]
        out += [_node_row(node, snapshot, width) for node in nodes]
        if spare < 0:
            out.append((Part(f"  and {len(snapshot.nodes) - len(nodes)} more, reachable", "muted"),))
        if spare >= 1:
            out.append(_outside(snapshot))
        return out


def _term_word(mode: str) -> str:
    return "view" if mode == "bft" else "term"


def _mode(snapshot: SwarmSnapshot) -> tuple[str, int, int]:
    """Protocol in force, epoch and term, as the leader (or else the most advanced node) says."""
    said = [node.replica for node in snapshot.nodes if node.replica is not None and node.reachable]
    if not said:
        return str(snapshot.toggles.consensus), 0, 0
    best = max(said, key=lambda r: (r.node == snapshot.leader, r.epoch, r.term))
    return best.mode.name.lower() if isinstance(best.mode, Mode) else str(best.mode), best.epoch, best.term


def _summary(snapshot: SwarmSnapshot) -> Row:
    mode, epoch, term = _mode(snapshot)
    parts = [Part(mode, "strong"), Part("  epoch ", "muted"), Part(f"{epoch}")]
    parts.append(Part(f"  {_term_word(mode)} ", "muted"))
    parts.append(Part(f"{term}"))
    if snapshot.leader is None:
        parts.append(Part("  no leader", "error"))
    else:
        parts += [Part("  node ", "muted"), Part(f"{snapshot.leader}")]
        parts.append(Part(" leads", "muted"))
    return tuple(parts)


def _rounds(view: View, width: int) -> Row:
    long = width >= 40
    latency = milliseconds(view.round_p50_ms) if view.round_p50_ms else "–"
    parts = [Part(rate(view.rounds_per_s)), Part(" rounds/s  ", "muted"), Part(latency)]
    parts.append(Part(" ms a round" if long else " ms each", "muted"))
    if long and view.round_p99_ms:
        parts += [Part("  p99 ", "muted"), Part(milliseconds(view.round_p99_ms))]
    return tuple(parts)


def _proof(snapshot: SwarmSnapshot) -> Row:
    """What a committed decision's certificate is worth: the two protocols do not promise the same."""
    mode = _mode(snapshot)[0]
    voting = len(voters(snapshot))
    needed = quorum(voting, Consensus.BFT) if voting else 0
    if mode == "raft":
        text = "proof: the leader's word (nodes are trusted)"
    elif mode == "auto":
        text = f"proof: leader's word; critical: {needed} signatures"
    else:
        text = f"proof: {needed} signatures of {voting}"
    return (Part(text, "muted"),)


def _link_to(node: int, snapshot: SwarmSnapshot) -> PeerLink | None:
    """The leader's link to `node`, or any reachable node's while there is no leader."""
    watchers = [n for n in snapshot.nodes if n.reachable and n.node != node]
    watchers.sort(key=lambda n: n.node != snapshot.leader)
    for watcher in watchers:
        for link in watcher.links:
            if link.peer == node:
                return link
    return None


def _node_row(node: NodeStatus, snapshot: SwarmSnapshot, width: int) -> Row:
    leads = node.node == snapshot.leader and node.reachable
    replica = node.replica
    link = None if node.node == snapshot.leader else _link_to(node.node, snapshot)
    role = replica.role if replica is not None else "starting"
    traitor = node.node in accused(snapshot)
    if not node.reachable:
        mark, word, style = "×", "unreachable", "error"
    elif traitor:
        mark, word, style = "!", "equivocated", "error"
    elif link is not None and not link.connected:
        mark, word, style = "!", "no link", "warning"
    elif leads:
        mark, word, style = "●", node.activity or "leading", "accent"
    else:
        mark, word, style = "○", node.activity or "following", "plain"
    lag = f"{node.lag_entries:,}" if node.lag_entries is not None and node.reachable else "–"
    trip = f"{milliseconds(link.round_trip_ms)} ms" if link is not None and link.connected and node.reachable else "–"
    if width < 40:
        shown = role if node.reachable and style in ("accent", "plain") else word
        return (
            Part(f"{mark} ", style),
            Part(f"{node.node} ", "strong" if leads else "plain"),
            Part(f"{shown:<12.12}", style),
            Part("lag ", "muted"),
            Part(f"{lag:<3.3}"),
            Part(f"{trip:>8}", "muted"),
        )
    index = f"{replica.commit_index:,}" if replica is not None else "–"
    head: Row = (
        Part(f"{mark} ", style),
        Part(f"{node.node} ", "strong" if leads else "plain"),
    )
    if not node.reachable:
        heard = _heard_by(node.node, snapshot)
        before = f"was {role}, last at {index}" if replica is not None else plain(node.activity)
        return (*head, Part("unreachable", style), Part(heard), Part(f"  {before}", "muted"))
    head = (*head, Part(f"{role:<9.9} ", "strong" if leads else "plain"))
    last = Part(f"{trip:>8}") if word in ("leading", "following") else Part(f" {plain(word)}", style)
    return (*head, Part(f"{index:>9} "), Part("lag ", "muted"), Part(f"{lag:<4.4}"), last)


def _heard_by(node: int, snapshot: SwarmSnapshot) -> str:
    """Gossip may know of a node that this monitor cannot reach."""
    ages = [
        (news.age_s, witness.node)
        for witness in snapshot.nodes
        if witness.reachable
        for news in witness.news
        if news.node == node and news.age_s < HEARD_LATELY_S
    ]
    return f" (node {min(ages)[1]} hears it)" if ages else ""


def _outside(snapshot: SwarmSnapshot) -> Row:
    venue_style = {VenueState.CONNECTED: "plain", VenueState.DOWN: "error"}.get(snapshot.venue, "warning")
    gateway, gateway_style = ("connected", "plain") if snapshot.gateway_connected else ("away", "error")
    return (
        Part("gateway ", "muted"),
        Part(gateway, gateway_style),
        Part("  venue ", "muted"),
        Part(str(snapshot.venue), venue_style),
    )
