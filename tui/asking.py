"""What is asked of the swarm only while a screen shows it: traces of cycles, and the venue's book."""

from __future__ import annotations

from textual import work

from core.quote_reading import QuoteReader
from core.spans import NAMES
from tui.messages import (
    LadderTaken,
    TraceTaken,
)
from tui.monitor_base import MonitorBase
from tui.screens import OrdersScreen, ProfileScreen

TRACE_INTERVAL_NS = 2_000_000_000
BOOK_INTERVAL_NS = 1_000_000_000
BOOK_LEVELS = 25


class Asking(MonitorBase):
    """Asks again and again, never a second time before the answer."""

    def _ask_for_trace(self, now_ns: int) -> None:
        """While the cycle is shown and not frozen, every other second."""
        if self._frozen is None and abs(now_ns - self._trace_asked_ns) >= TRACE_INTERVAL_NS:
            self._trace_asked_ns = now_ns
            self._take_trace()

    @work(group="trace", exclusive=True, exit_on_error=False)
    async def _take_trace(self) -> None:
        try:
            self.post_message(TraceTaken(await self._client.trace()))
        except Exception as error:  # as with a key: told, and the monitor goes on
            self.post_message(TraceTaken(None, f"no trace: {error}"))

    def on_trace_taken(self, message: TraceTaken) -> None:
        self._trace = message
        self.tick()

    def _ask_for_book(self, now_ns: int) -> None:
        """While orders are shown and not frozen, once a second."""
        names = [row.instrument for row in self._live.snapshot.positions]
        if self._book.instrument not in names and names:
            self._book = LadderTaken(names[0], None)
        due = abs(now_ns - self._book_asked_ns) >= BOOK_INTERVAL_NS or not (self._book.ladder or self._book.reason)
        if self._frozen is None and self._book.instrument and due and not self._asking_book:
            self._book_asked_ns, self._asking_book = now_ns, True
            self._take_book(self._book.instrument)

    @work(group="book", exit_on_error=False)
    async def _take_book(self, instrument: str) -> None:
        try:
            self.post_message(LadderTaken(instrument, await self._client.ladder(instrument, BOOK_LEVELS)))
        except Exception as error:  # as with a key: told, and the monitor goes on
            self.post_message(LadderTaken(instrument, None, f"no book: {error}"))

    def on_ladder_taken(self, message: LadderTaken) -> None:
        self._asking_book = False
        if message.instrument == self._book.instrument:
            if self._quotes_of != message.instrument:
                self._quotes_of, self._quotes = message.instrument, QuoteReader()
            if message.ladder is not None:
                message.quotes = self._quotes.read(message.ladder)
            self._book = message
            self.tick()

    def action_choose(self, steps: int) -> None:
        """Go on to another of what this screen shows one of."""
        if isinstance(self.front, OrdersScreen):
            names = [row.instrument for row in self._live.snapshot.positions]
            if names:
                at = names.index(self._book.instrument) if self._book.instrument in names else 0
                self._book = LadderTaken(names[(at + steps) % len(names)], None)
        elif isinstance(self.front, ProfileScreen):
            self._heat_of = NAMES[(NAMES.index(self._heat_of) + steps) % len(NAMES)]
        self.tick()
