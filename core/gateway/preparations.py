"""Orders that are built, signed and encoded before their decision is certified: in memory, and a promise of nothing.

Whoever prepares has no certificate, so what it asks for can deny, delay or displace no order but its own: each sender
has room for so many, and its newest push out its oldest.
"""

from __future__ import annotations

from collections import OrderedDict

from core.gateway.connector import EncodedOrder
from core.orders.order import OrderRequest


class Preparations:
    """Encoded orders by client order id, for each sender apart."""

    def __init__(self, each_max: int) -> None:
        self._each_max = each_max
        self._of: dict[int, OrderedDict[str, EncodedOrder]] = {}

    def keep(self, sender: int, orders: list[EncodedOrder]) -> None:
        mine = self._of.setdefault(sender, OrderedDict())
        for order in orders:
            mine[order.request.client_order_id] = order
            mine.move_to_end(order.request.client_order_id)
        while len(mine) > self._each_max:
            mine.popitem(last=False)

    def find(self, client_order_id: str) -> list[EncodedOrder]:
        """What the senders prepared under this id; not all need have the same terms."""
        return [mine[client_order_id] for mine in self._of.values() if client_order_id in mine]

    def encoded(self, request: OrderRequest) -> EncodedOrder | None:
        """The order with exactly these terms, if somebody prepared it."""
        return next((order for order in self.find(request.client_order_id) if order.request == request), None)

    def drop(self, client_order_id: str) -> None:
        """It was released or denied: nobody needs it any more."""
        for mine in self._of.values():
            mine.pop(client_order_id, None)

    def __len__(self) -> int:
        return sum(map(len, self._of.values()))
