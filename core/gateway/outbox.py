"""Which released order goes out next: in order, so many at once, and one at a time for each instrument."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from core.gateway.connector import EncodedOrder


@dataclass(frozen=True, slots=True)
class _Waiting:
    order: EncodedOrder
    limit: int


class Outbox:
    """A queue before the wire. `send` is called for each order exactly once, or never (see `clear`)."""

    def __init__(self, send: Callable[[EncodedOrder], None], queued_max: int) -> None:
        self._send = send
        self._queued_max = queued_max
        self._queue: list[_Waiting] = []
        self._in_flight: dict[str, int] = {}
        self._busy: set[int] = set()

    def room(self) -> int:
        """How many more orders the queue takes."""
        return self._queued_max - len(self._queue)

    @property
    def in_flight(self) -> int:
        """Orders that wait for the venue's answer."""
        return len(self._in_flight)

    def names(self) -> set[str]:
        """Client order ids that wait for their turn or for the venue's answer."""
        return {waiting.order.request.client_order_id for waiting in self._queue} | self._in_flight.keys()

    def put(self, orders: list[EncodedOrder], limit: int) -> None:
        """Queue orders; each waits until fewer than `limit` are in flight. Sends at once what may go."""
        self._queue += [_Waiting(order, limit) for order in orders]
        self.pump()

    def answered(self, client_order_id: str) -> None:
        """The venue has spoken on this order: its place is free, and its instrument's next may go."""
        instrument = self._in_flight.pop(client_order_id, None)
        if instrument is not None:
            self._busy.discard(instrument)
            self.pump()

    def pump(self) -> None:
        """Send what may go. An order whose instrument is busy is passed by others; its instrument's order is kept."""
        position = 0
        while position < len(self._queue):
            waiting = self._queue[position]
            if len(self._in_flight) >= waiting.limit:
                return
            request = waiting.order.request
            if request.instrument in self._busy:
                position += 1
                continue
            del self._queue[position]
            self._busy.add(request.instrument)
            self._in_flight[request.client_order_id] = request.instrument
            self._send(waiting.order)

    def drop_queued(self) -> list[EncodedOrder]:
        """Forget what was not sent yet; those in flight go on. Returns the orders that were never sent."""
        unsent = [waiting.order for waiting in self._queue]
        self._queue.clear()
        return unsent

    def clear(self) -> list[EncodedOrder]:
        """Forget everything, for a link that is gone. Returns the orders that were never sent."""
        unsent = self.drop_queued()
        self._in_flight.clear()
        self._busy.clear()
        return unsent
