"""The body of the venue process: market, exchange, journal and server, until SIGTERM."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

from core.orders.scale import MarketScale
from core.venue.api import SpotApi
from core.venue.archive import ARCHIVE_NAME, OrderArchive
from core.venue.credentials import load_or_create_credentials
from core.venue.exchange import Exchange, RecordedBook
from core.venue.faults import FaultSource
from core.venue.fix_server import FixServer
from core.venue.journal import JournalError, VenueJournal
from core.venue.rest import RestServer
from core.venue.server import VenueServer, unix_ms
from core.venue.settings import VenueSettings

TRADER: Final = 1
"""Account of the swarm."""
JOURNAL_NAME: Final = "venue.journal"


class PriceSource(Protocol):
    """The recorded market as the venue sees it. `core.venue.replay` makes one of a `MarketData`."""

    def advance_to(self, step: int) -> Sequence[int]:
        """Closes in ticks at `step`, one an instrument. Steps never go back. Raises ValueError."""

    @property
    def recorded_book(self) -> RecordedBook | None:
        """The recorded depth of the current step; None where liquidity is modelled."""


class Venue:
    """The parts of one venue, put together; `run` and tests share it."""

    def __init__(self, settings: VenueSettings, scale: MarketScale, prices: PriceSource, first_step: int = 0) -> None:
        """Recovers from the journal. Raises JournalError, CredentialsError, OSError."""
        self.settings = settings
        self._stopping = False
        self._failure: JournalError | None = None
        self._failed = asyncio.Event()
        self._prices = prices
        settings.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        credentials = load_or_create_credentials(settings.keys_file)
        # Behind the journal, which only one process may hold.
        self.journal = VenueJournal(journal_path(settings.directory), settings.sync_journal)
        self.archive = OrderArchive(settings.directory / ARCHIVE_NAME)
        self.exchange = Exchange(
            scale,
            settings.exchange,
            recorded_book=prices.recorded_book,
            reject_rate=settings.injection.reject_rate,
            random_source=random.Random(settings.injection.seed),
            archive=self.archive,
        )
        self.exchange.recover(self.journal)
        captions = settings.captions(prices.recorded_book is not None)
        api = SpotApi(self.exchange, {credentials.api_key: (credentials, TRADER)}, captions, self.advance_to)
        self.faults = FaultSource(settings.injection)
        self.server = VenueServer(api, self.journal, self.faults)
        self.fix = FixServer(
            self.exchange,
            {credentials.api_key: (credentials, TRADER)},
            settings.directory / "fix",
            self.server.publish,
            self.faults,
            api.times,
            self.advance_to,
        )
        self.rest = RestServer(api, self.server.publish, self.faults, unix_ms)
        self.rest_port = 0
        """Where REST requests are answered, once started."""
        self.fix_port = 0
        """Where FIX sessions are accepted, once started."""
        self.server.on_failed = self._fail
        self.archive.on_failed = self.server.fail
        self.server.add_listener(self.fix.published)
        self.server.on_unlinked = self.fix.on_unlinked = self._unlinked
        if TRADER not in self.exchange.accounts:
            cash = round(settings.starting_cash / float(scale.quantum.step))
            self.exchange.open_account(TRADER, cash, unix_ms())
        if self.exchange.step < 0:
            self.advance_to(first_step)
        else:
            prices.advance_to(self.exchange.step)
        self.server.publish()

    def _unlinked(self, owner: int) -> None:
        """Cancel on disconnect, where it is set and no other link is left; not while the venue itself goes."""
        left = self.server.owners() | self.fix.owners()
        if not self.settings.cancel_on_disconnect or owner in left or self._stopping:
            return
        for order in self.exchange.open_orders(owner):
            cancel_id = f"disconnect-{self.exchange.events_total + 1}"
            self.exchange.cancel(owner, order.order_id, None, cancel_id, unix_ms())
        self.server.publish()

    def _fail(self, failure: JournalError) -> None:
        """The journal lacks what happened: nobody hears another word, and the process ends. It comes back without."""
        self._stopping = True
        self._failure = failure
        self._failed.set()
        self.server.abort_links(str(failure))
        self.fix.drop_links()

    async def serve_until(self, stopping: asyncio.Event) -> None:
        """Returns once `stopping` is set. Raises JournalError where the journal cannot be written any more."""
        waiting = [asyncio.create_task(event.wait()) for event in (stopping, self._failed)]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        if self._failure is not None:
            raise self._failure

    def advance_to(self, step: int) -> int:
        """Move the recorded price. Returns the step that the venue is at; one that is past changes nothing."""
        if step > self.exchange.step:
            self.exchange.advance(step, self._prices.advance_to(step), unix_ms())
        return self.exchange.step

    async def start(self) -> int:
        """Listen, for REST and FIX too. Returns the port of the WebSocket interface."""
        self.rest_port = await self.rest.start(self.settings.host, self.settings.rest_port)
        self.fix_port = await self.fix.start(self.settings.host, self.settings.fix_port)
        return await self.server.start(self.settings.host, self.settings.port)

    async def stop(self) -> None:
        self._stopping = True
        await self.fix.stop()
        await self.rest.stop()
        await self.server.stop()
        self.archive.close()
        self.journal.close()


def journal_path(directory: Path) -> Path:
    """The venue's event file (read it with `core.venue.journal.read_events`)."""
    return directory / JOURNAL_NAME


async def serve(venue: Venue, ready: Callable[[int], None]) -> None:
    """Run until SIGTERM or SIGINT. `ready` is called once with the port when requests are taken.

    Raises JournalError where the journal cannot be written any more.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    try:
        ready(await venue.start())
        await venue.serve_until(stopping)
    finally:
        await venue.stop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
