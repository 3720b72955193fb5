"""When the venue had which order in hand: the far end of a cycle's trace."""

from __future__ import annotations

import time
from collections import deque
from typing import Final

ORDERS_KEPT: Final = 1_000


class OrderTimes:
    """The last orders, each from its request to the journal; ns of the machine's monotonic clock.

    Front ends take one request after the other, and each is in the journal before the next: so one name is enough.
    An order that the exchange refuses has its times too; one that is lost on purpose before the venue acts has none.
    """

    def __init__(self) -> None:
        self._rows: deque[tuple[int, str, int, int]] = deque(maxlen=ORDERS_KEPT)
        self._began_ns = 0
        self._order: tuple[int, str] | None = None

    def request(self) -> None:
        """A front end takes up a request."""
        self._began_ns, self._order = time.perf_counter_ns(), None

    def order(self, owner: int, client_order_id: str) -> None:
        """The request is this order of `owner`."""
        self._order = (owner, client_order_id)

    def journalled(self) -> None:
        """What the request did is in the journal; its answer may leave."""
        if self._order is not None:
            self._rows.append((*self._order, self._began_ns, time.perf_counter_ns()))
            self._order = None

    def after(self, owner: int, after_ns: int) -> list[tuple[str, int, int]]:
        """(client order id, start, end) of each order of `owner` that ended after `after_ns`, oldest first."""
        return [(name, start, end) for of, name, start, end in self._rows if of == owner and end > after_ns]
