"""Comparing what the nodes' logs decided with what the venue's book holds, from the files a stopped swarm left."""

from __future__ import annotations

from collections import Counter

from core.node_book import NodeBook, replay_node
from core.session import Session
from core.venue.events import OrderAccepted, Traded
from core.venue.journal import read_events
from core.venue.process import journal_path
from core.verify import verify


def check_books(session: Session, *, settled: bool = True) -> NodeBook:
    """Assert that no decision was lost and no order was sent twice; returns the longest log.

    Every node holds a prefix of the same log. Every venue order is one accepted decision on its very terms, once. Every
    accepted decision whose order the swarm says has ended is at the venue, or was never sent and says so by having no
    trade. Positions are the venue's trades, to the lot, where the swarm was stopped after every order had `settled`.
    """
    assert [str(finding) for finding in verify(session).findings] == []
    books = [replay_node(session, node) for node in range(session.settings().nodes)]
    longest = max(books, key=lambda book: book.state.applied_index)
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
