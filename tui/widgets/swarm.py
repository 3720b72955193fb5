"""The nodes side by side: roles, logs and match indices as bars, message rates, links, faults."""

from __future__ import annotations

from collections import Counter

from core.records import NodeStatus, PeerLink, SwarmSnapshot
from net.messages import Mode
from tui.alerts import accused
from tui.figures import milliseconds, plain, rate
from tui.view import View
from tui.widgets.panel import Panel, Part, Row

BAR_ENTRIES = 200
"""A bar of the log shows its last so many entries: full is all of them."""


def last_index(snapshot: SwarmSnapshot) -> int:
    """The longest log that a node tells of."""
    return max((node.replica.last_index for node in snapshot.nodes if node.replica), default=0)


def log_bar(committed: int, held: int, last: int, width: int) -> list[Part]:
    """The end of the log on `width` cells: `█` committed, `▒` held and not committed, `·` not there yet."""
    first = max(0, last - BAR_ENTRIES)
    scale = max(1, last - first)
    full = min(width, round(max(0, committed - first) / scale * width))
    more = min(width, round(max(0, held - first) / scale * width)) - full
    return [
        Part("█" * full, "own"),
        Part("▒" * max(0, more), "inside"),
        Part("·" * (width - full - max(0, more)), "muted"),
    ]


class NodesPanel(Panel):
    """A row a node, or two where there is room for the leader's match index."""

    TICKS_A_DRAW = 2

    def heading(self, view: View) -> str:
        return f"Nodes, the last {BAR_ENTRIES} entries of each log: █ committed ▒ held · missing"

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        snapshot = view.snapshot
        wide = width >= 96
        head = "    role      mode ep term    commit      last  lag  msg/s"
        if wide:
            head += " elections log"
        out: list[Row] = [(Part(head if wide else head[: width - 14] + " log", "muted"),)]
        last = last_index(snapshot)
        both = height >= 2 * len(snapshot.nodes) + 1
        for node in snapshot.nodes[: (height - 1) // (2 if both else 1)]:
            out.append(_node_row(node, view, width, wide))
            if both:
                out.append(_match_row(node, snapshot, last, width))
        return out


def _node_row(node: NodeStatus, view: View, width: int, wide: bool) -> Row:
    snapshot = view.snapshot
    leads = node.node == snapshot.leader and node.reachable
    mark, style = ("×", "error") if not node.reachable else ("●", "accent") if leads else ("○", "plain")
    if node.node in accused(snapshot):
        mark, style = "!", "error"
    head: list[Part] = [Part(f"{mark} ", style), Part(f"{node.node} ", "strong" if leads else "plain")]
    replica = node.replica
    if replica is None:
        return (*head, Part(plain(node.activity) or "starting", "muted"))
    lag = f"{node.lag_entries:,}" if node.lag_entries is not None else "–"
    messages = view.message_rates.get(node.node)
    head += [
        Part(f"{replica.role if node.reachable else 'away':<9.9} ", style),
        Part(f"{replica.mode.name.lower():<4} {replica.epoch:>2} {replica.term:>4}", "muted"),
        Part(f" {replica.commit_index:>9,} {replica.last_index:>9,} {lag:>4}"),
        Part(f" {rate(messages) if messages is not None and node.reachable else '–':>6}"),
    ]
    used = 58
    if wide:
        head.append(Part(f" {replica.elections:>9}", "muted"))
        used += 10
    room = width - used - 1
    if room >= 6:
        last = max(replica.last_index, node.leader_log.last_index if node.leader_log is not None else 0)
        head += [Part(" "), *log_bar(replica.commit_index, replica.last_index, last, room)]
    return tuple(head)


def _match_row(node: NodeStatus, snapshot: SwarmSnapshot, last: int, width: int) -> Row:
    """How far the leader knows this node's log to match its own; and what the node says that it does."""
    leader = next((each.replica for each in snapshot.nodes if each.node == snapshot.leader), None)
    matched = dict(leader.peer_match_index).get(node.node) if leader is not None else None
    activity = plain(node.activity) if node.reachable else "unreachable"
    text = f"     {activity}"
    if node.durability == "none":
        text += ", votes not on disk"
    if leader is None or matched is None:
        return (Part(text, "muted"),)
    if leader.mode is Mode.BFT:
        # Told with beats, which come about once a second: what was written since is not missing, so there is no bar.
        return (Part(text, "muted"), Part(f"  at {matched:,} by its last beat", "muted"))
    label = f"  matched {matched:,} "
    room = min(40, width - len(text) - len(label))
    bar = log_bar(matched, matched, last, room) if room >= 8 else []
    return (Part(text, "muted"), Part(label, "muted"), *bar)


class LinksPanel(Panel):
    """Every link as its node sees it: round trip in ms, `×` where it is down, `z` where it was resumed by 0-RTT.

    Under them what was shed, and what strangers and malformed bytes came to.
    """

    TICKS_A_DRAW = 5

    def heading(self, view: View) -> str:
        return "Links, round trip ms"

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        nodes = view.snapshot.nodes
        peers = sorted({link.peer for node in nodes for link in node.links} | {node.node for node in nodes})
        shown = peers[: max(0, (width - 7) // 7)]
        out: list[Row] = [(Part("from→to" + "".join(f"{_peer(peer):>7}" for peer in shown), "muted"),)]
        for node in nodes[: height - 2]:
            by_peer = {link.peer: link for link in node.links}
            parts = [Part(f"node {node.node} ", "plain" if node.reachable else "error")]
            parts += [_link_cell(node, by_peer.get(peer), peer) for peer in shown]
            out.append(tuple(parts))
        shed = sum(link.shed for node in nodes for link in node.links)
        refused = [plain(link.refused) for node in nodes for link in node.links if link.refused]
        if shed or refused:
            out.append((Part(f"{shed:,} messages shed  {refused[-1] if refused else ''}", "warning"),))
        turned_away: Counter[str] = Counter()
        for node in nodes:
            turned_away.update(dict(node.turned_away))
        out += [(Part(f"{count:>7,} ", "warning"), Part(plain(what))) for what, count in turned_away.most_common()]
        return out[:height]


def _peer(peer: int) -> str:
    return f"node {peer}" if peer < 100 else "gate"


def _link_cell(node: NodeStatus, link: PeerLink | None, peer: int) -> Part:
    if peer == node.node:
        return Part(f"{'·':>7}", "muted")
    if link is None or not node.reachable:
        return Part(f"{'–':>7}", "muted")
    if not link.connected:
        return Part(f"{'×':>7}", "error")
    return Part(f"{milliseconds(link.round_trip_ms) + ('z' if link.resumed else ''):>7}")


class FaultsPanel(Panel):
    """What is held against whom, with how sure that is; faults that a person asked for stand in the captions."""

    TICKS_A_DRAW = 5

    def heading(self, view: View) -> str:
        return "Faults"

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        out: list[Row] = [
            (Part(plain(caption), "warning"),) for caption in view.snapshot.captions if caption.startswith("fault")
        ]
        for node in view.snapshot.nodes:
            if not node.reachable:
                out.append((Part(f"× node {node.node} is unreachable", "error"),))
            for each in node.accusations:
                word = "proof" if each.proven else "suspicion"
                text = f"{word} of node {node.node} against node {each.culprit}: {plain(each.reason)} ({each.count}×)"
                out.append((Part(text, "error" if each.proven else "warning"),))
            for peer, index in node.disagreements:
                out.append((Part(f"× node {node.node} and {peer} differ behind entry {index:,}", "error"),))
        return out[:height] or [(Part("none known", "muted"),)]
