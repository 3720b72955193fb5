"""Comparing what the nodes' logs decided with what the venue's book holds, from the files a stopped swarm left."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

from core.genesis import genesis_state
from core.leader import MODE_OF
from core.market.load import load_market
from core.session import Session
from core.swarm_state import OpenDecision, SwarmState
from core.toggles import parse_toggles
from core.venue.events import OrderAccepted, Traded
from core.venue.journal import read_events
from core.venue.process import journal_path
from net.consensus import Commit
from net.identity import Identity
from net.log import DurableLog
from net.messages import Committed
from net.replica import Replica


@dataclass(frozen=True)
class NodeBook:
    """One node's log, replayed."""

    entries: tuple[Committed, ...]
    decisions: dict[str, OpenDecision]
    """Every decision that was accepted, by client order id."""
    state: SwarmState


def replay_node(session: Session, node: int) -> NodeBook:
    """Recover a stopped node's log exactly as the node would, and apply it to a fresh state."""
    settings, roster = session.settings(), session.roster()
    state = genesis_state(settings, load_market(settings.data).spec, roster)
    identity = Identity.load_or_create(session.key_file(f"node-{node}"), node)
    with DurableLog(session.folder(f"node-{node}") / "log") as log:
        replica = Replica.recover(
            log.read_all(),
            node,
            state.membership.voter_keys,
            identity.sign,
            random.Random(0),
            mode=MODE_OF[parse_toggles(settings.toggles).consensus],
            leader_hint=0,
            critical=state.payload_is_critical,
        )
        commits = [effect for effect in replica.start(0.0) if isinstance(effect, Commit)]
    decisions: dict[str, OpenDecision] = {}
    for commit in commits:
        for entry in commit.entries:
            applied = state.apply(entry, witnessed=entry.entry.index not in commit.denied)
            decisions |= {decision.client_order_id: decision for decision in applied.accepted}
    return NodeBook(tuple(entry for commit in commits for entry in commit.entries), decisions, state)


def check_books(session: Session, *, settled: bool = True) -> NodeBook:
    """Assert that no decision was lost and no order was sent twice; returns the longest log.

    Every node holds a prefix of the same log. Every venue order is one accepted decision on its very terms, once. Every
    accepted decision whose order the swarm says has ended is at the venue, or was never sent and says so by having no
    trade. Positions are the venue's trades, to the lot, where the swarm was stopped after every order had `settled`.
    """
    books = [replay_node(session, node) for node in range(session.settings().nodes)]
    longest = max(books, key=lambda book: len(book.entries))
    for book in books:
        ours = [(e.epoch, e.entry.index, e.entry.kind, e.entry.payload) for e in book.entries]
        theirs = [(e.epoch, e.entry.index, e.entry.kind, e.entry.payload) for e in longest.entries[: len(ours)]]
        assert ours == theirs
    events = list(read_events(journal_path(session.folder("venue"))))
    orders = [event for event in events if isinstance(event, OrderAccepted)]
    assert [name for name, n in Counter(order.client_order_id for order in orders).items() if n > 1] == []
    for order in orders:
        decision = longest.decisions[order.client_order_id]
        terms = (decision.instrument, decision.side, decision.quantity, decision.limit_price, decision.step)
        assert (order.instrument, order.side, order.quantity_lots, order.price_ticks) == terms[:4]
    by_id = {order.order_id: order for order in orders}
    traded: Counter[int] = Counter()
    for event in events:
        if isinstance(event, Traded):
            order = by_id[event.order_id]
            traded[order.instrument] += order.side * event.quantity_lots
    positions = longest.state.portfolio.positions.tolist()
    if not settled:
        return longest
    assert positions == [traded[i] for i in range(len(positions))]
    at_venue = {order.client_order_id for order in orders}
    never_sent = set(longest.decisions) - at_venue
    assert not never_sent & set(longest.state.open_decisions), "an open decision never reached the venue"
    return longest
